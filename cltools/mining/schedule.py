"""How a setting moves over training, before it rests."""

from typing import Any


def annealed(first: float, last: float, done: float) -> float:
    """From `first` to `last` in a straight line; `done` is the share of the way, and above 1 the setting rests."""
    return last if done >= 1 else first + (last - first) * done


def check_anneal(rule: Any, *starts: str) -> None:
    """Raise ValueError for a rule's `anneal` over which nothing can move, or nothing does.

    Args:
        rule: whose `anneal` is a share of training.
        starts: its settings that say where something starts; with None in each of them, nothing moves.
    """
    name = type(rule).__name__
    if not 0 < rule.anneal <= 1:
        raise ValueError(f"{name}: anneal is {rule.anneal}; it must be above 0 and at most 1.")
    given = rule.anneal != type(rule).anneal  # as far as that can be told from the default
    if starts and given and all(getattr(rule, start) is None for start in starts):
        raise ValueError(
            f"{name}: anneal is {rule.anneal}, but nothing moves; say from where ({' or '.join(starts)}), or leave "
            "anneal out."
        )
