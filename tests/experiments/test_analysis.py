"""Differences within seeds, and the fitted line, on made data."""

import numpy as np
import pytest

from experiments.analysis import differences, less, line


def test_differences_are_taken_within_seeds_that_have_both() -> None:
    figures = {("moco", 0): 40.0, ("moco", 1): 42.0, ("a", 0): 41.0, ("a", 1): 44.0, ("b", 1): 40.0, ("b", 2): 99.0}
    rows = [{"arm": arm, "seed": seed, "knn200": value} for (arm, seed), value in figures.items()]
    rows.append({"arm": "b", "seed": 0, "diverged": "yes"})
    assert differences({"rows": rows, "arms": {"moco": [], "a": [], "b": []}}) == {
        "a": {0: 1.0, 1: 2.0},
        "b": {1: -2.0},
    }


def test_a_line_finds_slope_and_crossing_and_says_where_there_is_none() -> None:
    purities, rng = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0], np.random.default_rng(2)
    gained = (3 * (np.array(purities) - 0.6))[:, None] + 0.2 * rng.standard_normal((6, 8))
    fitted = line(purities, gained)
    assert fitted.slope[1] < 3 < fitted.slope[2] and fitted.without == 0
    assert fitted.crossing == pytest.approx(0.6, abs=0.05)
    low, high = fitted.crossings
    assert low is not None and high is not None and low < 0.6 < high
    above = line(purities, gained + 5)
    assert above.crossing is None and above.without == 1 and above.crossings == (None, None)
    falling = line(purities, -gained)
    assert falling.crossing is None and falling.slope[2] < 0


def test_a_crossing_near_the_end_of_the_range_is_open_beyond_it() -> None:
    purities = [0.1, 0.5, 1.0]
    gained = (2 * (np.array(purities) - 1))[:, None] + 0.2 * np.random.default_rng(0).standard_normal((3, 8))
    fitted = line(purities, gained)
    assert 0.1 < fitted.without < 0.9 and fitted.crossings[1] is None and fitted.crossings[0] is not None


def test_differences_of_two_arms_are_of_the_seeds_that_both_have() -> None:
    assert less({0: 1.0, 1: 3.0, 2: 5.0}, {1: 1.0, 2: 1.0, 3: 9.0}) == {1: 2.0, 2: 4.0}
