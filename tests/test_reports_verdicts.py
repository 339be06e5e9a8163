"""Verdicts over seeds: the t-test and Holm's correction by hand, and how often chance passes for a difference."""

import math

import numpy as np
import pytest

from cltools.reports.verdicts import LEVEL, verdicts


def test_one_arm_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2·√3 with 2 degrees of freedom, whose p has a closed form."""
    t = 2 * math.sqrt(3)
    p = 1 - t / math.sqrt(2 + t**2)
    assert p == pytest.approx(0.0742, abs=1e-4)
    assert verdicts({"a": [1.0, 2.0, 3.0]}) == {"a": f"open (p = {p:.3f})"}


def test_holm_multiplies_the_smallest_by_the_number_of_arms_and_never_lets_a_later_one_be_smaller() -> None:
    clear = [5.0, 5.1, 4.9, 5.05]
    alone = verdicts({"a": clear})["a"]
    beside = verdicts(
        {"a": clear, "b": [-x for x in clear], "c": [0.1, -0.1, 0.2, -0.2], "d": [1.0], "e": [2.0, 2.0, 2.0]}
    )
    assert alone.startswith("ahead") and beside["a"].startswith("ahead") and beside["b"].startswith("behind")
    assert beside["a"][5:] == beside["b"][6:], "equal p-values stay equal, though the second has a smaller factor"
    assert beside["c"].startswith("open (p = ") and beside["d"] == beside["e"] == "open"


def test_where_nothing_differs_a_verdict_is_rare() -> None:
    draws, rounds = np.random.default_rng(0), 400
    found = sum(
        any(
            not said.startswith("open")
            for said in verdicts({f"{i}": draws.normal(size=3).tolist() for i in range(5)}).values()
        )
        for _ in range(rounds)
    )
    assert found / rounds < LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / rounds)
