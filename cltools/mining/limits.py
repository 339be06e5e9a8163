"""What a setting may be: its type says so, and one check reads that.

by: Literal["positive", "anchor"] = "anchor"
tolerated: Annotated[float, "a number between 0 and 1"] = 0.05
k: Annotated[int | None, "a whole number of at least 1", "Give k=None for every key."] = None
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from numbers import Integral
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from cltools.errors import CltoolsError, unknown

LIMITS: dict[str, Callable[[Any], bool]] = {
    "a number": lambda x: x == x,
    "a number between 0 and 1": lambda x: 0 <= x <= 1,
    "a whole number of at least 0": lambda x: _is_whole(x) and x >= 0,
    "a whole number of at least 1": lambda x: _is_whole(x) and x >= 1,
    "a whole number of at least 2": lambda x: _is_whole(x) and x >= 2,
    "above 0": lambda x: x > 0,
    "above 0 and at most 1": lambda x: 0 < x <= 1,
    "above 0 and at most 4": lambda x: 0 < x <= 4,
    "at least 0 and below 1": lambda x: 0 <= x < 1,
    "at least 0 and finite": lambda x: 0 <= x < float("inf"),
    "between -2 and 2": lambda x: -2 <= x <= 2,
    "between -1 and 1": lambda x: -1 <= x <= 1,
    "between 0 and 0.5": lambda x: 0 <= x <= 0.5,
    "between 0 and 4": lambda x: 0 <= x <= 4,
    "between 0 and 180 degrees": lambda x: 0 <= x <= 180,
    "two ascending numbers above 0": lambda x: len(x) == 2 and 0 < x[0] <= x[1],
    "two ascending shares above 0 and at most 1": lambda x: len(x) == 2 and 0 < x[0] <= x[1] <= 1,
}
"""What a number, or two, must be, in words, and whether it is."""


class Checked:
    """For frozen dataclasses of settings: refuses a field that is not what its type says."""

    def __post_init__(self) -> None:
        """Check every field, and make Python's own numbers of NumPy's.

        Raises:
            ValueError: a field that is none of the words of its `Literal`, or not within its limits; None passes where
                the type allows it.
        """
        settings: Any = type(self)
        owner = settings.__name__
        for name, limit in _limits(settings).items():
            value = getattr(self, name)
            if value is None and limit.optional:
                continue
            if limit.choices and (isinstance(value, str) or not limit.words):
                if value not in limit.choices:
                    raise unknown(f"{owner} {name}", value, limit.choices)
            elif not limit.holds(value):
                raise CltoolsError(f"{owner}: {name} is {value!r}; it must be {limit.words}. {limit.remedy}".rstrip())
            elif type(value) not in (int, float, tuple, list):
                object.__setattr__(self, name, int(value) if isinstance(value, Integral) else float(value))


class _Limit(NamedTuple):
    """What the type of a field says: its words, and the limits of a number with what else to do."""

    choices: list[str]
    optional: bool
    words: str = ""
    remedy: str = ""

    def holds(self, value: Any) -> bool:
        try:
            return bool(LIMITS[self.words](value))
        except (TypeError, ValueError, RuntimeError):  # no number, or several
            return False


@cache
def _limits(settings: Any) -> dict[str, _Limit]:
    """The limits of the fields that have some."""
    limits = {}
    for f in fields(settings):
        hint: Any = f.type
        if said := getattr(hint, "__metadata__", ()):
            hint = hint.__origin__
        kinds = (hint, *get_args(hint))
        choices = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
        if said or choices:
            limits[f.name] = _Limit(choices, NoneType in kinds, *said)
    return limits


def _is_whole(x: Any) -> bool:
    return isinstance(x, Integral) and not isinstance(x, bool)
