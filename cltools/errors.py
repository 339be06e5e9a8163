"""Messages for what a person may mistype or mix up, and the checks of settings that are made in several parts."""

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, Literal, get_args, get_origin, get_type_hints


class CltoolsError(ValueError):
    """An error that a person can mend: its message says what is wrong and what to do."""


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


def printable(text: str) -> str:
    """A stranger's text on one line: what moves a cursor, turns the direction or cannot be encoded is written out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def foreign(value: Any, wanted: str) -> TypeError:
    """The error for a `value` of another kind than the `wanted` one, which is named with an article and an example."""
    return TypeError(f"{wanted} is wanted here, and this is {described(value)}.")


def described(value: Any) -> str:
    """What a value is, where something else is wanted; a class is told from an object of it."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


def check_least(settings: object, **minima: float) -> None:
    """Raise ValueError for a field that is below its minimum or not finite; None passes as a default."""
    for name, minimum in minima.items():
        value, optional = getattr(settings, name), getattr(type(settings), name) is None
        if not (value is None and optional) and not minimum <= value < float("inf"):
            bound = "finite" if value == float("inf") else f"at least {minimum}"
            otherwise = ", or None" if optional else ""
            raise CltoolsError(f"{type(settings).__name__}: {name} is {value}; it must be {bound}{otherwise}.")


def check_choices(settings: object) -> None:
    """Raise ValueError for a field that is none of the words which its type, a `Literal`, names."""
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is Literal and getattr(settings, name) not in get_args(hint):
            raise unknown(f"{type(settings).__name__} {name}", str(getattr(settings, name)), get_args(hint))
