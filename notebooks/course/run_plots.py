"""Charts of finished runs: accuracy by class, confusion matrix, runs by seed, and figures by protocol.

Legend: C classes.
"""

import csv
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch
from jaxtyping import Int64
from torch import Tensor

from cltools.evaluation import per_class
from cltools.files import text_of
from cltools.reports.published import PUBLISHED
from cltools.reports.table import FIGURES
from cltools.training.record import RunRecord
from cltools.training.run import confusion_file
from course.charts import COLOURS, PALE, SYMBOLS, Chart, label, line, panels, reference, text, thinned
from course.paired import detectable
from course.results import figures_by_method, method_of

SHOWN = 12
"""The number of classes for which there is room; if there are more, the worst are shown."""
LOOKS = (1, 0, 2, 3, 4, 5)
"""The colour, dash and symbol of each method, by index."""


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


def by_class(confusion: Confusion) -> Chart:
    """Plot the accuracy of each class, the worst on top, and below it the confusion matrix."""
    shares = per_class(confusion.counts)
    order = shares.nan_to_num(101).argsort(stable=True)[:SHOWN]  # classes without images come last
    names = [confusion.classes[index] for index in order.tolist()]
    part = confusion.counts[order][:, order].double() / confusion.counts[order].sum(1, keepdim=True).clamp_min(1)
    heights = (22 * len(names) + 20, 24 * len(names) + 20)
    figure = panels(f"Correct, % by {_protocol(confusion)}", "Taken for, % of the row's class", heights=heights, rows=1)
    figure.add_traces([_bars(shares[order], names), _average(confusion, len(names))], rows=1, cols=1)
    figure.add_traces([_matrix(100 * part, names)], rows=2, cols=1)
    figure.update_xaxes(range=(0, 100), row=1)
    rows = {"tickvals": [*range(len(names))], "ticktext": [*map(text, names)], "showgrid": False}
    figure.update_yaxes(range=(len(names) - 0.5, -0.5), **rows)
    figure.update_xaxes(title_text="what they were taken for", tickangle=-40, **rows, row=2)
    hidden = len(confusion.classes) - len(names)
    description = (
        f"Worst: {names[0]} with {shares[order[0]]:.0f} %; of all images {_top(confusion):.1f} % were correct."
    )
    few = f" The {len(names)} worst of {len(confusion.classes)} classes are shown." if hidden else ""
    return Chart(figure, f"Accuracy by class, and the confusion matrix. {description}{few}")


def _bars(shares: Tensor, names: list[str]) -> go.Bar:
    return go.Bar(
        x=shares.tolist(),
        y=[*range(len(names))],
        customdata=[*map(text, names)],
        orientation="h",
        name="one class",
        marker={"color": COLOURS[1]},
        hovertemplate=label("%{customdata}: %{x:.1f} % correct"),
    )


def _average(confusion: Confusion, rows: int) -> go.Scatter:
    top = _top(confusion)
    return reference([top, top], [-0.5, rows - 0.5], f"of all images: {top:.1f} %")


def _matrix(percent: Tensor, names: list[str]) -> go.Heatmap:
    """Return the matrix with true classes as rows, and with numbers in the cells, so that colour is not needed."""
    shown = [[f"{value:.0f}" if value >= 0.5 else "" for value in row] for row in percent.tolist()]
    says = [[f"{text(row)} taken for {text(column)}" for column in names] for row in names]
    return go.Heatmap(
        z=percent.tolist(),
        text=shown,
        customdata=says,
        texttemplate="%{text}",
        colorscale=PALE,
        zmin=0,
        zmax=100,
        showscale=False,
        hovertemplate=label("%{customdata}", "%{z:.1f} % of its images"),
    )


def _top(confusion: Confusion) -> float:
    return 100 * int(confusion.counts.diagonal().sum()) / int(confusion.counts.sum())


