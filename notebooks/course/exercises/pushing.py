"""Checks of notebook 01: which keys push, at which temperature, and what a rule removes from the push.

Legend: B anchors, K keys.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cltools.errors import described
from cltools.gradients import tangential_force
from cltools.mining import AugmentedView, NegativeRule, OracleNegatives, Similarities, select
from course.exercises.asking import Mistake, as_numbers, exercise, same, sentence
from course.exercises.cases import Case, Cases, exercise_by_cases
from course.pushes import plain_push

TEMPERATURES = (0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
"""The temperatures for which an answer is recognised as that of another temperature."""
NEAR = 0.05
"""The tolerance around the requested share."""


@exercise
def forces(answer: Any, s: Similarities, *, temperature: float) -> str:
    """Check the force with which each negative turns the anchor, p·√(1 − c²)/τ for every key; 0 for the own key.

    Args:
        answer: [B, K], or [K] for one anchor.
        s: similarities from which it was computed.
        temperature: of the loss.
    """
    given = as_numbers(answer, tuple(s.anchor_keys.shape))
    right = tangential_force(plain_push(s, temperature), s.anchor_keys)
    if same(given, right):
        return f"The hardest key turns the anchor with a force of {float(right.max()):.3g}, all others with less."
    if bool((given[s.own] != 0).any()):
        raise Mistake(
            "you kept the anchor's own key among the negatives: keys that s.own marks have force 0 and no term in Z"
        )
    for wrong, words in _wrong_forces(s, temperature):
        if same(given, wrong):
            raise Mistake(words)
    row, key = divmod(int((given - right).abs().argmax()), given.shape[1])
    raise Mistake(
        f"the largest error is at key {key}, of cosine {float(s.anchor_keys[row, key]):.3f}: you have "
        f"{float(given[row, key]):.3g}, and it should be {float(right[row, key]):.3g}"
    )


def _wrong_forces(s: Similarities, temperature: float) -> list[tuple[Tensor, str]]:
    """Return the results of the classic mistakes, each with its explanation."""
    cosine, push = s.anchor_keys, plain_push(s, temperature)
    right, p = tangential_force(push, cosine), push * temperature
    without_positive = p / p.sum(1, keepdim=True) / temperature
    with_own = plain_push(s, temperature, own=True).masked_fill(s.own, 0)
    return [
        (p, "this is the probability p, not the force: multiply by √(1 − c²)/τ"),
        (push, "this is p/τ, the derivative by the cosine; only its tangential part turns the anchor: times √(1 − c²)"),
        (right * temperature, "the factor 1/τ is missing: p is the derivative by the logit c/τ, not by c"),
        (push * (1 - cosine**2), "the tangential part has length √(1 − c²), and you left out the root"),
        (-right, "the numbers are right, but the sign is not: a force is a length, so at least 0"),
        (tangential_force(without_positive, cosine), "Z contains the positive too: add exp(z·z'/τ) to the sum"),
        (tangential_force(with_own, cosine), "the anchor's own key still has a term in Z: leave it out of the sum too"),
        *(
            (
                tangential_force(plain_push(s, t), cosine),
                f"this is the force at τ = {t:g}, but τ = {temperature:g} is wanted",
            )
            for t in TEMPERATURES
        ),
    ]


@exercise_by_cases
def temperature_for(*, share: float, held: float) -> Cases:
    """Check the explorer's temperature: the closest `share` of the keys should hold `held` of the push.

    Args:
        share: share of all keys, the closest to the anchor first.
        held: share of the sum of p/τ, on average over all anchors, at the epoch that the explorer shows.
    """
    told = f"at τ = {{temperature:.3g}} the closest {100 * share:g} % hold {{result:.1f}} % of the push"
    low, high = 100 * (held - NEAR), 100 * (held + NEAR)
    return Cases(
        (
            Case(told, {"result": (low, high)}, right=True),
            Case(
                f"{told}, which is too little. The smaller τ is, the more the closest keys hold",
                {"result": (None, low)},
            ),
            Case(f"{told}, which is too much. The larger τ is, the more evenly all keys push"),
        ),
        {"temperature": ("temperature",), "result": ("closest_push", 100 * share)},
    )


@exercise
def spare_false(answer: Any, s: Similarities, *, temperature: float) -> str:
    """Check for a rule without labels that leaves at least half of the push and lowers the share of false negatives.

    Args:
        answer: a `NegativeRule`.
        s: similarities with `same_class`, of several anchors.
        temperature: of the loss.
    """
    if not isinstance(answer, NegativeRule):
        raise Mistake(f"a rule such as RankBand(0.1, 1.0) is wanted, and this is {described(answer)}")
    if isinstance(answer, OracleNegatives):
        raise Mistake("this rule reads the labels. It is a bound, not a method: training has no labels")
    assert s.same_class is not None, "false negatives need labels, and this snapshot has none"
    push = plain_push(s, temperature)
    kept = push * _kept(answer, replace(s, same_class=None), temperature)  # training has no labels
    left = float(kept.sum() / push.sum())
    if left == 0:
        raise Mistake("the rule keeps no key, and nothing pushes")
    if left == 1:
        raise Mistake("the rule keeps every key, as plain InfoNCE does")
    before, after = (100 * float((p * s.same_class).sum() / p.sum()) for p in (push, kept))
    summary = (
        f"{100 * left:.0f} % of the push is left, and false negatives have {after:.1f} % of that, against "
        f"{before:.1f} % with every key"
    )
    if after >= before:
        raise Mistake(
            f"{summary}. You dropped keys that are far away; false negatives are more frequent among close keys"
        )
    if left < 0.5:
        raise Mistake(f"{summary}. But more than half of the push is gone, and part of it came from true negatives")
    return f"{sentence(summary)}. Only training shows whether that is better."


def _kept(rule: NegativeRule, s: Similarities, temperature: float) -> Tensor:
    """Return the keys that the rule keeps; any error of the reader's own rule is reported as a mistake."""
    draws = torch.Generator().manual_seed(0)
    try:
        chosen = select(s, AugmentedView(), rule, temperature=temperature, generator=draws)
    except Exception as error:
        raise Mistake(f"the rule raises {type(error).__name__}: {error}") from None
    return chosen.negative_weight > 0
