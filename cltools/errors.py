"""Messages for what a person may mistype or mix up; used by every part that looks something up or takes an object."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class CltoolsError(ValueError):
    """An error that a person can mend: its message says what is wrong and what to do."""


def unknown(kind: str, name: object, known: Iterable[str], *, otherwise: str | None = None) -> CltoolsError:
    """The error for a `name` that is not among the `known` ones.

    Names the nearest, or the few that begin with what was typed; where none is near, many begin so, or it is no text,
    it says `otherwise`, by default all that are known.
    """
    names, near = sorted(known), list[str]()
    if isinstance(name, str):
        begun = [each for each in names if name and each.casefold().startswith(name.casefold())]
        near = begun or get_close_matches(name, names, n=3, cutoff=0.5)
        near = near if len(near) <= 3 else []
    otherwise = otherwise or f"Known: {', '.join(names) or 'none'}."
    hint = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return CltoolsError(f"Unknown {kind} {name!r}. {hint}")


def foreign(value: Any, wanted: str) -> TypeError:
    """The error for a `value` of another kind than the `wanted` one, which is named with an article and an example."""
    return TypeError(f"{wanted} is wanted here, and this is {described(value)}.")


def described(value: Any) -> str:
    """What a value is, where something else is wanted; a class is told from an object of it."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
