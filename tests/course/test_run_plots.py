"""Pictures of finished runs show what their files hold."""

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
from course.plots import legible
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
    picture = run_plots.by_class(confusion)
    bars, matrix = picture.figure.axes
    assert [label.get_text() for label in bars.get_yticklabels()] == ["dog", "cat", "cow"]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([30, 80, 100])
    shown = torch.as_tensor(matrix.images[0].get_array())
    assert torch.allclose(shown.double(), torch.tensor([[30, 10, 60], [20, 80, 0], [0, 0, 100]]).double())
    assert "Worst: dog with 30 %; of all images 77.5 %" in picture.words and "kNN-200" in bars.get_title(loc="left")


def test_of_many_classes_the_worst_are_shown_and_one_without_images_is_not_the_worst() -> None:
    counts = torch.diag(torch.arange(20))
    counts[:, 0] += 5
    counts[3] = 0
    picture = run_plots.by_class(Confusion("probe", tuple(f"c{i}" for i in range(20)), counts))
    names = [label.get_text() for label in picture.figure.axes[0].get_yticklabels()]
    assert len(names) == SHOWN and "c3" not in names and f"The {SHOWN} worst of 20" in picture.words


def test_the_most_frequent_mistakes(confusion: Confusion) -> None:
    first, second = confusion.mistakes(2)
    assert first == {"shows": "dog", "was taken for": "cow", "images": 6, "% of the class": 60}
    assert second["images"] == 2 and len(confusion.mistakes()) == 3  # and nothing that never happened


def test_a_line_a_run_and_a_dot_a_seed() -> None:
    runs = results.recorded_runs("digits")
    accuracy, loss, ends = run_plots.runs_apart(runs).figure.axes
    assert len(accuracy.lines) == len(loss.lines) == len(runs)
    one = next(iter(runs.values())).by_epoch
    assert [*loss.lines[0].get_ydata()] == [row.loss for row in one]
    assert [*accuracy.lines[0].get_ydata()] == [row.knn for row in one if row.knn is not None]
    moco = results.figures_by_method(runs, "knn200")["moco"]
    assert [*ends.lines[0].get_ydata()] == [*moco.values()]
    assert ends.lines[1].get_ydata()[0] == pytest.approx(sum(moco.values()) / len(moco))
    assert len({line.get_linestyle() for line in loss.lines}) == 2  # told apart without colour


def test_published_figures_are_those_of_the_table() -> None:
    rows = run_plots.published_rows("cifar100")
    assert len(rows) == sum(row.images == "cifar100" for row in PUBLISHED)
    assert rows[0]["top-1, protocol unknown"] == 61.10 and rows[0]["linear"] is None
    assert all(row["source"] for row in rows)


@pytest.mark.parametrize("name", ["$_$", "$\\frac{", "_hidden"])
def test_names_are_text_and_no_formula(name: str) -> None:
    """A class called $_$ ended a chart; matplotlib leaves out of a legend what begins with an underscore."""
    picture = run_plots.by_class(Confusion("knn200", (name, "dog"), torch.tensor([[3, 1], [0, 4]])))
    assert picture.png()[:4] == b"\x89PNG"
    axes = picture.figure.axes[1]
    assert name in [text.get_text() for text in axes.get_xticklabels()]
    axes.plot([0, 1], [0, 1], label=legible(name))
    assert [text.get_text().strip() for text in axes.legend().get_texts()] == [name]
