"""Messages for what a person may mistype or mix up, and the checks of settings that are made in several parts."""

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
    """An error that a person can mend: its message says what is wrong and what to do.

    Names in it may be a stranger's, of files, classes and settings; what a terminal would obey in them is written out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: object, *, lines: bool = True) -> str:
    r"""A text of which a terminal shows every character and obeys none, beside line breaks and tabs.

    Control characters, those that turn the direction of writing, and halves of characters become escapes, as in
    Python's own way of writing a text: ``\x1b``, ``\u202e``. Without `lines` these are line breaks and tabs, too.
    """
    shown = _OBEYED.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), str(text))
    return shown if lines else shown.replace("\n", "\\n").replace("\t", "\\t")


_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def unknown(kind: str, name: object, known: Iterable[str], *, otherwise: str | None = None) -> CltoolsError:
    """The error for a `name` that is not among the `known` ones.

    Names the nearest, or the few that begin with what was typed; where none is near, many begin so, or it is no text,
    it says `otherwise`, by default all that are known.
    """
    names, near = sorted(known), list[str]()
    if isinstance(name, str) and len(name) <= LONGEST:
        begun = [each for each in names if name and each.casefold().startswith(name.casefold())]
        near = begun or get_close_matches(name, names, n=3, cutoff=0.5)
        near = near if len(near) <= 3 else []
    otherwise = otherwise or f"Known: {', '.join(each[:LONGEST] for each in names) or 'none'}."
    hint = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return CltoolsError(f"Unknown {kind} {shown(name)}. {hint}")


LONGEST = 200
"""Characters of a value that a message repeats."""
_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = LONGEST


def shown(value: object) -> str:
    """A value as Python writes it, for a message; of a long or a deep one the beginning."""
    return _short.repr(value)


def foreign(value: Any, wanted: str) -> TypeError:
    """The error for a `value` of another kind than the `wanted` one, which is named with an article and an example."""
    return TypeError(f"{wanted} is wanted here, and this is {described(value)}.")


def described(value: Any) -> str:
    """What a value is, where something else is wanted; a class is told from an object of it."""
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
"""What a number, or several, must be, in words, and whether it is."""
SEED = "a whole number from 0 to 2**32 - 1"


class Settings:
    """A base of frozen dataclasses whose fields are what their types say, in Python's own values, which JSON holds.

    A type says more than a kind by a `Literal`, whose words are all that the field may be, or by words of `LIMITS`, and
    then a remedy if there is one: `Annotated[int, "a whole number of at least 1", "For every key: EveryKey()."]`.
    """

    def __post_init__(self) -> None:
        """Make values Python's own, and check them.

        Raises:
            ValueError: a word that is not known, or a number that is not within its limits; None passes where the type
                allows it.
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
    """A value as one of Python's own, if there is one; what learns (`requires_grad`) stays what it is."""
    if hasattr(value, "tolist") and not getattr(value, "requires_grad", False):
        value = value.tolist()
    return tuple(plain(each) for each in value) if isinstance(value, list | tuple) else value


@cache
def _limits(settings: type) -> list[tuple[str, bool, list[str], bool, str, str]]:
    """What types say of fields: whether text, words it may be, whether None, limits of numbers, a remedy."""
    limits = []
    for f in fields(settings):
        kind, *said = get_args(f.type) if get_origin(f.type) is Annotated else (f.type,)
        words, remedy = (*(each for each in said if isinstance(each, str)), "", "")[:2]
        kinds = (kind, *get_args(kind))
        choices = [word for each in kinds if get_origin(each) is Literal for word in get_args(each)]
        limits.append((f.name, kind in (str, str | None), choices, NoneType in kinds, words, remedy))
    return limits


def check_number(name: str, given: Any, words: str, end: str = ".", remedy: str = "") -> Any:
    """A number, or a tuple of numbers, in Python's own; raises ValueError where it is not what `words` of `LIMITS` say.

    Args:
        name: what the error calls it.
        given: of any library.
        words: what it must be.
        end: of the sentence that says so.
        remedy: a sentence more.
    """
    value = plain(given)
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, int) and abs(number) >= 2**63 for number in numbers):
        raise CltoolsError(f"{name} is {shown(value)}, which is too large.")
    with suppress(TypeError):  # one where two are wanted, or several where one is
        if all(type(number) in (int, float) for number in numbers) and LIMITS[words](value):
            return value
    raise CltoolsError(f"{name} is {shown(value)}; it must be {words}{end} {remedy}".rstrip())
