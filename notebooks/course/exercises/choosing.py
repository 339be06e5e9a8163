"""Checks of notebook 04: what paired seeds can detect, and the best cell of a recorded heat map.

Legend: n seeds.
"""

import math
import statistics
from collections.abc import Iterable
from typing import Any

from cltools.evaluation.intervals import Z, student
from cltools.mining import AugmentedView, CosineBand, MarginBand, RankBand
from cltools.reports.arms import BASELINE, chance_name
from course import grids, paired
from course.exercises.asking import Mistake, as_number, exercise
from course.exercises.exploring import as_explorer
from course.results import Comparison

WITHIN = 0.01
"""The relative tolerance within which a number counts as right."""
EDGE = 0.006
"""The tolerance for an edge of the explorer, as a share of the keys: half a percent, and rounding."""


@exercise
def detectable(answer: Any, gains: Iterable[float]) -> str:
    """Check the smallest mean difference that paired seeds can show: half its 95 % interval, t(n−1)·s/√n.

    Args:
        answer: in points.
        gains: the difference for each seed.
    """
    given, values = as_number(answer), [*gains]
    n, s = len(values), statistics.stdev(values)
    right, t = paired.detectable(values), student(n - 1)
    if math.isclose(given, right, rel_tol=WITHIN):
        mean = statistics.fmean(values)
        return f"These {n} seeds can show a difference of {right:.2f} points or more; the mean here is {mean:+.2f}."
    population = statistics.pstdev(values)
    mistakes = {
        Z * s / math.sqrt(n): f"1.96 is for very many seeds; with {n} it is t = {t:.2f}, as s is itself an estimate",
        t * s: "this is for a single seed; the mean of n seeds varies √n times less",
        s: "this is the deviation of one seed from the mean, not how far the mean itself may be off",
        s / math.sqrt(n): f"this is the standard error; a 95 % interval reaches t = {t:.2f} times as far",
        2 * right: "this is the whole interval; a difference is shown if it is larger than half of it",
        t * population / math.sqrt(n): "divide by n − 1 in the deviation: the mean is computed from the same seeds",
        student(n) * s / math.sqrt(n): f"{n} differences leave {n - 1} degrees of freedom, not {n}",
        abs(statistics.fmean(values)): "this is the mean difference; the question is how large it must be",
    }
    for value, words in mistakes.items():
        if math.isclose(given, value, rel_tol=WITHIN):
            raise Mistake(words)
    raise Mistake(
        f"it is {'more' if given < right else 'less'} than {given:g}: the deviation here is {s:.2f}, n is {n}"
    )


@exercise
def best_cell(answer: Any, records: Comparison, figure: str = "knn200") -> str:
    """Check that the explorer is set to the band with the largest mean gain over moco in a recorded grid.

    Args:
        answer: the explorer.
        records: the recorded grid.
        figure: the name of the compared figure.
    """
    rule, bands = as_explorer(answer).rules[1], grids.bands_of(records)
    if not isinstance(rule, RankBand | CosineBand | MarginBand):
        raise Mistake(f"the explorer's rule is {type(rule).__name__}; the map is of RankBand")
    if not isinstance(rule, RankBand) or rule.by != "positive":
        raise Mistake("the map's bands are rank shares around the positive: choose RankBand, and rank by positive")
    if rule.rescale or not isinstance(answer.rules[0], AugmentedView):
        raise Mistake("the map's bands mine no positives and are not rescaled: choose AugmentedView, rescale off")
    cell = [arm for arm, edges in bands.items() if _near(rule, *edges)]
    value = max(statistics.fmean(records.gains(arm, figure).values()) for arm in bands)
    if not cell:
        raise Mistake(
            f"a band from {100 * rule.drop_closest:.1f} % to {100 * rule.keep_within:.1f} % is no cell of the map; "
            "both edges must be at edges of the map"
        )
    mine = statistics.fmean(records.gains(cell[0], figure).values())
    if mine == value:
        worth = statistics.fmean(winner.fresh for winner in paired.winners(records, [*bands], figure))
        return (
            f"{cell[0]}: {value:+.2f} points above {BASELINE} in the seeds that chose it. If the best is chosen by all "
            f"seeds but one, it gains {worth:+.2f} in the one left out: that is what to expect of it."
        )
    _explain(records, bands, cell[0], figure)
    raise Mistake(f"{cell[0]} has {mine:+.2f} points, and another cell has more")


def _explain(records: Comparison, bands: dict[str, tuple[float, float]], arm: str, figure: str) -> None:
    """Raise a mistake for cells that result from misreading the maps."""
    by_chance = {name: _above_chance(records, name, edges, figure) for name, edges in bands.items()}
    least = {name: statistics.fmean(records.gains(name, figure).values()) for name in bands}
    if least[arm] == min(least.values()):
        raise Mistake(f"{arm} has the smallest gain, {least[arm]:+.2f} points: blue is above {BASELINE}, red below")
    if by_chance[arm] == max(by_chance.values()):
        raise Mistake(f"{arm} is the best against the random control, the right map; read the left one")
    for seed in records.seeds:
        of_seed = {name: records.gains(name, figure)[seed] for name in bands}
        if of_seed[arm] == max(of_seed.values()):
            raise Mistake(f"{arm} is the best in seed {seed} alone; on average over {len(records.seeds)} it is not")


def _above_chance(records: Comparison, arm: str, edges: tuple[float, float], figure: str) -> float:
    chance = chance_name(edges[1] - edges[0])
    return statistics.fmean(records.gains(arm, figure, against=chance).values())


def _near(rule: RankBand, closest: float, within: float) -> bool:
    return abs(rule.drop_closest - closest) <= EDGE and abs(rule.keep_within - within) <= EDGE
