"""What the seeds of a comparison show: an interval for each arm, and from eight seeds on a test of all arms together.

Legend: A arms, S seeds.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from cltools.evaluation.intervals import student

SEEDS = 8
"""The least number of seeds that is tested; with five, no sign-flip test can have a p below 0.06."""
LEVEL = 0.05
"""Probability of at least one false verdict among all arms, if none differs (family-wise error rate)."""
PATTERNS = 4096
"""Maximum number of patterns of signs; of more, as many are drawn."""


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of some values and the ends of Student's 95 % interval; both NaN for a single value."""
    mean, count = statistics.fmean(values), len(values)
    half = student(count - 1) * statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
    return mean, mean - half, mean + half


def max_t(gained: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return for each arm a p-value that holds for all of them together: the sign-flip test of the largest |t|.

    If an arm does not differ from the baseline, the sign of a seed's difference is arbitrary. Signs are flipped in
    every pattern, or from 13 seeds on in 4,096 drawn ones, each applied to all arms alike. An arm's p is the share of
    patterns whose largest |t| reaches its own (Westfall and Young, Resampling-Based Multiple Testing, 1993). With every
    pattern, the smallest possible p is 2^(1 − S).

    Args:
        gained: by arm, the differences from the baseline of the same S seeds.
    """
    values = np.array([*gained.values()], float)  # [A, S]
    seeds = values.shape[1]
    drawn = np.random.default_rng(0).choice((1, -1), (PATTERNS, seeds))
    signs = drawn if 2**seeds > PATTERNS else np.array([*product((1, -1), repeat=seeds)])
    signs[0] = 1  # the signs that were observed
    means = signs @ values.T / seeds  # [patterns, A]
    t = np.abs(means) / np.sqrt(np.maximum((values**2).mean(1) - means**2, 1e-24))
    reached = t.max(1)[:, None] >= t[0] * (1 - 1e-9)
    return dict(zip(gained, reached.mean(0).tolist(), strict=True))


def verdicts(gained: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return for each arm its mean difference with the 95 % interval, and "ahead", "behind" or "open" if it is tested.

    Arms are tested together, by `max_t`, if they have all seeds and these are at least eight.

    Args:
        gained: by arm, the differences from the baseline of the same seed.
    """
    seeds = max(map(len, gained.values()), default=0)
    tested = {arm: gains for arm, gains in gained.items() if len(gains) == seeds >= SEEDS}
    p, texts = max_t(tested) if tested else {}, {}
    for arm, gains in gained.items():
        mean, low, high = interval(gains)
        texts[arm] = f"{mean:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if len(gains) > 1 else "")
        if arm in p:
            texts[arm] += f", {'open' if p[arm] > LEVEL else 'ahead' if mean > 0 else 'behind'} (p = {p[arm]:.3f})"
    return texts
