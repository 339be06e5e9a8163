"""Each rule alone: schedules, randomness, edges, nesting, and the messages for bad settings."""

import inspect
import math
import re
import sys
from dataclasses import replace
from typing import Any

import brute_force
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from cltools.losses import info_nce
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    CosineBand,
    EveryKey,
    MarginBand,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    Similarities,
    bands,
    select,
)
from cltools.testing import check_rule

quick = settings(deadline=None, derandomize=True, max_examples=50)
NOTHING_MINED = AugmentedView()
ONE = torch.tensor([0.5])


def line(values: list[float], own: tuple[int, ...] = (), **more: Any) -> Similarities:
    """One anchor whose keys have these cosines, with the anchor and the positive alike."""
    cosines = torch.tensor([values])
    mask = torch.zeros(1, len(values), dtype=torch.bool)
    mask[0, list(own)] = True
    return Similarities(
        **{"anchor_keys": cosines, "positive_keys": cosines, "anchor_positive": ONE, "own": mask, **more}
    )


def codes(s: Similarities, rule: NegativeRule, positive: PositiveRule = NOTHING_MINED, **more: Any) -> str:
    """The bands of the first anchor, one initial a key: W own, E easy, P potential, H hard, M mined, O other."""
    return "".join("WEPHMO"[code] for code in select(s, positive, rule, **more).band[0].tolist())


# --- positives -------------------------------------------------------------------------------------------------------


def test_weights_of_each_weighting_by_hand() -> None:
    s = line([0.9, 0.8, 0.2, 0.99], own=(3,))
    e1, e2 = math.exp(0.9), math.exp(0.8)
    soft = [e1 / (e1 + e2), e2 / (e1 + e2)]
    cases: list[tuple[PositiveRule, dict[int, float]]] = [
        (NearestKeys(k=2, temperature=1.0), {0: soft[0] / 2, 1: soft[1] / 2}),
        (NearestKeys(k=2, weighting="uniform"), {0: 0.25, 1: 0.25}),
        (NearestKeys(k=2, weighting="uniform", min_cosine=0.85), {0: 0.5}),
        (NearestKeys(k=2, weighting="uniform", augmented_share=None), {0: 1 / 3, 1: 1 / 3}),
        (NearestKeys(k=1, weighting="uniform", augmented_share=0.0), {0: 1.0}),
        (NearestKeys(k=2, min_weight="mean", temperature=1.0), {0: 0.5}),  # the gate 1/k takes the one above the mean
        (NearestKeys(k=3, temperature=1.0, min_cosine=0.75), {0: soft[0] / 2, 1: soft[1] / 2}),
        (NearestKeys(k=2, weighting="uniform", min_cosine=0.8), {0: 0.25, 1: 0.25}),  # at the threshold is accepted
        (NearestKeys(k=2, weighting="uniform", min_cosine=0.95), {}),
    ]
    for rule, expected in cases:
        chosen = select(s, rule, AllNegatives())
        pairs = zip(chosen.positive_index[0].tolist(), chosen.positive_weight[0, 1:].tolist(), strict=True)
        assert {j: w for j, w in pairs if w > 0} == pytest.approx(expected), rule
        assert chosen.positive_weight[0, 0].item() == pytest.approx(1 - sum(expected.values())), rule


def test_equal_candidates_all_pass_the_default_gate() -> None:
    chosen = select(line([0.3] * 7), NearestKeys(k=7, min_weight="mean"), AllNegatives())
    assert chosen.positive_weight[0].tolist() == pytest.approx([0.5] + [0.5 / 7] * 7)


def test_schedule_waits_then_ramps() -> None:
    rule = NearestKeys(min_weight="mean", start=0.2, ramp=0.4)
    for progress, strength in [(0.0, 0), (0.19, 0), (0.2, 0), (0.4, 0.5), (0.6, 1), (1.0, 1)]:
        now = rule.at(progress)
        assert now.strength == pytest.approx(strength)
        assert (now.start, now.ramp) == (0, 0)
        assert isinstance(now, NearestKeys) and now == replace(rule, start=0, ramp=0, strength=now.strength)
    assert NearestKeys(min_weight="mean", start=0.2, ramp=0.0).at(0.2).strength == 1
    assert NearestKeys(min_weight="mean", start=0.2, ramp=0.0).at(0.1).strength == 0
    assert NearestKeys(min_weight="mean", start=0.0, ramp=0.0).at(0.0).strength == 1
    assert rule.strength == 1  # and select at full strength ignores start and ramp
    half = select(line([0.9, 0.1]), NearestKeys(k=1, weighting="uniform", start=0.0, ramp=1.0).at(0.5), AllNegatives())
    assert half.positive_weight[0].tolist() == pytest.approx([0.75, 0.25])


