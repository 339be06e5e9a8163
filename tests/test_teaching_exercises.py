"""Every check knows the right answer, names each mistake it claims to recognise, and stops for nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    BandNegatives,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    Similarities,
    similarities,
)
from cltools.teaching import check

Say = Callable[..., str]
TAU = 0.1


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """What a check prints."""

    def said(check: Callable[..., None], *args: Any, **kwargs: Any) -> str:
        capsys.readouterr()
        assert check(*args, **kwargs) is None  # type: ignore[func-returns-value]
        return capsys.readouterr().out

    return said


def drawn(anchors: int = 60, classes: int = 4) -> Similarities:
    """Images in classes: close keys are often, not always, of the anchor's class; each has its own among the keys."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(anchors) % classes
    centre = normalize(torch.randn(classes, 12, generator=draws), dim=1)[labels]
    place = centre + 0.3 * torch.randn(anchors, 12, generator=draws)
    z, keys = (normalize(place + 0.1 * torch.randn(anchors, 12, generator=draws), dim=1) for _ in range(2))
    own = torch.eye(anchors, dtype=torch.bool)
    return similarities(z, keys, keys, own, same_class=labels[:, None] == labels)


def one(s: Similarities, anchor: int = 0) -> Similarities:
    rows = slice(anchor, anchor + 1)
    assert s.key is not None
    return Similarities(s.anchor[rows], s.key[rows], s.positive[rows], s.own[rows])


@pytest.fixture
def s() -> Similarities:
    return drawn()


NUMBERS = [(check.forces, {"temperature": TAU}), (check.temperature_for, {"share": 0.1, "held": 0.5})]
OTHERS = [(check.spare_false, {"temperature": TAU}), (check.largest_k, {"times": 2})]


