"""Checks of notebook 03: weights of mined positives, what they stake on wrong guesses, and whether they help.

Legend: B anchors, K keys.
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from cltools.mining import Context, NearestKeys, Similarities
from cltools.mining.negatives import closeness
from cltools.mining.selection import mine
from cltools.mining.similarities import own_last
from course.exercises.asking import Mistake, as_number, as_numbers, exercise, same, sentence
from course.exercises.exploring import as_explorer, everyone
from course.paired import LEAST, detectable, verdict


@exercise
def soft_weights(answer: Any, s: Similarities, rule: NearestKeys) -> str:
    """The weights of the augmented view and of the k mined ones, closest first, of one anchor.

    Args:
        answer: 1 + k numbers.
        s: similarities of one anchor.
        rule: weighting "softmax", without a gate, with an augmented share.
    """
    assert rule.augmented_share is not None
    k, share = rule.k, rule.augmented_share
    try:
        count = len(answer)
    except TypeError:
        count = -1
    if count == k:
        raise Mistake(f"{k + 1} weights are wanted: the augmented view's stands first, then the {k} mined ones'")
    given = as_numbers(answer, (1, k + 1))
    if same(given, _weights(s, rule)):
        return f"The closest of the {k} gets {float(given[0, 1]):.2f}, the farthest {float(given[0, -1]):.2f}."
    if same(given.sort().values, _weights(s, rule).double().sort().values):
        raise Mistake("the values are right and their order is not: the augmented view, then the closest key first")
    if abs(float(given[0, 1:].sum()) - 1) < 1e-3:
        raise Mistake(f"the mined weights alone sum to 1; they share what the augmented view leaves, 1 − {share:g}")
    for wrong, words in _wrong_weights(s, rule, k, share):
        if same(given, wrong):
            raise Mistake(words)
    raise Mistake(f"yours sum to {float(given.sum()):.3g}, where 1 is wanted, and start with {float(given[0, 0]):.3g}")


def _wrong_weights(s: Similarities, rule: NearestKeys, k: int, share: float) -> list[tuple[Tensor, str]]:
    """What the classic mistakes give, each with its words."""
    scores = own_last(closeness(s, rule.by), s.own)
    of_all = (scores / rule.temperature).softmax(1).topk(k).values * (1 - share)
    even = torch.full((1, k), (1 - share) / k)
    first = torch.full((1, 1), share)
    with_own = replace(s, own=torch.zeros_like(s.own))
    return [
        (_weights(with_own, rule), "you kept the anchor's own key among the mined: leave out what s.own marks"),
        (_weights(s, replace(rule, temperature=1.0)), f"divide the cosines by the temperature {rule.temperature:g}"),
        (torch.cat([first, of_all], 1), f"the softmax runs over the {k} mined keys alone, and yours over all keys"),
        (torch.cat([first, even], 1), "these are uniform weights, all alike; softmax weights follow the cosine"),
        (
            _weights(s, replace(rule, by="anchor")),
            "you searched close to z; this rule searches close to z', s.positive_keys",
        ),
    ]


def _weights(s: Similarities, rule: NearestKeys) -> Tensor:
    """What the rule gives, the mined ones by weight."""
    weight = mine(s, rule, Context(~s.own, temperature=0.2)).weight  # the loss's temperature does not decide them
    return torch.cat([weight[:, :1], weight[:, 1:].sort(dim=1, descending=True).values], dim=1)


@exercise
def staked(answer: Any, *, mined: float, wrong: float) -> str:
    """Positives, set in the explorer, that trust their guesses to some degree and stake little on wrong ones.

    Args:
        answer: an explorer with labels; all its anchors count, at the epoch that it shows.
        mined: share of the positives' weight that mined keys have at least.
        wrong: share of it that keys of other classes have at most.
    """
    session = as_explorer(answer)
    s, rule = everyone(session), session.rules[0]
    if s.same_class is None:
        raise Mistake("wrong guesses are told by labels, and this explorer's pictures have none")
    draws = torch.Generator().manual_seed(0)
    found = mine(s, rule, Context(~s.own, session.state.side.temperature, draws))
    guessed = found.weight[:, 1:]
    on_mined = float(guessed.sum(1).mean())
    if on_mined == 0:
        raise Mistake("no key is mined, so nothing is guessed: choose NearestKeys, and an augmented share below 1")
    on_wrong = float((guessed * ~s.same_class.gather(1, found.index)).sum(1).mean())
    said = f"mined keys have {100 * on_mined:.1f} % of the weight, and {100 * on_wrong:.1f} % lies on other classes"
    if on_wrong <= wrong and on_mined >= mined:
        return f"{sentence(said)}."
    if on_mined < mined:
        raise Mistake(f"{said}. At least {100 * mined:g} % are to be mined ones': let the augmented view keep less")
    if getattr(rule, "augmented_share", None) == 0:
        raise Mistake(f"{said}. You replace the augmented view, so all rests on guesses: let it keep a share")
    if session.state.side.epoch != session.snapshots[0].epochs[-1]:
        raise Mistake(f"{said}, as an encoder at epoch {session.state.side.epoch} guesses: go to the last epoch")
    raise Mistake(f"{said}, which is more than {100 * wrong:g} %: let the augmented view keep more")


@exercise
def paired(answer: Any, baseline: Any) -> str:
    """An arm of your own against a baseline that started from the same seeds.

    Args:
        answer: accuracy in percent, by seed.
        baseline: the same of the baseline.
    """
    if not isinstance(answer, Mapping) or not isinstance(baseline, Mapping):
        raise Mistake("give both by seed, such as {0: 70.1, 1: 69.4, 2: 71.0}: one mean does not tell what chance does")
    if not all(isinstance(seed, Integral) for seed in [*answer, *baseline]):
        raise Mistake(f"seeds are whole numbers, and yours are {[*answer]}, the baseline's {[*baseline]}")
    mine, theirs = ({int(seed): as_number(value) for seed, value in side.items()} for side in (answer, baseline))
    return paired_words(mine, theirs)


def paired_words(mine: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """What paired seeds say of two sides, in words: the mean difference with its 95 % interval.

    Args:
        mine: accuracy in percent, by seed.
        theirs: the same of the baseline.
    """
    if {*mine} != {*theirs}:
        raise Mistake(
            f"your seeds are {[*mine]} and the baseline's {[*theirs]}. Compare within a seed: both arms go on from the "
            "same weights and see the same images, and what these decide cancels"
        )
    if len(mine) < LEAST:
        raise Mistake(f"{len(mine)} seed{'s' * (len(mine) != 1)} cannot tell what chance does; train at least {LEAST}")
    if all(0 <= value <= 1 for value in [*mine.values(), *theirs.values()]):
        raise Mistake("these look like shares; give accuracies in percent")
    gains = [mine[seed] - theirs[seed] for seed in mine]
    mean, half = statistics.fmean(gains), detectable(gains)
    interval = f"95 % interval {mean - half:+.1f} to {mean + half:+.1f}"
    said, why = verdict(gains), "by more than chance explains" if abs(mean) > half else "as it holds 0"
    return f"Over {len(gains)} seeds the mean difference is {mean:+.1f} points, {interval}: {said}, {why}."
