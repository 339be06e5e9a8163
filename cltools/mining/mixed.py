"""New negatives mixed from the closest ones.

Legend: B anchors, K keys, S synthetic negatives, H the hardest keys, d embedding.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from cltools.mining.draws import closest, uniform_columns
from cltools.mining.negatives import AllNegatives
from cltools.mining.rules import READS_NOTHING, Context
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class MixedNegatives(AllNegatives):
    """Every key, and synthetic ones beside them: MoCHi (arXiv:2010.01028).

    Of the `hardest` kept keys by z·n, `pairs` mixtures of two, norm(a·n_i + (1−a)·n_j) with a uniform in (0, 1), and
    `with_anchor` mixtures of one with the anchor, norm(b·z + (1−b)·n_i) with b uniform in (0, ½). Neither own nor mined
    keys are mixed. An anchor that keeps no key gets the point opposite to it, which pushes least.
    """

    hardest: Annotated[int, "a whole number of at least 1"] = 256
    """How many of the closest kept keys are mixed (1,024 of 65,536 in the paper)."""
    pairs: Annotated[int, "a whole number of at least 0"] = 128
    """Mixtures of two keys for each anchor."""
    with_anchor: Annotated[int, "a whole number of at least 0"] = 64
    """Mixtures of a key with the anchor for each anchor."""
    start: Annotated[float, "a number between 0 and 1"] = 0.1
    """Share of training before which nothing is mixed."""

    @property
    def reads(self) -> frozenset[str]:
        """New keys are made of vectors."""
        return frozenset({"vectors"}) if self.mixes else READS_NOTHING

    @property
    def mixes(self) -> bool:
        """Whether any key is made."""
        return self.pairs + self.with_anchor > 0

    def at(self, progress: float) -> "MixedNegatives":
        """Nothing is mixed before `start`."""
        on = progress >= self.start
        return replace(self, pairs=self.pairs if on else 0, with_anchor=self.with_anchor if on else 0, start=0.0)

    def synthesise(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B S d"] | None:
        """The mixtures, unit length, without gradient; None where there are no keys or nothing is mixed."""
        if not self.mixes or kept.shape[1] == 0:
            return None
        assert s.vectors is not None, "declared in reads, which select checks"
        z, keys = (vectors.detach() for vectors in s.vectors)
        score = s.anchor_keys.detach().masked_fill(~kept, -torch.inf)
        _, hardest = closest(score, min(self.hardest, score.shape[1]), context.generator)  # [B, H], kept ones first
        count = kept.sum(1, keepdim=True).clamp_max(hardest.shape[1])

        def uniform(columns: int, stream: int) -> Tensor:
            return uniform_columns(z, columns, context.generator, stream)

        def drawn(columns: int, stream: int) -> Tensor:
            place = (uniform(columns, stream) * count).long().clamp_max((count - 1).clamp_min(0))
            return keys[hardest.gather(1, place)]  # [B, columns, d]

        a = uniform(self.pairs, 1)[:, :, None]
        b = uniform(self.with_anchor, 2)[:, :, None] / 2
        of_two = a * drawn(self.pairs, 3) + (1 - a) * drawn(self.pairs, 4)
        of_anchor = b * z[:, None] + (1 - b) * drawn(self.with_anchor, 5)
        mixed = torch.cat([of_two, of_anchor], dim=1)
        return normalize(torch.where(count[:, :, None] > 0, mixed, -z[:, None]), dim=2)
