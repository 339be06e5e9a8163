"""The rules of other methods: each against plain loops, at its neutral setting, and over training."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from cltools.gradients import info_nce_gradients
from cltools.losses import FORMS, info_nce
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    CancelFalseNegatives,
    CosineBand,
    Debiased,
    DifficultAnchors,
    Estimate,
    HardnessWeighted,
    MarginBand,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    OraclePositives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    RingNegatives,
    Similarities,
    SoftenedBand,
    select,
    similarities,
    terms,
)

PLAIN = AugmentedView()
quick = settings(max_examples=60)
seeds = st.integers(0, 10**6)


def made(seed: int = 0, rows: int = 6, keys: int = 40, grid: bool = False) -> Similarities:
    """Random unit vectors, a few keys of the anchors' own images; with `grid` few distinct directions, so many ties."""
    g = torch.Generator().manual_seed(seed)

    def vectors(count: int) -> Tensor:
        x = torch.randn(count, 5, generator=g)
        return normalize(x.sign() if grid else x, dim=1)

    z, positive, n = vectors(rows), vectors(rows), vectors(keys)
    own = torch.rand(rows, keys, generator=g) < 0.05
    return similarities(z, positive, n, own, same_class=own | (torch.rand(rows, keys, generator=g) < 0.3))


def loss_and_gradients(s: Similarities, rule: NegativeRule, positives: PositiveRule = PLAIN, **loss: Any) -> Any:
    chosen = select(s, positives, rule, generator=torch.Generator().manual_seed(0))
    arguments = terms(s, chosen)
    return info_nce(**arguments, temperature=0.2, reduction="none", **loss), *info_nce_gradients(
        **arguments, temperature=0.2, **loss
    )


# Neutral settings


NEUTRAL: dict[str, tuple[NegativeRule, PositiveRule]] = {
    "hcl": (HardnessWeighted(beta=0.0, tau_plus=0.0), PLAIN),
    "debiased": (Debiased(tau_plus=0.0), PLAIN),
    "ring": (RingNegatives(inner=0.0, outer=1.0), PLAIN),
    "band": (RankBand(drop_closest=0.0, keep_within=1.0), PLAIN),
    "band, cosine": (CosineBand(above=-1.0, below=None), PLAIN),
    "band, rescaled": (RankBand(drop_closest=0.0, keep_within=1.0, rescale=True), PLAIN),
    "random": (RandomNegatives(share=1.0), PLAIN),
    "fnc": (CancelFalseNegatives(min_cosine=1.01), PLAIN),
    "mochi": (MixedNegatives(pairs=0, with_anchor=0), PLAIN),
    "augmented share 1": (AllNegatives(), NearestKeys(min_weight="mean", augmented_share=1.0)),
    "threshold above 1": (AllNegatives(), NearestKeys(weighting="uniform", min_cosine=1.01)),
    "margin": (MarginBand(margin=-2.0), PLAIN),
    "softened": (SoftenedBand(margin=0.0), PLAIN),
    "difficult": (DifficultAnchors(min_cosine=-1.0, anchor_weight=1.0), PLAIN),
    "oracle of none": (OracleNegatives(share=0.0), PLAIN),
    "oracle of positives": (AllNegatives(), OraclePositives(augmented_share=1.0)),
    "next nearest": (AllNegatives(), NearestKeys(skip=3, augmented_share=1.0)),
    "before the start": (AllNegatives(), NearestKeys(min_weight="mean", start=0.5).at(0.4)),
}


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("grid", [False, True])
def test_at_its_neutral_setting_each_rule_is_plain_info_nce(name: str, grid: bool) -> None:
    rule, positives = NEUTRAL[name]
    for seed, form in itertools.product(range(4), FORMS):
        s = made(seed, grid=grid)
        expected = loss_and_gradients(s, AllNegatives(), form=form)
        found = loss_and_gradients(s, rule, positives, form=form)
        for ours, plain in zip((found[0], found[1][:, :1], found[2]), expected, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "rule",
    [HardnessWeighted(), Debiased(), RingNegatives(0.2, 0.5), CancelFalseNegatives(3, 0.3), RankBand(0.1, 0.5)],
    ids=lambda rule: type(rule).__name__,
)
def test_the_order_of_keys_and_the_length_of_embeddings_change_nothing(rule: NegativeRule) -> None:
    g = torch.Generator().manual_seed(0)
    z, positive, n = (torch.randn(count, 5, generator=g) for count in (6, 6, 40))
    own, order = torch.rand(6, 40, generator=g) < 0.05, torch.randperm(40, generator=g)

    def loss(n: Tensor, own: Tensor, scale: float) -> Tensor:
        unit = [normalize(scale * x, dim=1) for x in (z, positive, n)]
        value: Tensor = loss_and_gradients(similarities(*unit, own), rule, NearestKeys(min_weight="mean"))[0]
        return value

    expected = loss(n, own, 1.0)
    torch.testing.assert_close(loss(n[order], own[:, order], 1.0), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss(n, own, 37.0), expected, rtol=1e-4, atol=1e-5)  # a difference of masses may cancel


