"""What paired seeds can tell: the least difference they show, what they show of each arm, and what a best arm is worth.

Two arms of one seed go on from the same weights and see the same images, so their difference is taken within a seed.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cltools.errors import CltoolsError
from cltools.evaluation import spread
from cltools.evaluation.intervals import student
from cltools.reports.arms import BASELINE
from course.results import Comparison

LEAST = 3
"""Seeds from which a verdict is given."""


def detectable(gains: Iterable[float]) -> float:
    """Half the 95 % interval of a mean of paired differences, t(n−1)·s/√n: a smaller mean difference shows nothing.

    Args:
        gains: the difference of each seed, two at least.

    Raises:
        ValueError: fewer than two.
    """
    values = [*gains]
    if len(values) < 2:
        raise CltoolsError(
            f"{len(values)} seeds have no deviation, so they can detect no difference; train two or more."
        )
    return student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def verdict(gains: Iterable[float]) -> str:
    """What the seeds show: "ahead", "behind", or "no difference shown"; nothing is told from fewer than three.

    Two differences can be equal by accident, as accuracies move in steps of one image, and their deviation is then 0.
    """
    values = [*gains]
    if len(values) < LEAST:
        return "too few seeds to tell"
    mean = statistics.fmean(values)
    if abs(mean) <= detectable(values):
        return "no difference shown"
    return "ahead" if mean > 0 else "behind"


def standings(
    records: Comparison, arms: Iterable[str], figure: str = "knn200", *, against: str = BASELINE
) -> list[dict[str, Any]]:
    """A row an arm, in words: what it reached, the paired difference, what the seeds can detect, and what they show."""
    rows = []
    for arm in arms:
        reached, gains = [*records.of(arm, figure).values()], [*records.gains(arm, figure, against=against).values()]
        told = ("", "", "", "")
        if arm != against:
            told = (against, spread(gains, 2, layout="+"), f"{detectable(gains):.2f}", verdict(gains))
        paired = dict(zip(("against", "gain", "detectable", "the seeds show"), told, strict=True))
        rows.append({"arm": arm, "seeds": len(reached), f"{figure} %": spread(reached), **paired})
    return rows


@dataclass(frozen=True)
class Winner:
    """The best of several arms in all seeds but one, and what it is worth in that one.

    Attributes:
        left_out: the seed that had no say in the choice.
        arm: the best in the others, on average.
        chosen: its mean gain in the others.
        fresh: its gain in the seed left out.
    """

    left_out: int
    arm: str
    chosen: float
    fresh: float


def winners(
    records: Comparison, arms: Sequence[str], figure: str = "knn200", *, against: str = BASELINE
) -> list[Winner]:
    """The winner's curse, seed by seed: chosen by the other seeds, and looked at in the one left out."""
    gains = {arm: records.gains(arm, figure, against=against) for arm in arms}
    seeds = sorted(set.intersection(*({*of_seed} for of_seed in gains.values())))
    found = []
    for left_out in seeds:
        means = {
            arm: statistics.fmean(gain for seed, gain in of_seed.items() if seed in seeds and seed != left_out)
            for arm, of_seed in gains.items()
        }
        best = max(means, key=means.__getitem__)
        found.append(Winner(left_out, best, means[best], gains[best][left_out]))
    return found