def test_edges_move_in_a_straight_line_and_then_rest() -> None:
    band = RankBand(drop_closest=0.1, keep_within=0.5, drop_closest_from=0.0, keep_within_from=1.0, anneal=0.4)
    for progress, closest, within in [(0.0, 0.0, 1.0), (0.2, 0.05, 0.75), (0.4, 0.1, 0.5), (1.0, 0.1, 0.5)]:
        now = band.at(progress)
        assert (now.drop_closest, now.keep_within) == pytest.approx((closest, within))
        assert now.at(0.9) == now and (now.drop_closest_from, now.keep_within_from) == (None, None)
    assert band.at(0.4) == RankBand(drop_closest=0.1, keep_within=0.5)
    cosines = CosineBand(above=0.0, below=0.8, above_from=-1.0, anneal=1.0)
    assert cosines.at(0.5) == CosineBand(above=-0.5, below=0.8)
    margin = MarginBand(margin=0.4, within=0.5, margin_from=0.0, within_from=1.0)
    assert margin.at(0.25) == MarginBand(margin=0.2, within=0.75)
    relative = MarginBand(relative=0.9, relative_from=1.1, anneal=1.0)
    assert relative.at(0.5).relative == pytest.approx(1.0)
    chance = RandomNegatives(share=0.4, share_from=1.0, anneal=0.4)
    for progress in (0.0, 0.1, 0.3, 0.4, 0.8):
        now = band.at(progress)
        assert chance.at(progress).share == pytest.approx(now.keep_within - now.drop_closest), (
            "the control keeps as many keys"
        )


def test_candidates_without_weight_are_judged_as_negatives() -> None:
    s = line([0.9, 0.8, 0.7, 0.1])
    band = RankBand(drop_closest=0.25, keep_within=0.75)
    gated = NearestKeys(k=2, weighting="uniform", min_cosine=0.85)
    assert codes(s, band) == "HPPE"
    assert codes(s, band, gated) == "MPPE"
    assert codes(s, band, gated.at(0.0)) == "HPPE"
    assert codes(s, band, NearestKeys(k=2, weighting="uniform", augmented_share=1.0)) == "HPPE"
    assert codes(s, band, NearestKeys(k=2, weighting="uniform")) == "MMPE"  # counted in the ranks, then removed


def test_pick_is_random_seeded_and_among_the_k() -> None:
    s = line([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], own=(1,))
    rule = NearestKeys(k=3, weighting="uniform", pick=1, augmented_share=0.0)
    picked = [select(s, rule, AllNegatives(), generator=torch.Generator().manual_seed(i)) for i in range(60)]
    again = select(s, rule, AllNegatives(), generator=torch.Generator().manual_seed(7))
    assert torch.equal(again.positive_index, picked[7].positive_index)
    assert {c.positive_index.item() for c in picked} == {0, 2, 3}
    assert all(c.positive_weight[0].tolist() == [0, 1] for c in picked)
    few = line([0.9, 0.8, 0.7], own=(0, 1))  # own keys fill the k, but never take the place of another
    for i in range(20):
        chosen = select(few, rule, AllNegatives(), generator=torch.Generator().manual_seed(i))
        assert chosen.positive_index.item() == 2


def test_the_closest_are_sought_near_the_positive_the_anchor_or_either() -> None:
    s = line([0.9, 0.1, 0.0], positive_keys=torch.tensor([[0.2, 0.3, 0.95]]))
    for by, best in [("positive", 2), ("anchor", 0), ("either", 2)]:
        rule = NearestKeys(k=1, weighting="uniform", by=by)  # type: ignore[arg-type]
        assert select(s, rule, AllNegatives()).positive_index.item() == best


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 0},
        {"k": -3},
        {"min_cosine": float("nan")},
        {"min_weight": 1.5},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"augmented_share": -0.1},
        {"augmented_share": 1.1},
        {"strength": 1.5},
        {"start": -0.1},
        {"ramp": float("nan")},
        {"pick": 0},
    ],
)
def test_positive_settings_out_of_range_are_named(bad: dict[str, Any]) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=name) as error:
        NearestKeys(**bad)
    assert str(value) in str(error.value)
    if name in ("temperature", "augmented_share", "strength"):
        with pytest.raises(ValueError, match=f"EveryKey.*{name}"):
            EveryKey(**bad)


