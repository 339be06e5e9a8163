"""A ring of ranks around the anchor.

Legend: B anchors, K keys.
"""

import math
from dataclasses import dataclass, replace

from cltools.mining.bands import Codes, rank_band
from cltools.mining.rules import Context, NegativeRule, check_is
from cltools.mining.schedule import annealed, check_anneal
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class RingNegatives(NegativeRule):
    """The closest keys to the anchor less the very closest: Ring (arXiv:2010.02037).

    With outer share o and inner share i the ranks (i·o·K, o·K] by z·n are kept; by default the closest 10 % less the
    closest tenth of these. The outer edge may close in from `outer_from` over the first `anneal` of training, as the
    paper anneals it from 100 %.
    """

    inner: float = 0.1
    """Share of the ball inside `outer` that is too hard; 0 cuts nothing."""
    outer: float = 0.1
    """Share of all keys beyond which a key is too easy."""
    outer_from: float | None = None
    """Where the outer edge starts; None for a constant edge."""
    anneal: float = 0.5
    """Share of training over which it moves, by a constant factor per step."""

    def __post_init__(self) -> None:
        """Refuse shares that have no meaning."""
        check_is(self, "above 0 and at most 1", "outer", "outer_from")
        check_is(self, "at least 0 and below 1", "inner")
        check_anneal(self, "outer_from")

    def at(self, progress: float) -> "RingNegatives":
        """The ring in force at this share of training."""
        if self.outer_from is None:
            return self
        outer = math.exp(annealed(math.log(self.outer_from), math.log(self.outer), progress / self.anneal))
        return replace(self, outer=min(1.0, outer), outer_from=None, anneal=type(self).anneal)

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD inside the ring, EASY beyond it."""
        return rank_band(s.anchor_keys.detach(), s.own, self.inner * self.outer, self.outer)
