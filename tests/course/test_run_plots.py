"""Charts of finished runs show what their files hold."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cltools import fit, preset
from cltools.config import EvaluationSettings
from cltools.evaluation import Recipes, predict
from cltools.reports.published import PUBLISHED
from cltools.training.inputs import evaluation_images, training_images
from course import results, run_plots
from course.charts import text
from course.paired import detectable
from course.run_plots import SHOWN, Confusion, read_confusion


@pytest.fixture
def confusion() -> Confusion:
    counts = torch.tensor([[8, 2, 0], [1, 3, 6], [0, 0, 20]])
    return Confusion("knn200", ("cat", "dog", "cow"), counts)


def test_the_confusion_of_a_run_is_read_as_it_was_counted(tmp_path: Path) -> None:
    base = preset("digits-moco")
    experiment = replace(base, training=replace(base.training, epochs=1, device="cpu"))
    run = fit(experiment, out=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"run\.evaluate\('test', \['knn10'\]\)"):
        read_confusion(tmp_path, "knn10")
    run.evaluate(protocols=["knn10"])
    read = read_confusion(tmp_path, "knn10")
    train, _ = training_images(experiment)
    counted = predict(run.encoder, train, evaluation_images(experiment), EvaluationSettings(), ["knn10"], Recipes())
    assert read.counts.equal(counted.confusion("knn10")) and read.protocol == "knn10"
    assert read.classes == tuple("0123456789") or len(read.classes) == 10


def test_the_worst_class_stands_first_and_rows_are_shares(confusion: Confusion) -> None:
    chart = run_plots.by_class(confusion)
    bars, average, matrix = chart.figure.data
    assert [*chart.figure.layout.yaxis.ticktext] == ["dog", "cat", "cow"] == [*bars.customdata]
    assert [*bars.x] == pytest.approx([30, 80, 100]) and average.x[0] == 77.5
    assert [*map(list, matrix.z)] == [pytest.approx(row) for row in ([30, 10, 60], [20, 80, 0], [0, 0, 100])]
    assert matrix.text[1][2] == "" and matrix.customdata[0][2] == "dog taken for cow"
    assert "Worst: dog with 30 %; of all images 77.5 %" in chart.words
    assert "kNN-200" in chart.figure.layout.annotations[0].text


def test_of_many_classes_the_worst_are_shown_and_one_without_images_is_not_the_worst() -> None:
    counts = torch.diag(torch.arange(20))
    counts[:, 0] += 5
    counts[3] = 0
    chart = run_plots.by_class(Confusion("probe", tuple(f"c{i}" for i in range(20)), counts))
    names = chart.figure.layout.yaxis.ticktext
    assert len(names) == SHOWN and "c3" not in names and f"The {SHOWN} worst of 20" in chart.words


def test_the_most_frequent_mistakes(confusion: Confusion) -> None:
    first, second = confusion.mistakes(2)
    assert first == {"shows": "dog", "was taken for": "cow", "images": 6, "% of the class": 60}
    assert second["images"] == 2 and len(confusion.mistakes()) == 3  # and nothing that never happened


def test_a_line_a_run_and_a_dot_a_seed() -> None:
    runs = results.recorded_runs("digits")
    chart = run_plots.runs_apart(runs)
    accuracy, loss, ends = ([*chart.figure.select_traces(row=row, col=1)] for row in (1, 2, 3))
    assert len(accuracy) == len(loss) == len(runs)
    one = next(iter(runs.values())).by_epoch
    assert [*loss[0].y] == [row.loss for row in one]
    assert [*accuracy[0].y] == [row.knn for row in one if row.knn is not None]
    moco = results.figures_by_method(runs, "knn200")["moco"]
    assert [*ends[0].y] == [*moco.values()]
    assert ends[1].y[0] == pytest.approx(sum(moco.values()) / len(moco))
    assert ends[1].error_y.array[0] == pytest.approx(detectable(moco.values()))
    assert len({(trace.line.dash, trace.marker.symbol) for trace in loss}) == 2  # told apart without colour


def test_published_figures_are_those_of_the_table() -> None:
    rows = run_plots.published_rows("cifar100")
    assert len(rows) == sum(row.images == "cifar100" for row in PUBLISHED)
    assert rows[0]["top-1, protocol unknown"] == 61.10 and rows[0]["linear"] is None
    assert all(row["source"] for row in rows)


@pytest.mark.parametrize("name", ["$_$", "<b>", "_hidden"])
def test_names_of_classes_are_text(name: str) -> None:
    chart = run_plots.by_class(Confusion("knn200", (name, "dog"), torch.tensor([[3, 1], [0, 4]])))
    assert text(name) in chart.figure.layout.xaxis2.ticktext and "<b>" not in str(chart.plain["data"])