def test_strength_blends_between_nothing_and_what_is_mined() -> None:
    """w_j·strength for each candidate, 1 − strength·(1 − w_0) for the view."""
    s = line([0.9, 0.5, 0.1, 0.7], own=(3,))
    for rule in (NearestKeys(2), NearestKeys(3, weighting="uniform", augmented_share=None), EveryKey()):
        full = select(s, rule, AllNegatives())
        for strength in (0.25, 0.5):
            part = select(s, replace(rule, strength=strength), AllNegatives())  # type: ignore[arg-type]
            assert torch.equal(part.positive_index, full.positive_index) and torch.equal(part.band, full.band)
            torch.testing.assert_close(part.positive_weight[:, 1:], strength * full.positive_weight[:, 1:])
            torch.testing.assert_close(part.positive_weight.sum(1), torch.ones(1))
        nothing = select(s, replace(rule, strength=0.0), AllNegatives())  # type: ignore[arg-type]
        assert nothing.positive_weight.tolist() == [[1.0]] and nothing.positive_index.shape == (1, 0)


# --- negatives -------------------------------------------------------------------------------------------------------


def test_rank_bands_by_hand() -> None:
    s = line([0.1, 0.9, 0.5, 0.7, 0.3])
    assert codes(s, RankBand(drop_closest=0.2, keep_within=0.6)) == "EHPPE"
    assert codes(s, RankBand(drop_closest=0.0, keep_within=0.6)) == "EPPPE"
    assert codes(s, RankBand(drop_closest=0.2, keep_within=1.0)) == "PHPPP"
    assert codes(s, RankBand(drop_closest=0.09, keep_within=0.3)) == "EPEPE"  # 0.45 + ½ is no key, 1.5 + ½ is two
    assert codes(s, RankBand(drop_closest=0.0, keep_within=0.05)) == "EEEEE"
    ties = line([0.5, 0.5, 0.5, 0.2])
    assert codes(ties, RankBand(drop_closest=0.25, keep_within=0.75)) == "HHHE"  # one fate for equals empties the band
    own = line([0.9, 0.5, 0.3, 0.1], own=(0,))
    assert codes(own, RankBand(drop_closest=0.25, keep_within=0.5)) == "WHPE"  # the own key ranks last


def test_cosine_bands_by_hand() -> None:
    s = line([0.75, 0.5, 0.25, -1.0, 1.0])
    assert codes(s, CosineBand(above=0.25, below=0.75)) == "HPPEH"
    assert codes(s, CosineBand(above=0.5, below=None)) == "PPEEP"
    assert codes(s, CosineBand(above=-1.0, below=0.0)) == "HHHPH"
    margin = MarginBand(margin=-0.25, within=0.5)  # around z·z' = 0.5
    assert codes(s, margin) == "HPPEH"
    assert codes(s, MarginBand()) == "HHPPH", "semi-hard: less similar than the positive"
    assert codes(s, MarginBand(margin=0.25)) == "HHHPH" and codes(s, MarginBand(margin=-0.5)) == "PPPPH"


def test_a_relative_margin_stays_below_the_positive_whatever_its_sign() -> None:
    values = [0.8, 0.47, -0.3, -0.53, -0.7]
    for positive, expected in [(0.5, "HPPPP"), (-0.5, "HHHPP"), (0.0, "HHPPP")]:
        s = line(values, anchor_positive=torch.tensor([positive]))
        assert codes(s, MarginBand(relative=0.95)) == expected, positive  # tops 0.475, −0.525 and 0
    s = line(values, anchor_positive=torch.tensor([-0.5]))
    assert codes(s, MarginBand(relative=0.95, within=0.1)) == "HHHPE"
    assert codes(s, MarginBand(relative=1.0)) == codes(s, MarginBand(margin=0.0))
    assert codes(s, MarginBand(relative=1.5)) == codes(s, MarginBand(margin=-0.25)) == "HHPPP"


def test_an_open_edge_cuts_nothing_and_rounding_beyond_one_is_no_reason() -> None:
    s = line([1.0000001, 0.5, -1.0000001])
    assert codes(s, CosineBand(above=None, below=None)) == codes(s, CosineBand(above=-1.0)) == "PPP"
    assert codes(s, CosineBand(above=-1.0, below=1.0)) == "HPP"


