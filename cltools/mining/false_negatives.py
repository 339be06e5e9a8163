"""Keys that are probably of the anchor's class are detected and dropped.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass
from typing import Literal

from cltools.mining.bands import Codes, band_codes, rank_edges
from cltools.mining.negatives import ByCloseness, closeness
from cltools.mining.rules import Context, NegativeRule, check_count, check_is
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class CancelFalseNegatives(ByCloseness, NegativeRule):
    """Drops the keys that are among the k closest *and* close enough: FNC's elimination (arXiv:2011.11765).

    Its attraction is `NearestKeys(10, weighting="uniform", augmented_share=None, min_cosine=0.7, by="either")`.
    """

    k: int = 10
    """How many of the closest keys are suspected; own keys rank last. Equally close keys share one fate."""
    min_cosine: float = 0.7
    """Cosine from which a suspected key is dropped; above 1 drops nothing."""
    by: Literal["positive", "anchor", "either"] = "either"
    """Closeness to the positive, to the anchor, or the larger of both cosines, as over FNC's support views."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        check_count(self, "k", 1)
        check_is(self, "a number", "min_cosine")

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD for the detected, POTENTIAL for the rest."""
        score = closeness(s, self.by)
        (edge,) = rank_edges(score, s.own, (min(self.k, score.shape[1]),))
        return band_codes(score, hard=score >= edge.clamp_min(self.min_cosine), easy=None)
