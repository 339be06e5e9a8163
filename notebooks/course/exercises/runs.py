"""Checks of notebooks 00 and 05: the verdict on one difference, accuracies of a confusion matrix, seeds, and fairness.

Legend: C classes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from cltools.evaluation import per_class
from cltools.evaluation.intervals import Z, student
from cltools.explorer.session import Session
from cltools.provenance import read_record
from cltools.reports.table import FIGURES, changes
from cltools.training.record import RunRecord, read_run_record
from course.exercises.asking import Mistake, as_number, as_numbers, exercise, sentence
from course.exercises.cases import Case, Cases, exercise_by_cases
from course.exercises.pairing import paired_words

VERDICTS = ("better", "worse", "cannot tell")
RULES = ("positives.", "negatives.", "loss.form")
"""Settings in which the sides of a comparison of rules may differ."""
MANY = 100_000
"""An upper bound on the number of seeds."""
WITHIN = 0.05
"""The tolerance for rounding, in points of accuracy."""


@exercise
def accuracies(answer: Any, counts: Int64[Tensor, "C C"], session: Session) -> str:
    """Check the accuracies over all images and of the worst class, in percent, and that the anchor is of that class.

    Args:
        answer: two numbers.
        counts: how many images of each class (row) were predicted as each class (column).
        session: an explorer of images of these classes.
    """
    given = as_numbers(answer, (1, 2))[0]
    right = torch.stack([_top(counts), _worst(counts)])
    if _near(given, right):
        return f"{right[0]:.1f} % of all images, {right[1]:.1f} % of the worst class. {_worst_shown(counts, session)}"
    if _near(100 * given, right):
        raise Mistake("these are shares; give percent")
    if _near(given.flip(0), right):
        raise Mistake("the order is the other way round: all images first, then the worst class")
    if _near(given[:1], right[:1]):
        columns = 100 * counts.diagonal().double() / counts.sum(0)
        if _near(given[1:], columns[columns.isfinite()].min()[None]):
            raise Mistake(
                "the first is right. The second divides by columns, the images predicted as a class. The accuracy of "
                "a class divides by its row, the images that show it"
            )
        raise Mistake(f"the first is right; the worst class has {right[1]:.1f} %, and yours {float(given[1]):.1f} %")
    if _near(given[:1], per_class(counts).nanmean()[None]) and not _near(right[:1], per_class(counts).nanmean()[None]):
        raise Mistake("the first is the mean over classes, which counts each class alike; count each image alike")
    raise Mistake("correct predictions are on the diagonal: divide their number by that of all images")


def _worst_shown(counts: Tensor, session: Session) -> str:
    """Check that the anchor is of the worst class, or of any of several equally bad ones, and say so."""
    snapshot = session.snapshots[0]
    worst = {label for label, share in enumerate(per_class(counts).tolist()) if share == float(_worst(counts))}
    shown, anchor = worst & {*snapshot.labels.tolist()}, int(snapshot.labels[session.place])
    names = " or ".join(snapshot.classes[label] for label in sorted(worst))
    if not shown:
        return f"The explorer has no image of {names}."
    if anchor not in shown:
        raise Mistake(
            f"the numbers are right, but the explorer's anchor is of class {snapshot.classes[anchor]}. The worst class "
            f"is {names}: make an image of it the anchor"
        )
    return f"The anchor is of that class, {snapshot.classes[anchor]}: look at the suspected keys."


@exercise
def verdict(answer: Any, mine: Any, baseline: Any, *, images: int) -> str:
    """Check the verdict whether one encoder is better than another, as far as these test images can show it.

    Args:
        answer: one of `VERDICTS`.
        mine: accuracy in percent of the encoder that is judged.
        baseline: accuracy in percent of the other encoder.
        images: the number of test images on which both were measured.
    """
    given = answer.strip().lower() if isinstance(answer, str) else ""
    if given not in VERDICTS:
        raise Mistake(f"one of {', '.join(map(repr, VERDICTS))} is wanted, and this is {answer!r}")
    if mine is None or baseline is None:
        raise Mistake("there is a verdict, but no accuracy to judge: train and measure first")
    ours, theirs = as_number(mine), as_number(baseline)
    if max(ours, theirs) <= 1:
        raise Mistake("these look like shares; give accuracies in percent")
    if not all(0 <= each <= 100 for each in (ours, theirs)):
        raise Mistake(f"accuracies lie between 0 and 100 %, and these are {ours:g} and {theirs:g}")
    gain, half = ours - theirs, Z * math.sqrt((_variance(ours) + _variance(theirs)) / images)
    summary = f"the difference is {gain:+.1f} points, and {images:,} images alone explain up to {half:.1f} either way"
    right = VERDICTS[2] if abs(gain) <= half else VERDICTS[gain < 0]
    if given == right:
        return f"{sentence(summary)}. This does not include the variation between seeds."
    if right == VERDICTS[2]:
        raise Mistake(f"{summary}. You took the sign for a finding: other images could turn it")
    if given == VERDICTS[2]:
        raise Mistake(f"{summary}. It is larger than that, so the images can tell these two encoders apart")
    raise Mistake(f"{summary}. The sign is the other way round: subtract the baseline from yours")


@exercise_by_cases
def seeds_needed(*, deviation: float, difference: float) -> Cases:
    """Check the least number of seeds per side for which half the 95 % interval is below the difference.

    Both sides have their own seeds, with the same deviation: half the interval is t(2n−2)·s·√(2/n).

    Args:
        deviation: s, the deviation of the figure over seeds, in points.
        difference: the difference of two means that should be distinguished from none, in points.
    """
    needed = next(n for n in range(2, MANY) if _half(n, deviation) < difference)
    one = next(n for n in range(2, MANY) if student(n - 1) * deviation / math.sqrt(n) < difference)

    def told(n: int) -> Case:
        words = f"with {n} seeds per side half the interval is {_half(n, deviation):.2f} points"
        if n == needed:
            words += f", less than {difference:g}; with {n - 1} it is not"
        elif n == one:
            words += ". You used the interval of one mean; both means are uncertain, which gives √2 times as much"
        elif n < needed:
            words += f", which is not below {difference:g}: more seeds are needed"
        else:
            words += f", well below {difference:g}: fewer seeds are enough"
        return Case(words, {"answer": (n, n)}, right=n == needed)

    most = 2 * needed + 20
    return Cases(
        (
            *map(told, range(2, most)),
            Case("{answer:g} seeds are too many, and fewer seeds are enough", {"answer": (most, None)}),
            Case("at least 2 seeds are wanted: one seed has no deviation", {"answer": (None, 1)}),
            Case("a whole number of seeds is wanted, and this is {answer:g}"),
        ),
        unit="seeds",
    )


@exercise
def fair(answer: Any, baseline: Any, *, figure: str = "knn200") -> str:
    """Compare runs with the reader's rule with runs without it, paired by seed; all other settings must be equal.

    Args:
        answer: folders of runs, or files of their records.
        baseline: the same for the baseline.
        figure: the compared figure of the test report.
    """
    mine, theirs = _records(answer), _records(baseline)
    for seed in sorted({*mine} & {*theirs}):
        _check_alike(mine[seed], theirs[seed])
    sides = [{seed: _figure(record, figure) for seed, record in side.items()} for side in (mine, theirs)]
    return f"{FIGURES.get(figure, figure)}: {paired_words(*sides)}"


def _records(folders: Any) -> dict[int, RunRecord]:
    """Return the records of finished runs by seed."""
    several = isinstance(folders, Sequence) and not isinstance(folders, str)
    if not several or not all(isinstance(each, str | Path) for each in folders):
        raise Mistake("give a list of folders for each side, one per seed: one run does not show the effect of chance")
    records: dict[int, RunRecord] = {}
    for each in map(Path, folders):
        record = _record(each)
        if record.epochs < record.asked:
            done = f"{record.epochs} of {record.asked} epochs"
            raise Mistake(f"{each} has {done}; resume it to its end, and report the last epoch")
        if record.seed in records:
            raise Mistake(f"two runs of one side have seed {record.seed}; each seed counts once")
        records[record.seed] = record
    return records


def _record(path: Path) -> RunRecord:
    """Read the record in a run's folder, or in a file."""
    try:
        if path.suffix == ".json" and path.is_file():
            return RunRecord.from_plain(path, read_record(path))
        record = read_run_record(path)
    except ValueError as error:
        raise Mistake(str(error).rstrip(".")) from None
    if record is None:
        raise Mistake(f"{path} has no record.json; train a run there with fit(…, out=…)")
    return record


