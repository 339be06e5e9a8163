"""Checks of notebook 05: the right answer, every mistake they claim to know, and what a fair comparison refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_run_table import run

from cltools import BandNegatives, Experiment, preset
from cltools.teaching import check, records

COUNTS = torch.tensor([[8, 2, 0], [1, 3, 6], [0, 0, 20]])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_the_figures_of_a_confusion(capsys: pytest.CaptureFixture[str]) -> None:
    for answer in ((77.5, 30), torch.tensor([77.5, 30.0]), [77.52, 29.98]):
        check.accuracies(answer, COUNTS)
        assert said(capsys) == "Right. 77.5 % of all images, and 30.0 % of the worst class."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0.775, 0.3), "give percent"),
        ((30, 77.5), "the other way round"),
        ((77.5, 60), "divides by columns"),
        ((77.5, 80), "the worst class has 30.0 %, and yours 80.0 %"),
        ((70, 30), "the mean over classes"),
        ((12, 30), "on the diagonal"),
        (77.5, "shape"),
        ("most", "of type str"),
    ],
)
def test_mistakes_about_them_are_explained(answer: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts = torch.tensor([[8, 2, 0], [1, 3, 6], [1, 0, 19]]) if answer == (77.5, 60) else COUNTS
    if answer == (77.5, 60):
        columns = 100 * counts.diagonal().double() / counts.sum(0)
        answer = (100 * 30 / 40, float(columns.min()))
    check.accuracies(answer, counts)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_the_seeds_that_a_difference_needs(capsys: pytest.CaptureFixture[str]) -> None:
    from scipy.stats import t

    for deviation, difference in ((0.38, 0.5), (1.0, 1.0), (2.0, 0.7)):
        needed = next(n for n in range(3, 999) if t.ppf(0.975, 2 * n - 2) * deviation * (2 / n) ** 0.5 < difference)
        check.seeds_needed(needed, deviation=deviation, difference=difference)
        assert said(capsys).startswith(f"Right. With {needed} seeds")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1, "from 2 on"),
        (6.5, "a whole number"),
        (3, "more seeds are needed"),
        (5, "√2 times as much"),
        (20, "fewer seeds are enough"),
        ("many", "of type str"),
    ],
)
def test_mistakes_about_seeds_are_explained(answer: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    check.seeds_needed(answer, deviation=0.383, difference=0.5)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_the_deviation_is_that_of_both_methods_together() -> None:
    assert records.deviation([{0: 1, 1: 3}, {0: 5, 1: 5}]) == pytest.approx(1.0)


# A fair comparison


def folders(tmp_path: Path, base: Experiment, name: str, figures: list[float], **more: Any) -> list[Path]:
    paths = [
        run(tmp_path / f"{name}{s}" / "record.json", replace(base, seed=s), {"test": {"knn200": f}}, **more, seed=s)
        for s, f in enumerate(figures)
    ]
    return [path.parent for path in paths]


MOCO = preset("digits-moco")
OWN = replace(MOCO, negatives=BandNegatives(0.1, 0.5))


def test_alike_in_all_but_the_rule_is_fair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = folders(tmp_path, OWN, "mine", [92.0, 93.0, 94.1])
    theirs = folders(tmp_path, MOCO, "moco", [90.0, 91.0, 92.0])
    check.fair(mine, theirs)
    assert said(capsys).startswith("Right. kNN-200: Over 3 seeds the mean difference is +2.0 points")
    check.fair([folder / "record.json" for folder in mine], [str(folder) for folder in theirs])
    assert said(capsys).startswith("Right. kNN-200")


def test_what_is_not_alike_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = [90.0, 91.0, 92.0]
    theirs = folders(tmp_path, MOCO, "moco", figures)
    longer = replace(OWN, training=replace(OWN.training, epochs=60))
    other = {"name": "digits", "count": 9, "pixels": 1, "given": False}
    mine = folders(tmp_path, OWN, "mine", figures)
    wrong: list[tuple[Any, str]] = [
        (folders(tmp_path, longer, "longer", figures), "more than their rules: training.epochs: 30 → 60"),
        (folders(tmp_path, MOCO, "same", figures), "have the same rules"),
        (folders(tmp_path, OWN, "half", figures, epochs={"done": 9, "asked": 30}), "9 of 30 epochs"),
        (folders(tmp_path, OWN, "images", figures, images=other), "on different images"),
        (mine[:2], "your seeds are [0, 1]"),
        ([mine[0], mine[0]], "each seed counts once"),
        ([tmp_path], "holds no record.json"),
        (str(mine[0]), "a list of folders"),
        (3, "a list of folders"),
    ]
    for answer, words in wrong:
        check.fair(answer, theirs)
        assert words in (text := said(capsys)) and text.startswith("Not yet"), words
    check.fair(mine, theirs, figure="linear")
    assert "no linear in its record" in said(capsys)
    (mine[0] / "record.json").write_text("{")
    check.fair(mine, theirs)
    assert "cannot be read" in said(capsys)


def test_nothing_is_solved_yet_and_that_is_ordinary(capsys: pytest.CaptureFixture[str]) -> None:
    check.accuracies(None, COUNTS)
    check.seeds_needed(None, deviation=1.0, difference=1.0)
    check.fair(None, None)
    assert said(capsys).splitlines() == ["Not solved yet."] * 3
