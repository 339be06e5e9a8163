"""The two edges of a band, as ranks and as cosines of one anchor, and how either is moved.

"closest" is the edge above which keys are dropped as suspected, "beyond" the one below which they are dropped as easy.
In rank unit an edge is a number of keys; in cosine unit a cosine (or a difference of cosines, for the margin).

Legend: K keys.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cltools.mining import BandNegatives
from cltools.mining.bands import rank_count
from cltools.mining.negatives import lowest_edge

GAP = 1e-4  # in cosine unit edges stay that far apart: a band needs lower < upper


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


def edges_of(rule: BandNegatives, ranked: Float32[ndarray, " K"]) -> Edges:
    """The edges of a rule for one anchor.

    Args:
        rule: of either unit.
        ranked: scores of all keys by the rule's reference, largest first, own keys last at −inf.
    """
    keys = len(ranked)
    if rule.unit == "rank":
        closest, beyond = rank_count(rule.lower, keys), rank_count(rule.upper, keys)
        return Edges(closest, beyond, _at(ranked, closest), _at(ranked, beyond) if beyond < keys else -np.inf, keys)
    high = np.inf if rule.upper >= 1 else rule.upper
    low = -np.inf if rule.lower <= lowest_edge(rule.unit, rule.reference) else rule.lower
    closest, beyond = int((ranked >= high).sum()), int((ranked >= low).sum())
    return Edges(closest, keys if low == -np.inf else beyond, high, low, keys)


def moved(rule: BandNegatives, name: str, value: float, keys: int) -> BandNegatives:
    """The rule with one edge moved, as far as the other lets it.

    Args:
        rule: of either unit.
        name: "closest" or "beyond".
        value: a number of keys in rank unit, else a cosine.
        keys: K.
    """
    if rule.unit == "rank":
        other = rank_count(rule.upper if name == "closest" else rule.lower, keys)
        count = round(value)
        if name == "closest":
            return replace(rule, lower=max(0, min(count, other - 1)) / keys)
        return replace(rule, upper=min(keys, max(count, other + 1)) / keys)
    if name == "closest":
        return replace(rule, upper=max(min(value, 1.0), rule.lower + GAP))
    return replace(rule, lower=min(max(value, lowest_edge(rule.unit, rule.reference)), rule.upper - GAP))


def converted(rule: BandNegatives, edges: Edges, unit: str, ranked: Float32[ndarray, " K"]) -> BandNegatives:
    """The rule in another unit or by another reference, keeping as many keys of one anchor.

    Args:
        rule: whose reference and other settings stay; its edges are replaced.
        edges: where the edges stand now.
        unit: of the edges to come.
        ranked: scores by the rule's reference, as in `edges_of`.
    """
    keys = edges.keys
    if unit == "rank":
        closest = min(edges.closest, keys - 1)
        return replace(rule, unit="rank", lower=closest / keys, upper=max(edges.beyond, closest + 1) / keys)
    high = min(1.0, _at(ranked, edges.closest))
    least = lowest_edge("cosine", rule.reference)
    low = max(least, _at(ranked, edges.beyond)) if edges.beyond < keys else least
    return replace(rule, unit="cosine", lower=min(low, high - GAP), upper=high)


def stops(keys: int, count: int = 60) -> list[int]:
    """Numbers of keys at which a logarithmic slider stops: 0, then ever wider apart, all K at the end."""
    wide = np.unique(np.round(np.geomspace(1, keys, count)).astype(int))
    return [0, *wide.tolist()]


def _at(ranked: ndarray, count: int) -> float:
    """The count-th largest score; inf for none."""
    return float(ranked[count - 1]) if count else np.inf
