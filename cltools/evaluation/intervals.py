"""Shares of pairs with confidence intervals. Pairs of one anchor are correlated, so anchors are the sampling units.

Legend: B anchors.
"""

import math
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

Z = 1.959963984540054  # 97.5 % point of the normal distribution, for 95 % intervals


@dataclass(frozen=True)
class Share:
    """A share of pairs with its 95 % interval.

    Attributes:
        value: the share, in [0, 1]. Without pairs, it and both ends are NaN.
        low: lower end of the interval.
        high: upper end of the interval.
        count: number of pairs counted.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if not self.count:
            return "none"
        return f"{100 * self.value:.2f} % [{100 * self.low:.2f}, {100 * self.high:.2f}]"


NOTHING = Share(math.nan, math.nan, math.nan, 0)


def share_of(hits: Int[Tensor, " B"], counts: Int[Tensor, " B"]) -> Share:
    """Return the share Σ hits / Σ counts of pairs, with an interval over anchors.

    The variance of this ratio is estimated from the anchors' residuals hits − value·counts (ratio estimator by
    linearisation: Cochran, Sampling Techniques, 1977, chapter 6). Wilson's interval is then computed with an effective
    sample size, the number of independent pairs that would have this variance. It is reduced when few anchors estimate
    the variance (both: Korn and Graubard, Survey Methodology 24, 1998) and never exceeds the number of pairs. When the
    residuals do not determine it, at a share of 0 or 1 or with a single anchor, it is the number of anchors that have
    pairs, as if each anchor contributed one pair.

    The interval covers the sampling of anchors with fixed keys, not the sampling of keys. Anchors must not be the keys
    themselves, because they would then be dependent.

    Args:
        hits: for each anchor, the number of pairs of the kind counted.
        counts: for each anchor, the number of all its pairs; anchors without pairs are ignored.
    """
    total = int(counts.sum())
    if total == 0:
        return NOTHING
    value = int(hits.sum()) / total
    low, high = wilson(value, _effective_pairs(value, hits.double(), counts.double()))
    return Share(value, low, high, total)


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval (JASA 22, 1927) for a share among `n` > 0 independent pairs."""
    scale = 1 + Z**2 / n
    centre = (value + Z**2 / (2 * n)) / scale
    half = Z / scale * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    # in exact arithmetic the ends enclose the value and stay in [0, 1]
    return max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def _effective_pairs(value: float, hits: Tensor, counts: Tensor) -> float:
    """Return the number of independent pairs for which the share would be as uncertain as it is for these anchors."""
    anchors, total = int((counts > 0).sum()), float(counts.sum())
    spread = value * (1 - value)
    if spread == 0 or anchors == 1:
        return anchors
    variance = anchors / (anchors - 1) * float((hits - value * counts).square().sum()) / total**2
    variance *= (student(anchors - 1) / Z) ** 2
    return spread / variance if variance * total > spread else total


def student(freedom: int) -> float:
    """Return the 97.5 % point of Student's distribution: exact for 1 and 2 degrees of freedom, else to 1 %.

    Abramowitz and Stegun, 26.7.5 (expansion about the normal's point) and 26.7.3 and 26.7.4 (inverted for 1 and 2).
    """
    if freedom <= 2:
        return math.tan(0.475 * math.pi) if freedom == 1 else 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = Z, freedom
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return z + (z**3 + z) / (4 * n) + second + third
