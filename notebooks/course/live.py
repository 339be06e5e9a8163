"""Curves of a run while `fit` trains it: loss, accuracy and the rules' choices, redrawn in place once per epoch.

The curves are a still image, not a widget: it is saved with the notebook, and shown without a kernel.
"""

import html
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from cltools.config import Experiment
from cltools.reports.table import FIGURES
from cltools.training import History, Run
from cltools.training.record import Row
from cltools.training.run import HISTORY
from course.plots import COLOURS, LOOK, Picture, panels

AT_MOST = 0.3
"""Minimum seconds between two drawings, if epochs are shorter."""
REST = 4
"""The pause after a drawing, as a multiple of its duration: drawing takes at most a fifth of the time."""
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


class LiveCurves:
    """A callback that draws the history so far: `fit(experiment, callbacks=[curves])`, after `display(curves)`.

    Attributes:
        sentence: where training is, in words.
        picture: the curves.
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
        self._picture_display: Any = None
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
            self._picture_display.update(self.picture)
        ended = self._clock()
        self._due = ended + max(AT_MOST, REST * (ended - began))

    def _take(self, rows: list[Row], steps: int | None = None) -> None:
        epochs = self.experiment.training.epochs
        self.sentence = Sentence(progress(rows, epochs, steps, self._seconds(rows)))
        self.picture = draw(rows, epochs, self.experiment.evaluation.protocol, self.sentence.words)

    def _seconds(self, rows: list[Row]) -> float | None:
        """Return the seconds per epoch including the work after it, as measured here, or else by the history."""
        ends = self._ends[-RECENT - 1 :]
        if len(ends) > 1:
            return (ends[-1] - ends[0]) / (len(ends) - 1)
        return statistics.median(row["seconds"] for row in rows[-RECENT:]) if rows else None

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self._sentence_display = display(self.sentence, display_id=True)  # type: ignore[no-untyped-call]
        self._picture_display = display(self.picture, display_id=True)  # type: ignore[no-untyped-call]


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


def draw(rows: list[Row], epochs: int, protocol: str, words: str) -> Picture:
    """Draw loss, kNN accuracy, and the share of the chosen keys that are of the anchor's class, by epoch."""
    name = FIGURES[protocol]
    with rc_context(LOOK):
        figure, (loss, knn, chosen) = panels(9.2, 2.7, 3)
        descriptions = [_line(loss, rows, "loss", "loss", COLOURS[1])]
        loss.set(title="Training loss")
        descriptions.append(_line(knn, rows, "knn", f"{name} %", COLOURS[2]))
        knn.set(title=f"{name} while training, %")
        columns = (("false_negative_share", "negatives", COLOURS[0]), ("mined_purity", "mined positives", COLOURS[3]))
        for column, label, colour in columns:
            descriptions.append(_line(chosen, rows, column, label, colour, scale=100))
        chosen.set(title="Of the anchor's class, %", ylim=(0, 120), yticks=range(0, 101, 20))
        if chosen.lines:
            chosen.legend(loc="upper left", ncols=2, borderaxespad=0, columnspacing=1)  # above what may reach 100
        for axes in (loss, knn, chosen):
            if rows and not axes.lines:
                note = "not measured" if len(rows) >= epochs else "not measured so far"
                axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center")
                axes.set_yticks([])
            axes.set(xlabel="epoch", xlim=(0, epochs + 0.5))
            axes.grid(True)
    return Picture(figure, f"Curves of a run. {words} {' '.join(filter(None, descriptions))}".rstrip())


def _line(axes: Axes, rows: list[Row], column: str, label: str, colour: str, scale: float = 1.0) -> str:
    """Draw one column where it was measured, and describe its ends; return "" if it was never measured."""
    known = [(int(row["epoch"]), scale * row[column]) for row in rows if row[column] == row[column]]
    if not known:
        return ""
    axes.plot(*zip(*known, strict=True), "o-", color=colour, markersize=3.5, label=label)
    (first, before), (last, after) = known[0], known[-1]
    return f"{label}: {before:.3g} at epoch {first}, {after:.3g} at epoch {last}."
