"""Verdicts over seeds: intervals by scipy, the test by brute force, and how often chance passes for a difference."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import ttest_1samp

from cltools.reports.verdicts import LEVEL, PATTERNS, SEEDS, interval, max_t, verdicts


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9, unique=True))
def test_an_interval_is_that_of_students_test(values: list[float]) -> None:
    if np.std(values) > 1e-3:
        expected = ttest_1samp(values, 0).confidence_interval()
        mean, low, high = interval(values)
        assert mean == pytest.approx(np.mean(values))
        assert high - low == pytest.approx(expected.high - expected.low, rel=0.01)
        assert low + high == pytest.approx(2 * mean)


def test_one_seed_has_no_interval() -> None:
    mean, low, high = interval([3.0])
    assert mean == 3.0 and math.isnan(low) and math.isnan(high)
    assert verdicts({"a": [3.0], "b": [1.0, 2.0, 3.0]}) == {"a": "+3.0", "b": "+2.0 [-0.5, +4.5]"}
    assert verdicts({}) == {}


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 6))
def test_the_largest_t_is_that_of_every_pattern_of_signs(seed: int, arms: int, seeds: int) -> None:
    values = np.random.default_rng(seed).standard_normal((arms, seeds))

    def t(x: np.ndarray) -> float:
        return float(abs(x.mean()) / (x.std(ddof=1) / np.sqrt(seeds)))

    patterns = [max(t(row * np.array(signs)) for row in values) for signs in product((1, -1), repeat=seeds)]
    expected = [sum(each >= t(row) * (1 - 1e-9) for each in patterns) / 2**seeds for row in values]
    assert [*max_t({str(i): row.tolist() for i, row in enumerate(values)}).values()] == pytest.approx(expected)


def test_an_arm_that_always_gains_is_ahead_with_eight_seeds_and_has_an_interval_alone_with_fewer() -> None:
    rng = np.random.default_rng(0)
    noise = {f"noise{i}": rng.standard_normal(SEEDS).tolist() for i in range(5)}
    gains = (2 + 0.1 * rng.standard_normal(SEEDS)).tolist()
    said = verdicts(noise | {"gains": gains, "loses": [-gain for gain in gains], "diverged": gains[:-1]})
    assert said["gains"].endswith("], ahead (p = 0.008)") and said["loses"].endswith("], behind (p = 0.008)")
    assert sum("open" in said[name] for name in noise) >= 4
    assert said["diverged"].endswith("]") and verdicts({"gains": gains[:7]})["gains"].endswith("]")


def test_with_many_seeds_patterns_are_drawn() -> None:
    rng = np.random.default_rng(1)
    seeds = int(math.log2(PATTERNS)) + 3
    found = max_t({"gains": (1 + rng.standard_normal(seeds)).tolist(), "none": [1.0, -1.0] * 7 + [0.0]})
    assert found["gains"] < 0.02 < 0.9 < found["none"]


def test_where_nothing_differs_a_verdict_is_rare() -> None:
    draws, rounds = np.random.default_rng(0), 400
    found = sum(
        any("open" not in said for said in verdicts({f"{i}": draws.normal(size=8).tolist() for i in range(5)}).values())
        for _ in range(rounds)
    )
    assert 0 < found / rounds < LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / rounds)
