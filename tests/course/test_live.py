"""Live curves: what they say and draw of a run, when they are redrawn, and that stopping and going on keeps them."""

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from cltools import Experiment, fit, load_images, preset
from cltools.datasets import ImageSet
from cltools.training import Run, Stopped
from course import LiveCurves, live
from course.charts import Chart
from course.live import AT_MOST, REST, Sentence, draw, duration, progress

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

NAN = math.nan


def row(epoch: int, knn: float = NAN, **more: float) -> dict[str, float]:
    return {
        "epoch": epoch,
        "loss": 5.0 - epoch,
        "knn": knn,
        "mined_purity": NAN,
        "false_negative_share": 0.1 * epoch,
        "seconds": 4.0,
        "views_per_second": 2000.0,
        **more,
    }


def test_the_sentence_says_how_far_how_fast_and_how_long() -> None:
    rows = [row(1), row(2)]
    assert (
        progress(rows, 10, 15, 6.0) == "Epoch 2 of 10; 30 of 150 steps; 2,000 views per second; about 48 seconds left."
    )
    assert progress(rows, 2, 15, 6.0).endswith("finished; training took 8 seconds.")
    assert progress(rows, 10, None, None) == "Epoch 2 of 10; 2,000 views per second."
    assert progress([], 10, 15, None) == "No epoch of 10 is done yet."


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 seconds"), (89, "89 seconds"), (600, "10 minutes"), (9000, "2.5 hours")]
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_what_was_not_measured_is_not_drawn() -> None:
    chart = draw([row(1), row(2, 50.0), row(3), row(4, 60.0)], 6, "knn10", "Here.")
    loss, knn, negatives = chart.figure.data  # no purity without mining
    assert [*loss.x] == [1, 2, 3, 4] and [*loss.y] == [4, 3, 2, 1]
    assert [*knn.x] == [2, 4] and [*knn.y] == [50, 60]
    assert negatives.name == "negatives" and [*negatives.y] == pytest.approx([10, 20, 30, 40])
    assert all(axis.range == (0, 6.5) for axis in chart.figure.select_xaxes())
    assert "kNN-10 %: 50 at epoch 2, 60 at epoch 4" in chart.words and "mined" not in chart.words
    assert not draw([], 6, "knn200", "").figure.data and notes(draw([], 6, "knn200", "")) == []
    unmeasured = draw([row(1), row(2)], 6, "knn200", "")
    assert notes(unmeasured) == ["not measured so far"] and len(unmeasured.figure.data) == 2
    assert notes(draw([row(1), row(2)], 2, "knn200", "")) == ["not measured"]


def notes(chart: Chart) -> list[str]:
    return [each.text for each in chart.figure.layout.annotations[3:]]  # after the titles


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("digits", limit=200)


@pytest.fixture
def experiment() -> Experiment:
    base = preset("digits-potential")
    return replace(base, training=replace(base.training, epochs=4, batch=64, queue_size=128, device="cpu"))


class Clock:
    """Time that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Handle:
    """Keeps what a page would show last."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def update(self, value: Any) -> None:
        self.shown.append(value)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Handle]]:
    handles: list[Handle] = []

    def display(value: Any, *, display_id: bool) -> Handle:
        assert display_id
        handle = Handle()
        handle.update(value)
        handles.append(handle)
        return handle

    monkeypatch.setattr("IPython.display.display", display)
    yield handles


def test_it_is_redrawn_in_place_and_not_too_often(experiment: Experiment, images: ImageSet, page: list[Handle]) -> None:
    clock = Clock()
    curves = LiveCurves(experiment, clock=clock)
    curves._ipython_display_()
    said, shown = page
    assert said.shown[-1].words == "No epoch of 4 is done yet."

    def pass_time(run: Run) -> None:
        clock.now += 10 if len(run.history.rows) == 1 else AT_MOST / 10

    fit(experiment, images=images, callbacks=[curves, pass_time])
    assert [each.words.split(";")[0] for each in said.shown[1:]] == ["Epoch 1 of 4", "Epoch 2 of 4", "Epoch 4 of 4"]
    assert "6 of 12 steps" in said.shown[2].words and "about 20 seconds left" in said.shown[2].words
    assert "finished" in said.shown[-1].words and len(page) == 2
    blanks, charts = shown.shown[1::2], shown.shown[::2]  # JupyterLab keeps a chart that no other output replaced
    assert len(charts) == len(said.shown) == len(blanks) + 1 and charts[-1] is curves.chart
    height = curves.chart.figure.layout.height
    assert all(each._repr_html_() == f'<div style="height:{height}px;margin:0"></div>' for each in blanks)


def test_drawing_takes_a_fifth_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch, experiment: Experiment, images: ImageSet
) -> None:
    clock, drawn = Clock(), list[int]()

    def slow(rows: list[dict[str, float]], *rest: Any) -> Any:
        clock.now += 1.0
        drawn.append(len(rows))
        return draw(rows, *rest)

    curves = LiveCurves(replace(experiment, training=replace(experiment.training, epochs=100)), clock=clock)
    monkeypatch.setattr(live, "draw", slow)
    run = fit(replace(experiment, training=replace(experiment.training, epochs=1)), images=images)
    run.history.rows.clear()
    for epoch in range(1, 51):
        clock.now += 0.5
        run.history.rows.append(row(epoch))
        curves(run)
    assert drawn[:2] == [1, 9] and len(drawn) <= clock.now / (1 + REST) + 1


def test_without_a_page_it_still_follows(experiment: Experiment, images: ImageSet) -> None:
    curves = LiveCurves(experiment)
    run = fit(experiment, images=images, callbacks=[curves])
    assert "finished" in curves.sentence.words
    assert [*curves.chart.figure.data[0].y] == run.history.column("loss")


def test_the_words_are_announced_and_cannot_break_the_page() -> None:
    assert Sentence("<b>")._repr_html_() == '<p role="status" aria-live="polite">&lt;b&gt;</p>'


def test_stopped_as_the_notebook_does_it_goes_on_and_is_shown(
    experiment: Experiment, images: ImageSet, tmp_path: Path
) -> None:
    def ask(run: Run) -> None:
        if len(run.history.rows) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    curves = LiveCurves(experiment)
    with pytest.raises(Stopped, match="resume=True"):
        fit(experiment, images=images, out=tmp_path, resume=True, callbacks=[curves, ask])
    half = Run.load(tmp_path)
    curves.show(half)
    assert "Epoch 2 of 4; 6 of 12 steps" in curves.sentence.words and "left" in curves.sentence.words
    again = LiveCurves(experiment, tmp_path)
    assert again.sentence.words.startswith("Epoch 2 of 4") and len(again.chart.figure.data[0].x) == 2
    fit(experiment, images=images, out=tmp_path, resume=True, callbacks=[again])
    whole = fit(experiment, images=images)
    assert "finished" in again.sentence.words
    ends = [run.encoder.state_dict() for run in (Run.load(tmp_path), whole)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert [*again.chart.figure.data[0].y] == whole.history.column("loss")


@pytest.mark.slow
def test_stopped_within_the_first_epoch_there_is_an_encoder_to_show(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments, **named)

    step = fitting.train_step
    monkeypatch.setattr(fitting, "train_step", stop)
    with pytest.raises(Stopped):
        fit(experiment, out=tmp_path, resume=True)
    run, curves = Run.load(tmp_path), LiveCurves(experiment, tmp_path)
    curves.show(run)
    assert curves.sentence.words == "No epoch of 4 is done yet."
    assert 0 < run.evaluate(protocols=["knn10"])["knn10"] < 100
