"""A curve that grows while `fit` trains."""

from typing import Any

import plotly.graph_objects as go

from cltools.training import Run

GREY = "#888888"  # legible on light and on dark pages


class LiveCurve:
    """One column of the history against the epoch, as a callback: `fit(experiment, callbacks=[LiveCurve()])`.

    Display it before training. Each epoch costs one message; the axis already reaches to the last epoch.

    Attributes:
        figure: a plotly FigureWidget with one trace.
    """

    def __init__(self, column: str = "loss", *, epochs: int, title: str | None = None) -> None:
        """An empty curve.

        Args:
            column: of `History`; epochs without a value are left out.
            epochs: where the axis ends.
            title: above the figure; None for the column's name.
        """
        self.column = column
        axis = {"gridcolor": "rgba(136,136,136,0.25)", "zeroline": False, "linecolor": GREY}
        self.figure: Any = go.FigureWidget(
            data=[go.Scatter(x=[], y=[], mode="lines+markers", line={"color": "#0072B2"}, name=column)],
            layout={
                "title": {"text": title or column},
                "xaxis": {"title": {"text": "epoch"}, "range": [0, epochs + 0.5], **axis},
                "yaxis": {"title": {"text": column}, **axis},
                "height": 300,
                "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
                "paper_bgcolor": "rgba(0,0,0,0)",
                "plot_bgcolor": "rgba(0,0,0,0)",
                "font": {"color": GREY},
            },
        )

    def __call__(self, run: Run) -> None:
        """Draw the run's history so far."""
        points = [(row["epoch"], row[self.column]) for row in run.history.rows]
        known = [(epoch, value) for epoch, value in points if value == value]  # nan is left out
        with self.figure.batch_update():
            self.figure.data[0].x = [epoch for epoch, _ in known]
            self.figure.data[0].y = [value for _, value in known]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.figure)  # type: ignore[no-untyped-call]
