"""Which arms of a comparison differ from the baseline, as far as its seeds can say."""

from collections.abc import Mapping, Sequence

from scipy.stats import ttest_1samp

LEVEL = 0.05
"""Chance of one false verdict or more among all arms, if none differs."""


def verdicts(gained: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """A verdict per arm: "ahead" or "behind" with its p-value, or "open".

    Differences of the same seed are tested against 0 (Student's paired t-test), and the p-values are corrected for the
    number of arms tested (Holm, Scandinavian Journal of Statistics 6, 1979). Fewer than three seeds, or differences
    that are all alike, say nothing of the spread and stay open.

    Args:
        gained: by arm, what it has more than the baseline of the same seed.
    """
    tested = {
        arm: float(ttest_1samp(found, 0).pvalue) for arm, found in gained.items() if len({*found}) > 1 < len(found) - 1
    }
    said, least = {}, 0.0
    for rank, arm in enumerate(sorted(tested, key=lambda arm: tested[arm])):
        least = max(least, min(1.0, tested[arm] * (len(tested) - rank)))
        side = "ahead" if sum(gained[arm]) > 0 else "behind"
        said[arm] = f"{side if least < LEVEL else 'open'} (p = {least:.3f})"
    return {arm: said.get(arm, "open") for arm in gained}
