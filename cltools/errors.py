"""Messages for names a person may mistype; used by every part that looks something up by name."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Iterable[str], *, otherwise: str | None = None) -> ValueError:
    """The error for a `name` that is not among the `known` ones.

    Names the nearest; if none is near it says `otherwise`, by default all that are known.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    otherwise = otherwise or f"Known: {', '.join(names) or 'none'}."
    hint = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return ValueError(f"Unknown {kind} {name!r}. {hint}")
