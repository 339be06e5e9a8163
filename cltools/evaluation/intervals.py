"""Shares of pairs, and how far to trust them: the pairs of one anchor are alike, so the anchor is the unit.

Legend: B anchors.
"""

import math
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

Z = 1.959963984540054  # the normal's 97.5 % point: intervals are of 95 %


@dataclass(frozen=True)
class Share:
    """A share of pairs with its 95 % interval.

    Attributes:
        value: in [0, 1]; NaN, as the ends are, where nothing was counted.
        low: lower end of the interval.
        high: upper end.
        count: pairs counted.
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
    """The share Σ hits / Σ counts of pairs, with an interval over anchors.

    The variance of this ratio comes from the anchors' residuals hits − value·counts (ratio estimator by linearisation:
    Cochran, Sampling Techniques, 1977, chapter 6). Wilson's interval is then taken with the number of independent
    pairs of the same variance, an effective sample size, lowered where few anchors tell the variance (both: Korn and
    Graubard, Survey Methodology 24, 1998) and never above the pairs counted. Where residuals cannot tell it, at a share
    of 0 or 1 or with a single anchor, it is the number of anchors that count, as if all pairs of an anchor were one.

    The interval is for other anchors against the same keys; that the keys are a sample too is not in it. Anchors must
    not be the keys themselves, which would tie them to each other.

    Args:
        hits: pairs of each anchor that are of the kind looked for.
        counts: all its pairs; an anchor without any does not count.
    """
    total = int(counts.sum())
    if total == 0:
        return NOTHING
    value = int(hits.sum()) / total
    low, high = wilson(value, _effective_pairs(value, hits.double(), counts.double()))
    return Share(value, low, high, total)


def wilson(value: float, n: float) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval (JASA 22, 1927) of a share found among `n` independent pairs, n above 0."""
    scale = 1 + Z**2 / n
    centre = (value + Z**2 / (2 * n)) / scale
    half = Z / scale * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    # in exact arithmetic the ends enclose the value and stay in [0, 1]
    return max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def _effective_pairs(value: float, hits: Tensor, counts: Tensor) -> float:
    """How many independent pairs would leave the share as uncertain as these anchors do."""
    anchors, total = int((counts > 0).sum()), float(counts.sum())
    spread = value * (1 - value)
    if spread == 0 or anchors == 1:
        return anchors
    variance = anchors / (anchors - 1) * float((hits - value * counts).square().sum()) / total**2
    variance *= (student(anchors - 1) / Z) ** 2
    return spread / variance if variance * total > spread else total


def student(freedom: int) -> float:
    """Student's 97.5 % point: exact for 1 and 2, then by its expansion about the normal's, to 1 %.

    Abramowitz and Stegun, 26.7.5 (the expansion), 26.7.3 and 26.7.4 (what 1 and 2 are the inverses of).
    """
    if freedom <= 2:
        return math.tan(0.475 * math.pi) if freedom == 1 else 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = Z, freedom
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return z + (z**3 + z) / (4 * n) + second + third
