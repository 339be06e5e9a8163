"""Error messages for mistyped names and wrong values, and the checks of settings that several modules share."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from os import PathLike, fsdecode
from reprlib import Repr
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin


class CltoolsError(ValueError):
    """An error that the user can fix: its message says what is wrong and what to do.

    Names of files, classes and settings in the message may come from untrusted input, so control characters are
    escaped, and a message of more than 4,000 characters loses its middle.

    Example:
        >>> from cltools import CltoolsError, RankBand
        >>> try:
        ...     RankBand(drop_closest=5)
        ... except CltoolsError as error:
        ...     print(error)
        RankBand: drop_closest is 5; it must be a number between 0 and 1.
    """

    def __init__(self, message: str) -> None:
        text = printable(message)
        super().__init__(text if len(text) <= 4000 else f"{text[:2000]} … {text[-1000:]}")


class NotFound(CltoolsError):
    """A module named in settings is not found: a fault of the surroundings, and not of the file that names it."""


def printable(text: object, *, lines: bool = True) -> str:
    r"""Escape the characters that a terminal would interpret instead of showing, except line breaks and tabs.

    Control characters, characters that change the writing direction, and lone surrogates are escaped as in Python's
    string literals: ``\x1b``, ``\u202e``. With `lines=False` line breaks and tabs are escaped, too.
    """
    shown = _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), str(text))
    return shown if lines else shown.replace("\n", "\\n").replace("\t", "\\t")


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def unknown(kind: str, name: object, known: Iterable[str], *, otherwise: str | None = None) -> CltoolsError:
    """Return the error for a `name` that is not among the `known` ones.

    The message suggests up to three known names that begin with `name`, or else the most similar ones. If there are
    none, if more than three begin with it, or if `name` is not a string, it ends with `otherwise`, by default the list
    of all known names.
    """
    names, near = sorted(known), list[str]()
    if isinstance(name, str) and len(name) <= LONGEST:
        completions = [each for each in names if name and each.casefold().startswith(name.casefold())]
        near = completions or get_close_matches(name, names, n=3, cutoff=0.5)
        near = near if len(near) <= 3 else []
    otherwise = otherwise or f"Known: {', '.join(each[:LONGEST] for each in names) or 'none'}."
    hint = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return CltoolsError(f"Unknown {kind} {shown(name)}. {hint}")


LONGEST = 200
"""Maximum number of characters of a value that a message quotes."""
_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = LONGEST


def shown(value: object) -> str:
    """Return the `repr` of a value for a message, shortened if it is long or deeply nested."""
    return _short.repr(value)


def foreign(value: Any, wanted: str) -> TypeError:
    """Return the error for a `value` of the wrong type; `wanted` names the right one with an article and an example."""
    return TypeError(f"{wanted} is expected here, but this is {described(value)}.")


def described(value: Any) -> str:
    """Describe the type of a wrong value for a message; a class is distinguished from an instance."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


LIMITS: dict[str, Callable[[Any], bool]] = {
    "a number": lambda x: x == x,
    "a number between 0 and 1": lambda x: 0 <= x <= 1,
    "a whole number from 0 to 2**32 - 1": lambda x: isinstance(x, int) and 0 <= x < 2**32,
    "a whole number of at least 0": lambda x: isinstance(x, int) and x >= 0,
    "a whole number of at least 1": lambda x: isinstance(x, int) and x >= 1,
    "a whole number of at least 2": lambda x: isinstance(x, int) and x >= 2,
    "above 0, a number from 1e-6 to 1e6": lambda x: 1e-6 <= x <= 1e6,
    "a whole number from 0 to a billion": lambda x: isinstance(x, int) and 0 <= x <= 10**9,
    "a whole number from 1 to a billion": lambda x: isinstance(x, int) and 1 <= x <= 10**9,
    "a whole number from 1 to 30,000": lambda x: isinstance(x, int) and 1 <= x <= 30_000,
    "a whole number from 2 to 4096": lambda x: isinstance(x, int) and 2 <= x <= 4096,
    "above 0 and at most 1": lambda x: 0 < x <= 1,
    "above 0 and at most 4": lambda x: 0 < x <= 4,
    "at least 0 and below 1": lambda x: 0 <= x < 1,
    "at least 0 and finite": lambda x: 0 <= x < float("inf"),
    "between -2 and 2": lambda x: -2 <= x <= 2,
    "between -1 and 1": lambda x: -1 <= x <= 1,
    "between 0 and 0.5": lambda x: 0 <= x <= 0.5,
    "between 0 and 4": lambda x: 0 <= x <= 4,
    "between 0 and 180 degrees": lambda x: 0 <= x <= 180,
    "shares of training, from 0 to 1": lambda x: all(0 <= each <= 1 for each in x),
    "two ascending numbers above 0": lambda x: len(x) == 2 and 0 < x[0] <= x[1] < float("inf"),
    "two ascending shares above 0 and at most 1": lambda x: len(x) == 2 and 0 < x[0] <= x[1] <= 1,
}
"""Limits of a number, or of several: the words of the message, and the check."""
SEED = "a whole number from 0 to 2**32 - 1"


