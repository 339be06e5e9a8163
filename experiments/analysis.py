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

BySeed = Mapping[int, float]


def differences(record: Mapping[str, Any], figure: str = "knn200", against: str = BASELINE) -> dict[str, BySeed]:
    """Return by arm and seed the differences to another arm; seeds in which one of the two diverged are missing."""
    found = {(row["arm"], row["seed"]): row[figure] for row in record["rows"] if row.get(figure) is not None}
    seeds = sorted(seed for arm, seed in found if arm == against)
    by_arm = {arm: [seed for seed in seeds if (arm, seed) in found] for arm in record["arms"] if arm != against}
    return {arm: {seed: found[arm, seed] - found[against, seed] for seed in of} for arm, of in by_arm.items()}


def less(one: BySeed, other: BySeed) -> dict[int, float]:
    """Return the differences of two arms, for the seeds that both have."""
    return {seed: value - other[seed] for seed, value in one.items() if seed in other}


@dataclass(frozen=True)
class Line:
    """A line fitted to differences over purity.

    Attributes:
        slope: points per unit of purity, with the ends of its interval.
        crossing: purity at which the mean line crosses 0; None if that is outside of the dialled range.
        crossings: ends of its interval; None for an end outside of the range.
        without: share of the resampled lines that cross outside of the range, or nowhere.
    """

    slope: tuple[float, float, float]
    crossing: float | None
    crossings: tuple[float | None, float | None]
    without: float


def line(purities: Sequence[float], gained: Float[np.ndarray, "P S"], draws: int = 4000) -> Line:
    """Fit a line to each seed's differences over purity.

    The slope's interval is Student's of the seeds' slopes. The crossing is that of the mean line, and its interval the
    middle 95 % of the crossings of lines whose seeds are resampled. A line that does not rise counts as one that
    crosses beyond the range.
    """
    x = np.asarray(purities, float)
    fits = np.polyfit(x, gained, 1)  # [slope and intercept, S]
    index = np.random.default_rng(0).integers(0, gained.shape[1], (draws, gained.shape[1]))
    slopes, starts = fits[0][index].mean(1), fits[1][index].mean(1)
    crossings = np.divide(-starts, slopes, out=np.where(starts < 0, np.inf, -np.inf), where=slopes > 0)
    inside = (crossings >= x.min()) & (crossings <= x.max())
    ends = [float(np.quantile(crossings, share, method="inverted_cdf")) for share in (0.025, 0.975)]
    low, high = (end if x.min() <= end <= x.max() else None for end in ends)
    slope, start = fits.mean(1)
    crossing = float(-start / slope) if slope > 0 and x.min() <= -start / slope <= x.max() else None
    return Line(interval(fits[0].tolist()), crossing, (low, high), 1 - float(inside.mean()))
