"""Checks of notebooks 00 and 05: answers to each, and what a fair comparison refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exercise_cases import Cases
from scipy.stats import t
from snapshots import made
from test_reports_run_table import run

from cltools import Experiment, RankBand, preset
from cltools.explorer.session import Session
from cltools.training.inputs import TrainedOn
from course import check, results

COUNTS = torch.tensor([[8, 2, 0], [1, 3, 6], [0, 0, 20]])
STRAYED = torch.tensor([[8, 2, 0], [1, 3, 6], [1, 0, 19]])
SNAPSHOT = made(60, groups=3)  # ids are 7, 10, 13, … and their classes 0, 1, 2, 0, …
WORST = Session(SNAPSHOT).set(anchor=10)

ACCURACIES = Cases(
    right=(77.5, 30),
    forms=[torch.tensor([77.5, 30.0]), [77.52, 29.98], np.array([[77.5, 30.0]])],
    wrong_type=("most", "a tensor of numbers is wanted, and this is of type str"),
    mistakes=[
        ((0.775, 0.3), "give percent"),
        ((30, 77.5), "the other way round"),
        ((77.5, 60), "divides by columns"),
        ((77.5, 80), "the worst class has 30.0 %, and yours 80.0 %"),
        ((70, 30), "the mean over classes"),
        ((12, 30), "on the diagonal"),
        (77.5, "a tensor of shape [1, 2] is wanted, and this has []"),
    ],
    given=(COUNTS, WORST),
)

VERDICT = Cases(
    right="cannot tell",
    forms=["Cannot tell", " cannot tell\n"],
    wrong_type=(True, "one of 'better', 'worse', 'cannot tell' is wanted, and this is True"),
    mistakes=[
        ("better", "You took the sign for a finding"),
        ("the same", "'cannot tell' is wanted, and this is 'the same'"),
    ],
    given=(98.4, 97.8),
    settings={"images": 500},
)


def needed(deviation: float, difference: float) -> int:
    """By the inverse of Student's distribution."""
    return next(n for n in range(2, 999) if t.ppf(0.975, 2 * n - 2) * deviation * (2 / n) ** 0.5 < difference)


SEEDS_NEEDED = Cases(
    right=needed(0.383, 0.5),
    forms=[float(needed(0.383, 0.5)), np.int64(needed(0.383, 0.5)), torch.tensor(needed(0.383, 0.5))],
    wrong_type=("many", "one number is wanted, and this is of type str"),
    mistakes=[
        (1, "one seed has no deviation"),
        (6.5, "a whole number of seeds"),
        (3, "more seeds are needed"),
        (5, "√2 times as much"),
        (20, "fewer seeds are enough"),
    ],
    settings={"deviation": 0.383, "difference": 0.5},
)

RECORDED = [*results.recorded_runs("digits")]
MINED, PLAIN = ([path for path in RECORDED if results.method_of(path) == m] for m in ("potential", "moco"))

FAIR = Cases(
    right=MINED,
    forms=[[str(path) for path in MINED], tuple(reversed(MINED))],
    wrong_type=(str(MINED[0]), "give a list of folders for each side"),
    mistakes=[
        (PLAIN, "have the same rules"),
        (MINED[:2], "Compare within a seed"),
        ([*MINED, MINED[0]], "each seed counts once"),
        (["nowhere"], "has no record.json"),
        ([*results.recorded_runs("cifar10")][-1:], "were trained on different images"),
    ],
    given=(PLAIN,),
)

CASES = {"accuracies": ACCURACIES, "verdict": VERDICT, "seeds_needed": SEEDS_NEEDED, "fair": FAIR}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_the_worst_class_is_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    check.accuracies((77.5, 30), COUNTS, WORST)
    assert "30.0 % of the worst class. The anchor is of that class, class 1" in said(capsys)
    check.accuracies((77.5, 30), COUNTS, Session(SNAPSHOT))
    assert said(capsys).startswith("Not yet: the numbers are right, but the explorer's anchor is of class class 0.")
    few = replace(SNAPSHOT, labels=np.where(SNAPSHOT.labels == 1, 2, SNAPSHOT.labels))
    check.accuracies((77.5, 30), COUNTS, Session(few))
    assert "The explorer has no image of class 1" in said(capsys)


