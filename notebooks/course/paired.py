"""Statistics of paired seeds: the smallest difference they can show, a verdict per arm, and the winner's curse.

Two arms of one seed start from the same weights and see the same images, so differences are taken within a seed.
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
"""The least number of seeds for a verdict."""


def detectable(gains: Iterable[float]) -> float:
    """Return half the 95 % interval of a mean of paired differences, t(n−1)·s/√n: smaller means show nothing.

    Args:
        gains: the difference for each seed, at least two.

    Raises:
        ValueError: there are fewer than two.
    """
    values = [*gains]
    if len(values) < 2:
        raise CltoolsError(
            f"{len(values)} seeds have no deviation, so they can detect no difference; train two or more."
        )
    return student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


def verdict(gains: Iterable[float]) -> str:
    """Return what the seeds show: "ahead", "behind", or "no difference shown"; fewer than three give no verdict.

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
    """Return one row per arm, in words: accuracy, paired difference, detectable difference, and verdict."""
    rows = []
    for arm in arms:
        reached, gains = [*records.of(arm, figure).values()], [*records.gains(arm, figure, against=against).values()]
        cells = ("", "", "", "")
        if arm != against:
            cells = (against, spread(gains, 2, layout="+"), f"{detectable(gains):.2f}", verdict(gains))
        paired = dict(zip(("against", "gain", "detectable", "the seeds show"), cells, strict=True))
        rows.append({"arm": arm, "seeds": len(reached), f"{figure} %": spread(reached), **paired})
    return rows


@dataclass(frozen=True)
class Winner:
    """The best of several arms in all seeds but one, and its gain in that one.

    Attributes:
        left_out: the seed that was not used for the choice.
        arm: the best arm in the other seeds, on average.
        chosen: its mean gain in the other seeds.
        fresh: its gain in the seed left out.
    """

    left_out: int
    arm: str
    chosen: float
    fresh: float


def winners(
    records: Comparison, arms: Sequence[str], figure: str = "knn200", *, against: str = BASELINE
) -> list[Winner]:
    """Return the winner's curse per seed: the best arm by the other seeds, and its gain in the one left out."""
    gains = {arm: records.gains(arm, figure, against=against) for arm in arms}
    seeds = sorted(set.intersection(*({*of_seed} for of_seed in gains.values())))
    results = []
    for left_out in seeds:
        means = {
            arm: statistics.fmean(gain for seed, gain in of_seed.items() if seed in seeds and seed != left_out)
            for arm, of_seed in gains.items()
        }
        best = max(means, key=means.__getitem__)
        results.append(Winner(left_out, best, means[best], gains[best][left_out]))
    return results
