"""What an experiment shows: differences to the baseline within seeds, and a line over the purity that is dialled.

Legend: S seeds, P purities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from cltools.reports.arms import BASELINE
from cltools.reports.verdicts import interval


def differences(record: Mapping[str, Any], figure: str = "knn200") -> dict[str, list[float]]:
    """Return the differences of each arm to the baseline, for the seeds that have both; diverged rows are left out."""
    found = {(row["arm"], row["seed"]): row[figure] for row in record["rows"] if row.get(figure) is not None}
    seeds = sorted(seed for arm, seed in found if arm == BASELINE)
    arms = [arm for arm in record["arms"] if arm != BASELINE]
    return {arm: [found[arm, seed] - found[BASELINE, seed] for seed in seeds if (arm, seed) in found] for arm in arms}


@dataclass(frozen=True)
class Line:
    """A line fitted to differences over purity.

    Attributes:
        slope: points per unit of purity, with the ends of its interval.
        crossing: purity at which it crosses 0; None for nowhere.
        crossings: ends of the crossing's interval.
        without: share of the resampled lines without a crossing.
    """

    slope: tuple[float, float, float]
    crossing: float | None
    crossings: tuple[float, float] | None
    without: float


def line(purities: Sequence[float], gained: Float[np.ndarray, "P S"], draws: int = 4000) -> Line:
    """Fit a line to each seed's differences over purity.

    The slope's interval is Student's of the seeds' slopes. The crossing is that of the mean line, its interval by
    resampling seeds: the middle 95 % of the crossings that lie between the smallest and the largest purity. `without`
    is the share of resampled lines without such a crossing; if it exceeds a half, there is none.
    """
    x = np.asarray(purities, float)
    fits = np.polyfit(x, gained, 1)  # [slope and intercept, S]
    index = np.random.default_rng(0).integers(0, gained.shape[1], (draws, gained.shape[1]))
    slopes, starts = fits[0][index].mean(1), fits[1][index].mean(1)
    crossings = -starts / np.where(slopes == 0, np.nan, slopes)
    inside = crossings[(crossings >= x.min()) & (crossings <= x.max())]
    without = 1 - len(inside) / draws
    if without > 0.5:
        return Line(interval(fits[0].tolist()), None, None, without)
    low, high = np.quantile(inside, [0.025, 0.975])
    crossing = -fits[1].mean() / fits[0].mean()
    return Line(interval(fits[0].tolist()), float(crossing), (float(low), float(high)), without)
