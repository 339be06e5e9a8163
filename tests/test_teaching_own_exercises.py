"""Checks of notebook 06: the right answer, every mistake they claim to know, and none."""

import math
from typing import Any

import pytest
import torch

from cltools.teaching import check

IDS = torch.tensor([4, 9, 2])
KEYS = torch.tensor([9, 1, 4, 9, 7])
OWN = torch.tensor([[i == k for k in KEYS.tolist()] for i in IDS.tolist()])


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_the_own_keys_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (OWN, OWN.tolist()):
        check.own_keys(answer, IDS, KEYS)
        assert said(capsys) == "Right. 3 of 15 pairs are of one image, and none of them is a negative."


NEWEST = OWN.clone()
NEWEST[1, 0] = False
STRAY = OWN.clone()
STRAY[0, :3] = torch.tensor([True, True, False])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.zeros(3, 5, dtype=torch.bool), "so 3 views of an anchor's own image would be pushed away"),
        (~OWN, "this marks all others"),
        (NEWEST, "an older one in the queue"),
        (torch.eye(3, 5, dtype=torch.bool), "places were compared, not ids"),
        (STRAY, "1 own keys are missed, and 2 keys of other images are marked"),
        (OWN.T, "the other way round"),
        (OWN[:2], r"a mask of shape [3, 5] is wanted, and this has [2, 5]"),
        (OWN.int(), "this holds int32"),
        ("own", "of type str"),
    ],
)
def test_mistakes_about_them_are_explained(answer: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    check.own_keys(answer, IDS, KEYS)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


@pytest.mark.parametrize(("share", "dropped"), [(0.02, 5), (0.1, 1), (0.05, 20), (1.0, 3)])
def test_the_keys_that_a_share_needs(share: float, dropped: int, capsys: pytest.CaptureFixture[str]) -> None:
    needed = next(count for count in range(1, 9999) if math.floor(share * count + 0.5) >= dropped)
    check.rows_needed(needed, share=share, dropped=dropped)
    assert said(capsys).startswith(f"Right. Of {needed} keys {100 * share:g} % drops {dropped}; of one fewer")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (250, "rounded to the nearest key, not down"),
        (224, "of 224 keys 2 % drops 4, and 5 are asked for: more keys are needed"),
        (300, "fewer keys are enough for 5"),
        (22.5, "a whole number of keys"),
        ("many", "of type str"),
    ],
)
def test_mistakes_about_shares_are_explained(answer: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    check.rows_needed(answer, share=0.02, dropped=5)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_nothing_is_solved_yet_and_that_is_ordinary(capsys: pytest.CaptureFixture[str]) -> None:
    check.own_keys(None, IDS, KEYS)
    check.rows_needed(None, share=0.02, dropped=5)
    assert said(capsys).splitlines() == ["Not solved yet."] * 2
