"""The two edges of a band, as ranks and as values for one anchor, and how either is moved.

"closest" is the edge above which keys are dropped as suspected, "beyond" the one below which they are dropped as easy.
An edge of a `RankBand` is a number of keys, that of a `CosineBand` a cosine, that of a `MarginBand` a difference of
cosines z·n − z·z'.

Legend: K keys.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cltools.mining import CosineBand, MarginBand, NegativeRule, RankBand, Similarities
from cltools.mining.bands import rank_count

Band = RankBand | CosineBand | MarginBand
BANDS = (RankBand, CosineBand, MarginBand)
FIELDS = ("drop_closest", "keep_within", "above", "below", "margin", "relative", "within")
"""Settings of bands that are edges."""
GAP = 1e-4  # edges that are values stay that far apart: between them lies a band


@dataclass(frozen=True)
class Edges:
    """Where a band's edges stand for one anchor.

    Attributes:
        closest: keys at or above the upper edge of closeness: how many of the closest are dropped.
        beyond: how many keys are at or above the lower edge; the rest is dropped as easy.
        closest_score: score from which a key is dropped as suspected; inf where none is.
        beyond_score: score below which it is dropped as easy; −inf where none is.
        keys: K.
    """

    closest: int
    beyond: int
    closest_score: float
    beyond_score: float
    keys: int


def lowest(rule: Band) -> float:
    """Where an edge can stand at the least: a cosine is at least −1, a margin of two cosines −2, a share 0."""
    return {RankBand: 0.0, CosineBand: -1.0, MarginBand: -2.0}[_kind(rule)]


def unit_of(rule: Band) -> str:
    """What the edges of a band are given in: "rank" (a number of keys), "cosine" or "margin"."""
    return {RankBand: "rank", CosineBand: "cosine", MarginBand: "margin"}[_kind(rule)]


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
        return Edges(closest, beyond, _at(ranked, closest), _at(ranked, beyond) if beyond < keys else -np.inf, keys)
    low, high = _values(rule, s)
    closest, beyond = int((ranked >= high).sum()), int((ranked >= low).sum())
    return Edges(closest, keys if low == -np.inf else beyond, high, low, keys)


def moved(rule: Band, name: str, value: float, edges: Edges) -> Band:
    """The rule with one edge moved, as far as the other lets it.

    Args:
        rule: a band.
        name: "closest" or "beyond".
        value: a number of keys for a `RankBand`, else a score.
        edges: where they stand now.
    """
    keys = edges.keys
    if isinstance(rule, RankBand):
        count = round(value)
        if name == "closest":
            other = rank_count(rule.keep_within, keys)
            return replace(rule, drop_closest=max(0, min(count, other - 1)) / keys)
        other = rank_count(rule.drop_closest, keys)
        return replace(rule, keep_within=min(keys, max(count, other + 1)) / keys)
    if name == "closest":
        return _with_values(rule, edges.beyond_score, max(value, edges.beyond_score + GAP))
    return _with_values(rule, min(value, edges.closest_score - GAP), edges.closest_score)


def converted(rule: Band, edges: Edges, ranked: Float32[ndarray, " K"]) -> Band:
    """A band whose edges keep as many keys of one anchor as other edges do.

    Args:
        rule: whose kind and other settings stay; its edges are replaced.
        edges: of another band.
        ranked: scores by `rule`, as in `edges_of`.
    """
    keys = edges.keys
    if isinstance(rule, RankBand):
        closest = min(edges.closest, keys - 1)
        return replace(rule, drop_closest=closest / keys, keep_within=max(edges.beyond, closest + 1) / keys)
    high = _at(ranked, edges.closest)
    low = _at(ranked, edges.beyond) if edges.beyond < keys else -np.inf
    if isinstance(rule, MarginBand) and np.isfinite(
        low
    ):  # top − within is rounded, so the edge stands between two keys
        following = float(ranked[edges.beyond])
        low = (low + following) / 2 if np.isfinite(following) else low - GAP
    return _with_values(rule, min(low, high - GAP), high)


def placed(rule: Band, closest: float, beyond: float, keys: int) -> Band:
    """The rule with both edges moved at once, as one may cross the other on its way; values as of `moved`."""
    if isinstance(rule, RankBand):
        free = Edges(0, keys, np.inf, -np.inf, keys)
        wide = replace(rule, drop_closest=0.0, keep_within=1.0)
        return moved(moved(wide, "closest", closest, free), "beyond", beyond, free)
    return _with_values(rule, min(beyond, closest - GAP), closest)


def widened(rule: NegativeRule) -> NegativeRule:
    """A band without its edges, and any other rule as it is."""
    if isinstance(rule, RankBand):
        return replace(rule, drop_closest=0.0, keep_within=1.0)
    return _with_values(rule, -np.inf, np.inf) if isinstance(rule, CosineBand | MarginBand) else rule


def stops(keys: int, count: int = 60) -> list[int]:
    """Numbers of keys at which a logarithmic slider stops: 0, then ever wider apart, all K at the end."""
    wide = np.unique(np.round(np.geomspace(1, keys, count)).astype(int))
    return [0, *wide.tolist()]


def _values(rule: CosineBand | MarginBand, s: Similarities) -> tuple[float, float]:
    """The lower and the upper edge as scores; −inf and inf where none cuts."""
    if isinstance(rule, CosineBand):
        low = -np.inf if rule.above is None or rule.above == -1 else rule.above
        return low, np.inf if rule.below is None else rule.below
    high = float(rule.top(s)[0, 0])
    return -np.inf if rule.within is None else high - rule.within, np.inf if high >= 2 else high


def _with_values(rule: CosineBand | MarginBand, low: float, high: float) -> CosineBand | MarginBand:
    """The rule with edges at these scores; what lies outside of the possible cuts nothing."""
    least = lowest(rule)
    if isinstance(rule, CosineBand):
        above = None if low <= least else min(low, 1 - GAP)
        return replace(rule, above=above, below=None if high > 1 else max(high, least + GAP))
    high = max(min(high, 2.0), least + GAP)
    within = None if low <= least else max(high - low, GAP)
    return replace(rule, margin=-high, relative=None, within=within)


def _kind(rule: Band) -> type[Band]:
    return next(kind for kind in BANDS if isinstance(rule, kind))


def _at(ranked: ndarray, count: int) -> float:
    """The count-th largest score; inf for none."""
    return float(ranked[count - 1]) if count else np.inf
