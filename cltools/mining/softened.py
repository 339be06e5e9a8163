"""The closest keys are softened instead of dropped.

Legend: B anchors, K keys.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cltools.mining.bands import Band, rank_band
from cltools.mining.negatives import AllNegatives, ByCloseness, closeness
from cltools.mining.rules import Context, check_is
from cltools.mining.schedule import Moving
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class SoftenedBand(ByCloseness, Moving, AllNegatives):
    """Keys of a rank band weigh e^{−margin/τ}, every other key 1: the band's logits become (z·n − margin)/τ.

    After the margin on difficult pairs of arXiv:2501.01317, of which only the abstract is known to us, so a
    reconstruction. A margin of 0 is InfoNCE; a large one drops the band, as `RankBand(drop_closest=soften_within,
    keep_within=1)` does where nothing is skipped.
    """

    EDGES: ClassVar = ("margin", "skip_closest", "soften_within")
    softens: ClassVar = True

    margin: float = 0.2
    """Difference of cosines, 0 to 4, by which a key of the band counts as less similar than it is."""
    skip_closest: float = 0.0
    """Share of all K keys before the band, the closest first; they weigh 1."""
    soften_within: float = 0.1
    """Share of all K keys within which the band ends."""
    by: Literal["positive", "anchor"] = "anchor"
    """What is ranked: z'·n or z·n."""
    margin_from: float | None = None
    """Where `margin` starts; None for a constant margin."""
    skip_closest_from: float | None = None
    """Where `skip_closest` starts; None for a constant edge."""
    soften_within_from: float | None = None
    """Where `soften_within` starts; None for a constant edge."""
    anneal: float = 0.5
    """Share of training over which edges move, in a straight line."""

    def __post_init__(self) -> None:
        """Refuse edges that cross or leave [0, 1], a margin without meaning, and a schedule of nothing."""
        self.check_schedule()
        check_is(self, "between 0 and 4", "margin", "margin_from")
        self.check_order("skip_closest", "soften_within", "rank shares")

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"]:
        """e^{−margin/τ} in the band, 1 elsewhere."""
        band = rank_band(closeness(s, self.by), s.own, self.skip_closest, self.soften_within)
        softened = math.exp(-self.margin / context.temperature)
        return torch.ones_like(s.anchor_keys).masked_fill_(band == Band.POTENTIAL, softened)
