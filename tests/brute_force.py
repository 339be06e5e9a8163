"""Brute-force references for the selection and the loss: plain Python numbers and loops, written from the design.

Nothing here imports the package. One anchor ("row") at a time: `search`, `scores`, `cosines` are lists of floats over
its K keys; `own`, `mined`, `same_class` lists of bools. A rule is passed as anything with the documented fields.
"""

import math
import struct
from typing import Any

OWN, EASY, POTENTIAL, HARD, MINED, OTHER = range(6)
TINY = 1.1754943508222875e-38  # the smallest normal float32
Row = list[float]


def single(value: float) -> float:
    """The float32 nearest to `value`: thresholds are compared with float32 similarities."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def dot(a: Row, b: Row) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


# --- positives -------------------------------------------------------------------------------------------------------


def closeness_row(by: str, anchor: Row, key: Row | None) -> Row:
    if by == "anchor":
        return list(anchor)
    assert key is not None
    return list(key) if by == "positive" else [max(a, b) for a, b in zip(anchor, key, strict=True)]


def candidate_count(k: int | None, pick: int | None, keys: int) -> int:
    found = keys if k is None else min(k, keys)
    return found if pick is None else min(pick, found)


def check_candidates(chosen: list[int], search: Row, own: list[bool], k: int | None, pick: int | None) -> None:
    """Any k keys may be mined among equals, so the choice is checked, not predicted. Own keys rank last."""
    ranked = [-math.inf if mine else value for value, mine in zip(search, own, strict=True)]
    count = candidate_count(k, pick, len(ranked))
    assert len(chosen) == count
    assert len(set(chosen)) == count
    top = sorted(ranked, reverse=True)[: len(ranked) if k is None else k]
    values = sorted((ranked[j] for j in chosen), reverse=True)
    if pick is None:
        assert values == top
    for value in values:  # a picked subset is a sub-multiset of the top k
        assert values.count(value) <= top.count(value)


def softmax(values: Row, temperature: float) -> Row:
    if not values:
        return []
    top = max(values)
    exponentials = [math.exp((value - top) / temperature) for value in values]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]


def mined_weights(rule: Any, chosen: list[int], search: Row, own: list[bool]) -> Row:
    """[1+P] weights of the augmented view and of the `chosen` candidates, in their order; every key where no k is."""
    live = [j for j in chosen if not own[j]]
    share = dict(zip(live, softmax([search[j] for j in live], rule.temperature), strict=True))
    threshold, least = getattr(rule, "min_cosine", None), getattr(rule, "min_weight", None)
    if least == "mean":
        least = 1 / rule.k
    accepted = [
        j
        for j in live
        if (threshold is None or search[j] >= single(threshold)) and (least is None or share[j] >= least * (1 - 1e-6))
    ]
    if not accepted:
        return [1.0] + [0.0] * len(chosen)
    if getattr(rule, "weighting", "softmax") == "uniform":
        inner = {j: 1 / len(accepted) for j in accepted}
    else:
        inner = dict(zip(accepted, softmax([search[j] for j in accepted], rule.temperature), strict=True))
    augmented = 1 / (1 + len(accepted)) if rule.augmented_share is None else rule.augmented_share
    mined = rule.strength * (1 - augmented)
    return [1 - mined] + [mined * inner.get(j, 0.0) for j in chosen]


# --- negatives -------------------------------------------------------------------------------------------------------


def score_row(by: str, anchor: Row, key: Row | None, temperature: float) -> Row:
    if by == "force":
        return [c / temperature + 0.5 * math.log(max((1 - c) * (1 + c), TINY)) for c in anchor]
    return closeness_row(by, anchor, key)


def rank_count(share: float, keys: int) -> int:
    return math.floor(share * keys + 0.5)


def rank_bands(scores: Row, own: list[bool], lower: float, upper: float) -> list[int]:
    """HARD at or above the m_lower-th largest, EASY below the m_upper-th, HARD first."""
    ranked = [-math.inf if mine else value for value, mine in zip(scores, own, strict=True)]
    order = sorted(ranked, reverse=True)
    m_lower, m_upper = rank_count(lower, len(order)), rank_count(upper, len(order))
    bands = []
    for value in ranked:
        if m_lower > 0 and value >= order[m_lower - 1]:
            bands.append(HARD)
        elif m_upper == 0 or (m_upper < len(order) and value < order[m_upper - 1]):
            bands.append(EASY)
        else:
            bands.append(POTENTIAL)
    return bands


def value_bands(scores: Row, above: float | None, below: float | None) -> list[int]:
    """HARD at or above `below`, EASY below `above`; None cuts nothing."""
    bands = []
    for value in scores:
        if below is not None and value >= single(below):
            bands.append(HARD)
        else:
            bands.append(EASY if above is not None and value < single(above) else POTENTIAL)
    return bands


def margin_bands(
    anchor: Row, positive: float, margin: float | None, relative: float | None, within: float | None
) -> list[int]:
    """By z·n − z·z': HARD from the top on, −margin or −(1 − relative)·|z·z'|, EASY further than `within` below it."""
    top = single(-margin) if margin is not None else single(single(single(relative) - 1) * abs(positive))
    scores = [single(c - positive) for c in anchor]
    return value_bands(scores, None if within is None else single(top - single(within)), top)


def final_bands(judged: list[int], own: list[bool], mined: list[bool]) -> list[int]:
    return [OWN if o else MINED if m else code for code, o, m in zip(judged, own, mined, strict=True)]


def negative_weights(bands: list[int], rescale: bool) -> Row:
    """One for each kept key, or (keys neither own nor mined) / (keys kept)."""
    eligible = sum(code not in (OWN, MINED) for code in bands)
    kept = bands.count(POTENTIAL)
    weight = eligible / kept if rescale and kept else 1.0
    return [weight if code == POTENTIAL else 0.0 for code in bands]


# --- loss ------------------------------------------------------------------------------------------------------------


def log_sum(terms: list[tuple[float, float]]) -> float:
    """log Σ v·e^x over pairs (v, x); −∞ when no v is positive."""
    live = [(v, x) for v, x in terms if v > 0]
    if not live:
        return -math.inf
    top = max(x for _, x in live)
    return top + math.log(math.fsum(v * math.exp(x - top) for v, x in live))


def log_mass(
    positive: Row, negative: Row, w: Row, v: Row, temperature: float, beta: float, tau_plus: float
) -> tuple[float, bool]:
    """log B of one anchor and whether the floor N·e^{−1/τ} was used."""
    count = math.fsum(v)
    if count == 0:
        return -math.inf, False
    x = [c / temperature for c in negative]
    tilt = log_sum([(vi, beta * xi) for vi, xi in zip(v, x, strict=True)])
    tilted = [count * vi * math.exp(beta * xi - tilt) for vi, xi in zip(v, x, strict=True)]
    attraction = math.fsum(wj * math.exp(c / temperature) for wj, c in zip(w, positive, strict=True))
    raw = math.fsum(vi * math.exp(xi) for vi, xi in zip(tilted, x, strict=True)) - count * tau_plus * attraction
    raw /= 1 - tau_plus
    floor = count * math.exp(-1 / temperature)
    return (math.log(floor), True) if raw < floor else (math.log(raw), False)


def loss(
    positive: Row,
    negative: Row,
    w: Row,
    v: Row,
    temperature: float,
    form: str,
    beta: float = 0.0,
    tau_plus: float = 0.0,
) -> float:
    """One anchor's loss by the formulas, positives of weight 0 left out everywhere."""
    mass, _ = log_mass(positive, negative, w, v, temperature, beta, tau_plus)
    present = [(wj, c / temperature) for wj, c in zip(w, positive, strict=True) if wj > 0]
    attraction = math.fsum(wj * s for wj, s in present)
    if form == "sep":
        return math.fsum(wj * (log_sum([(1, s), (1, mass)]) - s) for wj, s in present)
    if form == "in":
        inside = log_sum(present)
        return log_sum([(1, inside), (1, mass)]) - inside
    if form == "out":
        return log_sum([(1, s) for _, s in present] + [(1, mass)]) - attraction
    assert form == "decoupled"
    return (0.0 if mass == -math.inf else mass) - attraction
