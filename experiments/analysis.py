"""What an experiment shows: differences to the baseline within seeds, their intervals, and the test for all arms.

Legend: A arms, S seeds, P purities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from cltools.reports.arms import BASELINE

Differences = Mapping[str, Sequence[float]]
"""By arm, the differences to the baseline of the same seed, in the order of the seeds."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; without bounds, NaN, for a single value."""

    mean: float
    low: float
    high: float

    @property
    def excludes_0(self) -> bool:
        """Whether 0 lies outside."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def differences(record: Mapping[str, Any], figure: str = "knn200") -> dict[str, list[float]]:
    """Return the differences of each arm to the baseline, for the seeds that have both; diverged rows are left out."""
    found = {(row["arm"], row["seed"]): row[figure] for row in record["rows"] if row.get(figure) is not None}
    seeds = sorted(seed for arm, seed in found if arm == BASELINE)
    arms = [arm for arm in record["arms"] if arm != BASELINE]
    return {arm: [found[arm, seed] - found[BASELINE, seed] for seed in seeds if (arm, seed) in found] for arm in arms}


def interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of some values with Student's interval."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(student.ppf((1 + level) / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Interval(mean, mean - half, mean + half)


def max_t(gained: Differences) -> dict[str, float]:
    """Return for each arm a p-value that holds for all of them together: the sign-flip test of the largest |t|.

    If an arm does not differ from the baseline, the sign of a seed's difference is arbitrary. All 2^S patterns of signs
    are applied, each to all arms alike, and an arm's p is the share of patterns whose largest |t| reaches its own
    (Westfall and Young, Resampling-Based Multiple Testing, 1993). The smallest possible p is 2^(1 − S).

    Raises:
        ValueError: the arms have different numbers of seeds.
    """
    values = np.array([*gained.values()], float)  # [A, S]
    observed = _t(values)
    largest = np.array([_t(values * signs).max() for signs in product((1, -1), repeat=values.shape[1])])
    shares = (largest[None] >= observed[:, None] * (1 - 1e-9)).mean(1)
    return dict(zip(gained, map(float, shares), strict=True))


def _t(values: Float[np.ndarray, "A S"]) -> Float[np.ndarray, " A"]:
    """Return |t| of each row; a row without spread has the largest t unless it is 0."""
    error = values.std(1, ddof=1) / np.sqrt(values.shape[1])
    return np.asarray(np.abs(values.mean(1)) / np.maximum(error, 1e-12))


@dataclass(frozen=True)
class Line:
    """A line fitted to differences over purity: points per unit of purity, and where it crosses 0 (None: nowhere)."""

    slope: Interval
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
