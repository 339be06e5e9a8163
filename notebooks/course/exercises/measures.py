"""Numbers of an explorer's state that checks are about; `docs/pages/measures.js` computes the same on a page.

Shares are in percent. Those over all anchors are of the epoch that the explorer's active side shows.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from cltools.explorer.judgement import SEED
from cltools.explorer.session import Session
from cltools.mining import AugmentedView, Band, Context, RankBand, Similarities, select
from cltools.mining.bands import rank_count
from cltools.mining.draws import Draws
from cltools.mining.selection import mine
from cltools.mining.similarities import own_last
from course.exercises.exploring import everyone
from course.pushes import mass_by_rank, plain_push


def rule(session: Session) -> str:
    """Return the name of the negative rule."""
    return type(session.rules[1]).__name__


def cuts_ranks(session: Session) -> bool:
    """Return whether the negative rule is a band of ranks."""
    return isinstance(session.rules[1], RankBand)


def ranks_by_positive(session: Session) -> bool:
    """Return whether the negative rule ranks by closeness to the positive."""
    return getattr(session.rules[1], "by", "") == "positive"


def rescales(session: Session) -> bool:
    """Return whether the negative rule gives the kept keys the weight of those that it drops."""
    return bool(getattr(session.rules[1], "rescale", False))


def mines(session: Session) -> bool:
    """Return whether a rule mines positives."""
    return not isinstance(session.rules[0], AugmentedView)


def labelled(session: Session) -> bool:
    """Return whether classes are known."""
    return session.snapshot(session.state.active).labelled


def drop_closest(session: Session) -> float:
    """Return the share of the keys before the right edge of a band of ranks; nan without one."""
    return 100 * float(getattr(session.rules[1], "drop_closest", math.nan))


def keep_within(session: Session) -> float:
    """Return the share of the keys before the left edge of a band of ranks; nan without one."""
    return 100 * float(getattr(session.rules[1], "keep_within", math.nan))


def dropped_of(session: Session, count: int | None = None) -> float:
    """Return how many of this number of keys, by default the snapshot's, the right edge drops; nan without one."""
    share = float(getattr(session.rules[1], "drop_closest", math.nan))
    return share if math.isnan(share) else rank_count(share, count or keys(session))


def augmented_share(session: Session) -> float:
    """Return the share of the positives' weight that the augmented view keeps; nan if the rule sets none."""
    share = getattr(session.rules[0], "augmented_share", None)
    return math.nan if share is None else 100 * share


def temperature(session: Session) -> float:
    """Return the temperature."""
    return session.state.side.temperature


def epoch(session: Session) -> int:
    """Return the epoch that is shown."""
    return session.state.side.epoch


def epochs_left(session: Session) -> int:
    """Return how many of the snapshot's epochs come after the one that is shown."""
    epochs = session.snapshot(session.state.active).epochs
    return len(epochs) - 1 - epochs.index(epoch(session))


def keys(session: Session) -> int:
    """Return the number of keys of the snapshot."""
    return session.similarities.own.shape[1]


def kept(session: Session) -> int:
    """Return the number of negatives that the anchor keeps."""
    return int((session.judgement.band == Band.POTENTIAL).sum())


def mined(session: Session) -> int:
    """Return the number of keys that are mined as the anchor's positives."""
    return int((session.judgement.band == Band.MINED).sum())


def dropped_false(session: Session, further: float = 0.0) -> float:
    """Return the share of the false negatives of all anchors before the right edge, or one this much further."""
    return _dropped(session, further, of_class=True)


def dropped_true(session: Session, further: float = 0.0) -> float:
    """Return the same of the true negatives."""
    return _dropped(session, further, of_class=False)


def _dropped(session: Session, further: float, *, of_class: bool) -> float:
    """Count as if no key were mined, and none too far."""
    band, s = session.rules[1], everyone(session)
    if not isinstance(band, RankBand) or s.same_class is None:
        return math.nan
    edge = min(1.0, band.drop_closest + further / 100)
    moved = replace(band, drop_closest=edge, keep_within=1.0)
    among = (s.same_class if of_class else ~s.same_class) & ~s.own
    hard = select(s, AugmentedView(), moved, temperature=temperature(session)).band == Band.HARD
    return 100 * int((hard & among).sum()) / max(1, int(among.sum()))


def closest_push(session: Session, share: float) -> float:
    """Return the share of the push that the closest keys hold if every key is kept, as the mean over all anchors.

    Args:
        session: an explorer.
        share: of all keys, in percent; those closest to the anchor.
    """
    s = everyone(session)
    push = plain_push(s, temperature(session))
    return 100 * float(mass_by_rank(push, own_last(s.anchor_keys, s.own), [share / 100]).mean())


def mined_weight(session: Session) -> float:
    """Return the share of the positives' weight that mined keys have, as the mean over all anchors."""
    return 100 * float(_mined(session)[1].sum(1).mean())


def wrong_weight(session: Session) -> float:
    """Return the share of that weight on keys of other classes; nan without labels."""
    s, weight, index = _mined(session)
    if s.same_class is None:
        return math.nan
    return 100 * float((weight * ~s.same_class.gather(1, index)).sum(1).mean())


def _mined(session: Session) -> tuple[Similarities, torch.Tensor, torch.Tensor]:
    s = everyone(session)
    assert s.ids is not None, "a snapshot's similarities have them"
    found = mine(s, session.rules[0], Context(~s.own, temperature(session), Draws(SEED, *s.ids)))
    return s, found.weight[:, 1:], found.index


MEASURES: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        rule,
        cuts_ranks,
        ranks_by_positive,
        rescales,
        mines,
        labelled,
        drop_closest,
        keep_within,
        dropped_of,
        augmented_share,
        temperature,
        epoch,
        epochs_left,
        keys,
        kept,
        mined,
        dropped_false,
        dropped_true,
        closest_push,
        mined_weight,
        wrong_weight,
    )
}
