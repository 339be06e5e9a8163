"""Messages for what a person may mistype or mix up; used by every part that looks something up or takes an object."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def unknown(kind: str, name: str, known: Iterable[str], *, otherwise: str | None = None) -> ValueError:
    """The error for a `name` that is not among the `known` ones.

    Names the nearest, or the few that begin with what was typed; if none is near it says `otherwise`, by default all
    that are known.
    """
    names = sorted(known)
    begun = [each for each in names if name and each.casefold().startswith(name.casefold())]
    near = begun if 0 < len(begun) <= 3 else get_close_matches(name, names, n=3, cutoff=0.5)
    otherwise = otherwise or f"Known: {', '.join(names) or 'none'}."
    hint = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return ValueError(f"Unknown {kind} {name!r}. {hint}")


def foreign(value: Any, wanted: str) -> TypeError:
    """The error for a `value` of another kind than the `wanted` one, which is named with an article and an example."""
    return TypeError(f"{wanted} is wanted here, and this is of type {type(value).__name__}.")