# Ring


@quick
@given(
    seed=seeds,
    keys=st.integers(1, 30),
    inner=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    outer=st.sampled_from([0.05, 0.1, 0.5, 1.0]),
    grid=st.booleans(),
)
def test_a_ring_is_the_ranks_between_its_edges(seed: int, keys: int, inner: float, outer: float, grid: bool) -> None:
    s = made(seed, rows=2, keys=keys, grid=grid)
    band = select(s, PLAIN, RingNegatives(inner, outer)).band
    hardest, close = math.floor(inner * outer * keys + 0.5), math.floor(outer * keys + 0.5)
    for row in range(2):
        score = [-math.inf if s.own[row, j] else float(s.anchor_keys[row, j]) for j in range(keys)]
        ranked = sorted(score, reverse=True)
        for j in range(keys):
            if s.own[row, j]:
                expected = Band.OWN
            elif hardest and score[j] >= ranked[hardest - 1]:
                expected = Band.HARD
            elif close == 0 or (close < keys and score[j] < ranked[close - 1]):
                expected = Band.EASY
            else:
                expected = Band.POTENTIAL
            assert int(band[row, j]) == expected


def test_a_ring_closes_in_by_a_constant_factor_and_then_stays() -> None:
    rule = RingNegatives(inner=0.1, outer=0.01, outer_from=1.0, anneal=0.5)
    outer = [rule.at(progress).outer for progress in (0.0, 0.25, 0.5, 0.9)]
    assert outer == pytest.approx([1.0, 0.1, 0.01, 0.01])
    assert rule.at(0.3).at(0.9) == rule.at(0.3) and RingNegatives().at(0.2) == RingNegatives()


# Estimates


def test_weighted_and_debiased_keep_every_key_and_estimate_their_mass() -> None:
    s = made()
    for rule, estimate in (
        (HardnessWeighted(0.5, 0.2, detach=False), Estimate(0.5, 0.2, False)),
        (Debiased(0.2), Estimate(0.0, 0.2)),
    ):
        chosen = select(s, PLAIN, rule)
        assert chosen.estimate == estimate and torch.equal(chosen.negative_weight > 0, ~s.own)


def test_hcl_by_its_formula() -> None:
    s, tau, beta, tau_plus = made(3), 0.5, 1.0, 0.1
    rule = HardnessWeighted(beta, tau_plus)
    found = info_nce(**terms(s, select(s, PLAIN, rule)), temperature=tau, reduction="none")
    for row in range(6):
        negative = [math.exp(float(c) / tau) for c, own in zip(s.anchor_keys[row], s.own[row], strict=True) if not own]
        count, positive = len(negative), math.exp(float(s.anchor_positive[row]) / tau)
        weights = [e**beta for e in negative]
        r = sum(w * e for w, e in zip(weights, negative, strict=True)) / (sum(weights) / count)
        mass = max((r - count * tau_plus * positive) / (1 - tau_plus), count * math.exp(-1 / tau))
        assert float(found[row]) == pytest.approx(-math.log(positive / (positive + mass)), rel=1e-5)


def test_the_tilt_falls_to_nothing() -> None:
    rule = HardnessWeighted(beta=2.0, anneal=0.5)
    assert [rule.at(progress).beta for progress in (0.0, 0.25, 0.5, 1.0)] == [2.0, 1.0, 0.0, 0.0]
    assert HardnessWeighted().at(0.7) == HardnessWeighted()


