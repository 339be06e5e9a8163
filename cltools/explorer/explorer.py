"""The explorer on a page: a session, one figure a snapshot, and our own front end, kept in step by one update each.

Nothing heavy happens in a callback: one anchor is judged there; all anchors are counted between messages.
"""

import asyncio
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

import ipywidgets

from cltools.explorer import page, static
from cltools.explorer.census import Census
from cltools.explorer.figure import MapFigure
from cltools.explorer.front import Front
from cltools.explorer.panels import pictures
from cltools.explorer.session import Session
from cltools.explorer.shown import replace_in_cell
from cltools.explorer.state import State
from cltools.explorer.view import Picture
from cltools.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATIENCE = 0.2
"""Seconds between two words about how far a count over all anchors is."""
ACTIONS = {"back": Session.back, "reset": Session.reset, "nearest": Session.nearest}


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
        self._figures = [MapFigure(name) for name in (("A", "B") if other is not None else ("",))]
        self._plots = [figure.widget for figure in self._figures]
        self._front = Front(fixed=page.fixed(snapshot), view=self._view(pictures(self)))
        self._front.observe(self._asked, "request")
        self.widget: Any = ipywidgets.Box([self._front, *self._plots])
        self.widget.add_class("cltools-explorer").add_class(f"cltools-maps-{len(self._figures)}")
        self._show()
        replace_in_cell(self.close)

    def updated(self) -> None:
        """Show the state, unless a request is being heeded, which shows it once at its end."""
        if not self._asking:
            self._error = ""
            self._show()

    def static(self) -> "Figure":
        """The same state as a matplotlib figure."""
        return static.draw(self)

    def close(self) -> None:
        """Take it off the page and free its widgets."""
        if self._task is not None:
            self._task.cancel()
        for widget in (self._front, self._front.layout, self.widget, self.widget.layout, *self._plots):
            widget.close()

    def _show(self) -> None:
        """The words first, then the figures, which take the page longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self.state.scope == "all" and not self.counting().done:
            try:
                self._task = asyncio.get_running_loop().create_task(self._count())
            except RuntimeError:  # no loop turns here, so nobody waits for an answer between
                for _ in self.counting():
                    pass
        drawn = pictures(self, self._census())
        self._tell(drawn)
        for figure, picture in zip(self._figures, drawn, strict=True):
            figure.apply(picture)

    async def _count(self) -> None:
        """Count all anchors, a few a turn, so that what the page asks meanwhile is answered at once."""
        told = time.monotonic()
        try:
            for _ in self.counting():
                await asyncio.sleep(0)
                if time.monotonic() - told > PATIENCE:
                    self._tell(pictures(self))
                    told = time.monotonic()
        except Exception as error:
            self._failed(error)
            self._tell(pictures(self))
            return
        self._task = None
        self._show()

    def _census(self) -> Census | None:
        """The count over all anchors, if the state wants it and it is done."""
        return self.counting().result if self.state.scope == "all" and self.counting().done else None

    def _tell(self, drawn: list[Picture]) -> None:
        self._front.view = self._view(drawn)

    def _view(self, drawn: list[Picture]) -> dict[str, Any]:
        wanted = self.state.scope == "all"
        return page.view(
            self,
            answered=self._answered,
            error=self._error,
            counted=self.counting().share if wanted else None,
            census=self._census(),
            drawn=drawn,
        )

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
                self._tell(pictures(self, self._census()))
            else:
                self._show()
        except Exception as error:  # the page is answered all the same, or it would wait for ever
            self._failed(error)
            self._front.view = {**self._front.view, "answered": self._answered, "error": self._error}
        self.milliseconds.append(1000 * (time.perf_counter() - began))

    def _heed(self, name: str, value: Any) -> None:
        """One change; what goes wrong is told on the page and kept in `errors`."""
        try:
            if name in ACTIONS:
                ACTIONS[name](self)
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
        import io

        picture = io.BytesIO()
        self.static().savefig(picture, format="png")
        bundle: dict[str, Any] = self.widget._repr_mimebundle_()
        return {**bundle, "text/plain": self.sentence, "image/png": picture.getvalue()}
