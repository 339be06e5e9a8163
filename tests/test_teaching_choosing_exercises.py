"""Checks of notebook 04: the right answer in several forms, every mistake they claim to know, and none."""

import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from snapshots import made

from cltools.explorer.session import Session
from cltools.teaching import check
from cltools.teaching.records import Comparison

GAINS = [-2.0, -1.0, 0.0, 1.0, 3.0]
S, T = statistics.stdev(GAINS), 2.7694  # 2.7764 by the tables: the package's point is near to 1 %
RIGHT = T * S / math.sqrt(5)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("answer", [RIGHT, torch.tensor(RIGHT), np.float64(RIGHT), f"{RIGHT:.2f}", Fraction(RIGHT)])
def test_the_detectable_difference_is_right_in_any_form(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check.detectable(answer, GAINS)
    assert said(capsys) == f"Right. These 5 seeds show a difference from {RIGHT:.2f} points on; the mean here is +0.20."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
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
        (GAINS, "one number is wanted, and this is of type list"),
        ("much", "is of type str"),
        (math.nan, "no number to work with"),
    ],
)
def test_mistakes_about_it_are_explained(answer: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    check.detectable(answer, GAINS)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


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


def at(lower: float, upper: float, **more: Any) -> Session:
    return Session(made(200)).set(rule="BandNegatives", weighting="none", **more).set(lower=lower, upper=upper)


@pytest.mark.parametrize("answer", [at(0.0, 0.5), at(0.0, 0.505), at(0.0, 0.5, anchor=13)])
def test_the_best_cell_is_read_from_where_an_explorer_stands(
    answer: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    check.best_cell(answer, RECORDS)
    text = said(capsys)
    assert text.startswith("Right. band-0-0.5: +2.00 points above moco in the seeds that chose it.")
    assert "in the one left out: that is what to expect" in text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (at(0.0, 0.75), "band-0-0.75 has the least, -1.00 points"),
        (at(0.1, 0.75), "the best against as many keys by chance, the right map"),
        (at(0.1, 0.5), "the best in seed 0 alone; on average over 3 it is not"),
        (at(0.1, 1.0), "band-0.1-1 has +0.50 points, and another cell has more"),
        (at(0.05, 0.5), "a band from 5.0 % to 50.0 % is no cell of the map"),
        (at(0.0, 0.5, reference="anchor"), "set unit to rank, reference to positive"),
        (Session(made(200)).set(rule="RandomNegatives"), "the explorer's rule is RandomNegatives"),
        ((0.0, 0.5), "give the explorer itself, as it stands, and this is of type tuple"),
        (at(0.0, 0.5).rules, "is of type tuple"),
        ("band-0-0.5", "is of type str"),
    ],
)
def test_misreadings_of_the_map_are_explained(answer: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    check.best_cell(answer, RECORDS)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_what_to_expect_of_it_comes_from_seeds_that_had_no_say(capsys: pytest.CaptureFixture[str]) -> None:
    check.best_cell(at(0.0, 0.5), RECORDS)
    # without seed 0 the best is band-0-0.5, and without 1 or 2 too, by a tie: (5 − 1) / 2 = 2
    assert "the best gives +2.00" in said(capsys)


@pytest.mark.parametrize("answer", [None, ...])
def test_unsolved_exercises_stop_nothing(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check.detectable(answer, GAINS)
    check.best_cell(answer, RECORDS)
    assert said(capsys) == "\n".join(["Not solved yet."] * 2)
