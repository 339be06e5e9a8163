"""Figures of finished runs: accuracy by class, confusion matrix, runs by seed, and figures by protocol.

Legend: C classes.
"""

import csv
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from matplotlib import rc_context
from matplotlib.axes import Axes
from torch import Tensor

from cltools.evaluation import per_class
from cltools.files import text_of
from cltools.reports.published import PUBLISHED
from cltools.reports.table import FIGURES
from cltools.training.record import RunRecord
from cltools.training.run import confusion_file
from course.plots import COLOURS, GREY, LOOK, Picture, legible, panels
from course.results import figures_by_method, method_of

SHOWN = 12
"""The number of classes for which there is room; if there are more, the worst are shown."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion matrix: how often each class (row) was predicted as each class (column).

    Attributes:
        protocol: the protocol of the predictions.
        classes: their names.
        counts: int64 [C, C].
    """

    protocol: str
    classes: tuple[str, ...]
    counts: Int64[Tensor, "C C"]

    def mistakes(self, most: int = 5) -> list[dict[str, Any]]:
        """Return the most frequent mistakes, one row each."""
        wrong = self.counts.clone()
        wrong.fill_diagonal_(0)
        order = wrong.flatten().argsort(descending=True, stable=True)[:most].tolist()
        pairs = [(divmod(index, len(self.classes)), int(wrong.flatten()[index])) for index in order]
        images = self.counts.sum(1)
        return [
            {
                "shows": self.classes[row],
                "was taken for": self.classes[column],
                "images": count,
                "% of the class": 100 * count / int(images[row]),
            }
            for (row, column), count in pairs
            if count
        ]


def read_confusion(folder: str | Path, protocol: str, split: str = "test") -> Confusion:
    """Read the confusion matrix that an evaluation by a protocol wrote into a run's folder.

    Raises:
        FileNotFoundError: the run was not evaluated yet.
    """
    path = Path(folder) / confusion_file(split, protocol)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; run.evaluate({split!r}, [{protocol!r}]) of a saved run writes it.")
    with path.open(encoding="utf-8", newline="") as file:
        (corner, *classes), *rows = csv.reader(file)
    counts = torch.tensor([[int(cell) for cell in row[1:]] for row in rows], dtype=torch.int64)
    return Confusion(corner.rpartition(" by ")[2], tuple(map(text_of, classes)), counts)


def by_class(confusion: Confusion) -> Picture:
    """Plot the accuracy of each class on the left, and the confusion matrix on the right."""
    shares = per_class(confusion.counts)
    order = shares.nan_to_num(101).argsort(stable=True)[:SHOWN]  # classes without images come last
    names = [confusion.classes[index] for index in order.tolist()]
    part = confusion.counts[order][:, order].double() / confusion.counts[order].sum(1, keepdim=True).clamp_min(1)
    with rc_context(LOOK):
        figure, (left, right) = panels(9.2, 1.3 + 0.26 * len(names), 2)
        left.barh(names, shares[order].tolist(), color=COLOURS[1])
        left.axvline(_top(confusion), color=GREY, linestyle=":")
        left.set(
            xlim=(0, 100), xlabel="% of its images; dotted: of all images", title=f"Correct, by {_protocol(confusion)}"
        )
        left.invert_yaxis()
        _draw_matrix(right, 100 * part, names)
    hidden = len(confusion.classes) - len(names)
    description = (
        f"Worst: {names[0]} with {shares[order[0]]:.0f} %; of all images {_top(confusion):.1f} % were correct."
    )
    few = f" The {len(names)} worst of {len(confusion.classes)} classes are shown." if hidden else ""
    return Picture(figure, f"Accuracy by class, and the confusion matrix. {description}{few}")


