"""Charts of the course: plotly figures with one look, which `charts.css` colours from the page's own variables.

Data colours are those of Okabe and Ito, the two palest darkened, so that each has a contrast of 3:1 or more against a
white and against a dark page. Lines differ by dash or symbol too.
"""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#AD7700", "#2C8CC4")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
GREY = "#797979"
"""Chance, and what stands in the background; also text where the style sheet is missing."""
PALE = ((0.0, "#F4F8FB"), (1.0, "#56B4E9"))
PALE_ORANGE = ((0.0, "#FDF6EA"), (1.0, "#E69F00"))
DIVERGING = ((0.0, "#E8925C"), (0.5, "#F7F7F7"), (1.0, "#56B4E9"))
"""Colours of cells, all light enough for dark numbers."""
MIME = "application/vnd.plotly.v1+json"
CONFIG = {"displayModeBar": False, "scrollZoom": False, "doubleClick": False, "typesetMath": False}
"""Of plotly.js. Not `responsive`: its container then has no height of its own, and JupyterLab resizes charts itself."""
CSS = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
POINTS = 400
"""Points of a curve at most."""
NAME = 40
"""Characters of a name that a chart shows."""
ABOVE, BETWEEN, BELOW, ROW = 34, 78, 56, 22
"""Pixels above the first panel, between two, below the last, and of a row of the legend."""
AXIS = {
    "automargin": True,
    "ticks": "",
    "ticklabelstandoff": 4,
    "fixedrange": True,
    "zeroline": False,
    "gridcolor": "rgba(121,121,121,0.3)",
    "zerolinecolor": GREY,
    "title": {"standoff": 8, "font": {"size": 13}},
}
LOOK = go.layout.Template(
    layout={
        "font": {"size": 13, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": COLOURS,
        "autosize": True,
        "dragmode": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "font": {"size": 13}},
        "margin": {"l": 8, "r": 12, "t": ABOVE, "b": BELOW},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "legend": {"orientation": "h", "x": 0, "yref": "container", "y": 0, "yanchor": "bottom", "font": {"size": 13}},
    }
)
"""What all charts share."""


@dataclass(frozen=True)
class Chart:
    """A figure and its description for readers who cannot see it."""

    figure: go.Figure
    words: str

    def __repr__(self) -> str:
        return self.words

    @cached_property
    def plain(self) -> dict[str, Any]:
        """Data, layout and config for plotly.js, with numbers of four significant digits."""
        return {**_rounded(json.loads(self.figure.to_json())), "config": CONFIG}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {MIME: self.plain, "text/plain": self.words}


def panels(
    *titles: str, heights: Sequence[int] = (), columns: int = 1, shared: bool = False, rows: int = 1
) -> go.Figure:
    """Return an empty figure with a panel per title, one below another, so that it can be read on a phone.

    Args:
        titles: of the panels, with the unit of their y axis.
        heights: of each row of panels, in pixels; 240 each if not given.
        columns: panels beside each other.
        shared: whether the panels have one x axis, labelled at the last.
        rows: rows of the legend that there is room for.
    """
    count = -(-len(titles) // columns)
    heights = heights or (240,) * count
    above = ABOVE + 18 * max(title.count("<br>") for title in titles)
    between = above + 4 if shared else BETWEEN
    inner = sum(heights) + between * (count - 1)
    below = BELOW + ROW * rows
    figure = make_subplots(
        rows=count,
        cols=columns,
        subplot_titles=titles,
        shared_xaxes=shared,
        row_heights=[height / sum(heights) for height in heights],
        vertical_spacing=between / inner if count > 1 else 0,
        horizontal_spacing=0.06,
    )
    for annotation, axis in zip(figure.layout.annotations, figure.select_xaxes(), strict=True):
        annotation.update(x=axis.domain[0], xanchor="left", yshift=4, align="left", font={"size": 13.5})
    return figure.update_layout(template=LOOK, height=inner + above + below, margin={"t": above, "b": below})


def line(
    x: Iterable[Any],
    y: Iterable[Any],
    name: str,
    hover: str,
    *,
    index: int = 0,
    colour: str | None = None,
    mode: str = "lines+markers",
    width: float = 2,
    **more: Any,
) -> go.Scatter:
    """Return a curve.

    Args:
        x: its positions.
        y: its values.
        name: of the curve in the legend, and first in the label on hover.
        hover: what the label says of a point, with its unit, such as "epoch %{x}: %{y:.1f} %".
        index: of its dash, its symbol, and, if none is given, its colour.
        colour: of line and symbols.
        mode: of lines and markers, as plotly names it.
        width: of the line, in pixels.
        **more: what else `plotly.graph_objects.Scatter` takes.
    """
    colour = colour or COLOURS[index % len(COLOURS)]
    look = (index + index // len(COLOURS)) % len(COLOURS)  # of no two curves are both colour and symbol the same
    return go.Scatter(
        x=[*x],
        y=[*y],
        mode=mode,
        name=text(name),
        hovertemplate=label(text(name), hover),
        line={"color": colour, "width": width, "dash": DASHES[look]},
        marker={"color": colour, "size": 6, "symbol": SYMBOLS[look]},
        **{"legendgroup": text(name), **more},
    )


def reference(x: Iterable[float], y: Iterable[float], name: str) -> go.Scatter:
    """Return a dotted grey line, such as chance, whose name holds its value."""
    return line(x, y, name, "", index=2, colour=GREY, mode="lines")


def area(x: Sequence[float], low: Sequence[float], high: Sequence[float], of: go.Scatter) -> go.Scatter:
    """Return the shaded interval of a curve, which the legend switches with it."""
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*low, *reversed(high)],
        fill="toself",
        fillcolor=of.line.color,
        opacity=0.2,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=of.legendgroup,
    )


def thinned(points: Mapping[int, float]) -> dict[int, float]:
    """Return at most `POINTS` points of a curve, evenly spaced, with the last."""
    step = -(-len(points) // POINTS) or 1
    return dict([*points.items()][::-step][::-1])


def logarithmic(ticks: Sequence[float]) -> dict[str, Any]:
    """Return settings of a logarithmic axis with these ticks alone."""
    return {"type": "log", "tickvals": [*ticks], "ticktext": [f"{tick:g}" for tick in ticks]}


def label(*lines: str) -> str:
    """Return a hover template of lines, without the box of the trace's name."""
    return "<br>".join(filter(None, lines)) + "<extra></extra>"


def text(name: str) -> str:
    """Return a name as plotly shows it: no markup, no template, and not longer than a chart has room for."""
    short = name if len(name) <= NAME else name[: NAME - 1] + "…"
    return html.escape(short).replace("{", "&#123;")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value
