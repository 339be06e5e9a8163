"""Reading the state of an explorer that the reader has set.

Legend: N images of the snapshot.
"""

from typing import Any

from cltools.explorer.session import Session
from cltools.mining import Similarities
from course.exercises.asking import Mistake


def as_explorer(answer: Any) -> Session:
    """Return the answer as an explorer, whose state is judged."""
    if not isinstance(answer, Session):
        raise Mistake(f"the explorer itself is wanted, as returned by explore(…), and this is of type {_kind(answer)}")
    return answer


def everyone(session: Session) -> Similarities:
    """Return the similarities of all anchors [N, N] at the epoch of the explorer's active side."""
    snapshot, epoch = session.snapshot(session.state.active), session.state.side.epoch
    return snapshot.similarities(epoch=snapshot.epochs.index(epoch))


def _kind(value: Any) -> str:
    return type(value).__name__
