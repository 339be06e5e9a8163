"""Each rule alone: schedules, randomness, edges, nesting, and the messages for bad settings."""

import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import oracles
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from cltools.mining import (
    AllNegatives,
    Band,
    BandNegatives,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    Similarities,
    bands,
    select,
)

quick = settings(deadline=None, derandomize=True, max_examples=100)
NOTHING_MINED = PositiveRule(weighting="none")
ONE = torch.tensor([0.5])


def line(values: list[float], own: tuple[int, ...] = (), **more: Any) -> Similarities:
    """One anchor whose keys have these cosines, with the anchor and the positive alike."""
    cosines = torch.tensor([values])
    mask = torch.zeros(1, len(values), dtype=torch.bool)
    mask[0, list(own)] = True
    return Similarities(**{"anchor": cosines, "key": cosines, "positive": ONE, "own": mask, **more})


def codes(s: Similarities, rule: NegativeRule, positive: PositiveRule = NOTHING_MINED, **more: Any) -> str:
    """The bands of the first anchor, one initial a key: W own, E easy, P potential, H hard, M mined, O other."""
    return "".join("WEPHMO"[code] for code in select(s, positive, rule, **more).band[0].tolist())


# --- positives -------------------------------------------------------------------------------------------------------


def test_weights_of_each_weighting_by_hand() -> None:
    s = line([0.9, 0.8, 0.2, 0.99], own=(3,))
    e1, e2 = math.exp(0.9), math.exp(0.8)
    soft = [e1 / (e1 + e2), e2 / (e1 + e2)]
    cases: list[tuple[PositiveRule, dict[int, float]]] = [
        (PositiveRule(k=2, weighting="soft", temperature=1.0), {0: soft[0] / 2, 1: soft[1] / 2}),
        (PositiveRule(k=2, weighting="hard"), {0: 0.25, 1: 0.25}),
        (PositiveRule(k=2, weighting="hard", threshold=0.85), {0: 0.5}),
        (PositiveRule(k=2, weighting="hard", augmented_share=None), {0: 1 / 3, 1: 1 / 3}),
        (PositiveRule(k=1, weighting="hard", augmented_share=0.0), {0: 1.0}),
        (PositiveRule(k=2, temperature=1.0), {0: 0.5}),  # the gate 1/k takes the one above the mean
        (PositiveRule(k=3, temperature=1.0, threshold=0.75), {0: soft[0] / 2, 1: soft[1] / 2}),
        (PositiveRule(k=2, weighting="hard", threshold=0.8), {0: 0.25, 1: 0.25}),  # at the threshold is accepted
        (PositiveRule(k=2, weighting="hard", threshold=0.95), {}),
    ]
    for rule, expected in cases:
        chosen = select(s, rule, AllNegatives())
        pairs = zip(chosen.positive_index[0].tolist(), chosen.positive_weight[0, 1:].tolist(), strict=True)
        assert {j: w for j, w in pairs if w > 0} == pytest.approx(expected), rule
        assert chosen.positive_weight[0, 0].item() == pytest.approx(1 - sum(expected.values())), rule


def test_equal_candidates_all_pass_the_default_gate() -> None:
    chosen = select(line([0.3] * 7), PositiveRule(k=7), AllNegatives())
    assert chosen.positive_weight[0].tolist() == pytest.approx([0.5] + [0.5 / 7] * 7)


def test_schedule_waits_then_ramps() -> None:
    rule = PositiveRule(start=0.2, ramp=0.4)
    for progress, strength in [(0.0, 0), (0.19, 0), (0.2, 0), (0.4, 0.5), (0.6, 1), (1.0, 1)]:
        now = rule.at(progress)
        assert now.strength == pytest.approx(strength)
        assert (now.start, now.ramp) == (0, 0)
        assert now.k == rule.k and now.weighting == rule.weighting
    assert PositiveRule(start=0.2, ramp=0.0).at(0.2).strength == 1
    assert PositiveRule(start=0.2, ramp=0.0).at(0.1).strength == 0
    assert PositiveRule(start=0.0, ramp=0.0).at(0.0).strength == 1
    assert rule.strength == 1  # and select at full strength ignores start and ramp
    half = select(line([0.9, 0.1]), PositiveRule(k=1, weighting="hard", start=0.0, ramp=1.0).at(0.5), AllNegatives())
    assert half.positive_weight[0].tolist() == pytest.approx([0.75, 0.25])