# False negatives


@quick
@given(
    seed=seeds,
    k=st.integers(1, 12),
    threshold=st.sampled_from([-1.0, 0.0, 0.3, 0.7]),
    by=st.sampled_from(["positive", "anchor", "either"]),
    grid=st.booleans(),
)
def test_what_is_close_in_rank_and_value_is_dropped(seed: int, k: int, threshold: float, by: Any, grid: bool) -> None:
    s = made(seed, rows=2, keys=9, grid=grid)
    assert s.positive_keys is not None
    chosen = select(s, PLAIN, CancelFalseNegatives(k, threshold, by))
    of = {
        "positive": s.positive_keys,
        "anchor": s.anchor_keys,
        "either": torch.maximum(s.positive_keys, s.anchor_keys),
    }[by]
    for row in range(2):
        score = [-math.inf if s.own[row, j] else float(of[row, j]) for j in range(9)]
        edge = sorted(score, reverse=True)[min(k, 9) - 1]
        for j in range(9):
            dropped = score[j] >= edge and score[j] >= float(torch.tensor(threshold)) and not s.own[row, j]
            assert (int(chosen.band[row, j]) == Band.HARD) == dropped
            assert float(chosen.negative_weight[row, j]) == float(not dropped and not s.own[row, j])


def test_attraction_takes_as_positives_what_elimination_drops() -> None:
    s = made(1)
    dropped = select(s, PLAIN, CancelFalseNegatives(10, 0.5)).band == Band.HARD
    attract = NearestKeys(k=10, weighting="uniform", augmented_share=None, min_cosine=0.5, by="either")
    assert torch.equal(select(s, attract, AllNegatives()).band == Band.MINED, dropped) and dropped.any()


# Mixtures


def test_mixtures_are_unit_vectors_without_gradient_appended_with_weight_1() -> None:
    s = made()
    chosen = select(
        s, NearestKeys(min_weight="mean"), MixedNegatives(8, 5, 3), generator=torch.Generator().manual_seed(0)
    )
    assert chosen.synthetic is not None and chosen.synthetic.shape == (6, 8, 5) and not chosen.synthetic.requires_grad
    torch.testing.assert_close(chosen.synthetic.norm(dim=2), torch.ones(6, 8))
    arguments = terms(s, chosen)
    assert arguments["negative"].shape == arguments["negative_weight"].shape == (6, 48)
    assert (arguments["negative_weight"][:, 40:] == 1).all() and chosen.band.shape == (6, 40)
    assert s.vectors is not None
    by_hand = (s.vectors[0][:, None] * chosen.synthetic).sum(2)
    torch.testing.assert_close(arguments["negative"][:, 40:], by_hand)


def test_mixtures_lie_between_the_hardest_kept_keys_or_between_one_and_the_anchor() -> None:
    s = made(2, rows=4, keys=12)
    assert s.vectors is not None
    z, keys = s.vectors
    chosen = select(
        s, NearestKeys(k=2, min_weight="mean"), MixedNegatives(3, 200, 200), generator=torch.Generator().manual_seed(1)
    )
    assert chosen.synthetic is not None
    for row in range(4):
        kept = chosen.band[row] == Band.POTENTIAL
        hardest = s.anchor_keys[row].masked_fill(~kept, -2).topk(3).indices.tolist()
        for column, mixture in enumerate(chosen.synthetic[row]):
            ends = [keys[i] for i in hardest]
            pairs = [(a, b) for a in ends for b in ends] if column < 200 else [(z[row], b) for b in ends]
            assert any(between(mixture, a, b, half=column >= 200) for a, b in pairs)


def between(x: Tensor, a: Tensor, b: Tensor, *, half: bool) -> bool:
    """Whether x = norm(t·a + (1−t)·b) for a t in [0, 1], or in [0, ½]."""
    solution = torch.linalg.lstsq(torch.stack([a, b], dim=1), x[:, None])
    first, second = solution.solution[:, 0].tolist()
    fits = torch.allclose(first * a + second * b, x, atol=1e-4)
    if torch.allclose(a, b):
        return torch.allclose(x, a, atol=1e-4)
    return fits and first >= -1e-4 and second >= -1e-4 and (not half or first <= second + 1e-4)


