"""`check_rule`: every shipped rule passes it, and each of a set of broken rules fails it for its own reason."""

from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools import mining
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    Context,
    HardnessWeighted,
    MarginBand,
    Mined,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    PositiveRule,
    RandomNegatives,
    RankBand,
    Similarities,
)
from cltools.mining.rules import rule_classes
from cltools.testing import BrokenRule, check_rule

SHIPPED = [
    rule
    for base in (NegativeRule, PositiveRule)
    for rule in rule_classes(base).values()
    if rule.__module__.startswith("cltools.mining.")
]
SETTINGS: list[NegativeRule | PositiveRule] = [
    RankBand(0.1, 0.6, by="force", rescale=True, drop_closest_from=0.0),
    MarginBand(relative=0.9, within=0.5, relative_from=1.2),
    RandomNegatives(0.3, rescale=True, share_from=1.0),
    HardnessWeighted(beta=2.0, anneal=0.5),
    NearestKeys(4, min_weight="mean", pick=2),
    NearestKeys(1, augmented_share=0.0, strength=0.5),
]


def test_every_shipped_rule_is_looked_at() -> None:
    assert {rule.__name__ for rule in SHIPPED} == {
        name
        for name in vars(mining)
        if isinstance(getattr(mining, name), type)
        and issubclass(getattr(mining, name), NegativeRule | PositiveRule)
        and getattr(mining, name) not in (NegativeRule, PositiveRule)
    }


@pytest.mark.parametrize("rule", SHIPPED, ids=lambda rule: rule.__name__)
def test_every_shipped_rule_holds_what_every_rule_must(rule: Any) -> None:
    check_rule(rule())


@pytest.mark.parametrize("rule", SETTINGS, ids=repr)
def test_so_it_does_at_other_settings(rule: NegativeRule | PositiveRule) -> None:
    check_rule(rule)


# --- broken negative rules


NUMBERS = count()  # a rule is found by its class name, so each has its own


def negative(**methods: Any) -> NegativeRule:
    """A rule that keeps every key, but for the methods given."""
    rule: NegativeRule = type(f"Broken{next(NUMBERS)}", (AllNegatives,), methods)()
    return rule


def codes(code: int, dtype: torch.dtype = torch.int8) -> Any:
    return lambda self, s, context: torch.full_like(s.anchor_keys, code, dtype=dtype)


def in_place(self: Any, s: Similarities, context: Context) -> Tensor:
    score = s.anchor_keys.detach()
    return torch.where(score.clamp_(max=0.3) < 0.3, 2, 3).to(torch.int8)


def by_place(self: Any, s: Similarities, context: Context) -> Tensor:
    return (2 + torch.arange(s.own.shape[1]) % 2).to(torch.int8).expand_as(s.own).contiguous()


def at_random(self: Any, s: Similarities, context: Context) -> Tensor:
    return torch.randint(2, 4, s.own.shape, dtype=torch.int8)


def unseeded(self: Any, s: Similarities, context: Context) -> Tensor:
    return torch.randint(2, 4, s.own.shape, dtype=torch.int8, generator=CHANCE)


