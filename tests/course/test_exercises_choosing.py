"""Checks of notebook 04: answers to each, and what the right ones are told."""

import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from exercise_cases import Cases
from snapshots import made

from cltools.explorer.session import Session
from course import check
from course.results import Comparison

GAINS = [-2.0, -1.0, 0.0, 1.0, 3.0]
S, T = statistics.stdev(GAINS), 2.7694  # 2.7764 by the tables: the package's point is near to 1 %
RIGHT = T * S / math.sqrt(5)

DETECTABLE = Cases(
    right=RIGHT,
    forms=[torch.tensor(RIGHT), np.float64(RIGHT), f"{RIGHT:.2f}", Fraction(RIGHT)],
    wrong_type=(GAINS, "one number is wanted, and this is of type list"),
    mistakes=[
        (1.96 * S / math.sqrt(5), "1.96 is for very many seeds; with 5 it is t = 2.77"),
        (T * S, "this is for a single seed"),
        (S, "the deviation of one seed"),
        (S / math.sqrt(5), "this is the standard error"),
        (2 * RIGHT, "this is the whole interval"),
        (T * statistics.pstdev(GAINS) / math.sqrt(5), "divide by n − 1"),
        (2.5706 * S / math.sqrt(5), "leave 4 degrees of freedom, not 5"),
        (0.2, "this is the mean difference"),
        (0.5, "it is more than 0.5"),
        (50, "it is less than 50"),
        (math.nan, "no number to work with"),
    ],
    given=(GAINS,),
)

ARMS = {
    "moco": [90.0, 90.0, 90.0],
    "band-0-0.5": [92.0, 92.0, 92.0],  # the best on average
    "band-0-0.75": [89.0, 89.0, 89.0],  # the least
    "band-0.1-0.5": [95.0, 89.0, 89.0],  # the best in the first seed
    "band-0.1-0.75": [91.0, 91.0, 91.0],  # the best against chance
    "band-0.1-1": [90.5, 90.5, 90.5],
    "random-0.5": [91.0, 91.0, 91.0],
    "random-0.75": [90.0, 90.0, 90.0],
    "random-0.4": [91.0, 91.0, 91.0],
    "random-0.65": [85.0, 85.0, 85.0],
    "random-0.9": [90.0, 90.0, 90.0],
}
RECORDS = Comparison(
    tuple({"arm": arm, "seed": seed, "knn200": value} for arm, of in ARMS.items() for seed, value in enumerate(of))
)


def at(drop_closest: float, keep_within: float, **more: Any) -> Session:
    return Session(made(200)).set(
        rule="RankBand", positive_rule="AugmentedView", drop_closest=drop_closest, keep_within=keep_within, **more
    )


BEST_CELL = Cases(
    right=at(0.0, 0.5),
    forms=[at(0.0, 0.505), at(0.0, 0.5, anchor=13)],
    wrong_type=((0.0, 0.5), "the explorer itself is wanted, as returned by explore(…), and this is of type tuple"),
    mistakes=[
        (at(0.0, 0.75), "band-0-0.75 has the smallest gain, -1.00 points"),
        (at(0.1, 0.75), "the best against the random control, the right map"),
        (at(0.1, 0.5), "the best in seed 0 alone; on average over 3 it is not"),
        (at(0.1, 1.0), "band-0.1-1 has +0.50 points, and another cell has more"),
        (at(0.05, 0.5), "a band from 5.0 % to 50.0 % is no cell of the map"),
        (at(0.0, 0.5, by="anchor"), "choose RankBand, and rank by positive"),
        (at(0.0, 0.5, rescale=True), "are not rescaled: choose AugmentedView, rescale off"),
        (Session(made(200)).set(rule="RandomNegatives"), "the explorer's rule is RandomNegatives"),
        ("band-0-0.5", "is of type str"),
    ],
    given=(RECORDS,),
)

CASES = {"detectable": DETECTABLE, "best_cell": BEST_CELL}


def test_the_right_difference_is_told_beside_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    check.detectable(RIGHT, GAINS)
    told = f"Right. These 5 seeds can show a difference of {RIGHT:.2f} points or more; the mean here is +0.20.\n"
    assert capsys.readouterr().out == told


def test_what_to_expect_of_the_best_cell_comes_from_seeds_that_had_no_say(capsys: pytest.CaptureFixture[str]) -> None:
    check.best_cell(at(0.0, 0.5), RECORDS)
    told = capsys.readouterr().out
    assert told.startswith("Right. The cell band-0-0.5: +2.00 points above moco in the seeds that chose it.")
    # without seed 0 the best is band-0-0.5, and without 1 or 2 too, by a tie: (5 − 1) / 2 = 2
    assert "in the one left out: that is what to expect" in told and "it gains +2.00" in told