def test_force_vanishes_at_both_ends() -> None:
    """By gradient the strongest push is near c*, a cosine of 0.905 at 0.2; keys at ±1 push nothing and rank last."""
    s = line([1.0, 0.99, 0.905, 0.5, 0.0, -1.0])
    for rank, strongest in enumerate([2, 1, 3, 4]):
        band = RankBand(drop_closest=rank / 6, keep_within=(rank + 1) / 6, by="force")
        assert codes(s, band, temperature=0.2).index("P") == strongest
    band = RankBand(drop_closest=1.0 / 6, keep_within=4.0 / 6, by="force")
    assert codes(s, band, temperature=0.2) == "EPHPPE"


def test_by_decides_whose_closeness_is_cut() -> None:
    s = line([0.9, 0.1, 0.5], positive_keys=torch.tensor([[0.1, 0.9, 0.5]]))
    for by, expected in [("positive", "EHP"), ("anchor", "HEP")]:
        band = RankBand(drop_closest=1.0 / 3, keep_within=2.0 / 3, by=by)  # type: ignore[arg-type]
        assert codes(s, band) == expected
        cosine = CosineBand(above=0.3, below=0.7, by=by)  # type: ignore[arg-type]
        assert codes(s, cosine) == expected


@quick
@given(
    seed=st.integers(0, 10**6),
    grid=st.booleans(),
    edges=st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True).map(sorted),
)
def test_bands_nest_when_edges_do(seed: int, grid: bool, edges: list[float]) -> None:
    x = torch.rand(3, 13, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    x = (x * 3).round() / 3 if grid else x
    s = Similarities(x, x, torch.zeros(3), torch.zeros(3, 13, dtype=torch.bool))
    wide = select(s, NOTHING_MINED, RankBand(drop_closest=edges[0], keep_within=edges[3])).negative_weight > 0
    narrow = select(s, NOTHING_MINED, RankBand(drop_closest=edges[1], keep_within=edges[2])).negative_weight > 0
    assert (wide | ~narrow).all()


def test_rescale_keeps_the_total_weight() -> None:
    s = line([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], own=(6,))
    mined = NearestKeys(k=1, weighting="uniform")
    for rule in (
        RankBand(drop_closest=2.0 / 7, keep_within=5.0 / 7, rescale=True),
        RandomNegatives(share=0.9, rescale=True),
    ):
        chosen = select(s, mined, rule, generator=torch.Generator().manual_seed(0))
        kept = chosen.negative_weight[chosen.negative_weight > 0]
        assert len(kept) < 7
        assert kept.sum().item() == pytest.approx(5)  # seven keys, one own, one mined
        assert (kept == kept[0]).all()
    same = torch.tensor([[True, False, True, False, False, False, False]])
    chosen = select(line([0.1] * 7, same_class=same), NOTHING_MINED, OracleNegatives(rescale=True))
    assert chosen.negative_weight[0].tolist() == pytest.approx([0, 1.4, 0, 1.4, 1.4, 1.4, 1.4])


def random_kept(s: Similarities, share: float, seed: int) -> Tensor:
    chosen = select(s, NOTHING_MINED, RandomNegatives(share=share), generator=torch.Generator().manual_seed(seed))
    assert set(chosen.band.unique().tolist()) <= {Band.OWN, Band.POTENTIAL, Band.OTHER}
    return chosen.negative_weight > 0


def test_random_negatives_keep_an_exact_seeded_count() -> None:
    keys = 40
    x = torch.zeros(50, keys)
    s = Similarities(x, None, torch.zeros(50), torch.zeros(50, keys, dtype=torch.bool))
    for share in (0.01, 0.0125, 0.25, 0.6, 1.0):
        kept = random_kept(s, share, seed=1)
        assert (kept.sum(1) == brute_force.rank_count(share, keys)).all()
        assert torch.equal(kept, random_kept(s, share, seed=1))
    assert not torch.equal(random_kept(s, 0.5, seed=1), random_kept(s, 0.5, seed=2))
    frequency = torch.stack([random_kept(s, 0.25, seed=i).float().mean(0) for i in range(20)]).mean(0)
    assert ((frequency - 0.25).abs() < 0.06).all()  # 1,000 draws a key: four standard deviations


def test_random_negatives_rank_own_keys_last() -> None:
    own = torch.zeros(20, 10, dtype=torch.bool)
    own[:, :4] = True
    s = Similarities(torch.zeros(20, 10), None, torch.zeros(20), own)
    assert (random_kept(s, 0.5, seed=0).sum(1) == 5).all()
    assert (random_kept(s, 0.9, seed=0).sum(1) == 6).all()
    assert not (random_kept(s, 1.0, seed=0) & own).any()


def test_oracle_needs_labels() -> None:
    with pytest.raises(ValueError, match=r"label|same_class"):
        select(line([0.5, 0.1]), NOTHING_MINED, OracleNegatives())
    same = torch.tensor([[True, False]])
    assert codes(line([0.5, 0.1], same_class=same), OracleNegatives()) == "OP"


def test_rules_that_read_the_positive_ask_for_it() -> None:
    s = line([0.5, 0.1], positive_keys=None)
    assert codes(s, AllNegatives()) == "PP"
    assert codes(s, RankBand(drop_closest=0.5, keep_within=1.0, by="anchor")) == "HP"
    assert codes(s, AllNegatives(), NearestKeys(k=1, weighting="uniform", by="anchor")) == "MP"
    with pytest.raises(ValueError, match="reads positive_keys"):
        select(s, NOTHING_MINED, RankBand(drop_closest=0.5, keep_within=1.0))
    with pytest.raises(ValueError, match="reads positive_keys"):
        select(s, NearestKeys(k=1, min_weight="mean"), AllNegatives())


@pytest.mark.parametrize("rule", [AllNegatives(), RankBand(), RandomNegatives(share=0.3), OracleNegatives()])
def test_rules_without_a_schedule_stay_as_they_are(rule: NegativeRule) -> None:
    assert rule.at(0.0) == rule == rule.at(1.0)


@pytest.mark.parametrize(
    ("band", "bad"),
    [
        (RankBand, {"drop_closest": 0.5, "keep_within": 0.5}),
        (RankBand, {"drop_closest": -0.1}),
        (RankBand, {"keep_within": 1.1}),
        (RankBand, {"drop_closest": math.nan}),
        (RankBand, {"drop_closest_from": 0.6}),
        (RankBand, {"keep_within_from": 1.5}),
        (RankBand, {"anneal": 0.0}),
        (RankBand, {"anneal": 0.3}),
        (CosineBand, {"above": -1.1}),
        (CosineBand, {"below": 1.1}),
        (CosineBand, {"above": 0.5, "below": -0.5}),
        (CosineBand, {"above": math.nan}),
        (CosineBand, {"above": 0.2, "below": 0.4, "above_from": 0.5}),
        (CosineBand, {"above": 0.3, "below": 0.3}),
        (CosineBand, {"below_from": 0.5}),
        (CosineBand, {"anneal": 1.5}),
        (MarginBand, {"margin": 2.5}),
        (MarginBand, {"relative": -0.1}),
        (MarginBand, {"relative": math.inf}),
        (MarginBand, {"margin": 0.1, "relative": 0.9}),
        (MarginBand, {"within": 0.0}),
        (MarginBand, {"within_from": 0.5}),
        (MarginBand, {"margin_from": 0.5, "relative": 0.9}),
        (MarginBand, {"margin_from": math.nan}),
        (MarginBand, {"anneal": 0.2}),
        (RankBand, {"anneal": 0.0, "drop_closest_from": 0.2}),
        (MixedNegatives, {"hardest": 0}),
        (AugmentedView, {"strength": 0.2}),
        (AugmentedView, {"start": 0.3}),
    ],
)
def test_bands_without_a_meaning_are_refused(band: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{band.__name__}.*{next(iter(bad)).removesuffix('_from')}"):
        band(**bad)


@pytest.mark.parametrize("edge", [{"margin": -2.0}, {"margin": 2.0}, {"relative": 0.0}, {"within": 4.0}])
def test_the_largest_edges_of_a_margin_are_taken(edge: dict[str, float]) -> None:
    check_rule(MarginBand(**edge))  # which raises where it does not hold


def untyped(kind: type[Any], **settings: Any) -> Any:
    """A rule made past the run-time types of the tests, which would stop a value before the package sees it."""
    made = object.__new__(kind)
    inspect.unwrap(kind.__init__)(made, **settings)  # type: ignore[misc]
    return made


@pytest.mark.parametrize("rule", [NearestKeys, RankBand, MarginBand])
@pytest.mark.parametrize("share", ["0.5", [0.5, 0.6], None, torch.tensor([0.1, 0.2])])
def test_what_is_no_number_is_refused_as_one_out_of_range(rule: type[Any], share: Any) -> None:
    name = {NearestKeys: "temperature", RankBand: "keep_within", MarginBand: "anneal"}[rule]
    with pytest.raises(ValueError, match=f"{rule.__name__}: {name} is .*; it must be"):
        untyped(rule, **{name: share})


@pytest.mark.parametrize("count", [2.5, 0, "3", None, True])
def test_a_count_is_a_whole_number_that_is_not_too_small(count: Any) -> None:
    with pytest.raises(
        ValueError,
        match=rf"k is {re.escape(repr(count))}; .*whole number of at least 1\. For every key: EveryKey\(\)\.",
    ):
        untyped(NearestKeys, k=count)


def test_numbers_of_numpy_become_those_of_python() -> None:
    rule = untyped(NearestKeys, k=np.int64(3), start=np.float32(0.25), min_cosine=np.float32(0.5))
    assert rule == NearestKeys(k=3, start=0.25, min_cosine=0.5)
    assert (type(rule.k), type(rule.start), type(rule.min_cosine)) == (int, float, float)


def test_a_schedule_of_nothing_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"nothing moves.*drop_closest_from or keep_within_from"):
        RankBand(anneal=0.3)
    with pytest.raises(ValueError, match=r"share_from.*leave anneal out"):
        RandomNegatives(anneal=0.3)
    assert RandomNegatives(share_from=1.0, anneal=0.3).at(0.1).at(0.2).anneal == RandomNegatives().anneal


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_random_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        RandomNegatives(share=share)
    with pytest.raises(ValueError, match="share_from"):
        RandomNegatives(share_from=share)


def test_mistyped_choices_are_named_with_their_neighbours() -> None:
    one = torch.ones(1, 1)

    def lost(**choice: str) -> None:
        inspect.unwrap(info_nce)(one, one, temperature=0.2, **choice)  # type: ignore[arg-type]

    for meant, call in {
        "softmax": lambda: untyped(NearestKeys, weighting="sofmax"),
        "anchor": lambda: untyped(NearestKeys, by="anchr"),
        "mean": lambda: untyped(NearestKeys, min_weight="men"),
        "force": lambda: untyped(RankBand, by="forc"),
        "positive": lambda: untyped(CosineBand, by="postive"),
        "decoupled": lambda: lost(form="decoupld"),
        "sum": lambda: lost(reduction="smu"),
    }.items():
        with pytest.raises(ValueError, match=meant):
            call()


# --- the two ways to find an edge


@quick
@given(seed=st.integers(0, 10**6), grid=st.booleans(), keys=st.integers(1, 60), own=st.sampled_from([0.0, 0.1, 1.0]))
def test_a_cpus_sort_and_the_selection_of_ranks_give_the_same_edges(
    seed: int, grid: bool, keys: int, own: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(5, keys, generator=generator)
    score = score.round() if grid else score
    mask = torch.rand(5, keys, generator=generator) < own
    counts = [int(x) for x in torch.randint(0, keys + 1, (3,), generator=generator)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "FEW", -1)
        by_sort = bands.rank_edges(score, mask, counts)
        patch.setattr(sys.modules["cltools.mining.similarities"], "WITH_NUMPY", frozenset())
        by_rank = bands.rank_edges(score, mask, counts)
        patch.setattr(bands, "FEW", 100)
        by_heap = bands.rank_edges(score, mask, counts)
    for one, two, three in zip(by_sort, by_rank, by_heap, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


@given(seed=st.integers(0, 10**6), keys=st.integers(1, 3000), share=st.floats(0, 1))
def test_an_edge_is_the_same_whether_the_sample_encloses_it_or_misses_it(seed: int, keys: int, share: float) -> None:
    score = np.random.default_rng(seed).standard_normal((8, keys), np.float32)
    score[1] = 0  # all alike
    score[2, :: bands.SAMPLED] += 9  # the sample lies above the other keys …
    score[3, :: bands.SAMPLED] -= 9  # … and below
    score[4] = -np.inf
    score[5] = score[5].round()
    count = max(1, round(share * keys))
    sample, before = np.sort(score[:, :: bands.SAMPLED], axis=1), score.copy()
    found = bands.kth_largest(score, count, sample)
    assert np.array_equal(found[:, 0], np.sort(score, axis=1)[:, keys - count]) and np.array_equal(score, before)


def test_edges_of_half_precision_and_of_scores_with_gradient() -> None:
    score = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    own = torch.zeros(3, 100, dtype=torch.bool)
    (edge,) = bands.rank_edges(score.bfloat16().requires_grad_(), own, (40,))
    assert torch.equal(edge, score.bfloat16().sort(dim=1, descending=True).values[:, 39:40]) and not edge.requires_grad
