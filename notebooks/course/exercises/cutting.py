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
"""How near to the best edge counts as it."""


@exercise
def kept(answer: Any, s: Similarities, *, drop_closest: float, keep_within: float) -> str:
    """Which keys a rank band around the positive keeps, one true or false for each; the own key never.

    Args:
        answer: [B, K] of true and false, or [K] of one anchor.
        s: similarities it was computed from.
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
        (~right & ~s.own, "you kept what lies outside of the band"),
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
        f"yours keeps {int(given.sum()):,} keys, the band keeps {int(right.sum()):,}, and about "
        f"{int((given != right).sum()):,} keys the two differ"
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
    """How many negatives an anchor keeps when the band has no edges.

    Args:
        answer: a number of keys.
        session: an explorer that stands at such a band.
    """
    count, rule = as_number(answer), rank_band_of(session)
    if (rule.drop_closest, rule.keep_within) != (0, 1):
        raise Mistake(
            f"the explorer still has an edge: it drops the closest {100 * rule.drop_closest:.3g} %, and beyond "
            f"{100 * rule.keep_within:.3g} %. Put the first to 0 % and the second to 100 %, then count"
        )
    right, mined = (int((session.judgement.band == code).sum()) for code in (Band.POTENTIAL, Band.MINED))
    keys = len(session.judgement.band)
    if count == right:
        return f"Of {keys - 1:,} other keys {mined} are mined as positives, and those are not pushed."
    if count == keys:
        raise Mistake(f"these are all {keys:,} keys; the anchor's own is its positive, never a negative")
    if count == keys - 1:
        raise Mistake("these are all other keys, and some of them are mined: pulled, so they are not pushed too")
    raise Mistake(f"with no edges the anchor keeps {'more' if count < right else 'fewer'} than {count:,.0f}")


@exercise
def dropped(answer: Any, *, false: float, true: float) -> str:
    """A share of closest keys, set in the explorer, that drops enough false negatives and not too many true ones.

    Args:
        answer: an explorer with a rank band and labels.
        false: share of the false negatives, over all anchors, that is to be dropped at least.
        true: share of the true negatives that may be dropped at most.
    """
    cost, said = _priced(as_explorer(answer))
    if cost.false < false and cost.true > true:
        raise Mistake(f"{said}. That costs more than it buys; does the explorer show the last epoch?")
    if cost.false < false:
        raise Mistake(f"{said}. At least {100 * false:g} % of the false ones are to go: raise it")
    if cost.true > true:
        raise Mistake(
            f"{said}. At most {100 * true:g} % of the true ones may go: lower it. No edge takes the false ones alone"
        )
    return f"{sentence(said)}. That is its price."


@exercise
def drop_closest(answer: Any, *, budget: float) -> str:
    """The largest share of closest keys, set in the explorer, that drops at most `budget` of the true negatives.

    Args:
        answer: an explorer with a rank band and labels.
        budget: share of the keys of other classes, over all anchors, that may be dropped.
    """
    session = as_explorer(answer)
    cost, said = _priced(session)
    rule, s = rank_band_of(session), everyone(session)
    best, keys = _largest(s, rule, budget), s.own.shape[1]
    if abs(rule.drop_closest - best) <= STEP or rank_count(rule.drop_closest, keys) == rank_count(best, keys):
        return f"{sentence(said)}."
    if cost.true > budget:
        raise Mistake(f"{said}, which is more than {100 * budget:g} %: lower it")
    raise Mistake(f"{said}; {100 * budget:g} % may be dropped, so raise it")


class Cost(NamedTuple):
    """Shares of the false and of the true negatives that are dropped with the closest keys."""

    false: float
    true: float


def _priced(session: Session) -> tuple[Cost, str]:
    """What the explorer's band drops as too close, over all anchors, and that in words."""
    rule, s = rank_band_of(session), everyone(session)
    if s.same_class is None:
        raise Mistake("false negatives are told by labels, and this explorer's pictures have none")
    cost = _cost(s, rule, rule.drop_closest)
    return cost, (
        f"an edge of {100 * rule.drop_closest:.3g} % drops {100 * cost.false:.1f} % of the false negatives, "
        f"{100 * cost.true:.1f} % of the true"
    )


def _largest(s: Similarities, rule: RankBand, budget: float) -> float:
    """The largest edge within the budget; what an edge drops grows with it, so it is found by halving."""
    keys, low, high = s.own.shape[1], 0, s.own.shape[1] - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _cost(s, rule, middle / keys).true <= budget else (low, middle - 1)
    return low / keys


def _cost(s: Similarities, rule: RankBand, edge: float) -> Cost:
    """What this rule would drop with another `drop_closest`, and with nothing too easy."""
    assert s.same_class is not None
    hard = select(s, AugmentedView(), replace(rule, drop_closest=edge, keep_within=1.0)).band == Band.HARD
    same, true = s.same_class & ~s.own, ~s.same_class & ~s.own
    return Cost(float((hard & same).sum() / same.sum()), float((hard & true).sum() / true.sum()))


@exercise
def beats_chance(answer: Any, s: Similarities) -> str:
    """A band whose kept keys hold fewer false negatives than as many keys by chance, by more than the interval.

    Args:
        answer: a `RankBand`, a `CosineBand` or a `MarginBand`.
        s: similarities with `same_class`, of several anchors.
    """
    if not isinstance(answer, RankBand | CosineBand | MarginBand):
        raise Mistake(f"a band such as RankBand(0.1, 0.5) is wanted, and this is {described(answer)}")
    assert s.same_class is not None, "false negatives are told by labels, and these similarities have none"
    held = band_counts(select(s, AugmentedView(), answer).band, s.same_class)[Band.POTENTIAL]
    base = float((s.same_class & ~s.own).sum() / (~s.own).sum())
    if not held.same_class.count:
        raise Mistake("this band keeps no key")
    said = f"{held.same_class} of the kept are false, and by chance {100 * base:.1f} % would be"
    if held.same_class.high < base:
        return f"{sentence(said)}. It still keeps {100 * held.share:.0f} % of the keys."
    if held.same_class.low > base:
        raise Mistake(
            f"{said}: it keeps more false negatives than chance would. Close keys are of the anchor's class more "
            "often than far ones, so a band near the positive has a price"
        )
    raise Mistake(f"{said}, which the interval holds: no difference is shown")
