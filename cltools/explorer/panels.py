"""Which picture each figure shows in a state: one place where colouring, sides and snapshots come together."""

import numpy as np

from cltools.explorer import view
from cltools.explorer.census import Census
from cltools.explorer.session import Session
from cltools.explorer.state import Name

SIDES: tuple[Name, Name] = ("A", "B")
NOBODY = np.zeros(0, np.int64)


def pictures(session: Session, census: Census | None = None) -> list[view.Picture]:
    """A picture for each snapshot.

    Args:
        session: whose state is shown.
        census: of all anchors, where the curves are to tell P(same class | rank).
    """
    if len(session.snapshots) == 2:
        return [_picture(session, name, (name,), census) for name in SIDES]
    sides: tuple[Name, ...] = SIDES if session.state.b is not None else ("A",)
    return [_picture(session, session.state.active, sides, census)]


def _picture(session: Session, name: Name, sides: tuple[Name, ...], census: Census | None) -> view.Picture:
    state, snapshot = session.state, session.snapshot(name)
    side = state.b if name == "B" and state.b is not None else state.a
    chart = session.chart(name)
    epoch = snapshot.epochs.index(side.epoch)
    if census is not None and name == state.active and state.truth:
        lines, measure, against = view.rank_lines(census), "% of its class", "rank of the key"
    else:
        a, b = (session.judged(each) if each in sides else None for each in SIDES)
        lines, measure = view.force_lines(a, b, compared=state.b is not None), "% of the force"
        against = "the closest … keys"
    return view.Picture(
        place=snapshot.maps[chart, epoch],
        frame=view.frame(snapshot.maps[chart, epoch]),
        painting=painting(session, name),
        anchor=session.place,
        doubtful=np.flatnonzero(snapshot.kept[chart, epoch] < view.DOUBT) if state.doubtful else NOBODY,
        lines=lines,
        measure=measure,
        against=against,
    )


def painting(session: Session, name: Name) -> view.Painting:
    """How the points of a side's map are drawn; two maps that are shown share one scale and one legend."""
    state, snapshot, j = session.state, session.snapshot(name), session.judged(name)
    both = [session.judged(each) for each in SIDES] if len(session.snapshots) == 2 else [j]
    if state.colour == "difference":
        return view.by_difference(session.judged("A"), session.judged("B"))
    if state.colour == "class":
        return view.by_class(j, both, snapshot.labels, snapshot.classes, session.place)
    if state.colour == "similarity":
        return view.by_similarity(j, both)
    return view.by_force(j, both) if state.colour == "gradient" else view.by_band(j)
