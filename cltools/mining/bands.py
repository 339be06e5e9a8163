"""The codes a key can get, and the cut that gives them: a band between two edges of a score.

Edges are values, not positions: equal scores share one fate, bands nest when their edges do, and no sort is needed.

Legend: B anchors, K keys.
"""

from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor


class Band(IntEnum):
    """Why a key is, or is not, a negative of an anchor."""

    OWN = 0  # another view of the anchor's own image
    EASY = 1  # below the band: hardly pushes
    POTENTIAL = 2  # kept as a negative
    HARD = 3  # above the band: a suspected false negative
    MINED = 4  # taken as a positive
    OTHER = 5  # dropped for a reason that is not similarity (chance, oracle)


def rank_count(share: float, keys: int) -> int:
    """How many of `keys` a rank share means: floor(share·keys + ½), own and mined keys counted."""
    return int(share * keys + 0.5)


def rank_edge(score: Float[Tensor, "B K"], count: int) -> Float[Tensor, "B 1"]:
    """The `count`-th largest score of each row; +inf for count 0."""
    keys = score.shape[1]
    if count == 0:
        return score.new_full((len(score), 1), torch.inf)
    return score.kthvalue(keys - count + 1, dim=1, keepdim=True).values


def rank_band(score: Float[Tensor, "B K"], own: Bool[Tensor, "B K"], lower: float, upper: float) -> Int8[Tensor, "B K"]:
    """Codes EASY, POTENTIAL and HARD by rank of the score: ranks in (lower, upper] are POTENTIAL.

    Args:
        score: larger is closer.
        own: own keys rank last, whatever their score.
        lower: share of all K keys that is too hard.
        upper: share of all K keys within which a key is not too easy.
    """
    keys = score.shape[1]
    hardest, close = rank_count(lower, keys), rank_count(upper, keys)
    score = score.masked_fill(own, -torch.inf)
    hard = score >= rank_edge(score, hardest) if hardest else None
    easy = score < rank_edge(score, close) if close < keys else None
    return band_codes(score, hard=hard, easy=easy)


def value_band(score: Float[Tensor, "B K"], lower: float, upper: float) -> Int8[Tensor, "B K"]:
    """Codes EASY, POTENTIAL and HARD by value: lower ≤ score < upper is POTENTIAL; an upper edge of 1 cuts nothing."""
    return band_codes(score, hard=score >= upper if upper < 1 else None, easy=score < lower)


def band_codes(
    score: Float[Tensor, "B K"], *, hard: Bool[Tensor, "B K"] | None, easy: Bool[Tensor, "B K"] | None
) -> Int8[Tensor, "B K"]:
    """POTENTIAL everywhere but where a mask says HARD or EASY; HARD wins. None is a mask without a key."""
    codes = torch.full_like(score, Band.POTENTIAL, dtype=torch.int8)
    if easy is not None:
        codes.masked_fill_(easy, Band.EASY)
    if hard is not None:
        codes.masked_fill_(hard, Band.HARD)
    return codes
