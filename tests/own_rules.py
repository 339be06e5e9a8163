"""Rules that only Python knows, for tests of explorers."""

from dataclasses import dataclass

import torch

from cltools.mining import AllNegatives, Band, Context, Similarities


@dataclass(frozen=True)
class FarOnly(AllNegatives):
    """Keeps what is far, and weighs it by how far it is."""

    least: float = 0.3

    def judge(self, s: Similarities, context: Context) -> torch.Tensor:
        return torch.where(s.anchor_keys < self.least, Band.POTENTIAL, Band.HARD).to(torch.int8)

    def weigh(self, s: Similarities, kept: torch.Tensor, context: Context) -> torch.Tensor:
        return torch.where(kept, 1 - s.anchor_keys, 0)


@dataclass(frozen=True)
class FarKeys(FarOnly):
    """The same, which weighs anchors too."""

    def weigh_anchors(self, s: Similarities, context: Context) -> torch.Tensor:
        return s.anchor_keys.abs().mean(1)
