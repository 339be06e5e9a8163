"""Messages for names a person may mistype; used by every part that looks something up by name."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a `name` that is not among the `known` ones: names the nearest, or all if none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names) or 'none'}."
    return ValueError(f"Unknown {kind} {name!r}. {hint}")
