"""Differences within seeds, and the fitted line, on made data."""

import numpy as np
import pytest

from experiments.analysis import differences, line


def test_differences_are_taken_within_seeds_that_have_both() -> None:
    figures = {("moco", 0): 40.0, ("moco", 1): 42.0, ("a", 0): 41.0, ("a", 1): 44.0, ("b", 1): 40.0, ("b", 2): 99.0}
    rows = [{"arm": arm, "seed": seed, "knn200": value} for (arm, seed), value in figures.items()]
    rows.append({"arm": "b", "seed": 0, "diverged": "yes"})
    assert differences({"rows": rows, "arms": {"moco": [], "a": [], "b": []}}) == {"a": [1.0, 2.0], "b": [-2.0]}


def test_a_line_finds_slope_and_crossing_and_says_where_there_is_none() -> None:
    purities, rng = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0], np.random.default_rng(2)
    gained = (3 * (np.array(purities) - 0.6))[:, None] + 0.2 * rng.standard_normal((6, 8))
    fitted = line(purities, gained)
    assert fitted.slope[1] < 3 < fitted.slope[2] and fitted.without == 0
    assert fitted.crossing == pytest.approx(0.6, abs=0.05)
    assert fitted.crossings is not None and fitted.crossings[0] < 0.6 < fitted.crossings[1]
    assert line(purities, gained + 5).crossing is None
