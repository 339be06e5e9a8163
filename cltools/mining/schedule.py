"""Edges that move over training, and weights that make up for dropped keys: what bands share."""

from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.mining.rules import Context, Rule
from cltools.mining.similarities import Similarities


def annealed(first: float, last: float, done: float) -> float:
    """From `first` to `last` in a straight line; `done` is the share of the way, and above 1 the setting rests."""
    return last if done >= 1 else first + (last - first) * done


class Rescalable:
    """For rules whose kept keys may stand for all, so that a smaller sum is not what is measured.

    No rule itself, and no dataclass: a rule names it before `NegativeRule`, and has the field where it wants it.
    """

    rescale: bool

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"] | None:
        """If `rescale`, K/M: (keys neither own nor mined) / (keys kept)."""
        if not self.rescale:
            return None
        return kept * (context.eligible.sum(1, keepdim=True).float() / kept.sum(1, keepdim=True).clamp_min(1))


M = TypeVar("M", bound="Moving")


class Moving(Rule):
    """For rules with edges that may start elsewhere: each edge has a field `<edge>_from`, and all share `anneal`.

    No rule itself, and no dataclass, as `Rescalable`.
    """

    EDGES: ClassVar[tuple[str, ...]]
    ORDERED: ClassVar[tuple[str, ...]] = ()
    """Two edges, rank shares or cosines, of which the first stays below the second."""
    anneal: float

    def __post_init__(self) -> None:
        """Check fields and schedule.

        Raises:
            ValueError: a field that is not what its type says, a schedule of nothing, an edge that starts somewhere and
                ends nowhere, or edges that cross, where they end or where they start.
        """
        super().__post_init__()
        name, moving = type(self).__name__, [edge for edge in self.EDGES if getattr(self, f"{edge}_from") is not None]
        if not moving and self.anneal != type(self).anneal:  # as far as that can be told from the default
            wrong = f"{name}: anneal is {self.anneal}, but nothing moves;"
            starts = " or ".join(f"{edge}_from" for edge in self.EDGES)
            raise CltoolsError(f"{wrong} say from where ({starts}), or leave anneal out.")
        for edge in moving:
            if getattr(self, edge) is None:
                raise CltoolsError(f"{name}: {edge}_from is given without {edge}; say where it ends.")
        if self.ORDERED:
            first, second = self.ORDERED
            low, high = getattr(self, first), getattr(self, second)
            if not (-1.0 if low is None else low) < (1.0 if high is None else high):
                wrong = f"{name}: {first} is {low} and {second} {high};"
                raise CltoolsError(f"{wrong} edges must satisfy {first} < {second}, where they start too.")
        if moving:
            Moving.at(self, 0.0)  # which is refused where its edges cross

    moved = staticmethod(annealed)
    """Where an edge is on its way."""

    def at(self: M, progress: float) -> M:
        """The rule in force at this share of training, its edges moved over `anneal`."""
        now: dict[str, Any] = {"anneal": type(self).anneal}
        for edge in self.EDGES:
            if (first := getattr(self, f"{edge}_from")) is not None:
                now |= {edge: self.moved(first, getattr(self, edge), progress / self.anneal), f"{edge}_from": None}
        return replace(self, **now)
