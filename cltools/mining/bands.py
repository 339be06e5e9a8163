"""The codes a key can get, and the cut that gives them: a band between two edges of a score.

Edges are values, not positions: equal scores share one fate, and bands nest when their edges do. Codes are computed by
arithmetic, because on a CPU an assignment under a mask costs ten times as much.

Legend: B anchors, K keys.
"""

from collections.abc import Sequence
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from cltools.mining.similarities import own_last

PerKey = Float[Tensor, "B K"]
"""A number for each key of each anchor, such as a score."""
PerAnchor = Float[Tensor, " B"]
Codes = Int8[Tensor, "B K"]
"""A code of `Band` for each key of each anchor."""
Mask = Bool[Tensor, "B K"]
FEW = 16  # up to here a row's closest are found by a heap


class Band(IntEnum):
    """Why a key is, or is not, a negative of an anchor."""

    OWN = 0  # another view of the anchor's own image
    EASY = 1  # below the band: hardly pushes
    POTENTIAL = 2  # kept as a negative
    HARD = 3  # above the band: a suspected false negative
    MINED = 4  # taken as a positive
    OTHER = 5  # dropped for a reason that is not similarity (chance, oracle)
    SOFTENED = 6  # kept as a negative with a weight between 0 and 1


KEPT = (Band.POTENTIAL, Band.SOFTENED)
"""Codes of the negatives."""


def rank_count(share: float, keys: int) -> int:
    """How many of `keys` a rank share means: floor(share·keys + ½), own and mined keys counted."""
    return int(share * keys + 0.5)


def rank_edges(score: PerKey, own: Mask, counts: Sequence[int]) -> list[Float[Tensor, "B 1"]]:
    """For each count c the c-th largest score of each row, own keys ranking last; +inf for count 0."""
    keys, most = score.shape[1], max(counts)
    score = own_last(score.detach(), own)
    if most <= FEW:
        closest = score.topk(most, dim=1).values
        ranked = {count: closest[:, count - 1, None] for count in counts if count}
    elif _sorts_fast(score):
        score.numpy().sort(axis=1)
        ranked = {count: score[:, keys - count, None] for count in counts if count}
    elif torch.are_deterministic_algorithms_enabled():  # kthvalue is not, on CUDA
        ordered = score.sort(dim=1, descending=True).values
        ranked = {count: ordered[:, count - 1, None] for count in counts if count}
    else:
        ranked = {count: score.kthvalue(keys - count + 1, dim=1, keepdim=True).values for count in counts if count}
    infinite = score.new_full((len(score), 1), torch.inf)
    return [ranked.get(count, infinite) for count in counts]


def _sorts_fast(score: Tensor) -> bool:
    """On a CPU NumPy's vector sort takes half the time that torch takes to select a single rank."""
    return score.device.type == "cpu" and score.dtype in (torch.float32, torch.float64)


def rank_band(score: PerKey, own: Mask, drop_closest: float, keep_within: float) -> Codes:
    """Codes EASY, POTENTIAL and HARD by rank of the score: ranks in (drop_closest, keep_within] are POTENTIAL.

    Args:
        score: larger is closer.
        own: own keys rank last, whatever their score; their codes mean nothing.
        drop_closest: share of all K keys that is too hard.
        keep_within: share of all K keys within which a key is not too easy.
    """
    hardest, close = rank_count(drop_closest, score.shape[1]), rank_count(keep_within, score.shape[1])
    hard_edge, easy_edge = rank_edges(score, own, (hardest, close))
    easy = score < easy_edge if close < score.shape[1] else None
    return band_codes(score, hard=score >= hard_edge if hardest else None, easy=easy)


def value_band(score: PerKey, above: float | Tensor | None, below: float | Tensor | None) -> Codes:
    """Codes EASY, POTENTIAL and HARD by value: above ≤ score < below is POTENTIAL, and None cuts nothing.

    Args:
        score: larger is closer.
        above: one edge, or one per anchor [B, 1]; below it a key is too easy.
        below: the same; from it on a key is too hard.
    """
    easy = None if above is None else score < above
    return band_codes(score, hard=None if below is None else score >= below, easy=easy)


def band_codes(score: PerKey, *, hard: Mask | None, easy: Mask | None) -> Codes:
    """POTENTIAL everywhere but where a mask says HARD or EASY. No key is both; None is a mask without a key."""
    codes = torch.full_like(score, Band.POTENTIAL, dtype=torch.int8)
    if easy is not None:
        codes -= easy.view(torch.int8)  # EASY, POTENTIAL and HARD follow one another
    if hard is not None:
        codes += hard.view(torch.int8)
    return codes


def other_codes(dropped: Mask) -> Codes:
    """OTHER where a key is dropped for a reason that is not similarity, POTENTIAL elsewhere."""
    return dropped.view(torch.int8) * (Band.OTHER - Band.POTENTIAL) + Band.POTENTIAL
