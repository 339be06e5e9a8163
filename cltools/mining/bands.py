"""The codes of keys, and the cuts that assign them: a band lies between two edges of a score.

Edges are values, not positions: equal scores get equal codes, and bands are nested if their edges are. Codes are
computed by arithmetic, because on a CPU an assignment under a mask is slower.

Legend: B anchors, K keys.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from operator import ge, lt

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from cltools.mining.similarities import compared, largest, own_last, with_numpy

PerKey = Float[Tensor, "B K"]
"""A number for each key of each anchor, such as a score."""
PerAnchor = Float[Tensor, " B"]
Codes = Int8[Tensor, "B K"]
"""A code of `Band` for each key of each anchor."""
Mask = Bool[Tensor, "B K"]
FEW = 16  # up to this many closest keys per row, `topk` is used
SAMPLED = 16
"""One of so many keys is in the sample that encloses an edge."""


class Band(IntEnum):
    """Why a key is, or is not, a negative of an anchor.

    Example:
        >>> from cltools import AugmentedView, Band, RankBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, AugmentedView(), RankBand(drop_closest=0.25, keep_within=0.5))
        >>> [Band(code).name for code in chosen.band[0].tolist()]
        ['HARD', 'HARD', 'POTENTIAL', 'POTENTIAL', 'EASY', 'EASY', 'EASY', 'EASY']
    """

    OWN = 0
    """Another view of the anchor's own image."""
    EASY = 1
    """Below the band, where a key hardly pushes."""
    POTENTIAL = 2
    """Kept as a negative."""
    HARD = 3
    """Above the band, and so suspected to be a false negative."""
    MINED = 4
    """Taken as a positive."""
    OTHER = 5
    """Dropped for a reason other than similarity, such as a random draw or an oracle."""
    SOFTENED = 6
    """Kept as a negative with a weight between 0 and 1."""


KEPT = (Band.POTENTIAL, Band.SOFTENED)
"""Codes of the keys that are kept as negatives."""


def rank_count(share: float, keys: int) -> int:
    """Convert a rank share to a number of keys: floor(share·keys + ½), where own and mined keys count."""
    return int(share * keys + 0.5)


def rank_edges(score: PerKey, own: Mask, counts: Sequence[int]) -> list[Float[Tensor, "B 1"]]:
    """Return, for each count c, the c-th largest score of each row, with own keys last; +inf for count 0."""
    keys, most = score.shape[1], max(counts)
    score = own_last(score.detach(), own)
    # on CUDA kthvalue is not deterministic
    if most <= FEW or (torch.are_deterministic_algorithms_enabled() and not with_numpy(score)):
        ordered = largest(score, most)[0]
        ranked = {count: ordered[:, count - 1, None] for count in counts if count}
    elif with_numpy(score):
        sample = np.sort(score.numpy()[:, ::SAMPLED], axis=1)
        ranked = {count: kth_largest(score.numpy(), count, sample) for count in counts if count}
    else:
        ranked = {count: score.kthvalue(keys - count + 1, dim=1, keepdim=True).values for count in counts if count}
    infinite = score.new_full((len(score), 1), torch.inf)
    return [ranked.get(count, infinite) for count in counts]


def kth_largest(score: np.ndarray, count: int, sample: np.ndarray) -> Float[Tensor, "B 1"]:
    """Return the count-th largest score of each row [B, K], given a sorted sample of the row.

    Two values of the sample, four standard errors around the one of this rank, almost always enclose it, and only the
    scores between them are partitioned. Of a row whose edge they miss, all are.
    """
    keys, drawn, share = score.shape[1], sample.shape[1], count / score.shape[1]
    at, error = drawn * (1 - share), 4 * math.sqrt(drawn * share * (1 - share)) + 1
    between = score >= sample[:, max(0, int(at - error)), None]
    below = score < sample[:, high, None] if (high := math.ceil(at + error)) < drawn else np.ones_like(between)
    above, between = keys - np.array([np.count_nonzero(row) for row in below]), between & below
    index = np.flatnonzero(between)
    ends, near = np.searchsorted(index, np.arange(len(score) + 1) * keys), score.ravel()[index]
    edges = np.empty_like(score, shape=(len(score), 1))
    for row, (start, end, rank) in enumerate(zip(ends, ends[1:], np.diff(ends) - (count - above), strict=False)):
        part, place = (near[start:end], rank) if 0 <= rank < end - start else (score[row].copy(), keys - count)
        part.partition(place)
        edges[row] = part[place]
    return torch.from_numpy(edges)


def rank_band(score: PerKey, own: Mask, drop_closest: float, keep_within: float) -> Codes:
    """Codes EASY, POTENTIAL and HARD by rank of the score: ranks in (drop_closest, keep_within] are POTENTIAL.

    Args:
        score: larger is closer.
        own: mask of own keys, which rank last whatever their score; their codes have no meaning.
        drop_closest: share of all K keys, the closest ones, that is HARD.
        keep_within: share of all K keys, counted from the closest, beyond which a key is EASY.
    """
    hardest, close = rank_count(drop_closest, score.shape[1]), rank_count(keep_within, score.shape[1])
    whole = close >= score.shape[1]  # then no edge is computed, which could not be enclosed
    hard_edge, easy_edge = rank_edges(score, own, (hardest, 0 if whole else close))
    return value_band(score, None if whole else easy_edge, hard_edge if hardest else None)


def value_band(score: PerKey, above: float | Tensor | None, below: float | Tensor | None) -> Codes:
    """Codes EASY, POTENTIAL and HARD by value: above ≤ score < below is POTENTIAL, and None cuts nothing.

    Args:
        score: larger is closer.
        above: one edge, or one per anchor [B, 1]; a key with a lower score is EASY.
        below: one edge, or one per anchor [B, 1]; a key with at least this score is HARD.
    """
    score = score.detach()
    easy = None if above is None else compared(lt, score, above)
    return band_codes(score, hard=None if below is None else compared(ge, score, below), easy=easy)


def band_codes(score: PerKey, *, hard: Mask | None, easy: Mask | None) -> Codes:
    """Return HARD and EASY where the masks are true, POTENTIAL elsewhere; None is an empty mask. No key may be both."""
    codes = torch.full_like(score, Band.POTENTIAL, dtype=torch.int8)
    if easy is not None:
        codes -= easy.view(torch.int8)  # EASY, POTENTIAL and HARD are consecutive
    if hard is not None:
        codes += hard.view(torch.int8)
    return codes


def other_codes(dropped: Mask) -> Codes:
    """Return OTHER for the dropped keys and POTENTIAL for the rest, for drops by a reason other than similarity."""
    return dropped.view(torch.int8) * (Band.OTHER - Band.POTENTIAL) + Band.POTENTIAL