def test_a_share_by_columns_is_recognised_where_columns_decide(capsys: pytest.CaptureFixture[str]) -> None:
    columns = 100 * STRAYED.diagonal().double() / STRAYED.sum(0)
    check.accuracies((75.0, float(columns.min())), STRAYED, WORST)
    assert "divides by columns" in said(capsys)


@pytest.mark.parametrize(
    ("answer", "mine", "baseline", "words"),
    [
        ("better", 98.4, 92.0, "Right. The difference is +6.4 points, and 500 images alone explain up to"),
        ("worse", 92.0, 98.4, "Right. The difference is -6.4 points"),
        ("worse", 98.4, 92.0, "The sign is the other way round"),
        ("cannot tell", 98.4, 92.0, "the images can tell these two encoders apart"),
        ("worse", 97.8, 98.4, "You took the sign for a finding"),
        ("better", 0.98, 0.92, "give accuracies in percent"),
        ("better", 196.8, 92.0, "between 0 and 100 %, and these are 196.8 and 92"),
        ("better", None, 92.0, "train and measure first"),
        ("better", "high", 92.0, "one number is wanted"),
    ],
)
def test_a_verdict_is_one_about_these_images(
    answer: str, mine: Any, baseline: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check.verdict(answer, mine, baseline, images=500)
    assert words in said(capsys)


@pytest.mark.parametrize(("deviation", "difference"), [(0.38, 0.5), (1.0, 1.0), (2.0, 0.7)])
def test_the_seeds_that_a_difference_needs(
    deviation: float, difference: float, capsys: pytest.CaptureFixture[str]
) -> None:
    check.seeds_needed(needed(deviation, difference), deviation=deviation, difference=difference)
    assert said(capsys).startswith(f"Right. With {needed(deviation, difference)} seeds")


def test_the_deviation_is_that_of_both_methods_together() -> None:
    assert results.deviation([{0: 1, 1: 3}, {0: 5, 1: 5}]) == pytest.approx(1.0)


# A fair comparison


def folders(tmp_path: Path, base: Experiment, name: str, figures: list[float], **more: Any) -> list[Path]:
    paths = [
        run(tmp_path / f"{name}{s}" / "record.json", replace(base, seed=s), {"test": {"knn200": f}}, **more)
        for s, f in enumerate(figures)
    ]
    return [path.parent for path in paths]


MOCO = preset("digits-moco")
OWN = replace(MOCO, negatives=RankBand(0.1, 0.5))


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
    other = TrainedOn("digits", 9, False, "1")
    mine = folders(tmp_path, OWN, "mine", figures)
    wrong: list[tuple[Any, str]] = [
        (folders(tmp_path, longer, "longer", figures), "more than their rules: training.epochs: 30 → 60"),
        (folders(tmp_path, MOCO, "same", figures), "have the same rules"),
        (folders(tmp_path, OWN, "half", figures, epochs=9), "9 of 30 epochs"),
        (folders(tmp_path, OWN, "images", figures, images=other), "on different images"),
        (mine[:2], "your seeds are [0, 1]"),
        ([mine[0], mine[0]], "each seed counts once"),
        ([tmp_path], "has no record.json"),
        (str(mine[0]), "a list of folders"),
        (3, "a list of folders"),
    ]
    for answer, words in wrong:
        check.fair(answer, theirs)
        assert words in (text := said(capsys)) and text.startswith("Not yet"), words
    check.fair(mine, theirs, figure="linear")
    assert "no linear in its record" in said(capsys)
    (mine[0] / "record.json").write_text("{", encoding="utf-8")
    check.fair(mine, theirs)
    assert "cannot be read" in said(capsys)
