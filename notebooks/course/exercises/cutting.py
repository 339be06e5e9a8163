"""Checks of notebooks 00 and 02: which keys a band keeps, and what dropping the closest costs.

Legend: B anchors, K keys.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cltools.errors import described
from cltools.evaluation.diagnosis import band_counts
from cltools.explorer.session import Session
from cltools.mining import AugmentedView, Band, CosineBand, MarginBand, RankBand, Similarities, select
from cltools.mining.bands import rank_band, rank_count
from course.exercises.asking import Mistake, as_mask, as_number, exercise, sentence
from course.exercises.exploring import as_explorer, everyone, rank_band_of

STEP = 0.005
"""The tolerance around the best edge."""


@exercise
def kept(answer: Any, s: Similarities, *, drop_closest: float, keep_within: float) -> str:
    """Check which keys a rank band around the positive keeps, as a mask; the own key is never kept.

    Args:
        answer: bool [B, K], or [K] for one anchor.
        s: similarities from which it was computed.
        drop_closest: share of all keys that is too close.
        keep_within: share of all keys beyond which a key is too far.
    """
    given = as_mask(answer, (len(s.own), s.own.shape[1]))
    right = _kept(s, drop_closest, keep_within)
    if torch.equal(given, right):
        return f"The band keeps {int(right.sum()):,} keys."
    if bool((given & s.own).any()):
        raise Mistake(
            "you kept the anchor's own key. It ranks last and is never a negative: leave out what s.own marks"
        )
    assert s.positive_keys is not None
    wrong = [
        (
            _kept(s, drop_closest, keep_within, by="anchor"),
            "you ranked by closeness to z; this band ranks by s.positive_keys, z'·n",
        ),
        (~right & ~s.own, "you kept the keys outside of the band"),
        (
            _kept(s, drop_closest, keep_within, own=True),
            "you ranked the own key among the others, which shifts every edge by one",
        ),
        (_kept(s, 0.0, drop_closest), "you kept the closest keys, which are the suspected ones"),
        (_kept(s, keep_within, 1.0), "you kept the keys beyond keep_within, which are the easy ones"),
        (_kept(s, 1 - keep_within, 1 - drop_closest), "you ranked from the farthest; ranks count from the closest key"),
        (
            _by_value(s.positive_keys, drop_closest, keep_within),
            "you cut at cosines; drop_closest and keep_within are shares of the keys, by rank",
        ),
    ]
    for mask, words in wrong:
        if torch.equal(given, mask):
            raise Mistake(words)
    raise Mistake(
        f"yours keeps {int(given.sum()):,} keys, the band keeps {int(right.sum()):,}, and they differ in "
        f"{int((given != right).sum()):,} keys"
    )


def _kept(
    s: Similarities, drop_closest: float, keep_within: float, *, by: str = "positive", own: bool = False
) -> Tensor:
    score = s.positive_keys if by == "positive" else s.anchor_keys
    assert score is not None
    return (rank_band(score, s.own & (not own), drop_closest, keep_within) == Band.POTENTIAL) & ~s.own


def _by_value(score: Tensor, low: float, high: float) -> Tensor:
    return (score >= low) & (score < high)


@exercise
def negatives_left(answer: Any, session: Session) -> str:
    """Check how many negatives an anchor keeps when the band has no edges.

    Args:
        answer: a number of keys.
        session: an explorer that is set to such a band.
    """
    count, rule = as_number(answer), rank_band_of(session)
    if (rule.drop_closest, rule.keep_within) != (0, 1):
        raise Mistake(
            f"the explorer still has an edge: it drops the closest {100 * rule.drop_closest:.3g} %, and beyond "
            f"{100 * rule.keep_within:.3g} %. Set the first to 0 % and the second to 100 %, then count"
        )
    right, mined = (int((session.judgement.band == code).sum()) for code in (Band.POTENTIAL, Band.MINED))
    keys = len(session.judgement.band)
    if count == right:
        return f"{mined} of the {keys - 1:,} other keys are mined as positives, and those are not pushed."
    if count == keys:
        raise Mistake(f"these are all {keys:,} keys; the anchor's own is its positive, never a negative")
    if count == keys - 1:
        raise Mistake(
            "these are all other keys, but some of them are mined: they are pulled, so they are not pushed too"
        )
    raise Mistake(f"with no edges the anchor keeps {'more' if count < right else 'fewer'} than {count:,.0f}")


@exercise
def dropped(answer: Any, *, false: float, true: float) -> str:
    """Check that the explorer's share of closest keys drops enough false negatives and not too many true ones.

    Args:
        answer: an explorer with a rank band and labels.
        false: least share of the false negatives, over all anchors, that must be dropped.
        true: largest share of the true negatives that may be dropped.
    """
    cost, summary = _priced(as_explorer(answer))
    if cost.false < false and cost.true > true:
        raise Mistake(
            f"{summary}. It drops too few false and too many true ones; does the explorer show the last epoch?"
        )
    if cost.false < false:
        raise Mistake(f"{summary}. At least {100 * false:g} % of the false ones must be dropped: raise it")
    if cost.true > true:
        raise Mistake(
            f"{summary}. At most {100 * true:g} % of the true may be dropped: lower it. No edge drops only false ones"
        )
    return f"{sentence(summary)}."


@exercise
def drop_closest(answer: Any, *, budget: float) -> str:
    """Check for the largest share of closest keys in the explorer that drops at most `budget` of the true negatives.

    Args:
        answer: an explorer with a rank band and labels.
        budget: share of the keys of other classes, over all anchors, that may be dropped.
    """
    session = as_explorer(answer)
    cost, summary = _priced(session)
    rule, s = rank_band_of(session), everyone(session)
    best, keys = _largest(s, rule, budget), s.own.shape[1]
    if abs(rule.drop_closest - best) <= STEP or rank_count(rule.drop_closest, keys) == rank_count(best, keys):
        return f"{sentence(summary)}."
    if cost.true > budget:
        raise Mistake(f"{summary}, which is more than {100 * budget:g} %: lower it")
    raise Mistake(f"{summary}; {100 * budget:g} % may be dropped, so raise it")


class Cost(NamedTuple):
    """Shares of the false and of the true negatives that are dropped with the closest keys."""

    false: float
    true: float


def _priced(session: Session) -> tuple[Cost, str]:
    """Return the shares that the explorer's band drops as too close, over all anchors, and a summary in words."""
    rule, s = rank_band_of(session), everyone(session)
    if s.same_class is None:
        raise Mistake("only labels show false negatives, and the images of this explorer have none")
    cost = _cost(s, rule, rule.drop_closest)
    return cost, (
        f"an edge of {100 * rule.drop_closest:.3g} % drops {100 * cost.false:.1f} % of the false negatives, "
        f"{100 * cost.true:.1f} % of the true"
    )


