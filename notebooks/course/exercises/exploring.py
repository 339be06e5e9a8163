"""What a check reads from an explorer that the reader moved.

Legend: N images of the snapshot.
"""

from typing import Any

from cltools.explorer.session import Session
from cltools.mining import BandNegatives, Similarities
from course.exercises.asking import Mistake


def as_explorer(answer: Any) -> Session:
    """The answer as an explorer, whose state is judged."""
    if not isinstance(answer, Session):
        raise Mistake(f"the explorer itself is wanted, as explore(…) gave it, and this is of type {_kind(answer)}")
    return answer


def rank_band_of(session: Session) -> BandNegatives:
    """The band of the explorer's active side, its edges as shares of the keys."""
    rule = session.rules[1]
    if not isinstance(rule, BandNegatives):
        raise Mistake(f"the explorer's rule is {_kind(rule)}, and BandNegatives is the one with edges: choose it")
    if rule.unit != "rank":
        raise Mistake("the explorer's edges stand as cosines; let them count in ranks, as shares of the keys")
    return rule


def everyone(session: Session) -> Similarities:
    """The similarities of all anchors [N, N] at the epoch of the explorer's active side."""
    snapshot, epoch = session.snapshot(session.state.active), session.state.side.epoch
    return snapshot.similarities(epoch=snapshot.epochs.index(epoch))


def _kind(value: Any) -> str:
    return type(value).__name__