def _check_alike(mine: RunRecord, theirs: RunRecord) -> None:
    """Raise a mistake for two runs that differ in more than their rules, or in nothing."""
    changed = changes(theirs.experiment, mine.experiment)
    beside = [str(each) for each in changed if not each.path.startswith(RULES)]
    if mine.images != theirs.images:
        raise Mistake(f"the runs of seed {mine.seed} were trained on different images")
    if beside:
        raise Mistake(f"the runs of seed {mine.seed} differ in more than their rules: {'; '.join(beside)}")
    if not changed:
        raise Mistake(f"the runs of seed {mine.seed} have the same rules, so there is nothing to compare")


def _figure(record: RunRecord, figure: str) -> float:
    report = record.evaluations.get("test", {})
    if figure not in report:
        raise Mistake(
            f"the run of seed {record.seed} has no {figure} in its record: evaluate it by that protocol first"
        )
    value: float = report[figure]
    return value


def _half(n: int, deviation: float) -> float:
    """Return half the 95 % interval of a difference of two means over n seeds each."""
    return student(2 * n - 2) * deviation * math.sqrt(2 / n)


def _variance(percent: float) -> float:
    """Return the variance of one image's result, right or wrong, in squared points."""
    return percent * (100 - percent)


def _top(counts: Tensor) -> Tensor:
    return 100 * counts.diagonal().sum().double() / counts.sum()


def _worst(counts: Tensor) -> Tensor:
    shares = per_class(counts)
    return shares[shares.isfinite()].min()


def _near(given: Tensor, right: Tensor) -> bool:
    return bool(((given - right).abs() <= WITHIN).all())
