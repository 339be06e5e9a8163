"""Keys that are probably of the anchor's class are detected and dropped.

Legend: B anchors, K keys.
"""

import math
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Int8
from torch import Tensor

from cltools.errors import unknown
from cltools.mining.bands import band_codes, rank_edges
from cltools.mining.negatives import NegativeRule
from cltools.mining.positives import Search, search_score
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class CancelFalseNegatives(NegativeRule):
    """Drops the keys that are among the k closest *and* close enough: FNC's elimination (arXiv:2011.11765).

    Its attraction is a setting of `PositiveRule`: k=10, "hard", augmented_share=None, threshold=0.7, search="max".
    """

    k: int = 10
    """How many of the closest keys are suspected; own keys rank last. Equally close keys share one fate."""
    threshold: float = 0.7
    """Cosine from which a suspected key is dropped; above 1 drops nothing."""
    search: Search = "max"
    """Closeness to the positive ("key"), to the anchor, or the larger of both, as over FNC's support views."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        if self.search not in get_args(Search):
            raise unknown("CancelFalseNegatives search", self.search, get_args(Search))
        if self.k < 1:
            raise ValueError(f"CancelFalseNegatives: k is {self.k}; it must be at least 1.")
        if math.isnan(self.threshold):
            raise ValueError("CancelFalseNegatives: threshold is nan; it must be a cosine.")

    @property
    def reads_key(self) -> bool:
        """Unless only the anchor is searched."""
        return self.search != "anchor"

    def judge(
        self,
        s: Similarities,
        eligible: Bool[Tensor, "B K"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "B K"]:
        """HARD for the detected, POTENTIAL for the rest."""
        score = search_score(s, self.search)
        (edge,) = rank_edges(score, s.own, (min(self.k, score.shape[1]),))
        return band_codes(score, hard=score >= edge.clamp_min(self.threshold), easy=None)
