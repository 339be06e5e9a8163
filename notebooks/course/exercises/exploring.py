"""What a check reads from an explorer that the reader moved.

Legend: N images of the snapshot.
"""

from typing import Any

from cltools.explorer.session import Session
from cltools.mining import CosineBand, MarginBand, RankBand, Similarities
from course.exercises.asking import Mistake


def as_explorer(answer: Any) -> Session:
    """The answer as an explorer, whose state is judged."""
    if not isinstance(answer, Session):
        raise Mistake(f"the explorer itself is wanted, as explore(…) gave it, and this is of type {_kind(answer)}")
    return answer


def rank_band_of(session: Session) -> RankBand:
    """The band of the explorer's active side, its edges as shares of the keys."""
    rule = session.rules[1]
    if isinstance(rule, CosineBand | MarginBand):
        raise Mistake(f"the edges of {_kind(rule)} are cosines; choose RankBand, whose edges are shares of the keys")
    if not isinstance(rule, RankBand):
        raise Mistake(f"the explorer's rule is {_kind(rule)}, which has no edges: choose RankBand")
    return rule


def everyone(session: Session) -> Similarities:
    """The similarities of all anchors [N, N] at the epoch of the explorer's active side."""
    snapshot, epoch = session.snapshot(session.state.active), session.state.side.epoch
    return snapshot.similarities(epoch=snapshot.epochs.index(epoch))


def _kind(value: Any) -> str:
    return type(value).__name__
