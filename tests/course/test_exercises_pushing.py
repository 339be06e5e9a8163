"""Checks of notebook 01: answers to each, and rules that spare false negatives or do not."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from exercise_cases import Cases, drawn, one
from snapshots import made, unit
from torch import Tensor

from cltools import AllNegatives, NegativeRule, OracleNegatives, RandomNegatives, RankBand, Similarities
from cltools.explorer.session import Session
from cltools.mining import Context
from course import check

TAU = 0.1
S = drawn()


def probability(s: Similarities, tau: float, own: bool = False) -> Tensor:
    """By a loop over anchors, as a reader may write it."""
    rows = []
    for i in range(len(s.anchor_keys)):
        e = (s.anchor_keys[i] / tau).exp() * (1.0 if own else (~s.own[i]).float())
        rows.append(e / ((s.anchor_positive[i] / tau).exp() + e.sum()))
    return torch.stack(rows)


ACROSS = (1 - S.anchor_keys**2).clamp_min(0).sqrt()
P = probability(S, TAU)
RIGHT = P * ACROSS / TAU
WITH_OWN = probability(S, TAU, own=True) * ACROSS / TAU
WITHOUT_POSITIVE = (S.anchor_keys / TAU).masked_fill(S.own, -torch.inf).softmax(1)

FORCES = Cases(
    right=RIGHT,
    forms=[RIGHT.double(), RIGHT.numpy(), RIGHT.tolist(), RIGHT.clone().requires_grad_()],
    wrong_type=("all", "a tensor of numbers is wanted, and this is of type str"),
    mistakes=[
        (WITH_OWN, "you kept the anchor's own key"),
        (WITH_OWN.masked_fill(S.own, 0), "still has a term in Z"),
        (P, "the probability p, not the force: multiply by √(1 − c²)/τ"),
        (P / TAU, "this is p/τ, the derivative by the cosine"),
        (P * ACROSS, "the factor 1/τ is missing"),
        (P * ACROSS**2 / TAU, "you left out the root"),
        (-RIGHT, "the sign is not"),
        (WITHOUT_POSITIVE * ACROSS / TAU, "Z contains the positive too"),
        (probability(S, 0.2) * ACROSS / 0.2, "this is the force at τ = 0.2"),
        (P * (1 - 1.1 * S.anchor_keys**2 - 1).sqrt(), "some numbers are nan"),
        (torch.ones(3, 3), "a tensor of shape [60, 60] is wanted, and this has [3, 3]"),
        (P + 0.7 * ~S.own, "the largest error is at key"),
    ],
    given=(S,),
    settings={"temperature": TAU},
)

SNAPSHOT = made(200, epochs=(1, 5))
SNAPSHOT = replace(SNAPSHOT, keys=unit(SNAPSHOT.anchors + 0.3 * SNAPSHOT.keys))  # an anchor's own key is its closest
ALL = SNAPSHOT.similarities()


def held_by_closest(tau: float) -> float:
    p = probability(ALL, tau)
    closest = ALL.anchor_keys.masked_fill(ALL.own, -torch.inf).topk(4, dim=1).indices
    return float((p.gather(1, closest).sum(1) / p.sum(1)).mean())


def temperature_where() -> float:
    """At which the closest fiftieth hold half, by halving."""
    low, high = 0.001, 100.0
    for _ in range(20):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if held_by_closest(middle) > 0.5 else (low, middle)
    return low


def at(**changes: Any) -> Session:
    return Session(SNAPSHOT).set(**changes)


HALF = temperature_where()

TEMPERATURE_FOR = Cases(
    right=at(temperature=HALF),
    forms=[at(temperature=HALF * 1.005, anchor=13, rule="AllNegatives"), at(compare=True).set(temperature=HALF)],
    wrong_type=(HALF, "the explorer itself is wanted, as returned by explore(…), and this is of type float"),
    mistakes=[
        (at(temperature=HALF / 3), "too much. The larger τ"),
        (at(temperature=HALF * 3), "too little. The smaller τ"),
    ],
    settings={"share": 0.02, "held": 0.5},
)


@dataclass(frozen=True)
class Broken(NegativeRule):
    def judge(self, s: Similarities, context: Context) -> Tensor:
        raise KeyError("oops")


SPARE_FALSE = Cases(
    right=RankBand(0.1, 1.0),
    forms=[RankBand(0.1, 1.0, by="anchor"), RankBand(0.05, 0.9)],
    wrong_type=(0.1, "a rule such as RankBand(0.1, 1.0) is wanted, and this is of type float"),
    mistakes=[
        (AllNegatives, "and this is the class AllNegatives"),
        (AllNegatives(), "keeps every key"),
        (OracleNegatives(), "reads the labels"),
        (RankBand(0.0, 0.5), "that are far away"),
        (RankBand(0.6, 1.0), "more than half of the push is gone"),
        (RankBand(0.0, 1e-6), "keeps no key"),
        (Broken(), "the rule raises KeyError: 'oops'"),
    ],
    given=(S,),
    settings={"temperature": 0.5},
)

CASES = {"forces": FORCES, "temperature_for": TEMPERATURE_FOR, "spare_false": SPARE_FALSE}


def test_the_forces_on_one_anchor_need_no_first_axis(capsys: pytest.CaptureFixture[str]) -> None:
    check.forces(RIGHT[0], one(S), temperature=TAU)
    assert capsys.readouterr().out.startswith("Right. The hardest key")


def test_the_temperature_is_judged_at_the_epoch_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    check.temperature_for(at(temperature=HALF), share=0.02, held=0.5)
    check.temperature_for(at(temperature=HALF, epoch=1), share=0.02, held=0.5)
    last, first = capsys.readouterr().out.splitlines()
    assert "hold 50.0 % of the push" in last and first.startswith("Not yet")


def test_false_negatives_are_counted_by_push(capsys: pytest.CaptureFixture[str]) -> None:
    check.spare_false(RankBand(0.1, 1.0), S, temperature=0.5)
    push = probability(S, 0.5)
    assert S.same_class is not None
    before = 100 * float((push * S.same_class).sum() / push.sum())
    said = capsys.readouterr().out
    assert f"against {before:.1f} % with every key" in said and "Only training shows" in said


def test_chance_is_judged_like_any_rule(capsys: pytest.CaptureFixture[str]) -> None:
    check.spare_false(RandomNegatives(0.7), S, temperature=0.5)
    assert "% of the push is left" in capsys.readouterr().out
