"""Rules that are no method, beside which a method's effect is measured: chance, and what labels would choose.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int8
from torch import Tensor

from cltools.mining.bands import other_codes, rank_count, rank_edges
from cltools.mining.negatives import NegativeRule, Rescalable
from cltools.mining.schedule import annealed, check_anneal
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class RandomNegatives(Rescalable, NegativeRule):
    """A share of the keys by chance: the control that matches a band's number of negatives, not its choice."""

    share: float = 0.5
    """Share of all keys that is kept, by the same cut as a rank band's."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    share_from: float | None = None
    """Where the share starts, to match a band whose edges move; None for a constant share."""
    anneal: float = 0.5
    """Share of training over which it moves, in a straight line."""

    def __post_init__(self) -> None:
        """Refuse a share outside (0, 1], and a schedule of nothing."""
        check_anneal(self, "share_from")
        for name in ("share", "share_from"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"RandomNegatives: {name} is {value}; it must be above 0 and at most 1.")

    def at(self, progress: float) -> "RandomNegatives":
        """The share in force at this share of training."""
        if self.share_from is None:
            return self
        share = annealed(self.share_from, self.share, progress / self.anneal)
        return replace(self, share=share, share_from=None, anneal=type(self).anneal)

    @property
    def reads_key(self) -> bool:
        """Chance reads nothing."""
        return False

    def judge(
        self,
        s: Similarities,
        eligible: Bool[Tensor, "B K"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "B K"]:
        """POTENTIAL for the drawn, OTHER for the rest."""
        draw = torch.rand(s.anchor.shape, generator=generator, device=s.anchor.device)
        (edge,) = rank_edges(draw, s.own, (rank_count(self.share, draw.shape[1]),))
        return other_codes(draw < edge)


@dataclass(frozen=True)
class OracleNegatives(Rescalable, NegativeRule):
    """Every key of another class, as a perfect detector would keep. Reads labels: a bound, no method."""

    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""

    @property
    def reads_key(self) -> bool:
        """Only labels are read."""
        return False

    def judge(
        self,
        s: Similarities,
        eligible: Bool[Tensor, "B K"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "B K"]:
        """OTHER for keys of the anchor's class, POTENTIAL for the rest."""
        if s.same_class is None:
            raise ValueError("OracleNegatives needs labels: give similarities(…, same_class=…), or use another rule.")
        return other_codes(s.same_class)