def test_the_anchor_has_up_to_half_of_a_mixture_and_a_lone_key_is_mixed_with_itself() -> None:
    z, key = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    s = similarities(z, z, key, torch.zeros(1, 1, dtype=torch.bool))
    chosen = select(s, PLAIN, MixedNegatives(4, 3, 500), generator=torch.Generator().manual_seed(0))
    assert chosen.synthetic is not None
    torch.testing.assert_close(chosen.synthetic[0, :3], key.expand(3, 2))
    share = chosen.synthetic[0, 3:, 0] / chosen.synthetic[0, 3:].sum(1)  # b of norm(b·z + (1 − b)·n)
    assert 0 <= share.min() < 0.01 and 0.49 < share.max() <= 0.5 and 0.22 < share.mean() < 0.28


def test_an_anchor_that_keeps_no_key_gets_the_point_opposite_and_no_keys_get_nothing() -> None:
    s = made(rows=2, keys=3)
    bare = Similarities(s.anchor_keys, s.positive_keys, s.anchor_positive, torch.ones_like(s.own), vectors=s.vectors)
    chosen = select(bare, PLAIN, MixedNegatives(2, 2, 1))
    assert chosen.synthetic is not None and s.vectors is not None
    torch.testing.assert_close(chosen.synthetic, -s.vectors[0][:, None].expand(2, 3, 5))
    assert select(made(keys=0), PLAIN, MixedNegatives()).synthetic is None


def test_nothing_is_mixed_before_the_start() -> None:
    rule = MixedNegatives(start=0.2)
    assert not rule.at(0.1).reads and select(made(), PLAIN, rule.at(0.1)).synthetic is None
    assert rule.at(0.2) == MixedNegatives(start=0.0) and rule.at(0.5).reads == {"vectors"}


def test_mixing_needs_the_vectors() -> None:
    s = made()
    with pytest.raises(ValueError, match="MixedNegatives reads vectors"):
        select(Similarities(s.anchor_keys, s.positive_keys, s.anchor_positive, s.own), PLAIN, MixedNegatives())


# Messages


@pytest.mark.parametrize(
    ("rule", "bad", "named"),
    [
        (RingNegatives, {"outer": 0.0}, "outer is 0.0"),
        (RingNegatives, {"outer_from": 1.5}, "outer_from is 1.5"),
        (RingNegatives, {"inner": 1.0}, "inner is 1.0"),
        (RingNegatives, {"anneal": 0.0}, "anneal is 0.0"),
        (RingNegatives, {"anneal": 0.3}, "anneal is 0.3, but nothing moves"),
        (HardnessWeighted, {"beta": -1.0}, "beta is -1.0"),
        (HardnessWeighted, {"beta": math.inf}, "beta is inf"),
        (HardnessWeighted, {"anneal": 2.0}, "anneal is 2.0"),
        (Debiased, {"tau_plus": 1.0}, "tau_plus is 1.0"),
        (CancelFalseNegatives, {"k": 0}, "k is 0"),
        (CancelFalseNegatives, {"min_cosine": math.nan}, "min_cosine is nan"),
        (MixedNegatives, {"hardest": 0}, "hardest is 0"),
        (MixedNegatives, {"pairs": -1}, "pairs is -1"),
        (MixedNegatives, {"start": 1.5}, "start is 1.5"),
    ],
)
def test_settings_without_meaning_are_named(rule: Any, bad: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        rule(**bad)


def test_mixing_and_an_estimate_go_together() -> None:
    """Synthetic negatives that a tilted, debiased mass counts, as a subclass of a few lines."""

    class Mixed(MixedNegatives):
        def estimate(self) -> Estimate:
            return Estimate(beta=1.0, tau_plus=0.1)

    s, rule = made(), Mixed(hardest=4, pairs=3, with_anchor=2, start=0.0)
    chosen = select(s, PLAIN, rule, generator=torch.Generator().manual_seed(0))
    given = terms(s, chosen)
    assert given["negative"].shape[1] == s.anchor_keys.shape[1] + 5 and given["estimate"] == Estimate(1.0, 0.1)
    alone = info_nce(**{**given, "negative": s.anchor_keys, "negative_weight": chosen.negative_weight}, temperature=0.2)
    assert info_nce(**given, temperature=0.2) > alone, "harder negatives add mass"
