"""The map and the curve under it as one plotly figure, made once and then only restyled.

A trace a symbol, because plotly takes a hundredfold longer over a symbol for each point than over points that change
their trace; each carries the places of its points, so that the page knows which image a point is.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy import ndarray

from cltools.explorer.colours import ANCHOR as ANCHOR_COLOUR, GREY, SIDE_COLOURS, SIZES, SYMBOLS, scale
from cltools.explorer.view import Picture

WIDTH, HEIGHT, BESIDE = 412, 400, 320  # beside another it has a title and is lower
SLOTS = len(SYMBOLS)
DOUBTFUL, ANCHOR, FIRST_LINE = SLOTS, SLOTS + 1, SLOTS + 2
NOTHING = np.zeros(0, np.float32)
AXIS = {"gridcolor": "rgba(136,136,136,0.25)", "zeroline": False, "linecolor": GREY}
BARE = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": ""}


class _Figure(go.FigureWidget):  # type: ignore[misc]
    """A figure that a page may also ask for late, and whose edits take two messages a change instead of four.

    Plotly sends the numbers of an edit before it: here they go along with it. And its state is the figure as it was
    first made, which edits complete on a page that was there to see them; a page that asks later (voila, or one that
    was loaded anew) gets the figure as it is.
    """

    def __init__(self, **arguments: Any) -> None:
        self._held: set[str] = set()
        super().__init__(**arguments)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The traits asked for; of all of them, with the data and layout of now."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if key is None and hasattr(self, "_layout_obj"):  # not before plotly has made them
            for name, now in (("_widget_data", self._data), ("_widget_layout", self._layout_obj._props)):
                state[name] = self.trait_metadata(name, "to_json")(now, self)
        return state

    def send_state(self, key: Any = None) -> None:
        """Send what changed, edit numbers with the edit that they number."""
        if key in ("_last_trace_edit_id", "_last_layout_edit_id"):
            self._held.add(key)
            return
        if isinstance(key, str) and key.startswith("_py2js") and self._held:
            key, self._held = {key, *self._held}, set()
        super().send_state(key)


class MapFigure:
    """A FigureWidget that shows pictures of one snapshot.

    Attributes:
        widget: the FigureWidget.
    """

    def __init__(self, title: str = "") -> None:
        bare: dict[str, Any] = {"x": [], "y": [], "mode": "markers"}
        marks = [
            go.Scattergl(**bare, hoverinfo="none", customdata=[], marker={"symbol": symbol, "size": size})
            for symbol, size in zip(SYMBOLS, SIZES, strict=True)
        ]
        marks += [
            go.Scattergl(**bare, hoverinfo="skip", marker={"symbol": symbol, "size": size, "line": {"width": 2.5}})
            for symbol, size in (("square-open", 11), ("circle-open", 20))
        ]
        below: dict[str, Any] = {"x": [], "y": [], "mode": "lines", "hoverinfo": "skip", "xaxis": "x2", "yaxis": "y2"}
        lines = [go.Scatter(**below, line={"width": 2, "color": GREY, "dash": "dot"})]
        lines += [go.Scatter(**below, line={"width": 2, "color": colour}) for colour in SIDE_COLOURS]
        self.widget: Any = _Figure(data=[*marks, *lines], layout=_layout(title))
        self._said: dict[str | int, Any] = {}

    def apply(self, picture: Picture) -> None:
        """Show a picture, in one message."""
        painting = picture.painting
        with self.widget.batch_update():
            for slot in range(SLOTS):
                places = np.flatnonzero(painting.slots == slot)
                self._points(slot, picture, places, painting.codes[places])
            if self._new("colours", painting.colours):
                for trace in self.widget.data[:SLOTS]:
                    trace.marker.colorscale = scale(painting.colours)
                    trace.marker.cmin, trace.marker.cmax = -0.5, len(painting.colours) - 0.5
            self._points(DOUBTFUL, picture, picture.doubtful)
            self._points(ANCHOR, picture, np.array([picture.anchor]))
            for i, line in enumerate(picture.lines, start=FIRST_LINE):
                x, y = (NOTHING, NOTHING) if line is None else (line.x, line.y)
                if self._new(i, (x.tobytes(), y.tobytes())):
                    self.widget.data[i].x, self.widget.data[i].y = x, y
            if self._new("frame", picture.frame.tobytes()):
                (left, bottom), (right, top) = picture.frame.tolist()
                self.widget.layout.xaxis.range, self.widget.layout.yaxis.range = [left, right], [bottom, top]
            if self._new("axes", (picture.measure, picture.against)):
                self.widget.layout.yaxis2.title.text = picture.measure
                self.widget.layout.xaxis2.title.text = picture.against

    def _points(self, i: int, picture: Picture, places: ndarray, codes: ndarray | None = None) -> None:
        """Give a trace its points, if they are others than it has."""
        x, y = picture.place[places, 0], picture.place[places, 1]
        if not self._new(i, (places.tobytes(), x.tobytes(), y.tobytes(), None if codes is None else codes.tobytes())):
            return
        trace = self.widget.data[i]
        trace.x, trace.y = x, y
        if codes is not None:
            trace.customdata, trace.marker.color = places.astype(np.int32), codes

    def _new(self, name: str | int, value: Any) -> bool:
        """Whether the figure has not been told this yet; what it knows is not said again."""
        if self._said.get(name) == value:
            return False
        self._said[name] = value
        return True


def _layout(title: str) -> dict[str, Any]:
    return {
        "width": WIDTH,
        "height": BESIDE if title else HEIGHT,
        "margin": {"l": 48, "r": 8, "t": 24 if title else 8, "b": 36},
        "title": {"text": title, "font": {"size": 12}, "x": 0.5, "y": 0.985},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": GREY, "size": 11},
        "hovermode": "closest",
        "hoverdistance": 8,
        "dragmode": "pan",
        "showlegend": False,
        "colorway": [GREY] * ANCHOR + [ANCHOR_COLOUR],
        "xaxis": {**BARE, "anchor": "y"},
        "yaxis": {**BARE, "domain": [0.33, 1], "scaleanchor": None},
        "xaxis2": {**AXIS, "anchor": "y2", "type": "log", "title": {"text": "", "standoff": 4}},
        "yaxis2": {**AXIS, "domain": [0, 0.28], "range": [0, 103], "title": {"text": ""}},
    }
