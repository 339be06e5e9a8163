"""Rules that only experiments need: keys of a purity that is dialled, and controls of what attracts and what repels.

They read labels. Legend: B anchors, K keys, P candidates, d embedding.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from cltools.mining import Context, Mined, NearestKeys, NegativeRule, PositiveRule, Similarities
from cltools.mining.bands import Band, Codes, Mask, other_codes
from cltools.mining.draws import closest, uniform_columns, uniform_per_key
from cltools.mining.positives import with_augmented_view

Place = Literal["nearest", "middle", "random"]
SHARE = 9
"""Stream of the draw that rounds a number of right keys."""


@dataclass(frozen=True)
class RepairedKeys(PositiveRule):
    """Mine as `NearestKeys` does, then swap keys until a given share of them has the anchor's class.

    Wrong keys are swapped for the right ones closest to the positive that are not mined yet, the farthest wrong key
    first; if more are right than wanted, right keys are swapped for the closest wrong ones in the same way. The share
    is met on average: each anchor's number of right keys is rounded up or down at random. The weights stay those of the
    places, all equal.
    """

    k: Annotated[int, "a whole number of at least 1"] = 5
    """Number of mined keys."""
    purity: Annotated[float | None, "a number between 0 and 1"] = None
    """Share of the mined keys that has the anchor's class; None swaps nothing."""
    augmented_share: Annotated[float, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view."""

    start: float = field(default=0.0, kw_only=True)
    ramp: float = field(default=0.0, kw_only=True)

    reads = frozenset({"positive_keys", "same_class"})

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Mine P = k keys."""
        mined = NearestKeys(self.k, weighting="uniform", augmented_share=self.augmented_share).mine(s, context)
        if self.purity is None:
            return mined
        assert s.positive_keys is not None and s.same_class is not None, "declared in reads"
        wanted = self.purity * self.k + uniform_columns(s.own, 1, context.generator, SHARE)
        score = s.positive_keys.masked_fill(s.own, -torch.inf)
        index = repaired(mined.index, wanted.floor().long(), score, s.same_class, context)
        return equally(index, s.own, self.augmented_share)


def repaired(
    index: Int64[Tensor, "B P"],
    wanted: Int64[Tensor, "B 1"],
    score: Float[Tensor, "B K"],
    right: Mask,
    context: Context,
) -> Int64[Tensor, "B P"]:
    """Return mined keys of which `wanted` are right, or as many as there are: the closest right and wrong ones.

    A mined key is kept unless it must be swapped.
    """
    count = index.shape[1]
    wanted = torch.minimum(wanted, (right & (score > -torch.inf)).sum(1, keepdim=True))
    mined = torch.zeros_like(right).scatter_(1, index, True)
    order = score + 4.0 * mined  # cosines are within 2 of each other, so mined keys come first
    best_right = closest(order.masked_fill(~right, -torch.inf), count, context.generator)[1]
    best_wrong = closest(order.masked_fill(right, -torch.inf), count, context.generator)[1]
    place = torch.arange(count, device=index.device)
    return torch.where(place < wanted, best_right, best_wrong.gather(1, (place - wanted).clamp_min(0)))


def equally(index: Int64[Tensor, "B P"], own: Mask, augmented_share: float) -> Mined:
    """Return these keys with equal weights, which together are 1 − `augmented_share`; own keys have none."""
    taken = (~own).gather(1, index).float()
    return with_augmented_view(index, taken / taken.sum(1, keepdim=True).clamp_min(1), augmented_share)


@dataclass(frozen=True)
class PlacedKeys(PositiveRule):
    """Mine keys of a given purity from given places in the order of closeness to the positive."""

    k: Annotated[int, "a whole number of at least 1"] = 5
    """Number of mined keys."""
    purity: Annotated[float, "a number between 0 and 1"] = 1.0
    """Share of the mined keys that has the anchor's class, met on average."""
    right: Place = "nearest"
    """Which keys of the class: the closest, those around the median, or random ones."""
    wrong: Place = "nearest"
    """Which keys of other classes."""
    augmented_share: Annotated[float, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view."""

    start: float = field(default=0.0, kw_only=True)
    ramp: float = field(default=0.0, kw_only=True)

    reads = frozenset({"positive_keys", "same_class"})

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Mine P = k keys."""
        assert s.same_class is not None, "declared in reads"
        wanted = (self.purity * self.k + uniform_columns(s.own, 1, context.generator, SHARE)).floor().long()
        wanted = torch.minimum(wanted, (s.same_class & ~s.own).sum(1, keepdim=True))
        count = min(self.k, s.own.shape[1])
        right, wrong = (
            _placed(s, how, among & ~s.own, count, context)
            for how, among in ((self.right, s.same_class), (self.wrong, ~s.same_class))
        )
        place = torch.arange(count, device=wanted.device)
        index = torch.where(place < wanted, right, wrong.gather(1, (place - wanted).clamp_min(0)))
        return equally(index, s.own, self.augmented_share)


def _placed(s: Similarities, how: Place, among: Mask, count: int, context: Context) -> Int64[Tensor, "B P"]:
    """Return `count` keys among the given ones, by place."""
    assert s.positive_keys is not None, "declared in reads"
    score = uniform_per_key(s.own, context.generator) if how == "random" else s.positive_keys
    if how == "middle":
        rank = score.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
        score = -(rank - among.sum(1, keepdim=True) // 2).abs().float()
    return closest(score.masked_fill(~among, -torch.inf), count, context.generator)[1]


@dataclass(frozen=True)
class StillNegative(NegativeRule):
    """Keep every key, and push mined keys away as well: they attract without being removed from the negatives."""

    k: Annotated[int, "a whole number of at least 1"] = 5
    """Number of keys that the positive rule mines."""

    reads = frozenset({"vectors"})

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Every key is POTENTIAL."""
        return torch.full_like(s.own, Band.POTENTIAL, dtype=torch.int8)

    def synthesise(self, s: Similarities, kept: Mask, context: Context) -> Float[Tensor, "B P d"]:
        """Return the mined keys as further negatives."""
        assert s.vectors is not None, "declared in reads"
        mined = ~(s.own | context.eligible)
        index = mined.float().topk(min(self.k, mined.shape[1]), dim=1).indices
        return normalize(s.vectors[1][index].float(), dim=2)


@dataclass(frozen=True)
class WithoutMined(NegativeRule):
    """Drop the keys that a positive rule would mine: they are removed from the negatives without attracting."""

    of: PositiveRule = field(default_factory=RepairedKeys)

    @property
    def reads(self) -> frozenset[str]:
        """The fields that the rule reads."""
        return self.of.reads

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return OTHER for keys that the rule weights."""
        mined = self.of.mine(s, context)
        taken = torch.zeros_like(s.anchor_keys).scatter_add_(1, mined.index, mined.weight[:, 1:])
        return other_codes(taken > 0)
