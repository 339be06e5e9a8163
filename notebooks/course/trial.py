"""Train a rule from the explorer beside `moco` and a random control, from one warm start per seed.

The budget is that of the records `short-digits-*.json` and `grid-digits-*.json`, so that the results are comparable.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cltools.errors import CltoolsError
from cltools.explorer.session import Session
from cltools.mining import RandomNegatives
from cltools.presets import preset
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import CompareFlags, train_arm, warm_start, whole
from cltools.training import Run
from cltools.training.record import Row
from course.charts import COLOURS, SYMBOLS, Chart, line, panels
from course.live import Sentence, redraw
from course.results import Comparison

BUDGET = CompareFlags("digits", Path("short-digits.json"), warm_epochs=3, epochs=5, holdout=0.25, every=1)
"""Images, epochs and the share held out as `val`; nothing is written to its file."""
ARMS = (BASELINE, "yours", "by chance")
SAME = 2.0
"""Percent of the keys by which rule and control may differ; a rule whose share changes with the encoder, such as a band
of cosines, may differ by more."""


class Trial:
    """Three arms that differ only in their rules: display the trial, then call `train`.

    Attributes:
        experiments: for `moco`, the explorer's rules, and the same number of random negatives with the same positives.
        curves: rows of the history by arm and seed.
        rows: as written by `compare`, and the loss of the last epoch.
    """

    def __init__(self, explorer: Session, budget: CompareFlags = BUDGET) -> None:
        """Read the current rules of an explorer.

        Raises:
            ValueError: the rules keep no key, so that there is nothing to learn from.
        """
        positives, negatives = explorer.rules
        self.share = round(explorer.census.kept.value, 3)
        if self.share == 0:
            raise CltoolsError(
                "The explorer's rule keeps no key as a negative; widen the band, then create the trial again."
            )
        self.budget = budget
        moco = preset(f"{budget.images}-{BASELINE}")
        rules = {
            BASELINE: moco,
            "yours": replace(moco, positives=positives, negatives=negatives),
            "by chance": replace(moco, positives=positives, negatives=RandomNegatives(self.share)),
        }
        self.experiments = {arm: budget.budgeted(rule, budget.epochs) for arm, rule in rules.items()}
        self.curves: dict[tuple[str, int], list[Row]] = {}
        self.rows: list[dict[str, Any]] = []
        self._sentence_display: Any = None
        self._chart_display: Any = None

    def train(self, seeds: Sequence[int] = (0, 1)) -> "Trial":
        """Train every arm of these seeds that is not trained yet, and draw it as it learns.

        Raises:
            FloatingPointError: an arm diverged; those before it stay, and another rule may be tried.
        """
        done = {(row["arm"], row["seed"]) for row in self.rows}
        todo = [(seed, arm) for seed in seeds for arm in ARMS if (arm, seed) not in done]
        images = whole(self.experiments[BASELINE])
        warm: Run | None = None
        for seed, arm in tqdm(todo, desc="arms", unit="arm"):
            if warm is None or warm.experiment.seed != seed:
                warm = warm_start(self.budget, seed, images)
            experiment = replace(self.experiments[arm], seed=seed)
            row = train_arm(arm, experiment, warm, images, callbacks=[self._follow(arm, seed)])
            self.rows.append(row | {"loss": round(self.curves[arm, seed][-1]["loss"], 2)})
            self._draw()
        return self

    @property
    def result(self) -> Comparison:
        """The rows as a comparison, like those of records."""
        return Comparison(self.rows)

    @property
    def sentence(self) -> Sentence:
        """The arms and the progress of their training, in words."""
        yours = type(self.experiments["yours"].negatives).__name__
        arms = f"moco, {yours}, and {100 * self.share:.1f} % of the keys by chance"
        if not self.rows:
            return Sentence(
                f"To be trained: {arms}; {self.budget.epochs} epochs after {self.budget.warm_epochs} of moco."
            )
        kept = [100 * self.kept(arm) for arm in ARMS[1:]]
        moved = ""
        if abs(kept[0] - kept[1]) > SAME:
            moved = (
                f" Yours kept {kept[0]:.1f} % of the keys, the control {kept[1]:.1f} %: they differ in how many, too."
            )
        return Sentence(f"{len(self.rows)} arms of {arms} are trained; each line is one arm with one seed.{moved}")

    def kept(self, arm: str) -> float:
        """Return the share of keys that an arm kept in training, on average over its seeds; NaN before the first."""
        shares = [row["kept"] for row in self.rows if row["arm"] == arm]
        return statistics.fmean(shares) if shares else math.nan

    @property
    def chart(self) -> Chart:
        """Loss, accuracy on the held-out images, and false negatives among the kept, by epoch."""
        return draw(self.curves, self.budget.epochs)

    def _follow(self, arm: str, seed: int) -> Callable[[Run], None]:
        def follow(run: Run) -> None:
            self.curves[arm, seed] = [*run.history.rows]
            self._draw()

        return follow

    def _draw(self) -> None:
        if self._sentence_display is not None:
            self._sentence_display.update(self.sentence)
            redraw(self._chart_display, self.chart)

    def __repr__(self) -> str:
        return self.sentence.words

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self._sentence_display = display(self.sentence, display_id=True)  # type: ignore[no-untyped-call]
        self._chart_display = display(self.chart, display_id=True)  # type: ignore[no-untyped-call]


def draw(curves: Mapping[tuple[str, int], Sequence[Row]], epochs: int) -> Chart:
    """Draw one line per arm and seed, by epoch: colour and symbol are the arm, the dash is the seed."""
    columns = (
        ("loss", "Training loss", 1, ""),
        ("knn", "kNN-200 on val, %", 1, " %"),
        ("false_negative_share", "False among the kept, %", 100, " %"),
    )
    seeds = sorted({seed for _, seed in curves})
    figure = panels(*(title for _, title, _, _ in columns), heights=(160,) * 3, shared=True)
    for panel, (column, _, scale, unit) in enumerate(columns, 1):
        for (arm, seed), rows in curves.items():
            known = {int(row["epoch"]): scale * row[column] for row in rows if row[column] == row[column]}
            look: dict[str, Any] = {"index": seeds.index(seed), "colour": COLOURS[ARMS.index(arm)]}
            says, first = f"seed {seed}, epoch %{{x}}: %{{y:.3g}}{unit}", panel == 1 and seed == seeds[0]
            curve = line(known, known.values(), arm, says, showlegend=first, **look)
            curve.marker.symbol = SYMBOLS[ARMS.index(arm)]
            figure.add_trace(curve, row=panel, col=1)
    figure.update_xaxes(range=(0.5, epochs + 0.5), dtick=1)
    figure.update_xaxes(title_text="epoch", row=3)
    figure.update_yaxes(rangemode="tozero", row=3)
    descriptions = []
    for arm in ARMS:
        ends = [rows[-1] for (name, _), rows in curves.items() if name == arm and rows]
        if ends:
            loss, knn = (statistics.fmean(row[column] for row in ends) for column in ("loss", "knn"))
            descriptions.append(f"{arm}: loss {loss:.2f}, kNN-200 {knn:.1f} %")
    return Chart(figure, f"Learning curves, means of the last epochs so far: {'; '.join(descriptions) or 'none yet'}.")