class Settings:
    """Base class of frozen dataclasses whose fields are checked against their types and stored as plain Python values.

    A `Literal` type lists all the words that the field may hold. An `Annotated` type adds a key of `LIMITS` and,
    optionally, a remedy: `Annotated[int, "a whole number of at least 1", "For every key: EveryKey()."]`.
    """

    def __post_init__(self) -> None:
        """Convert values to plain Python types, and check them.

        Raises:
            ValueError: an unknown word, or a number outside its limits; None is accepted where the type allows it.
        """
        owner: Any = type(self)
        for name, text, choices, optional, words, remedy in _limits(owner):
            value = plain(getattr(self, name))
            value = fsdecode(value) if text and isinstance(value, bytes | PathLike) else value
            object.__setattr__(self, name, value)
            if optional and value is None:
                continue
            if text and not isinstance(value, str):
                raise CltoolsError(f"{owner.__name__}: {name} is {shown(value)}; give a text{', or None' * optional}.")
            if choices and (isinstance(value, str) or not words):
                if value not in choices:
                    raise unknown(f"{owner.__name__} {name}", value if isinstance(value, str) else str(value), choices)
            elif words:
                check_number(f"{owner.__name__}: {name}", value, words, ", or None." * optional or ".", remedy)


def plain(value: Any) -> Any:
    """Convert a value to a plain Python one where possible; a tensor that requires a gradient is returned unchanged."""
    if hasattr(value, "tolist") and not getattr(value, "requires_grad", False):
        value = value.tolist()
    return tuple(plain(each) for each in value) if isinstance(value, list | tuple) else value


@cache
def _limits(settings: type) -> list[tuple[str, bool, list[str], bool, str, str]]:
    """Read each field's type: its name, whether it is text, its choices, whether None is allowed, limits, remedy."""
    limits = []
    for f in fields(settings):
        kind, *notes = get_args(f.type) if get_origin(f.type) is Annotated else (f.type,)
        words, remedy = (*(each for each in notes if isinstance(each, str)), "", "")[:2]
        kinds = (kind, *get_args(kind))
        choices = [word for each in kinds if get_origin(each) is Literal for word in get_args(each)]
        limits.append((f.name, kind in (str, str | None), choices, NoneType in kinds, words, remedy))
    return limits


def check_number(name: str, given: Any, words: str, end: str = ".", remedy: str = "") -> Any:
    """Return a number, or a tuple of numbers, as plain Python; raise ValueError where it violates `LIMITS[words]`.

    Args:
        name: how the error names it.
        given: a number or numbers of any library.
        words: a key of `LIMITS`.
        end: the end of the error's sentence.
        remedy: one more sentence for the error.
    """
    value = plain(given)
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, int) and abs(number) >= 2**63 for number in numbers):
        raise CltoolsError(f"{name} is {shown(value)}, which is too large.")
    with suppress(TypeError):  # one number where two are expected, or the reverse
        if all(type(number) in (int, float) for number in numbers) and LIMITS[words](value):
            return value
    raise CltoolsError(f"{name} is {shown(value)}; it must be {words}{end} {remedy}".rstrip())
