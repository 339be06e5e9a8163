"""Edges that move over training, and weights that make up for dropped keys: what bands share."""

from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from cltools.errors import CltoolsError, is_number
from cltools.mining.rules import Context, NegativeRule, check_is
from cltools.mining.similarities import Similarities


def annealed(first: float, last: float, done: float) -> float:
    """From `first` to `last` in a straight line; `done` is the share of the way, and above 1 the setting rests."""
    return last if done >= 1 else first + (last - first) * done


def check_anneal(rule: Any, *starts: str) -> None:
    """Raise ValueError for a rule's `anneal` over which nothing can move, or nothing does.

    Args:
        rule: whose `anneal` is a share of training.
        starts: its settings that say where something starts; with None in each of them, nothing moves.
    """
    check_is(rule, "above 0 and at most 1", "anneal")
    given = rule.anneal != type(rule).anneal  # as far as that can be told from the default
    if starts and given and all(getattr(rule, start) is None for start in starts):
        wrong = f"{type(rule).__name__}: anneal is {rule.anneal}, but nothing moves;"
        raise CltoolsError(f"{wrong} say from where ({' or '.join(starts)}), or leave anneal out.")


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


M = TypeVar("M", bound=NegativeRule)


class Moving:
    """For rules with edges that may start elsewhere: each edge has a field `<edge>_from`, and all share `anneal`."""

    EDGES: ClassVar[tuple[str, ...]]
    anneal: float

    def check_schedule(self) -> None:
        """Raise ValueError for a schedule of nothing, and for an edge that starts somewhere and ends nowhere."""
        check_anneal(self, *(f"{edge}_from" for edge in self.EDGES))
        for edge in self.EDGES:
            for name in (edge, f"{edge}_from"):
                if (value := getattr(self, name)) is not None and not is_number(value):
                    raise CltoolsError(f"{type(self).__name__}: {name} is {value!r}; it must be a number.")
            if getattr(self, edge) is None and getattr(self, f"{edge}_from") is not None:
                raise CltoolsError(f"{type(self).__name__}: {edge}_from is given without {edge}; say where it ends.")

    def check_order(self, low: str, high: str, what: str, least: float = 0.0) -> None:
        """Raise ValueError for two edges that cross or leave [least, 1], where they end or where they start."""
        last = [getattr(self, edge) for edge in (low, high)]
        first = [getattr(self, f"{edge}_from") for edge in (low, high)]
        for below, above in (last, [end if start is None else start for start, end in zip(first, last, strict=True)]):
            open_ended = least == 0 and None in (below, above)  # a cosine may have no edge, a rank has
            if open_ended or not least <= (least if below is None else below) < (1.0 if above is None else above) <= 1:
                wrong = f"{type(self).__name__}: {low} is {below} and {high} {above};"
                raise CltoolsError(f"{wrong} {what} must satisfy {least:g} ≤ {low} < {high} ≤ 1, where they start too.")

    def at(self: M, progress: float) -> M:  # type: ignore[misc]  # a rule, by what it is named before
        """The rule in force at this share of training, its edges moved in a straight line over `anneal`."""
        now: dict[str, Any] = {"anneal": type(self).anneal}  # type: ignore[attr-defined]
        for edge in self.EDGES:  # type: ignore[attr-defined]
            if (first := getattr(self, f"{edge}_from")) is not None:
                now |= {edge: annealed(first, getattr(self, edge), progress / self.anneal), f"{edge}_from": None}  # type: ignore[attr-defined]
        return replace(self, **now)
