"""Keys by chance: the control beside which a band's effect is measured.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cltools.mining.bands import Codes, other_codes, rank_count, rank_edges
from cltools.mining.draws import uniform_per_key
from cltools.mining.rules import Context, NegativeRule
from cltools.mining.schedule import Moving, Rescalable
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class RandomNegatives(Moving, Rescalable, NegativeRule):
    """A share of the keys by chance: the control that matches a band's number of negatives, not its choice."""

    EDGES: ClassVar = ("share",)

    share: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of all keys that is kept, by the same cut as a rank band's."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    share_from: Annotated[float | None, "above 0 and at most 1"] = None
    """Where the share starts, to match a band whose edges move; None for a constant share."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which it moves, in a straight line."""

    def judge(self, s: Similarities, context: Context) -> Codes:
        """POTENTIAL for the drawn, OTHER for the rest."""
        draw = uniform_per_key(s.own, context.generator)
        (edge,) = rank_edges(draw, s.own, (rank_count(self.share, draw.shape[1]),))
        return other_codes(draw < edge)