def _protocol(confusion: Confusion) -> str:
    return FIGURES.get(confusion.protocol, confusion.protocol)


def runs_apart(records: Mapping[Path, RunRecord]) -> Chart:
    """Plot runs of several methods and seeds: accuracy and loss over the epochs, and the final figure by protocol."""
    figure = panels("kNN-200 while training, %", "Training loss", "After the last epoch, %", rows=2)
    for panel, (column, unit) in enumerate((("knn", " %"), ("loss", "")), 1):
        figure.add_traces(over_epochs(records, column, unit, showlegend=panel == 1), rows=panel, cols=1)
        figure.update_xaxes(title_text="epoch", row=panel)
    protocols = ("knn200", "knn10", "probe")
    points, description = ends(records, protocols)
    figure.add_traces(points, rows=3, cols=1)
    names = [FIGURES[name] for name in protocols]
    figure.update_xaxes(tickvals=[*range(len(names))], ticktext=names, range=(-0.5, len(names) - 0.5), row=3)
    figure.update_xaxes(title_text="protocol; with the mean<br>and its 95 % interval", row=3)
    return Chart(figure, f"Curves of recorded runs by method, one line per seed. After the last epoch: {description}.")


def over_epochs(
    records: Mapping[Path, RunRecord], column: str, unit: str, *, showlegend: bool = True
) -> list[go.Scatter]:
    """Return one line per run, with one colour, dash and symbol per method."""
    lines = []
    for index, (method, part) in enumerate(_by_method(records).items()):
        for place, record in enumerate(part):
            measured = {row.epoch: value for row in record.by_epoch if (value := getattr(row, column)) is not None}
            known = thinned(measured)
            says = f"seed {record.seed}, epoch %{{x}}: %{{y:.4g}}{unit}"
            first = showlegend and place == 0
            curve = line(known, known.values(), method, says, index=LOOKS[index % 6], showlegend=first)
            lines.append(curve)
    return lines


def ends(records: Mapping[Path, RunRecord], figures: tuple[str, ...]) -> tuple[list[go.Scatter], str]:
    """Return one dot per run and protocol, and each method's mean with its 95 % interval; describe the means."""
    methods, description, points = [*_by_method(records)], [], []
    for column, figure in enumerate(figures):
        for method, of_seed in figures_by_method(records, figure).items():
            index = methods.index(method)
            look, values, mean = LOOKS[index % 6], [*of_seed.values()], statistics.fmean(of_seed.values())
            x = column + 0.3 * (index - (len(methods) - 1) / 2)
            said = [f"seed {seed}" for seed in of_seed]
            more: dict[str, Any] = {"mode": "markers", "index": look, "showlegend": False}
            dots = line([x - 0.06] * len(values), values, method, "%{customdata}: %{y:.2f} %", customdata=said, **more)
            middle = line([x + 0.06], [mean], method, "mean: %{y:.2f} %", **more)
            half = detectable(values) if len(values) > 1 else None
            middle.error_y = {"type": "data", "array": [half], "thickness": 1.5, "width": 4}
            middle.marker.update(symbol=f"{SYMBOLS[look]}-open", size=9)
            points += [dots, middle]
            description.append(f"{method} {FIGURES[figure]} {mean:.1f} %")
    return points, ", ".join(description)


def _by_method(records: Mapping[Path, RunRecord]) -> dict[str, list[RunRecord]]:
    by_method: dict[str, list[RunRecord]] = {}
    for path, record in records.items():
        by_method.setdefault(method_of(path), []).append(record)
    return by_method


def published_rows(images: str) -> list[dict[str, Any]]:
    """Return published figures on a data set, one row per method; None for figures that are not known to us."""
    figures = ("knn200", "linear", "unknown")
    return [
        {"method": each.method, **{FIGURES[name]: getattr(each, name) for name in figures}, "source": each.source}
        for each in PUBLISHED
        if each.images == images
    ]
