"""Intervals, the test for all arms, and the fitted line, by brute force and on made data."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import ttest_1samp

from experiments.analysis import differences, interval, line, max_t


def test_differences_are_taken_within_seeds_that_have_both() -> None:
    figures = {("moco", 0): 40.0, ("moco", 1): 42.0, ("a", 0): 41.0, ("a", 1): 44.0, ("b", 1): 40.0, ("b", 2): 99.0}
    rows = [{"arm": arm, "seed": seed, "knn200": value} for (arm, seed), value in figures.items()]
    rows.append({"arm": "b", "seed": 0, "diverged": "yes"})
    assert differences({"rows": rows, "arms": {"moco": [], "a": [], "b": []}}) == {"a": [1.0, 2.0], "b": [-2.0]}


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=8, unique=True))
def test_an_interval_excludes_0_where_students_test_does(values: list[float]) -> None:
    if np.std(values) > 1e-3:
        assert interval(values).excludes_0 == (ttest_1samp(values, 0).pvalue < 0.05)


def test_an_interval_of_one_value_has_no_bounds() -> None:
    assert not interval([3.0]).excludes_0 and interval([3.0]).mean == 3.0
    assert str(interval([1.0, 2.0, 3.0])) == "+2.0 [-0.5, +4.5]"


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 6))
def test_the_largest_t_is_that_of_every_pattern_of_signs(seed: int, arms: int, seeds: int) -> None:
    values = np.random.default_rng(seed).standard_normal((arms, seeds))
    t = lambda x: abs(x.mean()) / (x.std(ddof=1) / np.sqrt(seeds))  # noqa: E731
    patterns = [max(t(row * np.array(signs)) for row in values) for signs in product((1, -1), repeat=seeds)]
    expected = [sum(each >= t(row) * (1 - 1e-9) for each in patterns) / 2**seeds for row in values]
    found = max_t({str(i): row.tolist() for i, row in enumerate(values)})
    assert [*found.values()] == pytest.approx(expected)


def test_an_arm_that_always_gains_is_significant_with_eight_seeds_and_not_with_three() -> None:
    rng = np.random.default_rng(0)
    noise = {f"noise{i}": rng.standard_normal(8).tolist() for i in range(5)}
    found = max_t(noise | {"gains": (2 + 0.1 * rng.standard_normal(8)).tolist()})
    assert found["gains"] == 2 / 256 and min(found[name] for name in noise) > 2 / 256
    assert max_t({"gains": [2.0, 2.1, 1.9]})["gains"] == 0.25


def test_under_no_difference_one_table_in_twenty_is_significant() -> None:
    rng = np.random.default_rng(1)
    tables = [max_t({str(i): rng.standard_normal(6).tolist() for i in range(4)}) for _ in range(300)]
    assert sum(min(table.values()) <= 0.05 for table in tables) / 300 == pytest.approx(0.04, abs=0.03)


def test_a_line_finds_slope_and_crossing_and_says_where_there_is_none() -> None:
    purities, rng = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0], np.random.default_rng(2)
    gained = (3 * (np.array(purities) - 0.6))[:, None] + 0.2 * rng.standard_normal((6, 8))
    fitted = line(purities, gained)
    assert fitted.slope.low < 3 < fitted.slope.high and fitted.without == 0
    assert fitted.crossing == pytest.approx(0.6, abs=0.05)
    assert fitted.crossings is not None and fitted.crossings[0] < 0.6 < fitted.crossings[1]
    assert line(purities, gained + 5).crossing is None