@pytest.mark.parametrize("name, more", NUMBERS + OTHERS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("answer", [None, ...])
def test_a_place_that_is_still_empty_is_ordinary(
    say: Say, s: Similarities, name: Callable[..., None], more: Any, answer: Any
) -> None:
    assert say(name, answer, s, **more) == "Not solved yet.\n"
    assert say(check.soft_weights, answer, one(s), PositiveRule(weighting="soft")) == "Not solved yet.\n"
    assert say(check.paired, answer, answer) == "Not solved yet.\n"


@pytest.mark.parametrize("name, more", NUMBERS + OTHERS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize(
    "answer",
    ["many", [], {}, object(), [[1], [2, 3]], torch.ones(3), float("inf"), 10**400, 1j],
    ids=lambda answer: f"{answer!s:.9}",
)
def test_an_answer_of_the_wrong_kind_gets_words(
    say: Say, s: Similarities, name: Callable[..., None], more: Any, answer: Any
) -> None:
    assert say(name, answer, s, **more).startswith("Not yet: ")
    assert say(check.soft_weights, answer, one(s), PositiveRule(weighting="soft")).startswith("Not yet: ")
    assert say(check.paired, answer, {0: 1.0}).startswith("Not yet: ")
    assert say(check.paired, {0: answer}, {0: 1.0}).startswith("Not yet: ")


# 01


def probability(s: Similarities, tau: float, own: bool = False) -> Tensor:
    """By a loop over anchors, as a reader may write it."""
    rows = []
    for i in range(len(s.anchor)):
        e = (s.anchor[i] / tau).exp() * (1.0 if own else (~s.own[i]).float())
        rows.append(e / ((s.positive[i] / tau).exp() + e.sum()))
    return torch.stack(rows)


def across(s: Similarities) -> Tensor:
    return (1 - s.anchor**2).clamp_min(0).sqrt()


def test_the_right_forces_are_recognised_in_any_clothes(say: Say, s: Similarities) -> None:
    right = probability(s, TAU) * across(s) / TAU
    for answer in (right, right.double(), right.numpy(), right.tolist(), right.clone().requires_grad_()):
        assert say(check.forces, answer, s, temperature=TAU).startswith("Right. The hardest key")
    assert say(check.forces, right[0], one(s), temperature=TAU).startswith("Right.")


FORCES: dict[str, tuple[Callable[[Similarities], Tensor], str]] = {
    "own key": (lambda s: probability(s, TAU, own=True) * across(s) / TAU, "you kept the anchor's own key"),
    "own key in Z": (
        lambda s: (probability(s, TAU, own=True) * across(s) / TAU).masked_fill(s.own, 0),
        "still has a part in Z",
    ),
    "probability": (lambda s: probability(s, TAU), "the probability p, not the force: multiply by √(1 − c²)/τ"),
    "gradient": (lambda s: probability(s, TAU) / TAU, "this is p/τ, the derivative by the cosine"),
    "factor": (lambda s: probability(s, TAU) * across(s), "the factor 1/τ is missing"),
    "square": (lambda s: probability(s, TAU) * across(s) ** 2 / TAU, "you left out the root"),
    "sign": (lambda s: -probability(s, TAU) * across(s) / TAU, "the sign is not"),
    "Z": (
        lambda s: (s.anchor / TAU).masked_fill(s.own, -torch.inf).softmax(1) * across(s) / TAU,
        "Z holds the positive too",
    ),
    "temperature": (lambda s: probability(s, 0.2) * across(s) / 0.2, "this is the force at τ = 0.2"),
    "nan": (lambda s: probability(s, TAU) * (1 - 1.1 * s.anchor**2 - 1).sqrt(), "some numbers are nan"),
    "shape": (lambda s: torch.ones(3, 3), "a tensor of shape [60, 60] is wanted, and this has [3, 3]"),
    "other": (lambda s: probability(s, TAU) + 0.7 * ~s.own, "the largest error is at key"),
}


@pytest.mark.parametrize("name", FORCES)
def test_each_wrong_force_is_explained(say: Say, s: Similarities, name: str) -> None:
    answer, words = FORCES[name]
    said = say(check.forces, answer(s), s, temperature=TAU)
    assert said.startswith("Not yet: ") and words in said


def held_by_closest(s: Similarities, tau: float, share: float, own: bool = False) -> float:
    p = probability(s, tau, own)
    count = int(share * s.anchor.shape[1] + 0.5)
    score = s.anchor if own else s.anchor.masked_fill(s.own, -torch.inf)
    closest = score.topk(count, dim=1).indices
    return float((p.gather(1, closest).sum(1) / p.sum(1)).mean())


def temperature_where(held: Callable[[float], float], asked: float = 0.5) -> float:
    """By halving."""
    low, high = 0.001, 100.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if held(middle) > asked else (low, middle)
    return low


def test_the_temperature_is_judged_by_what_it_does(say: Say, s: Similarities) -> None:
    asked = {"share": 0.1, "held": 0.5}
    right = temperature_where(lambda tau: held_by_closest(s, tau, 0.1))
    assert "hold 50.0 % of the push" in say(check.temperature_for, right, s, **asked)
    assert say(check.temperature_for, right, s, **asked).startswith("Right. At τ =")
    assert say(check.temperature_for, torch.tensor(right), s, **asked).startswith("Right.")
    low, high = (say(check.temperature_for, right * factor, s, **asked) for factor in (0.3, 3))
    assert low.startswith("Not yet") and "too much. The larger τ" in low
    assert high.startswith("Not yet") and "too little. The smaller τ" in high
    with_own = temperature_where(lambda tau: held_by_closest(s, tau, 0.1, own=True))
    assert "if the anchor's own key is counted" in say(check.temperature_for, with_own, s, **asked)
    assert "must be above 0" in say(check.temperature_for, -0.1, s, **asked)


@dataclass(frozen=True)
class Broken(NegativeRule):
    def judge(self, s: Similarities, eligible: Tensor, *, temperature: float, generator: Any) -> Tensor:
        raise KeyError("oops")


def test_a_rule_that_spares_false_negatives_is_right(say: Say, s: Similarities) -> None:
    said = say(check.spare_false, BandNegatives(0.1, 1.0), s, temperature=0.5)
    assert said.startswith("Right. ") and "only training says" in said
    push = probability(s, 0.5)
    assert s.same_class is not None
    before = 100 * float((push * s.same_class).sum() / push.sum())
    assert f"against {before:.1f} % with every key" in said


@pytest.mark.parametrize(
    "rule, words",
    [
        (AllNegatives(), "keeps every key"),
        (OracleNegatives(), "reads the labels"),
        (BandNegatives(0.0, 0.5), "lies far away"),
        (BandNegatives(0.6, 1.0), "more than half of the push is gone"),
        (BandNegatives(0.0, 1e-6), "keeps no key"),
        (Broken(), "the rule raises KeyError: 'oops'"),
        (AllNegatives, "a rule such as BandNegatives(0.1, 1.0) is wanted"),
    ],
)
def test_each_rule_that_does_not_is_explained(say: Say, s: Similarities, rule: Any, words: str) -> None:
    said = say(check.spare_false, rule, s, temperature=0.5)
    assert said.startswith("Not yet: ") and words in said


def test_chance_is_judged_like_any_rule(say: Say, s: Similarities) -> None:
    assert "% of the push is left" in say(check.spare_false, RandomNegatives(0.7), s, temperature=0.5)


# 03


SOFT = PositiveRule(k=5, weighting="soft")


def soft(s: Similarities, tau: float = 0.1, own: bool = False) -> np.ndarray:
    """In plain numpy, as a reader may write it."""
    assert s.key is not None
    score = s.key[0].numpy().copy()
    if not own:
        score[s.own[0].numpy()] = -np.inf
    e = np.exp(np.sort(score)[::-1][:5] / tau)
    return np.concatenate([[0.5], 0.5 * e / e.sum()])


def test_the_right_soft_weights_are_recognised(say: Say, s: Similarities) -> None:
    right = soft(one(s))
    for answer in (right, right.tolist(), torch.from_numpy(right), right[None]):
        assert say(check.soft_weights, answer, one(s), SOFT).startswith("Right. The closest of the 5 gets")


WEIGHTS: dict[str, tuple[Callable[[Similarities], Any], str]] = {
    "augmented view": (lambda s: soft(s)[1:], "6 weights are wanted"),
    "order": (lambda s: soft(s)[::-1].copy(), "their order is not"),
    "share": (lambda s: np.concatenate([[0.5], 2 * soft(s)[1:]]), "they share what the augmented view leaves, 1 − 0.5"),
    "own key": (lambda s: soft(s, own=True), "you kept the anchor's own key"),
    "temperature": (lambda s: soft(s, tau=1.0), "divide the cosines by the temperature 0.1"),
    "all keys": (
        lambda s: [0.5, *(0.5 * (s.key / 0.1).masked_fill(s.own, -torch.inf).softmax(1).topk(5).values[0]).tolist()],  # type: ignore[operator]
        "runs over the 5 mined keys alone",
    ),
    "hard": (lambda s: [0.5] + [0.1] * 5, "these are hard weights"),
    "search": (lambda s: soft(replace(s, key=s.anchor)), "you searched close to z;"),
    "other": (lambda s: [0.3] * 6, "yours sum to 1.8, where 1 is wanted, and start with 0.3"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_wrong_weight_is_explained(say: Say, s: Similarities, name: str) -> None:
    answer, words = WEIGHTS[name]
    said = say(check.soft_weights, answer(one(s)), one(s), SOFT)
    assert said.startswith("Not yet: ") and words in said


def purity(s: Similarities, k: int, own: bool = False) -> float:
    assert s.key is not None and s.same_class is not None
    score = s.key if own else s.key.masked_fill(s.own, -torch.inf)
    return float(s.same_class.gather(1, score.topk(k, dim=1).indices).float().mean())


def largest(s: Similarities, asked: float, own: bool = False) -> int:
    return max(k for k in range(1, 59) if purity(s, k, own) >= asked)


def test_the_largest_k_is_judged_by_its_purity(say: Say, s: Similarities) -> None:
    base = 14 / 59
    right = largest(s, 2 * base)
    said = say(check.largest_k, right, s, times=2)
    assert said.startswith("Right. ") and f"{100 * purity(s, right):.1f} %" in said
    assert say(check.largest_k, float(right), s, times=2).startswith("Right.")
    assert "a larger k is meant" in say(check.largest_k, right - 1, s, times=2)
    assert "a smaller k is meant" in say(check.largest_k, right + 3, s, times=2)
    with_own = largest(s, 2 * base, own=True)
    assert with_own > right
    assert "You counted the anchor's own key" in say(check.largest_k, with_own, s, times=2)
    for wrong in (0, -1, 2.5, 60):
        assert "a whole number from 1 to 59" in say(check.largest_k, wrong, s, times=2)
    assert "no k reaches" in say(check.largest_k, 3, s, times=9)


def test_arms_are_compared_within_a_seed(say: Say) -> None:
    base = {0: 70.0, 1: 68.0, 2: 71.0}
    better = say(check.paired, {0: 72.0, 1: 70.1, 2: 73.0}, base)
    assert better.startswith("Right. Over 3 seeds the mean difference is +2.0 points") and "better here" in better
    assert "worse here" in say(check.paired, {0: 68.0, 1: 66.1, 2: 69.0}, base)
    none = say(check.paired, {0: 72.0, 1: 67.0, 2: 71.0}, base)
    assert none.startswith("Right. ") and "It holds 0: these seeds show no difference." in none


@pytest.mark.parametrize(
    "mine, theirs, words",
    [
        (71.2, {0: 70.0}, "give both by seed"),
        ({0: 71.2}, 70.0, "give both by seed"),
        ({0: 71.0, 1: 70.0, 3: 70.0}, {0: 71.0, 1: 70.0, 2: 70.0}, "Compare within a seed"),
        ({0: 71.0}, {0: 70.0}, "1 seed cannot tell"),
        ({0: 71.0, 1: 70.0}, {0: 70.0, 1: 69.0}, "2 seeds cannot tell"),
        ({0: 0.71, 1: 0.70, 2: 0.72}, {0: 0.7, 1: 0.7, 2: 0.7}, "give accuracies in percent"),
    ],
)
def test_what_is_no_comparison_is_explained(say: Say, mine: Any, theirs: Any, words: str) -> None:
    said = say(check.paired, mine, theirs)
    assert said.startswith("Not yet: ") and words in said
