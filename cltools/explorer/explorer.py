"""The explorer on a page: a session, one figure a snapshot, and our own front end, kept in step by one update each.

Nothing heavy happens in a callback: one anchor is judged there; all anchors are counted between messages. One made when
a notebook's cell is run again takes the place of the one before.
"""

import asyncio
import io
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from IPython.core.getipython import get_ipython

from cltools.config import to_plain
from cltools.explorer import static
from cltools.explorer.colours import BAND_NAMES, BANDS, GLYPHS, GREY, SIDE_COLOURS, SLOT_OF_BAND, SLOT_OF_DIFFERENCE
from cltools.explorer.edges import Edges
from cltools.explorer.figure import MapFigure
from cltools.explorer.front import Front
from cltools.explorer.judgement import Judgement
from cltools.explorer.sentence import FROZEN
from cltools.explorer.session import Session
from cltools.explorer.standalone import PARTS, Epochs, save_html
from cltools.explorer.state import State
from cltools.explorer.view import LEGIBLE, SIDES, Picture, groups, histogram, painting, pictures
from cltools.mining import Band
from cltools.snapshot import Snapshot
from cltools.snapshot.sprite import sprite_columns

PATIENCE = 0.2
"""Seconds between two words about how far a count over all anchors is."""

_shown: dict[str, tuple[str, list[Callable[[], None]]]] = {}
"""For each cell, by its id: which run of it shows something, and how that is closed."""