def test_edges_move_in_a_straight_line_and_then_rest() -> None:
    band = BandNegatives(lower=0.1, upper=0.5, lower_from=0.0, upper_from=1.0, anneal=0.4)
    for progress, lower, upper in [(0.0, 0.0, 1.0), (0.2, 0.05, 0.75), (0.4, 0.1, 0.5), (1.0, 0.1, 0.5)]:
        now = band.at(progress)
        assert (now.lower, now.upper) == pytest.approx((lower, upper))
        assert now.at(0.9) == now and (now.lower_from, now.upper_from) == (None, None)
    assert band.at(0.4) == BandNegatives(lower=0.1, upper=0.5)
    cosines = BandNegatives(lower=0.0, upper=0.8, lower_from=-1.0, unit="cosine", anneal=1.0)
    assert (cosines.at(0.5).lower, cosines.at(0.5).upper) == (-0.5, 0.8)
    chance = RandomNegatives(share=0.4, share_from=1.0, anneal=0.4)
    for progress in (0.0, 0.1, 0.3, 0.4, 0.8):
        now = band.at(progress)
        assert chance.at(progress).share == pytest.approx(now.upper - now.lower), "the control keeps as many keys"


def test_candidates_without_weight_are_judged_as_negatives() -> None:
    s = line([0.9, 0.8, 0.7, 0.1])
    band = BandNegatives(lower=0.25, upper=0.75)
    gated = PositiveRule(k=2, weighting="hard", threshold=0.85)
    assert codes(s, band) == "HPPE"
    assert codes(s, band, gated) == "MPPE"
    assert codes(s, band, gated.at(0.0)) == "HPPE"
    assert codes(s, band, PositiveRule(k=2, weighting="hard", augmented_share=1.0)) == "HPPE"
    assert codes(s, band, PositiveRule(k=2, weighting="hard")) == "MMPE"  # counted in the ranks, then removed


def test_pick_is_random_seeded_and_among_the_k() -> None:
    s = line([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], own=(1,))
    rule = PositiveRule(k=3, pick=1, weighting="hard", augmented_share=0.0)
    picked = [select(s, rule, AllNegatives(), generator=torch.Generator().manual_seed(i)) for i in range(60)]
    again = select(s, rule, AllNegatives(), generator=torch.Generator().manual_seed(7))
    assert torch.equal(again.positive_index, picked[7].positive_index)
    assert {c.positive_index.item() for c in picked} == {0, 2, 3}
    assert all(c.positive_weight[0].tolist() == [0, 1] for c in picked)
    few = line([0.9, 0.8, 0.7], own=(0, 1))  # own keys fill the k, but never take the place of another
    for i in range(20):
        chosen = select(few, rule, AllNegatives(), generator=torch.Generator().manual_seed(i))
        assert chosen.positive_index.item() == 2


def test_search_looks_from_the_key_the_anchor_or_both() -> None:
    s = line([0.9, 0.1, 0.0], key=torch.tensor([[0.2, 0.3, 0.95]]))
    for search, best in [("key", 2), ("anchor", 0), ("max", 2)]:
        rule = PositiveRule(k=1, weighting="hard", search=search)  # type: ignore[arg-type]
        assert select(s, rule, AllNegatives()).positive_index.item() == best


