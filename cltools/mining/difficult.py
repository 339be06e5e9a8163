"""Anchors that count less, because many foreign keys are close to them.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from cltools.mining.bands import PerAnchor, rank_count
from cltools.mining.negatives import AllNegatives, ByCloseness, closeness
from cltools.mining.rules import Context, check_is, check_share
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class DifficultAnchors(ByCloseness, AllNegatives):
    """Every key is kept, and an anchor that many foreign keys are close to counts less, or not at all.

    After the abstract of arXiv:2501.01317, "Difficult Examples Hurt Unsupervised Contrastive Learning", which leaves
    difficult images out; the rest of it is not known to us, so a reconstruction. An anchor is difficult if more than
    m = floor(tolerated·K + ½) of its keys, neither own nor mined, have a cosine of at least `min_cosine`. With
    `anchor_weight=1` it is InfoNCE.
    """

    min_cosine: float = 0.7
    """Cosine from which a key is close, −1 to 1."""
    tolerated: float = 0.05
    """Share of all K keys that may be close to an anchor that is not difficult."""
    anchor_weight: float = 0.0
    """Weight of a difficult anchor in the mean of the loss; 0 leaves it out, 1 changes nothing."""
    by: Literal["positive", "anchor"] = "anchor"
    """Which cosine: z'·n or z·n."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        check_share(self, "tolerated")
        check_share(self, "anchor_weight")
        check_is(self, "between -1 and 1", "min_cosine")

    def weigh_anchors(self, s: Similarities, context: Context) -> PerAnchor:
        """`anchor_weight` for a difficult anchor, 1 for the others."""
        close = (closeness(s, self.by) >= self.min_cosine) & context.eligible
        difficult = close.sum(1) > rank_count(self.tolerated, s.own.shape[1])
        return torch.ones_like(s.anchor_positive).masked_fill_(difficult, self.anchor_weight)
