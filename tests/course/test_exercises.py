"""Every check knows the right answer in any clothes, names the mistakes that are made, and stops for nothing."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from exercise_cases import Cases
from test_exercises_choosing import CASES as CHOOSING
from test_exercises_cutting import CASES as BANDS
from test_exercises_own import CASES as OWN
from test_exercises_pairing import CASES as POSITIVES
from test_exercises_pushing import CASES as NEGATIVES
from test_exercises_runs import CASES as RUNS

from course import check
from course.exercises.asking import exercise

Say = Callable[..., str]
CASES: dict[str, Cases] = {**NEGATIVES, **BANDS, **POSITIVES, **CHOOSING, **RUNS, **OWN}

each_check = pytest.mark.parametrize("name", check.__all__)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """What a check prints to an answer."""

    def said(name: str, answer: Any) -> str:
        capsys.readouterr()
        cases = CASES[name]
        assert getattr(check, name)(answer, *cases.given, **cases.settings) is None
        return capsys.readouterr().out

    return said


def test_every_check_has_its_cases() -> None:
    assert sorted(CASES) == sorted(check.__all__), "a right answer, other forms of it, a wrong type, and mistakes"
    for name, cases in CASES.items():
        assert cases.forms and all(form is not cases.right for form in cases.forms)
        assert len({words for _, words in cases.mistakes}) >= 2, "two typical mistakes, each with words of its own"
        assert getattr(check, name).__doc__


@each_check
def test_the_right_answer_is_right_in_every_form(say: Say, name: str) -> None:
    for answer in (CASES[name].right, *CASES[name].forms):
        said = say(name, answer)
        assert re.fullmatch(r"Right\. .+\.\n", said), (answer, said)


ODD = ["many", {"a": 1}, object(), [[1], [2, 3]], torch.ones(3), np.ones((2, 2))]
ODD += [float("nan"), float("inf"), 10**400, 1j]
EMPTY = [[], {}, "", np.array([]), torch.tensor([])]


@each_check
def test_nothing_that_is_given_stops_a_notebook(say: Say, name: str) -> None:
    for place in (None, ...):
        assert say(name, place) == "Not solved yet.\n"
    for empty in EMPTY:
        said = say(name, empty)
        assert said.startswith("Not yet: ") and f"{type(empty).__name__} is empty" in said, said
    for odd in ODD:
        assert say(name, odd).startswith("Not yet: "), odd
    answer, words = CASES[name].wrong_type
    said = say(name, answer)
    assert said.startswith("Not yet: ") and words in said, said


@each_check
def test_each_mistake_has_its_own_explanation(say: Say, name: str) -> None:
    mistakes = CASES[name].mistakes
    for answer, words in mistakes:
        said = say(name, answer)
        assert said.startswith("Not yet: ") and words in said, said
        others = {other for _, other in mistakes} - {words}
        assert not [other for other in others if other in said], "another mistake's words"


def test_a_check_that_fails_of_itself_is_not_silent() -> None:
    @exercise
    def broken(answer: Any) -> str:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        broken(1)