def _draw_matrix(axes: Axes, percent: Tensor, names: list[str]) -> None:
    """Draw the matrix with true classes as rows, and with numbers in the cells, so that colour is not needed."""
    axes.imshow(percent.numpy(), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in torch.cartesian_prod(*[torch.arange(len(names))] * 2).reshape(-1, 2).tolist():
        value = float(percent[row, column])
        shown = f"{value:.0f}" if value >= 0.5 else ""
        axes.text(
            column, row, shown, ha="center", va="center", fontsize=8, color="#FFFFFF" if value > 55 else "#222222"
        )
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(title="Row: shows. Column: was taken for. % of the row")


def _top(confusion: Confusion) -> float:
    return 100 * int(confusion.counts.diagonal().sum()) / int(confusion.counts.sum())


def _protocol(confusion: Confusion) -> str:
    return FIGURES.get(confusion.protocol, confusion.protocol)


def runs_apart(records: Mapping[Path, RunRecord]) -> Picture:
    """Plot runs of several methods and seeds: accuracy and loss over the epochs, and the final figure by protocol."""
    with rc_context(LOOK):
        figure, (accuracy, loss, ends) = panels(9.2, 3.2, 3)
        draw_over_epochs(accuracy, records, "knn")
        accuracy.set(title="kNN-200 while training, %")
        accuracy.legend(loc="lower right")
        draw_over_epochs(loss, records, "loss")
        loss.set(title="Training loss")
        description = draw_ends(ends, records, ("knn200", "knn10", "probe"))
    return Picture(
        figure, f"Curves of recorded runs by method, one line per seed. After the last epoch: {description}."
    )


def draw_over_epochs(axes: Axes, records: Mapping[Path, RunRecord], column: str) -> None:
    """Draw one line per run, with one colour and style per method."""
    for method, part in _by_method(records).items():
        colour, style = _look(records, method)
        for index, record in enumerate(part):
            known = [(row.epoch, value) for row in record.by_epoch if (value := getattr(row, column)) is not None]
            axes.plot(
                *zip(*known, strict=True), style, color=colour, alpha=0.7, label=legible(method) if not index else None
            )
    axes.set(xlabel="epoch")
    axes.grid(True)


def draw_ends(axes: Axes, records: Mapping[Path, RunRecord], figures: tuple[str, ...]) -> str:
    """Draw one dot per run and protocol, and a tick at the mean of a method; describe the means."""
    methods, description = [*_by_method(records)], []
    for column, figure in enumerate(figures):
        for shift, (method, of_seed) in enumerate(figures_by_method(records, figure).items()):
            colour, _ = _look(records, method)
            x, values = column + 0.3 * (shift - (len(methods) - 1) / 2), [*of_seed.values()]
            axes.plot([x] * len(values), values, "os^D"[shift % 4], color=colour, alpha=0.7, markersize=6)
            axes.plot([x], [statistics.fmean(values)], "_", color=GREY, markersize=16, markeredgewidth=2)
            description.append(f"{method} {FIGURES[figure]} {statistics.fmean(values):.1f} %")
    axes.set_xticks(range(len(figures)), [FIGURES[figure] for figure in figures])
    axes.set(title="Last epoch, %; one dot per seed", xlim=(-0.5, len(figures) - 0.5))
    axes.grid(True, axis="y")
    return ", ".join(description)


def _by_method(records: Mapping[Path, RunRecord]) -> dict[str, list[RunRecord]]:
    by_method: dict[str, list[RunRecord]] = {}
    for path, record in records.items():
        by_method.setdefault(method_of(path), []).append(record)
    return by_method


def _look(records: Mapping[Path, RunRecord], method: str) -> tuple[str, str]:
    index = [*_by_method(records)].index(method)
    return COLOURS[(1, 0, 2, 3, 4, 5)[index % 6]], ("-", "--", "-.", ":")[index % 4]


def published_rows(images: str) -> list[dict[str, Any]]:
    """Return published figures on a data set, one row per method; None for figures that are not known to us."""
    figures = ("knn200", "linear", "unknown")
    return [
        {"method": each.method, **{FIGURES[name]: getattr(each, name) for name in figures}, "source": each.source}
        for each in PUBLISHED
        if each.images == images
    ]
