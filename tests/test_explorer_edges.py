"""Edges as ranks and as cosines: what they hold, how they move, and that changing the unit leaves the band in place."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st

from cltools.explorer.edges import GAP, converted, edges_of, moved, stops
from cltools.mining import Band, BandNegatives, Similarities

quick = settings(deadline=None, derandomize=True, max_examples=60)


def one_anchor(keys: int, seed: int, own: int | None = 0) -> Similarities:
    generator = torch.Generator().manual_seed(seed)
    cosines = 2 * torch.rand(2, 1, keys, generator=generator) - 1
    mask = torch.zeros(1, keys, dtype=torch.bool)
    if own is not None:
        mask[0, own] = True
    return Similarities(anchor=cosines[0], key=cosines[1], positive=torch.tensor([0.7]), own=mask)


def ranked(rule: BandNegatives, s: Similarities) -> np.ndarray:
    score = rule.score(s, temperature=0.2)[0].numpy()
    return np.sort(np.where(s.own[0].numpy(), -np.inf, score))[::-1]


def judged(rule: BandNegatives, s: Similarities) -> np.ndarray:
    band = rule.judge(s, ~s.own, temperature=0.2, generator=None)[0].numpy()
    return np.where(s.own[0].numpy(), Band.OWN, band)


shares = st.floats(0, 1).map(lambda x: round(x, 3))


@quick
@given(keys=st.integers(3, 60), seed=st.integers(0, 10**6), lower=shares, upper=shares)
def test_edges_count_what_the_rule_judges(keys: int, seed: int, lower: float, upper: float) -> None:
    assume(lower < upper)
    s, rule = one_anchor(keys, seed), BandNegatives(lower, upper)
    edges, band = edges_of(rule, ranked(rule, s)), judged(rule, s)
    score = ranked(rule, s)[:-1]
    assert (band == Band.HARD).sum() == min(edges.closest, keys - 1) == (score >= edges.closest_score).sum()
    assert (band == Band.EASY).sum() == (score < edges.beyond_score).sum()


@quick
@given(
    keys=st.integers(5, 60),
    seed=st.integers(0, 10**6),
    lower=shares,
    upper=shares,
    reference=st.sampled_from(["positive", "anchor"]),
)
def test_a_unit_changes_and_the_band_stays(keys: int, seed: int, lower: float, upper: float, reference: str) -> None:
    assume(lower < upper)
    rule = BandNegatives(lower, upper, reference=reference)  # type: ignore[arg-type]
    s = one_anchor(keys, seed)
    before = judged(rule, s)
    assume((before == Band.POTENTIAL).any())
    as_cosine = converted(rule, edges_of(rule, ranked(rule, s)), "cosine", ranked(rule, s))
    assert as_cosine.unit == "cosine" and np.array_equal(judged(as_cosine, s), before)
    again = converted(as_cosine, edges_of(as_cosine, ranked(as_cosine, s)), "rank", ranked(as_cosine, s))
    assert again.unit == "rank" and np.array_equal(judged(again, s), before)


@quick
@given(
    keys=st.integers(3, 80),
    moves=st.lists(st.tuples(st.sampled_from(["closest", "beyond"]), st.integers(-5, 100)), max_size=8),
)
def test_edges_never_cross(keys: int, moves: list[tuple[str, int]]) -> None:
    rule = BandNegatives(0.0, 1.0)
    for name, value in moves:
        rule = moved(rule, name, value, keys)
        edges = edges_of(rule, np.linspace(1, -1, keys, dtype=np.float32))
        assert 0 <= edges.closest < edges.beyond <= keys
        reached = edges.closest if name == "closest" else edges.beyond
        assert reached == value or abs(edges.beyond - edges.closest) == 1 or reached in (0, keys)


@quick
@given(moves=st.lists(st.tuples(st.sampled_from(["closest", "beyond"]), st.floats(-3, 3)), max_size=8))
def test_cosine_edges_never_cross(moves: list[tuple[str, float]]) -> None:
    rule = BandNegatives(-1.0, 1.0, unit="cosine")
    for name, value in moves:
        rule = moved(rule, name, value, 50)
        assert rule.lower >= -1 and rule.upper <= 1 and rule.upper - rule.lower >= GAP / 2


def test_a_moved_edge_goes_where_it_is_put() -> None:
    rule = moved(moved(BandNegatives(0.1, 0.5), "closest", 7, 200), "beyond", 60, 200)
    assert (rule.lower, rule.upper) == (7 / 200, 60 / 200)
    cosine = moved(BandNegatives(0.1, 0.5, unit="cosine"), "closest", 0.9, 200)
    assert (cosine.lower, cosine.upper) == (0.1, 0.9), "in cosine unit the closest are cut by `upper`"


def test_exact_ends_cut_nothing() -> None:
    s = one_anchor(20, 0)
    rule = BandNegatives(0.0, 1.0)
    edges = edges_of(rule, ranked(rule, s))
    assert (edges.closest, edges.beyond) == (0, 20)
    assert edges.closest_score == np.inf and edges.beyond_score == -np.inf
    as_cosine = converted(rule, edges, "cosine", ranked(rule, s))
    assert (as_cosine.lower, as_cosine.upper) == (-1.0, 1.0)


@pytest.mark.parametrize("keys", [1, 2, 10, 5000])
def test_stops_ascend_from_none_to_all(keys: int) -> None:
    found = stops(keys)
    assert found[0] == 0 and found[-1] == keys and found == sorted({*found})
    assert len(found) <= 61
