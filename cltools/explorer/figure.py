"""The map and the curve under it as one plotly figure, made once and then only restyled.

A trace a symbol, because plotly takes a hundredfold longer over a symbol for each point than over points that change
their trace; each carries the places of its points, so that the page knows which image a point is.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from cltools.explorer.colours import GREY, SIZES, SYMBOLS, scale
from cltools.explorer.view import Line, Picture

WIDTH, HEIGHT = 430, 400
SLOTS = len(SYMBOLS)
DOUBTFUL, ANCHOR, FIRST_LINE, LINES = SLOTS, SLOTS + 1, SLOTS + 2, 3
AXIS = {"gridcolor": "rgba(136,136,136,0.25)", "zeroline": False, "linecolor": GREY}
BARE = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": ""}


class MapFigure:
    """A FigureWidget that shows pictures of one snapshot.

    Attributes:
        widget: the FigureWidget.
    """

    def __init__(self, title: str) -> None:
        empty: dict[str, Any] = {"x": [], "y": [], "hoverinfo": "none"}
        marks = [
            go.Scattergl(
                **empty, mode="markers", customdata=[], marker={"symbol": symbol, "size": size, "line": {"width": 0}}
            )
            for symbol, size in zip(SYMBOLS, SIZES, strict=True)
        ]
        ring = {"symbol": "circle-open", "color": GREY, "line": {"width": 2}}
        bare = {**empty, "hoverinfo": "skip", "mode": "markers"}
        marks.append(go.Scattergl(**bare, marker={**ring, "size": 11, "symbol": "square-open"}))
        marks.append(go.Scattergl(**bare, marker={**ring, "size": 20, "line": {"width": 3}}))
        lines = [go.Scatter(x=[], y=[], mode="lines", hoverinfo="skip", xaxis="x2", yaxis="y2") for _ in range(LINES)]
        self.widget: Any = go.FigureWidget(data=[*marks, *lines], layout=_layout(title))
        self._said: dict[str, Any] = {}

    def apply(self, picture: Picture) -> None:
        """Show a picture, in one message."""
        painting = picture.painting
        with self.widget.batch_update():
            for slot in range(SLOTS):
                places = np.flatnonzero(painting.slots == slot)
                trace = self.widget.data[slot]
                trace.x, trace.y = picture.place[places, 0], picture.place[places, 1]
                trace.customdata = places.astype(np.int32)
                trace.marker.color = painting.codes[places]
            if self._new("colours", painting.colours):
                for trace in self.widget.data[:SLOTS]:
                    trace.marker.colorscale = scale(painting.colours)
                    trace.marker.cmin, trace.marker.cmax = -0.5, len(painting.colours) - 0.5
            for index, places in ((DOUBTFUL, picture.doubtful), (ANCHOR, np.array([picture.anchor]))):
                trace = self.widget.data[index]
                trace.x, trace.y = picture.place[places, 0], picture.place[places, 1]
            for i in range(LINES):
                self._line(self.widget.data[FIRST_LINE + i], picture.lines[i] if i < len(picture.lines) else None)
            if self._new("frame", picture.frame.tobytes()):
                (left, bottom), (right, top) = picture.frame.tolist()
                self.widget.layout.xaxis.range, self.widget.layout.yaxis.range = [left, right], [bottom, top]
            if self._new("measure", picture.measure):
                self.widget.layout.yaxis2.title.text = picture.measure

    def _line(self, trace: Any, line: Line | None) -> None:
        trace.x, trace.y = ([], []) if line is None else (line.x, line.y)
        if line is not None and self._new(f"line {trace.uid}", (line.name, line.colour, line.dashed)):
            trace.name = line.name
            trace.line = {"color": line.colour, "dash": "dot" if line.dashed else "solid", "width": 2}
        if self._new(f"legend {trace.uid}", line is not None):
            trace.showlegend = line is not None

    def _new(self, name: str, value: Any) -> bool:
        """Whether the figure has not been told this yet; what it knows is not said again."""
        if self._said.get(name) == value:
            return False
        self._said[name] = value
        return True


def _layout(title: str) -> dict[str, Any]:
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "margin": {"l": 48, "r": 8, "t": 24 if title else 8, "b": 36},
        "title": {"text": title, "font": {"size": 12}, "x": 0.5, "y": 0.985},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": GREY, "size": 11},
        "hovermode": "closest",
        "hoverdistance": 8,
        "dragmode": "pan",
        "showlegend": True,
        "legend": {"x": 0.02, "y": 0.27, "yanchor": "top", "bgcolor": "rgba(0,0,0,0)", "font": {"size": 10}},
        "xaxis": {**BARE, "anchor": "y"},
        "yaxis": {**BARE, "domain": [0.33, 1], "scaleanchor": None},
        "xaxis2": {**AXIS, "anchor": "y2", "type": "log", "title": {"text": "the closest … keys", "standoff": 4}},
        "yaxis2": {**AXIS, "domain": [0, 0.28], "range": [0, 103], "title": {"text": ""}},
    }