@pytest.mark.parametrize("weighting", ["soft", "none"])
@pytest.mark.parametrize("gate", [{"threshold": 0.5}, {"min_share": 0.1}])
def test_a_gate_that_would_be_ignored_is_refused(weighting: Any, gate: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"threshold|min_share"):
        PositiveRule(weighting=weighting, **gate)


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 0},
        {"k": -3},
        {"threshold": float("nan"), "weighting": "hard"},
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"augmented_share": -0.1},
        {"augmented_share": 1.1},
        {"strength": 1.5},
        {"pick": 0},
    ],
)
def test_positive_settings_out_of_range_are_named(bad: dict[str, Any]) -> None:
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=name) as error:
        PositiveRule(**bad)
    assert str(value) in str(error.value)


# --- negatives -------------------------------------------------------------------------------------------------------


def test_rank_bands_by_hand() -> None:
    s = line([0.1, 0.9, 0.5, 0.7, 0.3])
    assert codes(s, BandNegatives(lower=0.2, upper=0.6)) == "EHPPE"
    assert codes(s, BandNegatives(lower=0.0, upper=0.6)) == "EPPPE"
    assert codes(s, BandNegatives(lower=0.2, upper=1.0)) == "PHPPP"
    assert codes(s, BandNegatives(lower=0.09, upper=0.3)) == "EPEPE"  # 0.45 + ½ is no key, 1.5 + ½ is two
    assert codes(s, BandNegatives(lower=0.0, upper=0.05)) == "EEEEE"
    ties = line([0.5, 0.5, 0.5, 0.2])
    assert codes(ties, BandNegatives(lower=0.25, upper=0.75)) == "HHHE"  # one fate for equals empties the band
    own = line([0.9, 0.5, 0.3, 0.1], own=(0,))
    assert codes(own, BandNegatives(lower=0.25, upper=0.5)) == "WHPE"  # the own key ranks last


def test_cosine_bands_by_hand() -> None:
    s = line([0.75, 0.5, 0.25, -1.0, 1.0])
    assert codes(s, BandNegatives(lower=0.25, upper=0.75, unit="cosine")) == "HPPEH"
    assert codes(s, BandNegatives(lower=0.5, upper=1.0, unit="cosine")) == "PPEEP"
    assert codes(s, BandNegatives(lower=-1.0, upper=0.0, unit="cosine")) == "HHHPH"
    margin = BandNegatives(lower=-0.25, upper=0.25, unit="cosine", reference="margin")  # around z·z' = 0.5
    assert codes(s, margin) == "HPPEH"


def test_force_vanishes_at_both_ends() -> None:
    """By gradient the strongest push is near c*, a cosine of 0.905 at 0.2; keys at ±1 push nothing and rank last."""
    s = line([1.0, 0.99, 0.905, 0.5, 0.0, -1.0])
    for rank, strongest in enumerate([2, 1, 3, 4]):
        band = BandNegatives(lower=rank / 6, upper=(rank + 1) / 6, reference="gradient")
        assert codes(s, band, temperature=0.2).index("P") == strongest
    band = BandNegatives(lower=1.0 / 6, upper=4.0 / 6, reference="gradient")
    assert codes(s, band, temperature=0.2) == "EPHPPE"


def test_reference_decides_what_is_ranked() -> None:
    s = line([0.9, 0.1, 0.5], key=torch.tensor([[0.1, 0.9, 0.5]]))
    for reference, expected in [("positive", "EHP"), ("anchor", "HEP")]:
        band = BandNegatives(lower=1.0 / 3, upper=2.0 / 3, reference=reference)  # type: ignore[arg-type]
        assert codes(s, band) == expected
    assert BandNegatives(lower=0.1, upper=0.5).reference == "positive"
    assert BandNegatives(lower=0.1, upper=0.5).unit == "rank"


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
    wide = select(s, NOTHING_MINED, BandNegatives(lower=edges[0], upper=edges[3])).negative_weight > 0
    narrow = select(s, NOTHING_MINED, BandNegatives(lower=edges[1], upper=edges[2])).negative_weight > 0
    assert (wide | ~narrow).all()


