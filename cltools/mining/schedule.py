"""How a setting moves over training, before it rests."""


def annealed(first: float, last: float, done: float) -> float:
    """From `first` to `last` in a straight line; `done` is the share of the way, and above 1 the setting rests."""
    return last if done >= 1 else first + (last - first) * done


def check_anneal(name: str, anneal: float) -> None:
    """Raise ValueError for a share of training over which nothing can move."""
    if not 0 < anneal <= 1:
        raise ValueError(f"{name}: anneal is {anneal}; it must be above 0 and at most 1.")
