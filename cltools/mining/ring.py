"""A ring of ranks around the anchor.

Legend: B anchors, K keys.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from cltools.mining.bands import Codes, rank_band
from cltools.mining.rules import Context, NegativeRule
from cltools.mining.schedule import Moving, annealed
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class RingNegatives(Moving, NegativeRule):
    """The closest keys to the anchor less the very closest: Ring (arXiv:2010.02037).

    With outer share o and inner share i the ranks (i·o·K, o·K] by z·n are kept; by default the closest 10 % less the
    closest tenth of these. The outer edge may close in from `outer_from` over the first `anneal` of training, as the
    paper anneals it from 100 %.
    """

    EDGES: ClassVar = ("outer",)

    inner: Annotated[float, "at least 0 and below 1"] = 0.1
    """Share of the ball inside `outer` that is too hard; 0 cuts nothing."""
    outer: Annotated[float, "above 0 and at most 1"] = 0.1
    """Share of all keys beyond which a key is too easy."""
    outer_from: Annotated[float | None, "above 0 and at most 1"] = None
    """Where the outer edge starts; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which it moves, by a constant factor per step."""

    @staticmethod
    def moved(first: float, last: float, done: float) -> float:
        """By a constant factor per step."""
        return min(1.0, math.exp(annealed(math.log(first), math.log(last), done)))

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD inside the ring, EASY beyond it."""
        return rank_band(s.anchor_keys.detach(), s.own, self.inner * self.outer, self.outer)