def test_rescale_keeps_the_total_weight() -> None:
    s = line([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], own=(6,))
    mined = PositiveRule(k=1, weighting="hard")
    for rule in (
        BandNegatives(lower=2.0 / 7, upper=5.0 / 7, rescale=True),
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
        assert (kept.sum(1) == oracles.rank_count(share, keys)).all()
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
    s = line([0.5, 0.1], key=None)
    assert codes(s, AllNegatives()) == "PP"
    assert codes(s, BandNegatives(lower=0.5, upper=1.0, reference="anchor")) == "HP"
    assert codes(s, AllNegatives(), PositiveRule(k=1, weighting="hard", search="anchor")) == "MP"
    with pytest.raises(ValueError, match="with_key"):
        select(s, NOTHING_MINED, BandNegatives(lower=0.5, upper=1.0))
    with pytest.raises(ValueError, match="with_key"):
        select(s, PositiveRule(k=1), AllNegatives())


@pytest.mark.parametrize("rule", [AllNegatives(), BandNegatives(), RandomNegatives(share=0.3), OracleNegatives()])
def test_rules_without_a_schedule_stay_as_they_are(rule: NegativeRule) -> None:
    assert rule.at(0.0) == rule == rule.at(1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"lower": 0.5, "upper": 0.5},
        {"lower": 0.6, "upper": 0.5},
        {"lower": -0.1, "upper": 0.5},
        {"lower": 0.1, "upper": 1.1},
        {"lower": -1.1, "upper": 0.5, "unit": "cosine"},
        {"lower": 0.1, "upper": 1.1, "unit": "cosine"},
        {"lower": 0.5, "upper": -0.5, "unit": "cosine"},
        {"lower": math.nan, "upper": 0.5},
        {"lower": 0.1, "upper": 0.5, "reference": "margin"},
        {"lower": 0.1, "upper": 0.5, "reference": "gradient", "unit": "cosine"},
        {"lower": 0.1, "upper": 0.5, "lower_from": 0.6},
        {"lower": 0.1, "upper": 0.5, "upper_from": 1.5},
        {"anneal": 0.0},
        {"anneal": 1.5},
        {"anneal": 0.3},
    ],
)
def test_bands_without_a_meaning_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lower|upper|reference|unit|anneal"):
        BandNegatives(**bad)


def test_a_schedule_of_nothing_says_what_is_missing() -> None:
    with pytest.raises(
        ValueError, match=r"anneal is 0\.3, but nothing moves; say from where \(lower_from or upper_from\)"
    ):
        BandNegatives(anneal=0.3)
    with pytest.raises(ValueError, match=r"say from where \(share_from\), or leave anneal out"):
        RandomNegatives(anneal=0.3)
    assert RandomNegatives(share_from=1.0, anneal=0.3).at(0.1).at(0.2).anneal == RandomNegatives().anneal


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, math.nan])
def test_random_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        RandomNegatives(share=share)
    with pytest.raises(ValueError, match="share_from"):
        RandomNegatives(share_from=share)


