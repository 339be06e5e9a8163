"""Reading the state of an explorer that the reader has set.

Legend: N images of the snapshot.
"""

from typing import Any

from cltools.explorer.session import Session
from cltools.mining import CosineBand, MarginBand, RankBand, Similarities
from course.exercises.asking import Mistake


def as_explorer(answer: Any) -> Session:
    """Return the answer as an explorer, whose state is judged."""
    if not isinstance(answer, Session):
        raise Mistake(f"the explorer itself is wanted, as returned by explore(…), and this is of type {_kind(answer)}")
    return answer


def rank_band_of(session: Session) -> RankBand:
    """Return the band of the explorer's active side, whose edges are shares of the keys."""
    rule = session.rules[1]
    if isinstance(rule, CosineBand | MarginBand):
        raise Mistake(f"the edges of {_kind(rule)} are cosines; choose RankBand, whose edges are shares of the keys")
    if not isinstance(rule, RankBand):
        raise Mistake(f"the explorer's rule is {_kind(rule)}, which has no edges: choose RankBand")
    return rule


def everyone(session: Session) -> Similarities:
    """Return the similarities of all anchors [N, N] at the epoch of the explorer's active side."""
    snapshot, epoch = session.snapshot(session.state.active), session.state.side.epoch
    return snapshot.similarities(epoch=snapshot.epochs.index(epoch))


def _kind(value: Any) -> str:
    return type(value).__name__
