"""A threshold per image: what it converges to, one step of it by hand, and what the state is not for."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn.functional import normalize

from cltools import AllNegatives, AugmentedView, Band, LearnedThreshold, RankBand, select, similarities
from cltools.mining import Similarities
from cltools.mining.negatives import ABOVE_ALL, LEARNING_RATE, thresholds

NOTHING, CPU = AugmentedView(), torch.device("cpu")


def frozen(seed: int, rows: int = 6, keys: int = 200) -> Similarities:
    g = torch.Generator().manual_seed(seed)
    z, positive, n = (normalize(torch.randn(count, 16, generator=g), dim=1) for count in (rows, rows, keys))
    own = torch.rand(rows, keys, generator=g) < 0.01
    return similarities(z, positive, n, own, ids=(torch.arange(rows), torch.arange(100, 100 + keys)))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_on_frozen_embeddings_it_drops_what_the_rank_band_drops(alpha: float, seed: int) -> None:
    """±1 key: the share that it aims at may lie between two counts."""
    s, rule = frozen(seed), LearnedThreshold(alpha=alpha, start=0.0)
    state = rule.new_state(torch.arange(6), CPU)
    for _ in range(400):
        chosen = select(s, NOTHING, rule, state=state)
        assert chosen.measured is not None
        rule.learn(state, torch.arange(6), chosen.measured)
    band = select(s, NOTHING, RankBand(drop_closest=alpha, keep_within=1.0, by="anchor")).band
    found, wanted = (((each == Band.HARD).sum(1)) for each in (select(s, NOTHING, rule, state=state).band, band))
    assert int((found - wanted).abs().max()) <= 1
    different = (select(s, NOTHING, rule, state=state).band == Band.HARD) != (band == Band.HARD)
    assert int(different.sum(1).max()) <= 1


def test_with_alpha_0_it_is_info_nce() -> None:
    s, rule = frozen(0), LearnedThreshold(alpha=0.0, start=0.0)
    state = rule.new_state(torch.arange(6), CPU)
    for _ in range(20):
        chosen = select(s, NOTHING, rule, state=state)
        assert torch.equal(chosen.negative_weight, select(s, NOTHING, AllNegatives()).negative_weight)
        assert chosen.measured is not None
        rule.learn(state, torch.arange(6), chosen.measured)


def test_a_step_by_hand() -> None:
    """Adam's first step is the rate whatever the gradient's size; its second leans on both."""
    rule = LearnedThreshold(alpha=0.1)
    state = rule.new_state(torch.tensor([7, 3]), CPU)
    assert state["ids"].tolist() == [3, 7]
    rule.learn(state, torch.tensor([7]), torch.tensor([0.0]))
    assert state["threshold"].tolist() == pytest.approx([ABOVE_ALL, ABOVE_ALL - LEARNING_RATE])
    rule.learn(state, torch.tensor([7]), torch.tensor([0.5]))
    first = 0.9 * (0.1 * 0.1) + 0.1 * (0.1 - 0.5)
    second = 0.98 * (0.02 * 0.1**2) + 0.02 * (0.1 - 0.5) ** 2
    moved = LEARNING_RATE * (first / (1 - 0.9**2)) / math.sqrt(second / (1 - 0.98**2))
    assert float(state["threshold"][1]) == pytest.approx(ABOVE_ALL - LEARNING_RATE - moved, abs=1e-5)
    assert state["steps"].tolist() == [0.0, 2.0]


@given(st.integers(0, 10**6))
def test_what_lies_above_is_dropped_and_measured_without_own_keys(seed: int) -> None:
    s = frozen(seed, rows=3, keys=20)
    state = LearnedThreshold().new_state(torch.arange(3), CPU)
    state["threshold"].copy_(torch.tensor([-0.2, 0.1, ABOVE_ALL]))
    chosen = select(s, NOTHING, LearnedThreshold(start=0.0), state=state)
    assert chosen.measured is not None
    for row in range(3):
        others = [j for j in range(20) if not s.own[row, j]]
        above = [j for j in others if float(s.anchor_keys[row, j]) > float(state["threshold"][row])]
        assert [j for j in others if chosen.band[row, j] == Band.HARD] == above
        assert float(chosen.measured[row]) == pytest.approx(len(above) / 20)


def test_nothing_is_dropped_of_images_that_the_state_does_not_know() -> None:
    state = LearnedThreshold().new_state(torch.tensor([2, 5, 9]), CPU)
    state["threshold"].fill_(-1.0)
    found = thresholds(state, torch.tensor([5, 3, 100, 2]))
    assert found.tolist() == [-1.0, math.inf, math.inf, -1.0]
    chosen = select(frozen(0), NOTHING, LearnedThreshold(start=0.0))
    assert not bool((chosen.band == Band.HARD).any()), "without a state"


def test_of_no_keys_nothing_is_learned() -> None:
    s = frozen(0, rows=3, keys=0)
    state = LearnedThreshold().new_state(torch.arange(3), CPU)
    assert select(s, NOTHING, LearnedThreshold(start=0.0), state=state).measured is None


def test_it_waits_for_its_start_and_then_stays() -> None:
    rule = LearnedThreshold(start=0.35)
    assert rule.at(0.34) == AllNegatives() and rule.at(0.35) == LearnedThreshold(start=0.0) == rule.at(1.0).at(1.0)


@pytest.mark.parametrize("bad", [{"alpha": 1.0}, {"alpha": -0.1}, {"start": 2.0}])
def test_settings_without_meaning_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"LearnedThreshold.*{next(iter(bad))}"):
        LearnedThreshold(**bad)