def test_mistyped_choices_are_named_with_their_neighbours() -> None:
    """In a process of its own: here the run-time types would stop the word before the package sees it."""
    program = """
from cltools.losses import info_nce
from cltools.mining import BandNegatives, PositiveRule
import torch

one = torch.ones(1, 1)
calls = {
    "soft": lambda: PositiveRule(weighting="sotf"),
    "anchor": lambda: PositiveRule(search="anchr"),
    "positive": lambda: BandNegatives(reference="postive"),
    "cosine": lambda: BandNegatives(unit="cosin"),
    "decoupled": lambda: info_nce(one, one, temperature=0.2, form="decoupld"),
    "mean": lambda: info_nce(one, one, temperature=0.2, reduction="men"),
}
for meant, call in calls.items():
    try:
        call()
    except ValueError as error:
        assert meant in str(error), error
    else:
        raise AssertionError(f"no error where {meant} was mistyped")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


# --- a reader's own rule


@dataclass(frozen=True)
class Own(NegativeRule):
    """Answers what it is told to."""

    answer: tuple[int, ...] = ()
    weights: tuple[float, ...] | None = None

    def judge(self, s: Similarities, eligible: Any, *, temperature: float, generator: Any) -> Any:
        return torch.tensor([self.answer])

    def weigh(self, s: Similarities, kept: Any, eligible: Any) -> Any:
        return None if self.weights is None else torch.tensor([self.weights])


def test_a_kept_key_without_weight_is_not_kept() -> None:
    chosen = select(line([0.9, 0.8, 0.7]), NOTHING_MINED, Own((2, 2, 1), (0.5, 0.0, 3.0)))
    assert chosen.band.tolist() == [[Band.POTENTIAL, Band.OTHER, Band.EASY]] and chosen.band.dtype == torch.int8
    assert chosen.negative_weight.tolist() == [[0.5, 0.0, 0.0]]


def test_own_and_mined_are_not_a_rules_to_give() -> None:
    assert codes(line([0.9, 0.8, 0.7, 0.6], own=(3,)), Own((0, 4, 3, 2))) == "OOHW"


@pytest.mark.parametrize("answer", [torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 3), torch.ones(3).long()])
def test_an_answer_that_is_no_code_for_each_key_is_refused(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "judge", lambda *_, **__: answer)
    with pytest.raises(ValueError, match=r"Own.judge returned .*; it must give a code of Band for each key"):
        select(line([0.9, 0.8, 0.7]), NOTHING_MINED, Own())


# --- own rules that say strange things


@dataclass(frozen=True)
class Says(NegativeRule):
    """Answers with given codes and weights."""

    codes: tuple[int, ...]
    dtype: torch.dtype = torch.int8
    weights: tuple[float, ...] | None = None

    def judge(self, s: Similarities, eligible: Tensor, *, temperature: float, generator: Any) -> Tensor:
        return torch.tensor([self.codes], dtype=self.dtype)

    def weigh(self, s: Similarities, kept: Tensor, eligible: Tensor) -> Tensor | None:
        return None if self.weights is None else torch.tensor([self.weights], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int64])
def test_what_is_no_code_of_a_rule_is_other(dtype: torch.dtype) -> None:
    strange = [-128, -2, -1, 0, 4, 6, 7, 100, 127] + ([] if dtype == torch.int8 else [256, 257, 258, -254, 1000])
    given = (1, 2, 3, 5, *strange)
    s = line([0.1] * len(given))
    chosen = select(s, NOTHING_MINED, Says(given, dtype))
    assert chosen.band[0].tolist() == [1, 2, 3, 5] + [Band.OTHER] * len(strange)
    assert chosen.negative_weight[0].tolist() == [0, 1, 0, 0] + [0] * len(strange)


def test_a_kept_key_without_a_weight_above_0_is_not_kept_and_no_other_weight_counts() -> None:
    given = (2, 2, 2, 2, 2, 1, 3, 5)
    weights = (0.5, 0.0, -1.0, math.nan, 1e-60, math.inf, math.nan, 7.0)
    chosen = select(line([0.1] * 8), NOTHING_MINED, Says(given, weights=weights))
    assert chosen.negative_weight[0].tolist() == [0.5, 0, 0, 0, 0, 0, 0, 0]
    assert chosen.band[0].tolist() == [2, 5, 5, 5, 5, 1, 3, 5]


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
        patch.setattr(bands, "_sorts_fast", lambda _: False)
        by_rank = bands.rank_edges(score, mask, counts)
        patch.setattr(bands, "FEW", 100)
        by_heap = bands.rank_edges(score, mask, counts)
    for one, two, three in zip(by_sort, by_rank, by_heap, strict=True):
        assert torch.equal(one, two) and torch.equal(one, three)


def test_edges_of_half_precision_and_of_scores_with_gradient() -> None:
    score = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    own = torch.zeros(3, 100, dtype=torch.bool)
    (edge,) = bands.rank_edges(score.bfloat16().requires_grad_(), own, (40,))
    assert torch.equal(edge, score.bfloat16().sort(dim=1, descending=True).values[:, 39:40]) and not edge.requires_grad
