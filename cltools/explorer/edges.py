"""The two edges of a band, as ranks and as values for one anchor.

"closest" is the edge above which keys are dropped as suspected, "beyond" the one below which they are dropped as easy.
An edge of a `RankBand` is a number of keys, that of a `CosineBand` a cosine, that of a `MarginBand` a difference of
cosines z·n − z·z'.

Legend: K keys.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cltools.mining import CosineBand, MarginBand, RankBand, Similarities
from cltools.mining.bands import rank_count

Band = RankBand | CosineBand | MarginBand
BANDS = (RankBand, CosineBand, MarginBand)
FIELDS = ("drop_closest", "keep_within", "above", "below", "margin", "relative", "within")
"""Settings of bands that are edges."""


@dataclass(frozen=True)
class Edges:
    """Where a band's edges stand for one anchor.

    Attributes:
        closest: keys at or above the upper edge of closeness: how many of the closest are dropped.
        beyond: how many keys are at or above the lower edge; the rest is dropped as easy.
        closest_score: score from which a key is dropped as suspected; inf where none is.
        beyond_score: score below which it is dropped as easy; −inf where none is.
        keys: K.
        unit: what the edges are given in: "rank" (a number of keys), "cosine" or "margin".
        measure: what their scores are, in words.
    """

    closest: int
    beyond: int
    closest_score: float
    beyond_score: float
    keys: int
    unit: str
    measure: str


def edges_of(rule: Band, ranked: Float32[ndarray, " K"], s: Similarities) -> Edges:
    """The edges of a rule for one anchor.

    Args:
        rule: a band.
        ranked: the rule's scores of all keys, largest first, own keys last at −inf.
        s: of the anchor.
    """
    keys = len(ranked)
    if isinstance(rule, RankBand):
        closest, beyond = rank_count(rule.drop_closest, keys), rank_count(rule.keep_within, keys)
        low = _at(ranked, beyond) if beyond < keys else -np.inf
        measure = "log force" if rule.by == "force" else "cosine"
        return Edges(closest, beyond, _at(ranked, closest), low, keys, "rank", measure)
    low, high = values_of(rule, s)
    closest, beyond = int((ranked >= high).sum()), int((ranked >= low).sum())
    unit, measure = ("margin", "z·n − z·z'") if isinstance(rule, MarginBand) else ("cosine", "cosine")
    return Edges(closest, beyond, high, low, keys, unit, measure)


def values_of(rule: CosineBand | MarginBand, s: Similarities) -> tuple[float, float]:
    """The lower and the upper edge as scores; −inf and inf where none cuts."""
    if isinstance(rule, CosineBand):
        low = -np.inf if rule.above is None or rule.above == -1 else rule.above
        return low, np.inf if rule.below is None else rule.below
    high = float(rule.top(s)[0, 0])
    return -np.inf if rule.within is None else high - rule.within, np.inf if high >= 2 else high


def _at(ranked: ndarray, count: int) -> float:
    """The count-th largest score; inf for none."""
    return float(ranked[count - 1]) if count else np.inf
