"""Checks of notebook 04: what paired seeds can detect, and the best cell of a recorded heat map.

Legend: n seeds.
"""

import math
import statistics
from collections.abc import Iterable

from cltools.evaluation.intervals import Z, student
from cltools.reports.arms import BASELINE, chance_name
from course import grids, paired
from course.exercises.cases import Case, Cases, about, exercise_by_cases
from course.exercises.cutting import RULE
from course.results import Comparison

WITHIN = 0.01
"""The relative tolerance within which a number counts as right."""
EDGE = 0.006
"""The tolerance for an edge of the explorer, as a share of the keys: half a percent, and rounding."""
NOTHING_ELSE = "the map's bands mine no positives and are not rescaled: choose AugmentedView, rescale off"


@exercise_by_cases
def detectable(gains: Iterable[float]) -> Cases:
    """Check the smallest mean difference that paired seeds can show: half its 95 % interval, t(n−1)·s/√n, in points.

    Args:
        gains: the difference for each seed.
    """
    values = [*gains]
    n, s, right = len(values), statistics.stdev(values), paired.detectable(values)
    t, mean, population = student(n - 1), statistics.fmean(values), statistics.pstdev(values)
    mistakes = {
        Z * s / math.sqrt(n): f"1.96 is for very many seeds; with {n} it is t = {t:.2f}, as s is itself an estimate",
        t * s: "this is for a single seed; the mean of n seeds varies √n times less",
        s: "this is the deviation of one seed from the mean, not how far the mean itself may be off",
        s / math.sqrt(n): f"this is the standard error; a 95 % interval reaches t = {t:.2f} times as far",
        2 * right: "this is the whole interval; a difference is shown if it is larger than half of it",
        t * population / math.sqrt(n): "divide by n − 1 in the deviation: the mean is computed from the same seeds",
        student(n) * s / math.sqrt(n): f"{n} differences leave {n - 1} degrees of freedom, not {n}",
        abs(mean): "this is the mean difference; the question is how large it must be",
    }
    told = f"these {n} seeds can show a difference of {right:.2f} points or more; the mean here is {mean:+.2f}"
    rest = f"than {{answer:.4g}}: the deviation here is {s:.2f}, n is {n}"
    return Cases(
        (
            Case(told, {"answer": about(right, WITHIN)}, right=True),
            *(Case(words, {"answer": about(value, WITHIN)}) for value, words in mistakes.items()),
            Case(f"it is more {rest}", {"answer": (None, right)}),
            Case(f"it is less {rest}"),
        ),
        unit="points",
    )


@exercise_by_cases
def best_cell(records: Comparison, figure: str = "knn200") -> Cases:
    """Check that the explorer is set to the band with the largest mean gain over moco in a recorded grid.

    Args:
        records: the recorded grid.
        figure: the name of the compared figure.
    """
    bands = grids.bands_of(records)
    mean = {arm: statistics.fmean(records.gains(arm, figure).values()) for arm in bands}
    best = max(mean.values())
    worth = statistics.fmean(winner.fresh for winner in paired.winners(records, [*bands], figure))
    right = (
        f"the cell {{arm}}: {best:+.2f} points above {BASELINE} in the seeds that chose it. If the best is chosen by "
        f"all seeds but one, it gains {worth:+.2f} in the one left out: that is what to expect of it"
    )
    wrong = _misread(records, bands, figure)
    cells = [
        Case(
            right.format(arm=arm) if mean[arm] == best else wrong[arm],
            {"edge": _near(closest), "within": _near(within)},
            right=mean[arm] == best,
        )
        for arm, (closest, within) in bands.items()
    ]
    return Cases(
        (
            Case("the explorer's rule is {rule}; the map is of RankBand", {"ranks": (0, 0)}),
            Case(
                "the map's bands are rank shares around the positive: choose RankBand, and rank by positive",
                {"by": (0, 0)},
            ),
            Case(NOTHING_ELSE, {"rescales": (1, 1)}),
            Case(NOTHING_ELSE, {"mines": (1, 1)}),
            *cells,
            Case("a band from {edge:.1f} % to {within:.1f} % is no cell of the map; both edges must be at edges of it"),
        ),
        RULE
        | {
            "by": ("ranks_by_positive",),
            "rescales": ("rescales",),
            "mines": ("mines",),
            "edge": ("drop_closest",),
            "within": ("keep_within",),
        },
    )


def _misread(records: Comparison, bands: dict[str, tuple[float, float]], figure: str) -> dict[str, str]:
    """Return what each cell that is not the best is told: how the maps are misread if one chooses it."""
    gains = {arm: records.gains(arm, figure) for arm in bands}
    mean = {arm: statistics.fmean(of.values()) for arm, of in gains.items()}
    by_chance = {arm: _above_chance(records, arm, edges, figure) for arm, edges in bands.items()}
    told = {arm: f"{arm} has {mean[arm]:+.2f} points, and another cell has more" for arm in bands}
    for seed in reversed(records.seeds):
        arm = max(bands, key=lambda name: gains[name][seed])
        told[arm] = f"{arm} is the best in seed {seed} alone; on average over {len(records.seeds)} it is not"
    arm = max(bands, key=by_chance.__getitem__)
    told[arm] = f"{arm} is the best against the random control, the right map; read the left one"
    arm = min(bands, key=mean.__getitem__)
    told[arm] = f"{arm} has the smallest gain, {mean[arm]:+.2f} points: blue is above {BASELINE}, red below"
    return told


def _above_chance(records: Comparison, arm: str, edges: tuple[float, float], figure: str) -> float:
    chance = chance_name(edges[1] - edges[0])
    return statistics.fmean(records.gains(arm, figure, against=chance).values())


def _near(share: float) -> tuple[float, float]:
    """Return the bounds of an edge at this share of the keys, in percent."""
    return 100 * (share - EDGE), 100 * (share + EDGE)
