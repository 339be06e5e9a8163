"""Edges of bands and how the page's controls move them, in Python beside `front/engine`, which the tests hold to it.

An edge that is a number of keys is a rank, an edge that is a value a cosine or a margin.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cltools.explorer.state import Side
from cltools.mining import CosineBand, MarginBand, NegativeRule, RankBand, Similarities
from cltools.mining.bands import rank_count

Band = RankBand | CosineBand | MarginBand
BANDS = (RankBand, CosineBand, MarginBand)

GAP = 1e-4
"""Edges that are values stay that far apart: between them lies a band."""


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


def ranked_by(rule: Band, s: Similarities, temperature: float) -> Float32[ndarray, " K"]:
    """Scores of an anchor's keys by a rule, largest first, that of the own key −inf and last."""
    score = rule.score(s, temperature).masked_fill(s.own, -math.inf)[0]
    return np.sort(score.numpy())[::-1]


def controlled(side: Side, s: Similarities, name: str, value: Any) -> NegativeRule:
    """The rule for negatives with one control moved: "rule" (a rule), "by", "closest" or "beyond"."""
    rule: Any = side.negatives

    def in_place(other: Any) -> NegativeRule:
        free = widened(other)
        edges = edges_of(rule, ranked_by(rule, s, side.temperature), s)
        return converted(free, edges, ranked_by(free, s, side.temperature))

    if name == "rule":
        if not isinstance(value, BANDS) or not isinstance(rule, BANDS) or type(value) is type(rule):
            return value
        by = getattr(rule, "by", None)
        keeps = isinstance(value, RankBand | CosineBand) and by in ("positive", "anchor")
        return in_place(replace(value, by=by) if keeps else value)
    if name == "by":
        return in_place(replace(rule, by=value))
    edges = edges_of(rule, ranked_by(rule, s, side.temperature), s)
    return moved(rule, name, float(value), edges)


def moved(rule: Band, name: str, value: float, edges: Edges) -> Band:
    """The rule with one edge moved, as far as the other lets it.

    Args:
        rule: a band.
        name: "closest" or "beyond".
        value: a number of keys for a `RankBand`, else a score.
        edges: where they stand now.
    """
    if isinstance(rule, RankBand):
        count, keys = round(value), edges.keys
        if name == "closest":
            return replace(rule, drop_closest=max(0, min(count, edges.beyond - 1)) / keys)
        return replace(rule, keep_within=min(keys, max(count, edges.closest + 1)) / keys)
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
    if isinstance(rule, RankBand):
        return placed(rule, edges.closest, edges.beyond, edges.keys)
    high = _score_of(ranked, edges.closest)
    low = _score_of(ranked, edges.beyond) if edges.beyond < edges.keys else -np.inf
    if isinstance(rule, MarginBand) and np.isfinite(low):  # top − within is rounded: the edge stands between two keys
        following = float(ranked[edges.beyond])
        low = (low + following) / 2 if np.isfinite(following) else low - GAP
    return placed(rule, high, low, edges.keys)


def placed(rule: Band, closest: float, beyond: float, keys: int) -> Band:
    """The rule with both edges moved at once, as one may cross the other on its way; values as of `moved`."""
    if isinstance(rule, RankBand):
        first = max(0, min(round(closest), keys - 1))
        return replace(rule, drop_closest=first / keys, keep_within=min(keys, max(round(beyond), first + 1)) / keys)
    return _with_values(rule, min(beyond, closest - GAP), closest)


def widened(rule: Band) -> Band:
    """A band without its edges."""
    if isinstance(rule, RankBand):
        return replace(rule, drop_closest=0.0, keep_within=1.0)
    return _with_values(rule, -np.inf, np.inf)


def _with_values(rule: CosineBand | MarginBand, low: float, high: float) -> CosineBand | MarginBand:
    """The rule with edges at these scores; what lies outside of the possible cuts nothing."""
    if isinstance(rule, CosineBand):  # from −1 to 1
        above = None if low <= -1 else min(low, 1 - GAP)
        return replace(rule, above=above, below=None if high > 1 else max(high, GAP - 1))
    high = max(min(high, 2.0), GAP - 2)  # a margin is a difference of two cosines
    within = None if low <= -2 else max(high - low, GAP)
    return replace(rule, margin=-high, relative=None, within=within)


def _score_of(ranked: ndarray, count: int) -> float:
    """The count-th largest score; inf for none."""
    return float(ranked[count - 1]) if count else math.inf
