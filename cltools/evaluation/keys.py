"""What is known of the keys without any label: which are hubs, which are the anchor's own, and how old they are.

Legend: B anchors, K keys.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cltools.evaluation.intervals import Share, share_of
from cltools.mining.similarities import own_last


@dataclass(frozen=True)
class Hubness:
    """How unevenly keys are chosen (Radovanović et al., JMLR 11, 2010).

    Attributes:
        skew: third standardised moment of the counts; about 1/√mean by chance, well above it where some keys are hubs.
            NaN where all counts are equal.
        largest: how often the key chosen most is chosen.
        never: share of the keys never chosen; about e^−mean by chance. NaN without keys.
        mean: how often a key is chosen on average. NaN without keys.
    """

    skew: float
    largest: int
    never: float
    mean: float


@dataclass(frozen=True)
class KeyAge:
    """Age of the keys, in keys enqueued since: mean and largest of all, and mean over the mined pairs (NaN of none)."""

    mean: float
    largest: int
    mined: float


def closest(score: Float[Tensor, "B K"], own: Bool[Tensor, "B K"], k: int) -> Int[Tensor, " chosen"]:
    """Indices of each anchor's k closest keys, all anchors in one row; own keys are never among them."""
    index = own_last(score, own).topk(min(k, score.shape[1]), dim=1).indices
    return index[~own.gather(1, index)]


def hubness(index: Int[Tensor, "*chosen"], keys: int) -> Hubness:
    """How unevenly keys are chosen; the skew is that of the k-occurrence N_k where each anchor chose k.

    Args:
        index: the keys that all anchors chose, such as [B, k] or one row.
        keys: K, of which these are indices.
    """
    if not keys:
        return Hubness(math.nan, 0, math.nan, math.nan)
    counts = index.flatten().bincount(minlength=keys).double()
    gap = counts - counts.mean()
    deviation = float(gap.square().mean().sqrt())
    skew = float((gap / deviation).pow(3).mean()) if deviation else math.nan
    return Hubness(skew, int(counts.max()), float((counts == 0).double().mean()), float(counts.mean()))


def self_hits(own: Bool[Tensor, "B K"]) -> Share:
    """Share of the anchors that meet a key of their own image."""
    hit = own.any(1).long()
    return share_of(hit, torch.ones_like(hit))


def key_age(ages: Int[Tensor, " K"], mined: Bool[Tensor, "B K"]) -> KeyAge:
    """Age of all keys, which are at least one, and of the mined."""
    chosen = ages.double()[mined.nonzero()[:, 1]]
    return KeyAge(float(ages.double().mean()), int(ages.max()), float(chosen.mean()) if len(chosen) else math.nan)
