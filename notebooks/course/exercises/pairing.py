"""Checks of notebook 03: weights of mined positives, their share on wrong keys, and whether mining helps.

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
from course.exercises.asking import Mistake, as_number, as_numbers, exercise, same
from course.exercises.cases import Case, Cases, Where, exercise_by_cases
from course.paired import LEAST, detectable, verdict


@exercise
def soft_weights(answer: Any, s: Similarities, rule: NearestKeys) -> str:
    """Check the weights of the augmented view and of the k mined keys, the closest first, for one anchor.

    Args:
        answer: 1 + k numbers.
        s: similarities of one anchor.
        rule: a rule with weighting "softmax", without a gate, with an augmented share.
    """
    assert rule.augmented_share is not None
    k, share = rule.k, rule.augmented_share
    try:
        count = len(answer)
    except TypeError:
        count = -1
    if count == k:
        raise Mistake(f"{k + 1} weights are wanted: first that of the augmented view, then those of the {k} mined keys")
    given = as_numbers(answer, (1, k + 1))
    if same(given, _weights(s, rule)):
        return f"The closest of the {k} gets {float(given[0, 1]):.2f}, the farthest {float(given[0, -1]):.2f}."
    if same(given.sort().values, _weights(s, rule).double().sort().values):
        raise Mistake("the values are right, but their order is not: first the augmented view, then the closest key")
    if abs(float(given[0, 1:].sum()) - 1) < 1e-3:
        raise Mistake(
            f"the mined weights alone sum to 1; they should share what the augmented view leaves, 1 − {share:g}"
        )
    for wrong, words in _wrong_weights(s, rule, k, share):
        if same(given, wrong):
            raise Mistake(words)
    raise Mistake(f"yours sum to {float(given.sum()):.3g} instead of 1, and start with {float(given[0, 0]):.3g}")


def _wrong_weights(s: Similarities, rule: NearestKeys, k: int, share: float) -> list[tuple[Tensor, str]]:
    """Return the results of the classic mistakes, each with its explanation."""
    scores = own_last(closeness(s, rule.by), s.own)
    of_all = (scores / rule.temperature).softmax(1).topk(k).values * (1 - share)
    even = torch.full((1, k), (1 - share) / k)
    first = torch.full((1, 1), share)
    with_own = replace(s, own=torch.zeros_like(s.own))
    return [
        (_weights(with_own, rule), "you kept the anchor's own key among the mined: leave out what s.own marks"),
        (_weights(s, replace(rule, temperature=1.0)), f"divide the cosines by the temperature {rule.temperature:g}"),
        (torch.cat([first, of_all], 1), f"the softmax runs over the {k} mined keys alone, but yours over all keys"),
        (torch.cat([first, even], 1), "these are uniform weights; softmax weights depend on the cosine"),
        (
            _weights(s, replace(rule, by="anchor")),
            "you ranked by closeness to z; this rule ranks by closeness to z', s.positive_keys",
        ),
    ]


def _weights(s: Similarities, rule: NearestKeys) -> Tensor:
    """Return the weights that the rule gives, the mined ones sorted by weight."""
    weight = mine(s, rule, Context(~s.own, temperature=0.2)).weight  # they do not depend on the loss's temperature
    return torch.cat([weight[:, :1], weight[:, 1:].sort(dim=1, descending=True).values], dim=1)


@exercise_by_cases
def staked(*, mined: float, wrong: float) -> Cases:
    """Check that the explorer's positives give enough weight to mined keys and little weight to wrong ones.

    Args:
        mined: least share of the positives' weight on mined keys, over all anchors at the epoch that is shown.
        wrong: largest share of it on keys of other classes.
    """
    told = "mined keys have {mined:.1f} % of the weight, and {wrong:.1f} % is on other classes"
    enough: Where = {"mined": (100 * mined, None)}
    return Cases(
        (
            Case("only labels show wrong guesses, and the images of this explorer have none", {"labelled": (0, 0)}),
            Case(
                "no key is mined, so nothing is guessed: choose NearestKeys, and an augmented share below 1",
                {"mined": (0, 0)},
            ),
            Case(told, {**enough, "wrong": (None, 100 * wrong)}, right=True),
            Case(
                f"{told}. You replace the augmented view, so all the weight is on guesses: let it keep a share",
                {**enough, "share": (0, 0)},
            ),
            Case(f"{told}, with the encoder at epoch {{epoch}}: go to the last epoch", {**enough, "left": (1, None)}),
            Case(f"{told}, which is more than {100 * wrong:g} %: let the augmented view keep more", enough),
            Case(f"{told}. Mined keys need at least {100 * mined:g} %: let the augmented view keep less"),
        ),
        {
            "labelled": ("labelled",),
            "mined": ("mined_weight",),
            "wrong": ("wrong_weight",),
            "share": ("augmented_share",),
            "epoch": ("epoch",),
            "left": ("epochs_left",),
        },
    )


@exercise
def paired(answer: Any, baseline: Any) -> str:
    """Compare your own arm with a baseline that started from the same seeds.

    Args:
        answer: accuracy in percent, by seed.
        baseline: the same for the baseline.
    """
    if not isinstance(answer, Mapping) or not isinstance(baseline, Mapping):
        raise Mistake(
            "give both by seed, such as {0: 70.1, 1: 69.4, 2: 71.0}: one mean does not show the effect of chance"
        )
    if not all(isinstance(seed, Integral) for seed in [*answer, *baseline]):
        raise Mistake(f"seeds are whole numbers, but yours are {[*answer]}, the baseline's {[*baseline]}")
    mine, theirs = ({int(seed): as_number(value) for seed, value in side.items()} for side in (answer, baseline))
    return paired_words(mine, theirs)


def paired_words(mine: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    """Describe what paired seeds show about two sides: the mean difference with its 95 % interval.

    Args:
        mine: accuracy in percent, by seed.
        theirs: the same for the baseline.
    """
    if {*mine} != {*theirs}:
        raise Mistake(
            f"your seeds are {[*mine]} and the baseline's {[*theirs]}. Compare within a seed: both arms start from the "
            "same weights and see the same images, so their effects cancel"
        )
    if len(mine) < LEAST:
        raise Mistake(
            f"{len(mine)} seed{'s' * (len(mine) != 1)} cannot show the effect of chance; train at least {LEAST}"
        )
    if all(0 <= value <= 1 for value in [*mine.values(), *theirs.values()]):
        raise Mistake("these look like shares; give accuracies in percent")
    gains = [mine[seed] - theirs[seed] for seed in mine]
    mean, half = statistics.fmean(gains), detectable(gains)
    interval = f"95 % interval {mean - half:+.1f} to {mean + half:+.1f}"
    outcome, why = verdict(gains), "by more than chance explains" if abs(mean) > half else "as the interval contains 0"
    return f"Over {len(gains)} seeds the mean difference is {mean:+.1f} points, {interval}: {outcome}, {why}."
