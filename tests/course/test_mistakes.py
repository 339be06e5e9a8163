"""Each mistake does what its name says: what it spoils, and by how much."""

import pkgutil
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    AugmentedView,
    Band,
    NearestKeys,
    Similarities,
    info_nce,
    info_nce_gradients,
    select,
    similarities as cosines,
    terms,
)
from course import mistakes
from course.mistakes import Effect
from course.mistakes.short_run import short_run

PLAIN = AugmentedView()


@pytest.fixture
def s() -> Similarities:
    draws = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(6, 8, generator=draws), dim=1)
    keys = normalize(torch.randn(40, 8, generator=draws), dim=1)
    keys[:6] = normalize(z + 0.3 * torch.randn(6, 8, generator=draws), dim=1)
    return cosines(z, keys[:6], keys, torch.eye(6, 40, dtype=torch.bool))


def test_the_own_key_becomes_a_negative_and_nothing_else_changes(s: Similarities) -> None:
    right = select(s, PLAIN, AllNegatives())
    wrong = mistakes.keep_own_key(s, right)
    assert (wrong.negative_weight[s.own] == 1).all()
    assert torch.equal(wrong.negative_weight[~s.own], right.negative_weight[~s.own])
    # it is the positive itself here, so what pulls also pushes
    pull, push = info_nce_gradients(**terms(s, wrong), temperature=0.2)
    p = push[s.own] * 0.2
    torch.testing.assert_close(pull[:, 0] * 0.2, -(1 - p))


def test_a_mined_key_is_pulled_and_pushed(s: Similarities) -> None:
    right = select(s, NearestKeys(k=3), AllNegatives())
    wrong = mistakes.push_mined_keys(right)
    mined = right.band == Band.MINED
    assert mined.any() and (right.negative_weight[mined] == 0).all() and (wrong.negative_weight[mined] == 1).all()
    assert torch.equal(wrong.negative_weight[~mined], right.negative_weight[~mined])
    assert torch.equal(wrong.positive_weight, right.positive_weight)


@pytest.mark.parametrize("length", [1.0, 2.0, 5.0])
def test_a_length_is_another_temperature(s: Similarities, length: float) -> None:
    chosen = select(s, PLAIN, AllNegatives())
    wrong = mistakes.forget_to_normalise(s, length=length)
    loss = info_nce(**terms(wrong, chosen), temperature=0.5)
    torch.testing.assert_close(loss, info_nce(**terms(s, chosen), temperature=0.5 / length**2))
    assert s.positive_keys is not None and wrong.positive_keys is not None
    torch.testing.assert_close(wrong.positive_keys, s.positive_keys * length**2)
    assert mistakes.forget_to_normalise(replace(s, positive_keys=None), length=length).positive_keys is None


def test_fewer_negatives_give_a_lower_loss_of_the_same_encoder(s: Similarities) -> None:
    losses = mistakes.compare_losses(s, (1, 0.5, 0.1), temperature=0.2)
    assert [*losses] == [1, 0.5, 0.1] and losses[1] > losses[0.5] > losses[0.1]
    plain = select(s, PLAIN, AllNegatives())
    assert losses[1] == pytest.approx(float(info_nce(**terms(s, plain), temperature=0.2)))


# Mistakes that are made and measured


SEEDS = (0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow))
EFFECTS = {
    "own key": mistakes.own_key_in_queue,
    "enqueue": mistakes.enqueue_between_terms,
    "statistics": mistakes.shared_batch_statistics,
    "mode": mistakes.probe_in_training_mode,
    "thresholds": mistakes.threshold_by_test_labels,
    "half": mistakes.exponentials_in_half_precision,
}


@cache
def effect(name: str, seed: int) -> Effect:
    return EFFECTS[name](seed)


def both(name: str, seed: int) -> list[tuple[float, float]]:
    """Of each thing measured: the wrong way, the right way."""
    found = effect(name, seed)
    return [(wrong, found.right[what]) for what, wrong in found.wrong.items()]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_own_key_pushes_many_times_as_hard_as_others(seed: int) -> None:
    (push, none), (undone, nothing) = both("own key", seed)
    assert push > 10 and undone > 1 and none == nothing == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_queue_that_grew_between_the_terms_holds_what_the_second_is_made_of(seed: int) -> None:
    (push, none), (closest, never) = both("enqueue", seed)
    assert push > 10 and closest > 95 and none == never == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_shared_statistics_tell_pairs_in_which_there_is_nothing_to_tell(seed: int) -> None:
    (one, apart), (in_order, shuffled) = both("statistics", seed)
    assert one < 35 and in_order > 62
    assert abs(apart - 50) < 5 and abs(shuffled - 50) < 6


@pytest.mark.parametrize("seed", SEEDS)
def test_training_mode_spoils_the_figure_the_features_and_the_encoder(seed: int) -> None:
    before = {name: value.clone() for name, value in short_run(seed).state_dict().items()}
    (low, accuracy), (changed, same), (moved, still) = both("mode", seed)
    assert accuracy > 80 > 50 > low and changed > 30 and moved > 10 and same == still == 0
    assert all(torch.equal(value, before[name]) for name, value in short_run(seed).state_dict().items())


@pytest.mark.parametrize("seed", SEEDS)
def test_thresholds_tuned_on_test_pictures_promise_more_than_they_keep(seed: int) -> None:
    (reported, honest), (kept, found), (too_much, bias) = both("thresholds", seed)
    assert too_much > 3 and too_much == pytest.approx(reported - kept) and abs(bias) < 1
    assert reported > honest and kept == pytest.approx(found, abs=1)  # promised more, worth the same


@pytest.mark.parametrize("seed", SEEDS)
def test_exponentials_leave_half_precision_and_ours_do_not(seed: int) -> None:
    (no_number, none), (close, ours), (lost, kept) = both("half", seed)
    assert no_number > 50 > close and ours == 100 and lost > 1 and none == kept == 0


@pytest.mark.parametrize("name", EFFECTS)
def test_a_seed_repeats_an_effect_and_leaves_the_draws_of_others_alone(name: str) -> None:
    state = torch.get_rng_state()
    assert EFFECTS[name](0) == effect(name, 0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_names_a_guard_and_a_test_that_exist(name: str) -> None:
    found = effect(name, 0)
    assert pkgutil.resolve_name(found.guard) is not None
    file, test = found.test.split("::")
    assert re.search(
        rf"^def {test}\(", (Path(__file__).parents[1] / file).read_text(encoding="utf-8"), flags=re.MULTILINE
    )


def test_an_effect_is_shown_as_a_table_its_meaning_and_its_guard() -> None:
    shown = Effect({"a < b, %": 12.345}, {"a < b, %": 0.0}, "It <grows>.", "cltools.fit", "test_x.py::test_y")
    page = shown._repr_html_()
    assert "<td>a &lt; b, %</td><td>12.3</td><td>0</td>" in page and "It &lt;grows&gt;." in page
    assert "cltools.fit" in page and "tests/test_x.py::test_y" in page
    assert repr(shown) == "a < b, %: 12.3 wrong, 0 right\nIt <grows>.\nGuard: cltools.fit, tested by test_x.py::test_y."