class Explorer(Session):
    """Map, histogram, force and pictures of one anchor, and the controls of the rules that judge its keys.

    Attributes:
        errors: what went wrong in callbacks of the page, as text.
        milliseconds: what each request of the page took in the kernel, the last thousand.
        widget: the ipywidgets box.
    """

    def __init__(self, snapshot: Snapshot, state: State | str | None = None, other: Snapshot | None = None) -> None:
        super().__init__(snapshot, state, other)
        self.errors: list[str] = []
        self.milliseconds: deque[float] = deque(maxlen=1000)
        self._answered = 0
        self._error = ""
        self._asking = False
        self._task: asyncio.Task[None] | None = None
        self._figures = [MapFigure(name) for name in (SIDES if other is not None else ("",))]
        self._plots = [figure.widget for figure in self._figures]
        self._front = Front(fixed=_fixed(snapshot), view=_view(self, pictures(self)))
        self._front.observe(self._asked, "request")
        self.widget: Any = ipywidgets.Box([self._front, *self._plots])
        self.widget.add_class("cltools-explorer").add_class(f"cltools-maps-{len(self._figures)}")
        self._show()
        _replace_in_cell(self.close)

    def updated(self) -> None:
        """Show the state, unless a request is being heeded, which shows it once at its end."""
        if not self._asking:
            self._error = ""
            self._show()

    def close(self) -> None:
        """Take it off the page and free its widgets."""
        if self._task is not None:
            self._task.cancel()
        for widget in (self._front, self._front.layout, self.widget, self.widget.layout, *self._plots):
            widget.close()

    def save_html(self, path: str | Path, epochs: Epochs = "present", show: Iterable[str] = PARTS) -> Path:
        """Write one HTML file that needs neither kernel nor network: a page on which every control answers.

        Args:
            path: the file, replaced whole.
            epochs: "present" for those that are shown, "all" for every one of the snapshot.
            show: which of the parts "pictures", "map", "push" and "cost" stand beside the histogram.
        """
        return save_html(self, path, epochs, show)

    def _show(self) -> None:
        """The words first, then the figures, which take the page longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self.state.scope == "all" and self.counted is None:
            try:
                self._task = asyncio.get_running_loop().create_task(self._count())
            except RuntimeError:  # no loop turns here, so nobody waits for an answer between
                for _ in self.counting():
                    pass
        for figure, picture in zip(self._figures, self._tell(), strict=True):
            figure.apply(picture)

    def _tell(self) -> list[Picture]:
        """Tell the page the words of the state; gives what the figures are to show."""
        drawn = pictures(self)
        self._front.view = _view(self, drawn, answered=self._answered, error=self._error)
        return drawn

    async def _count(self) -> None:
        """Count all anchors, a few a turn, so that what the page asks meanwhile is answered at once."""
        told = time.monotonic()
        try:
            for _ in self.counting():
                await asyncio.sleep(0)
                if time.monotonic() - told > PATIENCE:
                    self._tell()
                    told = time.monotonic()
        except Exception as error:
            self._failed(error)
            self._tell()
            return
        self._task = None
        self._show()

    def _asked(self, change: dict[str, Any]) -> None:
        """Heed a request of the page: its changes in their order, each once, whatever becomes of the others."""
        began = time.perf_counter()
        request, before = change["new"], self.state
        done, self._answered = self._answered, request["n"]
        self._error, self._asking = "", True
        try:
            for number, name, value in request["changes"]:
                if number > done:
                    self._heed(name, value)
        finally:
            self._asking = False
        try:
            if self.state == before:
                self._tell()
            else:
                self._show()
        except Exception as error:  # the page is answered all the same, or it would wait for ever
            self._failed(error)
            self._front.view = {**self._front.view, "answered": self._answered, "error": self._error}
        self.milliseconds.append(1000 * (time.perf_counter() - began))

    def _heed(self, name: str, value: Any) -> None:
        """One change; what goes wrong is told on the page and kept in `errors`."""
        try:
            if name in ("back", "reset", "nearest"):
                getattr(self, name)()
            elif name == "state":
                self.restore(value)
            elif name == "csv":
                self._front.send({"name": f"anchor-{self.state.anchor}.csv", "text": self.csv()})
            else:
                self.set({name: value})
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Tell on the page what went wrong, and keep it: a person's mistake in words, one of ours with its trace."""
        if isinstance(error, ValueError):
            self._error = str(error)
            self.errors.append(self._error)
        else:
            self._error = f"{type(error).__name__}: {error}. Nothing was changed; explorer.errors has the whole."
            self.errors.append("".join(traceback.format_exception(error)))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The widget, and for viewers without widgets its picture and its sentence."""
        picture = io.BytesIO()
        static.draw(self).savefig(picture, format="png")
        bundle: dict[str, Any] = self.widget._repr_mimebundle_()
        return {**bundle, "text/plain": self.sentence, "image/png": picture.getvalue()}


# what goes to the page: numbers as bytes, words as text, nothing that it would have to compute from state


def _fixed(snapshot: Snapshot) -> dict[str, Any]:
    """What never changes: pictures, ids, classes, and how bands look."""
    return {
        "sprite": snapshot.sprite,
        "tile": snapshot.tile,
        "columns": sprite_columns(len(snapshot)),
        "ids": snapshot.ids.tolist(),
        "labels": snapshot.labels.tolist(),
        "classes": snapshot.classes,
        "bands": [_entry(BANDS[band], BAND_NAMES[band], GLYPHS[SLOT_OF_BAND[band]]) for band in Band],
        "frozen": FROZEN,
    }


def _view(session: Session, drawn: list[Picture], *, answered: int = 0, error: str = "") -> dict[str, Any]:
    """All that is shown in a state.

    Args:
        session: whose state.
        drawn: what the figures show.
        answered: number of the last request that is heeded.
        error: what a person is to be told.
    """
    state, j, census = session.state, session.judgement, session.counted
    h, edges = histogram(j), j.edges
    told = SIDES if len(session.snapshots) == 2 else (state.active,)  # with two maps, cards are shown on either
    text = session.words(census)
    if state.scope == "all" and census is None:
        text = f"Counting over all anchors: {100 * session.counting().share:.0f} %."
    return {
        "answered": answered,
        "sentence": text,
        "error": error,
        "anchor": session.place,
        "truth": state.truth,
        "controls": [vars(control) for control in session.controls],
        "active": state.active,
        "sides": {name: _side(session.judged(name)) for name in told},
        "bins": {"edges": h.edges.tolist(), "counts": h.counts.astype(np.int32).tobytes()},
        "edges": None if edges is None else _edges(edges),
        "groups": [vars(group) for group in groups(j)],
        "legend": _legend(session),
        "lines": _lines(drawn),
        "state": state.to_json(),
        "python": session.python(),
        "rules": {"positives": to_plain(state.side.positives), "negatives": to_plain(state.side.negatives)},
    }


def _side(j: Judgement) -> dict[str, Any]:
    floats = {"score": j.score, "cosine": j.cosine, "force": j.force}
    numbers = {name: values.astype(np.float32).tobytes() for name, values in floats.items()}
    return {"band": j.band.tobytes(), **numbers, "scoreName": j.score_name}


def _edges(edges: Edges) -> dict[str, Any]:
    scores = {"closest": edges.closest_score, "beyond": edges.beyond_score}
    told = {name: score if np.isfinite(score) else None for name, score in scores.items()}
    return {"unit": edges.unit, "scores": told}


def _legend(session: Session) -> list[dict[str, str]]:
    """What the colours on the map mean; of a scale only its ends."""
    shown, colour = painting(session, session.state.active), session.state.colour
    entries = list(zip(shown.colours, shown.names, strict=True))
    if colour == "band":
        present = {*np.unique(shown.codes).tolist()}
        return [_entry(c, n, GLYPHS[SLOT_OF_BAND[Band(i)]]) for i, (c, n) in enumerate(entries) if i in present and i]
    if colour == "difference":
        return [_entry(c, n, GLYPHS[SLOT_OF_DIFFERENCE[i]]) for i, (c, n) in enumerate(entries)]
    if colour == "class":
        return [_entry(c, n) for c, n in entries[: LEGIBLE + 1]]
    return [_entry(c, n) for c, n in (entries[0], entries[len(entries) // 2], entries[-1])]


def _lines(drawn: list[Picture]) -> list[dict[str, str]]:
    """What the curves are; those of two figures together."""
    found = {}
    for picture in drawn:
        for line, colour, glyph in zip(picture.lines, (GREY, *SIDE_COLOURS), ("┈", "─", "─"), strict=True):
            if line is not None:
                found[line.name] = _entry(colour, line.name, glyph)
    return list(found.values())


def _entry(colour: str, name: str, glyph: str = "●") -> dict[str, str]:
    return {"colour": colour, "name": name, "glyph": glyph}


# which explorer a cell shows


def _replace_in_cell(close: Callable[[], None]) -> None:
    """Close what an earlier run of the running cell has shown, and remember how to close what this one shows.

    Two explorers of one run of a cell stand beside each other. Outside of notebooks nothing happens.
    """
    cell, run = _running()
    if cell is None:
        return
    before, shown = _shown.get(cell, (run, []))
    if before != run:
        for close_old in shown:
            close_old()
        shown = []
    _shown[cell] = run, [*shown, close]


def _running() -> tuple[str | None, str]:
    """Id of the cell that runs, and of this run of it; None where no notebook says so."""
    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None, ""
    parent: dict[str, Any] = kernel.get_parent("shell")
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
