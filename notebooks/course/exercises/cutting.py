"""Checks of notebooks 00 and 02: which keys a band keeps, and what dropping the closest costs.

Legend: B anchors, K keys.
"""

from typing import Any

import torch
from torch import Tensor

from cltools.errors import described
from cltools.evaluation.diagnosis import band_counts
from cltools.explorer.session import Session
from cltools.mining import AugmentedView, Band, CosineBand, MarginBand, RankBand, Similarities, select
from cltools.mining.bands import rank_band
from course.exercises.asking import Mistake, as_mask, exercise, sentence
from course.exercises.cases import Case, Cases, Where, exercise_by_cases
from course.exercises.measures import keys

STEP = 0.5
"""How close the best edge must be reached, in percent of the keys."""


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


NO_RANKS = Case("the explorer's rule is {rule}: choose RankBand, whose edges are shares of the keys", {"ranks": (0, 0)})
RULE = {"rule": ("rule",), "ranks": ("cuts_ranks",)}
NO_LABELS = Case("only labels show false negatives, and the images of this explorer have none", {"labelled": (0, 0)})
PRICE = {"labelled": ("labelled",), "edge": ("drop_closest",), "false": ("dropped_false",), "true": ("dropped_true",)}
PRICED = "an edge of {edge:.4g} % drops {false:.1f} % of the false negatives, {true:.1f} % of the true"


@exercise_by_cases
def negatives_left(session: Session) -> Cases:
    """Check how many negatives an anchor keeps when the band has no edges; the answer is a number of keys.

    Args:
        session: an explorer that is set to such a band.
    """
    others = keys(session) - 1
    edges = (
        "the explorer still has an edge: it drops the closest {edge:.4g} %, and beyond {within:.4g} %. Set the first "
        "to 0 % and the second to 100 %, then count"
    )
    return Cases(
        (
            NO_RANKS,
            Case(edges, {"edge": (1e-9, None)}),
            Case(edges, {"within": (None, 100 - 1e-9)}),
            Case(
                f"{{mined}} of the {others:,} other keys are mined as positives, and those are not pushed",
                {"answer": ("kept", "kept")},
                right=True,
            ),
            Case(
                f"these are all {others + 1:,} keys; the anchor's own is its positive, never a negative",
                {"answer": (others + 1, others + 1)},
            ),
            Case(
                "these are all other keys, but some of them are mined: they are pulled, so they are not pushed too",
                {"answer": (others, others)},
            ),
            Case("with no edges the anchor keeps more than {answer:.0f}", {"answer": (None, "kept")}),
            Case("with no edges the anchor keeps fewer than {answer:.0f}"),
        ),
        RULE | {"edge": ("drop_closest",), "within": ("keep_within",), "mined": ("mined",), "kept": ("kept",)},
        unit="keys",
        explorer=session,
    )


@exercise_by_cases
def dropped(*, false: float, true: float) -> Cases:
    """Check that the explorer's share of closest keys drops enough false negatives and not too many true ones.

    Args:
        false: least share of the false negatives, over all anchors, that must be dropped.
        true: largest share of the true negatives that may be dropped.
    """
    enough: Where = {"false": (100 * false, None)}
    few: Where = {"true": (None, 100 * true)}
    return Cases(
        (
            NO_RANKS,
            NO_LABELS,
            Case(PRICED, {**enough, **few}, right=True),
            Case(
                f"{PRICED}. At most {100 * true:g} % of the true may be dropped: lower it. No edge drops only false "
                "ones",
                enough,
            ),
            Case(f"{PRICED}. At least {100 * false:g} % of the false ones must be dropped: raise it", few),
            Case(f"{PRICED}. It drops too few false and too many true ones; does the explorer show the last epoch?"),
        ),
        RULE | PRICE,
    )


@exercise_by_cases
def drop_closest(*, budget: float) -> Cases:
    """Check for the largest share of closest keys in the explorer that drops at most `budget` of the true negatives.

    Args:
        budget: share of the keys of other classes, over all anchors, that may be dropped.
    """
    within: Where = {"true": (None, 100 * budget)}
    return Cases(
        (
            NO_RANKS,
            NO_LABELS,
            Case(PRICED, {**within, "next": (100 * budget, None)}, right=True),
            Case(f"{PRICED}; {100 * budget:g} % may be dropped, so raise it", within),
            Case(f"{PRICED}, which is more than {100 * budget:g} %: lower it"),
        ),
        RULE | PRICE | {"next": ("dropped_true", STEP)},
    )


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
