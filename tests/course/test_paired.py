"""What paired seeds can detect, against closed forms, and what a chosen best is worth."""

import math
from typing import Any

import pytest

from course.paired import Winner, detectable, standings, verdict, winners
from course.results import Comparison


def made(**arms: list[float]) -> Comparison:
    """Accuracies by arm, a seed each."""
    rows: list[dict[str, Any]] = [
        {"arm": arm, "seed": seed, "knn200": value} for arm, values in arms.items() for seed, value in enumerate(values)
    ]
    return Comparison(tuple(rows))


@pytest.mark.parametrize(
    ("gains", "half"),
    [
        ([1.0, 3.0], 12.7062),  # s = √2, and t of one degree is tan(0.475 π)
        ([0.0, 1.0, 2.0], 4.30265 / math.sqrt(3)),
        ([-2.0, -1.0, 0.0, 1.0, 2.0], 2.77645 * math.sqrt(2.5 / 5)),
        ([7.0, 7.0, 7.0], 0.0),
    ],
)
def test_the_detectable_difference_is_students_interval(gains: list[float], half: float) -> None:
    assert detectable(gains) == pytest.approx(half, rel=0.01)
    assert detectable([-gain for gain in gains]) == detectable(gains) == detectable([gain + 5 for gain in gains])
    assert detectable([3 * gain for gain in gains]) == pytest.approx(3 * detectable(gains))


def test_one_seed_detects_nothing() -> None:
    with pytest.raises(ValueError, match="1 seeds have no deviation, so they can detect no difference; train two"):
        detectable([2.0])


def test_a_verdict_needs_more_than_the_detectable_difference() -> None:
    half = detectable([0.0, 1.0, 2.0])
    shifted = [[gain - 1 + mean for gain in (0.0, 1.0, 2.0)] for mean in (half + 0.01, half - 0.01, -half - 0.01)]
    assert [verdict(gains) for gains in shifted] == ["ahead", "no difference shown", "behind"]
    assert verdict([1.0, 1.0]) == "too few seeds to tell", "equal by accident: their interval has no width"


def test_a_row_an_arm() -> None:
    records = made(moco=[90.0, 92.0, 94.0], band=[91.0, 93.0, 95.5])
    baseline, band = standings(records, ["moco", "band"])
    nothing = dict.fromkeys(("against", "gain", "detectable", "the seeds show"), "")
    assert baseline == {"arm": "moco", "seeds": 3, "knn200 %": "92.0 ± 2.0", **nothing}
    assert (band["against"], band["gain"]) == ("moco", "+1.17 ± 0.29") and band["the seeds show"] == "ahead"
    assert float(band["detectable"]) == pytest.approx(4.30265 * math.sqrt(1 / 12) / math.sqrt(3), abs=0.01)


def test_the_best_is_chosen_without_the_seed_it_is_looked_at_in() -> None:
    records = made(moco=[0.0, 0.0, 0.0], a=[9.0, 0.0, 0.0], b=[1.0, 1.0, 1.0])
    assert winners(records, ["a", "b"]) == [
        Winner(0, "b", 1.0, 1.0),
        Winner(1, "a", 4.5, 0.0),
        Winner(2, "a", 4.5, 0.0),
    ]


def test_among_arms_that_differ_by_chance_the_chosen_gain_is_not_there_afresh() -> None:
    import torch

    noise = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = winners(
        made(moco=[0.0] * 6, **{f"arm{i}": row for i, row in enumerate(noise.tolist())}), [f"arm{i}" for i in range(40)]
    )
    assert min(winner.chosen for winner in found) > 0.5
    assert (
        abs(sum(winner.fresh for winner in found) / 6) < 0.9
    )  # six draws of deviation 1: two deviations of their mean
