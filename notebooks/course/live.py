"""Curves of a run while `fit` trains it: loss, accuracy and the rules' choices, redrawn in place once per epoch.

The curves are a chart, not a widget: it is saved with the notebook, and shown without a kernel.
"""

import html
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cltools.config import Experiment
from cltools.reports.table import FIGURES
from cltools.training import History, Run
from cltools.training.record import Row
from cltools.training.run import HISTORY
from course.charts import Chart, line, panels, thinned

AT_MOST = 1.0
"""Minimum seconds between two drawings, if epochs are shorter."""
REST = 4
"""The pause after a drawing, as a multiple of its duration: drawing takes at most a fifth of the time."""
HEIGHTS = (140, 140, 140)
"""Of the three panels, in pixels."""
LOOKS = (1, 2, 0, 3)
"""The colour, dash and symbol of each curve, by index."""
RECENT = 5
"""The number of epochs from which the speed is computed."""


@dataclass(frozen=True)
class Sentence:
    """A sentence that a page may announce when it changes."""

    words: str

    def __repr__(self) -> str:
        return self.words

    def _repr_html_(self) -> str:
        return f'<p role="status" aria-live="polite">{html.escape(self.words)}</p>'


class Blank:
    """An empty output of the height of a chart."""

    def __init__(self, chart: Chart) -> None:
        self.height = chart.figure.layout.height

    def __repr__(self) -> str:
        return ""

    def _repr_html_(self) -> str:
        return f'<div style="height:{self.height}px;margin:0"></div>'


def redraw(handle: Any, chart: Chart) -> None:
    """Replace the chart of a display handle.

    Plotly's renderer for JupyterLab does not redraw a chart that it shows already, so a blank comes between; preparing
    the chart before keeps that brief.
    """
    chart.plain  # noqa: B018
    handle.update(Blank(chart))
    handle.update(chart)


class LiveCurves:
    """A callback that draws the history so far: `fit(experiment, callbacks=[curves])`, after `display(curves)`.

    Attributes:
        sentence: where training is, in words.
        chart: the curves.
    """

    def __init__(
        self, experiment: Experiment, folder: str | Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Create the curves of an existing run's folder, or empty ones.

        Args:
            experiment: the experiment that will be trained.
            folder: the run's folder, which may not exist yet.
            clock: a monotonic clock in seconds, read when epochs end.
        """
        self.experiment, self._clock = experiment, clock
        self._ends: list[float] = []
        self._due = -math.inf
        self._sentence_display: Any = None
        self._chart_display: Any = None
        path = None if folder is None else Path(folder) / HISTORY
        self._take(History.load(path).rows if path is not None and path.is_file() else [])

    def __call__(self, run: Run) -> None:
        """Record an epoch; draw from time to time, and after the last epoch."""
        self._ends.append(self._clock())
        done = len(run.history.rows) >= self.experiment.training.epochs
        if done or self._ends[-1] >= self._due:
            self.show(run)

    def show(self, run: Run) -> None:
        """Draw the current state of a run, for example one that was loaded."""
        began = self._clock()
        images = None if run.images is None else run.images.count
        self._take(run.history.rows, None if images is None else images // self.experiment.training.batch)
        if self._sentence_display is not None:
            self._sentence_display.update(self.sentence)
            redraw(self._chart_display, self.chart)
        ended = self._clock()
        self._due = ended + max(AT_MOST, REST * (ended - began))

    def _take(self, rows: list[Row], steps: int | None = None) -> None:
        epochs = self.experiment.training.epochs
        self.sentence = Sentence(progress(rows, epochs, steps, self._seconds(rows)))
        self.chart = draw(rows, epochs, self.experiment.evaluation.protocol, self.sentence.words)

    def _seconds(self, rows: list[Row]) -> float | None:
        """Return the seconds per epoch including the work after it, as measured here, or else by the history."""
        ends = self._ends[-RECENT - 1 :]
        if len(ends) > 1:
            return (ends[-1] - ends[0]) / (len(ends) - 1)
        return statistics.median(row["seconds"] for row in rows[-RECENT:]) if rows else None

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self._sentence_display = display(self.sentence, display_id=True)  # type: ignore[no-untyped-call]
        self._chart_display = display(self.chart, display_id=True)  # type: ignore[no-untyped-call]


def progress(rows: list[Row], epochs: int, steps: int | None, seconds: float | None) -> str:
    """Describe the progress of training in a sentence.

    Args:
        rows: rows of the history so far.
        epochs: the requested number of epochs.
        steps: steps per epoch; None if not known.
        seconds: seconds per epoch; None if not known.
    """
    if not rows:
        return f"No epoch of {epochs} is done yet."
    done = len(rows)
    parts = [f"Epoch {done} of {epochs}"]
    if steps is not None:
        parts.append(f"{done * steps:,} of {epochs * steps:,} steps")
    parts.append(f"{statistics.median(row['views_per_second'] for row in rows[-RECENT:]):,.0f} views per second")
    if done < epochs and seconds is not None:
        parts.append(f"about {duration((epochs - done) * seconds)} left")
    elif done >= epochs:
        parts.append(f"finished; training took {duration(sum(row['seconds'] for row in rows))}")
    return "; ".join(parts) + "."


def duration(seconds: float) -> str:
    """Format a duration in words."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def draw(rows: list[Row], epochs: int, protocol: str, words: str) -> Chart:
    """Draw loss, kNN accuracy, and the share of the chosen keys that are of the anchor's class, by epoch."""
    name = FIGURES[protocol]
    figure = panels(
        "Training loss", f"{name} while training, %", "Of the anchor's class, %", heights=HEIGHTS, shared=True
    )
    curves = (
        (1, "loss", "loss", "", 1.0),
        (2, "knn", name, " %", 1.0),
        (3, "false_negative_share", "negatives", " %", 100.0),
        (3, "mined_purity", "mined positives", " %", 100.0),
    )
    descriptions, measured = [], set()
    for index, (panel, column, label, unit, scale) in enumerate(curves):
        known = {int(row["epoch"]): scale * row[column] for row in rows if row[column] == row[column]}
        if known:
            says = f"epoch %{{x}}: %{{y:.3g}}{unit}"
            shown = thinned(known)
            curve = line(shown, shown.values(), label, says, index=LOOKS[index], showlegend=panel == 3)
            figure.add_trace(curve, row=panel, col=1)
            measured.add(panel)
            (first, before), (last, after) = ([*known.items()][end] for end in (0, -1))
            descriptions.append(f"{label}{unit}: {before:.3g} at epoch {first}, {after:.3g} at epoch {last}.")
    note = "not measured" if len(rows) >= epochs else "not measured so far"
    for panel, axis in enumerate(figure.select_yaxes(), 1):
        if rows and panel not in measured:
            middle = sum(axis.domain) / 2
            figure.add_annotation(text=note, x=0.5, y=middle, xref="paper", yref="paper", showarrow=False)
    figure.update_xaxes(range=(0, epochs + 0.5))
    figure.update_xaxes(title_text="epoch", row=3)
    figure.update_yaxes(range=(0, 102), row=3)
    return Chart(figure, " ".join(["Curves of a run.", *filter(None, [words]), *descriptions]))
