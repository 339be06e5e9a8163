"""Statistical tests of which arms of a comparison differ from the baseline."""

from collections.abc import Mapping, Sequence

from scipy.stats import ttest_1samp

LEVEL = 0.05
"""Probability of at least one false verdict among all arms, if none differs (family-wise error rate)."""


def verdicts(gained: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Return a verdict per arm: "ahead" or "behind" with its p-value, or "open".

    Differences of the same seed are tested against 0 (Student's paired t-test), and the p-values are corrected for the
    number of arms tested (Holm, Scandinavian Journal of Statistics 6, 1979). Arms with fewer than three seeds, or with
    equal differences, are not tested and stay open, because their spread is unknown.

    Args:
        gained: by arm, the differences from the baseline of the same seed.
    """
    tested = {
        arm: float(ttest_1samp(gains, 0).pvalue) for arm, gains in gained.items() if len({*gains}) > 1 < len(gains) - 1
    }
    verdict, least = {}, 0.0
    for rank, arm in enumerate(sorted(tested, key=lambda arm: tested[arm])):
        least = max(least, min(1.0, tested[arm] * (len(tested) - rank)))
        side = "ahead" if sum(gained[arm]) > 0 else "behind"
        verdict[arm] = f"{side if least < LEVEL else 'open'} (p = {least:.3f})"
    return {arm: verdict.get(arm, "open") for arm in gained}
