"""Edges as ranks and as values: what they hold, how they move, and that another kind of band keeps as many keys."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from moves import GAP, Band as AnyBand, Edges, converted, edges_of, moved, placed, ranked_by, widened

from cltools.mining import Band, Context, CosineBand, MarginBand, RankBand, Similarities

quick = settings(deadline=None, derandomize=True, max_examples=60)


def one_anchor(keys: int, seed: int, own: int | None = 0) -> Similarities:
    generator = torch.Generator().manual_seed(seed)
    cosines = 2 * torch.rand(2, 1, keys, generator=generator) - 1
    mask = torch.zeros(1, keys, dtype=torch.bool)
    if own is not None:
        mask[0, own] = True
    return Similarities(
        anchor_keys=cosines[0], positive_keys=cosines[1], anchor_positive=torch.tensor([0.7 - seed % 2]), own=mask
    )


def ranked(rule: AnyBand, s: Similarities) -> np.ndarray:
    return ranked_by(rule, s, 0.2)


def edges_for(rule: AnyBand, s: Similarities) -> Edges:
    return edges_of(rule, ranked(rule, s), s)


def judged(rule: AnyBand, s: Similarities) -> np.ndarray:
    band = rule.judge(s, Context(~s.own, 0.2))[0].numpy()
    return np.where(s.own[0].numpy(), Band.OWN, band)


shares = st.floats(0, 1).map(lambda x: round(x, 3))
pairs = st.tuples(shares, shares).map(sorted).filter(lambda e: e[0] < e[1])
bands: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda e, by: RankBand(*e, by=by), pairs, st.sampled_from(["positive", "anchor"])),
    st.builds(
        lambda e, by: CosineBand(2 * e[0] - 1, 2 * e[1] - 1, by=by), pairs, st.sampled_from(["positive", "anchor"])
    ),
    st.just(CosineBand(None, None)),
    st.builds(lambda m, w: MarginBand(margin=m, within=w), st.floats(-2, 2), st.none() | st.floats(0.05, 2)),
    st.builds(lambda r, w: MarginBand(relative=r, within=w), st.floats(0, 2), st.none() | st.floats(0.05, 2)),
)
sizes, seeds = st.integers(5, 60), st.integers(0, 10**6)


@quick
@given(keys=sizes, seed=seeds, rule=bands)
def test_edges_count_what_the_rule_judges(keys: int, seed: int, rule: AnyBand) -> None:
    s = one_anchor(keys, seed)
    edges, band, score = edges_for(rule, s), judged(rule, s), ranked(rule, s)[:-1]
    assert (band == Band.HARD).sum() == min(edges.closest, keys - 1) == (score >= edges.closest_score).sum()
    assert (band == Band.EASY).sum() == (score < edges.beyond_score).sum()
    assert edges.beyond == keys or edges.beyond == (score >= edges.beyond_score).sum()


@quick
@given(keys=sizes, seed=seeds, rule=bands, other=bands)
def test_another_band_keeps_as_many_keys(keys: int, seed: int, rule: AnyBand, other: AnyBand) -> None:
    s = one_anchor(keys, seed)
    edges, before = edges_for(rule, s), np.bincount(judged(rule, s), minlength=6)
    assume(before[Band.POTENTIAL] > 0)
    free = widened(other)
    found = converted(free, edges, ranked(free, s))
    assert type(found) is type(other)
    assert np.array_equal(np.bincount(judged(found, s), minlength=6), before)
    free = widened(rule)
    again = converted(free, edges_for(found, s), ranked(free, s))
    assert np.array_equal(judged(again, s), judged(rule, s)), "and back, key for key"


@quick
@given(
    keys=st.integers(3, 80),
    moves=st.lists(st.tuples(st.sampled_from(["closest", "beyond"]), st.integers(-5, 100)), max_size=8),
)
def test_edges_of_ranks_never_cross(keys: int, moves: list[tuple[str, int]]) -> None:
    s, rule = one_anchor(keys, 0), RankBand(0.0, 1.0)
    for name, value in moves:
        rule = moved(rule, name, value, edges_for(rule, s))  # type: ignore[assignment]
        edges = edges_for(rule, s)
        assert 0 <= edges.closest < edges.beyond <= keys
        reached = edges.closest if name == "closest" else edges.beyond
        assert reached == value or abs(edges.beyond - edges.closest) == 1 or reached in (0, keys)


@quick
@given(
    rule=st.sampled_from([CosineBand(None, None), MarginBand(margin=-2.0), MarginBand(relative=0.9, within=0.1)]),
    seed=st.integers(0, 1),
    moves=st.lists(st.tuples(st.sampled_from(["closest", "beyond"]), st.floats(-3, 3)), max_size=8),
)
def test_edges_that_are_values_never_cross(rule: AnyBand, seed: int, moves: list[tuple[str, float]]) -> None:
    s = one_anchor(50, seed)
    for name, value in moves:
        rule = moved(rule, name, value, edges_for(rule, s))
        edges = edges_for(rule, s)
        assert edges.closest_score - edges.beyond_score >= GAP / 2


def test_a_moved_edge_goes_where_it_is_put() -> None:
    s = one_anchor(200, 0)
    for name, value, expected in (("closest", 7, (7 / 200, 0.5)), ("beyond", 60, (0.1, 60 / 200))):
        rank = moved(RankBand(0.1, 0.5), name, value, edges_for(RankBand(0.1, 0.5), s))
        assert isinstance(rank, RankBand) and (rank.drop_closest, rank.keep_within) == expected
    cosine = CosineBand(above=0.1, below=0.5)
    assert moved(cosine, "closest", 0.9, edges_for(cosine, s)) == CosineBand(above=0.1, below=0.9)
    assert moved(cosine, "beyond", -0.5, edges_for(cosine, s)) == CosineBand(above=-0.5, below=0.5)
    margin = MarginBand(margin=0.2, within=0.5)
    closer = moved(margin, "closest", 0.1, edges_for(margin, s))
    assert isinstance(closer, MarginBand)
    assert (closer.margin, closer.within) == pytest.approx((-0.1, 0.8)), "the other edge stays where it was"
    both = placed(margin, 0.3, -0.4, 200)
    assert isinstance(both, MarginBand) and (both.margin, both.within) == pytest.approx((-0.3, 0.7))


@pytest.mark.parametrize("rule", [RankBand(), CosineBand(0.1, 0.3), MarginBand(relative=0.8, within=0.1)], ids=repr)
def test_without_edges_nothing_is_cut(rule: AnyBand) -> None:
    s = one_anchor(20, 0)
    free = widened(rule)
    assert set(judged(free, s)[1:]) == {Band.POTENTIAL}
    edges = edges_for(free, s)
    assert (edges.closest, edges.beyond, edges.closest_score, edges.beyond_score) == (0, 20, np.inf, -np.inf)