CHANCE = torch.Generator()
BROKEN_NEGATIVES: dict[str, tuple[Any, str]] = {
    "wrong type": (negative(judge=codes(2, torch.float32)), "no codes"),
    "no code": (negative(judge=codes(17)), "another code"),
    "mined is not its to give": (negative(judge=codes(4)), "another code"),
    "wrong shape": (negative(judge=lambda self, s, context: torch.full((1,), 2, dtype=torch.int8)), "no codes"),
    "writes where keys may be chosen": (
        negative(judge=lambda self, s, context: context.eligible.zero_().to(torch.int8) + 2),
        "changes context.eligible",
    ),
    "raises": (negative(judge=lambda self, s, context: 1 // 0), "ZeroDivisionError"),
    "reads what it does not declare": (
        negative(judge=lambda self, s, context: torch.where(s.positive_keys > 0, 2, 3).to(torch.int8)),
        "reads positive_keys without declaring it",
    ),
    "reads by the back door": (
        negative(
            judge=lambda self, s, context: torch.where(s.anchor_keys * (vars(s)["positive_keys"] is None) > 0, 3, 2).to(
                torch.int8
            )
        ),
        "does not declare in reads",
    ),
    "declares what is not there": (negative(reads=frozenset({"labels"})), "reads is"),
    "changes its input": (negative(judge=in_place), "changes the similarities"),
    "by the keys' place": (negative(judge=by_place), "another order"),
    "torch's own generator": (negative(judge=at_random), "context.generator"),
    "a generator of its own": (negative(judge=unseeded), "same seed"),
    "a weight below 0": (negative(weigh=lambda self, s, kept, context: s.anchor_keys.detach() * kept), "below 0"),
    "a weight that is no number": (negative(weigh=lambda self, s, kept, context: kept / 0.0 * 0), "not finite"),
    "weights of another shape": (negative(weigh=lambda self, s, kept, context: kept.sum(1).float()), "weigh"),
    "synthetic of another length": (
        negative(synthesise=lambda self, s, kept, context: torch.ones(len(kept), 2, 6)),
        "unit length",
    ),
    "no estimate": (negative(estimate=lambda self: 0.1), "estimate"),
    "another kind at the end": (negative(at=lambda self, progress: AugmentedView()), "must give a NegativeRule"),
}


@pytest.mark.parametrize("name", BROKEN_NEGATIVES)
def test_a_broken_negative_rule_fails_for_its_reason(name: str) -> None:
    rule, reason = BROKEN_NEGATIVES[name]
    with pytest.raises(BrokenRule, match=f"(?s)Broken.*{reason}") as failed:
        check_rule(rule)
    assert not str(failed.value).count("Traceback")


# --- broken positive rules


@dataclass(frozen=True)
class Mines(PositiveRule):
    """Mines the closest key by z·n."""

    share: float = 0.5

    def mine(self, s: Similarities, context: Context) -> Mined:
        score, index = torch.where(context.eligible, s.anchor_keys.detach(), -2.0).max(1, keepdim=True)
        weight = self.share * (score > -2)
        return self.told(index, torch.cat([1 - weight, weight], dim=1))

    def told(self, index: Tensor, weight: Tensor) -> Mined:
        return Mined(index, weight)


def positive(told: Any = None, **methods: Any) -> PositiveRule:
    rule: PositiveRule = type(f"Broken{next(NUMBERS)}", (Mines,), methods | ({} if told is None else {"told": told}))()
    return rule


def own_too(self: Any, s: Similarities, context: Context) -> Mined:
    score, index = s.anchor_keys.detach().max(1, keepdim=True)
    return Mined(index, torch.full((len(score), 2), 0.5))


BROKEN_POSITIVES: dict[str, tuple[PositiveRule, str]] = {
    "wrong type": (positive(lambda self, i, w: Mined(i.int(), w)), "int64"),
    "no weight of the view": (positive(lambda self, i, w: Mined(i, w[:, 1:])), r"\[B, 1\+P\]"),
    "sums to 2": (positive(lambda self, i, w: Mined(i, 2 * w)), "sum to 1"),
    "below 0": (positive(lambda self, i, w: Mined(i, torch.cat([1 + w[:, 1:], -w[:, 1:]], 1))), "below 0"),
    "no number": (positive(lambda self, i, w: Mined(i, w * torch.nan)), "not finite"),
    "in half": (positive(lambda self, i, w: Mined(i, w.half())), "float32"),
    "a key twice": (
        positive(lambda self, i, w: Mined(i.repeat(1, 2), torch.cat([w[:, :1], w[:, 1:] / 2, w[:, 1:] / 2], 1))),
        "twice",
    ),
    "a key beyond the last": (positive(lambda self, i, w: Mined(i + 1000, w)), "not there"),
    "an own key": (positive(mine=own_too), "own key"),
    "the first key": (positive(lambda self, i, w: Mined(0 * i, w)), "own key|another order"),
    "reads without declaring": (
        positive(mine=lambda self, s, context: (s.vectors[0], AugmentedView.mine(self, s, context))[1]),
        "reads vectors",
    ),
}


@pytest.mark.parametrize("name", BROKEN_POSITIVES)
def test_a_broken_positive_rule_fails_for_its_reason(name: str) -> None:
    rule, reason = BROKEN_POSITIVES[name]
    with pytest.raises(BrokenRule, match=f"(?s)Broken.*{reason}"):
        check_rule(rule)


def test_the_unbroken_ones_pass() -> None:
    check_rule(Mines())
    check_rule(negative())


# --- broken classes


def test_what_is_no_frozen_dataclass_is_told() -> None:
    class Undecorated(AllNegatives):
        edge: float = 0.5

    @dataclass(frozen=True)
    class Held(AllNegatives):
        things: Any = None

    with pytest.raises(BrokenRule, match=r"Undecorated.*frozen=True"):
        check_rule(Undecorated())
    for thing in ({1, 2}, object):
        with pytest.raises(BrokenRule, match=r"Held.*JSON"):
            check_rule(Held(thing))


def test_a_schedule_that_never_rests_is_told() -> None:
    @dataclass(frozen=True)
    class Restless(AllNegatives):
        edge: float = 0.5

        def at(self, progress: float) -> "Restless":
            return replace(self, edge=self.edge / 2)

    with pytest.raises(BrokenRule, match=r"Restless.*at\(1\)"):
        check_rule(Restless())


def test_what_breaks_on_the_way_is_found_at_its_moment() -> None:
    @dataclass(frozen=True)
    class Late(AllNegatives):
        on: bool = False

        def at(self, progress: float) -> "Late":
            return replace(self, on=progress >= 0.5)

        def judge(self, s: Similarities, context: Context) -> Tensor:
            return torch.full_like(s.anchor_keys, 9 if self.on else Band.POTENTIAL, dtype=torch.int8)

    with pytest.raises(BrokenRule, match=r"Late\.at\(0\.5\), seed 0, .* \[5, 7\].*another code"):
        check_rule(Late())


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(TypeError, match=r"float|0\.5"):
        check_rule(0.5)  # type: ignore[arg-type]


def test_the_loss_of_new_negatives_is_looked_at() -> None:
    """A gradient that is not finite comes from vectors, too: of zeros made to unit length by hand."""

    class Zero(MixedNegatives):
        def synthesise(self, s: Similarities, kept: Tensor, context: Context) -> Tensor:
            return normalize(torch.zeros(len(kept), 1, 6), dim=2) / 0.0

    with pytest.raises(BrokenRule, match=r"unit length|finite"):
        check_rule(Zero())