def _largest(s: Similarities, rule: RankBand, budget: float) -> float:
    """Find the largest edge within the budget by bisection: a larger edge drops more."""
    keys, low, high = s.own.shape[1], 0, s.own.shape[1] - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _cost(s, rule, middle / keys).true <= budget else (low, middle - 1)
    return low / keys


def _cost(s: Similarities, rule: RankBand, edge: float) -> Cost:
    """Return the shares that this rule would drop with another `drop_closest`, and with no key too easy."""
    assert s.same_class is not None
    hard = select(s, AugmentedView(), replace(rule, drop_closest=edge, keep_within=1.0)).band == Band.HARD
    same, true = s.same_class & ~s.own, ~s.same_class & ~s.own
    return Cost(float((hard & same).sum() / same.sum()), float((hard & true).sum() / true.sum()))


@exercise
def beats_chance(answer: Any, s: Similarities) -> str:
    """Check for a band that keeps fewer false negatives than the same number of random keys, beyond the interval.

    Args:
        answer: a `RankBand`, a `CosineBand` or a `MarginBand`.
        s: similarities with `same_class`, of several anchors.
    """
    if not isinstance(answer, RankBand | CosineBand | MarginBand):
        raise Mistake(f"a band such as RankBand(0.1, 0.5) is wanted, and this is {described(answer)}")
    assert s.same_class is not None, "false negatives need labels, and these similarities have none"
    held = band_counts(select(s, AugmentedView(), answer).band, s.same_class)[Band.POTENTIAL]
    base = float((s.same_class & ~s.own).sum() / (~s.own).sum())
    if not held.same_class.count:
        raise Mistake("this band keeps no key")
    summary = f"{held.same_class} of the kept keys are false, and {100 * base:.1f} % of random keys would be"
    if held.same_class.high < base:
        return f"{sentence(summary)}. It still keeps {100 * held.share:.0f} % of the keys."
    if held.same_class.low > base:
        raise Mistake(
            f"{summary}: it keeps more false negatives than chance would. Close keys are of the anchor's class more "
            "often than far ones, so a band near the positive keeps more of them"
        )
    raise Mistake(f"{summary}, which is inside the interval: no difference is shown")
