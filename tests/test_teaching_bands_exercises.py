"""Checks of notebook 02: the right answer, every mistake they claim to know, and none."""

from typing import Any

import pytest
import torch
from snapshots import made

from cltools.explorer.session import Session
from cltools.mining import Band, BandNegatives, PositiveRule, RandomNegatives, select
from cltools.teaching import check

S = made(200, epochs=(5,)).similarities(torch.tensor([11]))
ALL = made(200, epochs=(5,)).similarities()
PLAIN = PositiveRule(weighting="none")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def band(lower: float, upper: float, *, by_anchor: bool = False) -> torch.Tensor:
    """By ranks of a sort, without the package's cut."""
    score = S.anchor if by_anchor else S.key
    assert score is not None
    rank = score.masked_fill(S.own, -2).argsort(dim=1, descending=True).argsort(dim=1)
    first, last = int(lower * 200 + 0.5), int(upper * 200 + 0.5)
    return (rank >= first) & (rank < last) & ~S.own


def test_the_kept_keys_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    for answer in (band(0.05, 0.3), band(0.05, 0.3)[0], band(0.05, 0.3).tolist()):
        check.kept(answer, S, lower=0.05, upper=0.3)
        assert said(capsys) == "Right. The band keeps 50 keys."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (band(0.05, 0.3) | S.own, "the anchor's own key"),
        (band(0.05, 0.3, by_anchor=True), "closeness to z"),
        (~band(0.05, 0.3) & ~S.own, "outside of the band"),
        (band(0.0, 0.05), "closer than the lower edge"),
        (band(0.3, 1.0), "beyond the upper edge"),
        ((S.key >= 0.05) & (S.key < 0.3) & ~S.own, "cut at cosines"),  # type: ignore[operator]
        (S.key, "true or false is wanted for each key, and this holds float32"),
        (band(0.05, 0.3)[0, :7], "answers are wanted, one a key"),
        ("all", "is of type str"),
        (band(0.05, 0.29), "yours keeps 48 keys, and the band keeps 50"),
    ],
)
def test_mistakes_about_the_kept_keys_are_explained(
    answer: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check.kept(answer, S, lower=0.05, upper=0.3)
    assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_a_shift_by_the_own_key_and_the_wrong_end_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert S.key is not None
    rank = S.key.argsort(dim=1, descending=True).argsort(dim=1)
    check.kept((rank >= 10) & (rank < 60) & ~S.own, S, lower=0.05, upper=0.3)
    assert "shifts every edge by one" in said(capsys)
    rank = S.key.masked_fill(S.own, -2).argsort(dim=1, descending=True).argsort(dim=1)
    check.kept((rank >= 140) & (rank < 190) & ~S.own, S, lower=0.05, upper=0.3)
    assert "ranked from the farthest" in said(capsys)


def test_the_largest_edge_within_the_budget_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    costs = []
    assert ALL.same_class is not None
    true = ~ALL.same_class & ~ALL.own
    for count in range(200):
        hard = select(ALL, PLAIN, BandNegatives(count / 200, 1.0)).band == Band.HARD
        costs.append(float((hard & true).sum() / true.sum()))
    best = max(count for count, cost in enumerate(costs) if cost <= 0.1) / 200
    check.lower_edge(best, ALL, budget=0.1)
    assert said(capsys).startswith("Right. An edge of")
    for wrong, words in ((best + 0.05, "lower it"), (best - 0.05, "raise it"), (1.0, "below 1"), ("low", "type str")):
        check.lower_edge(wrong, ALL, budget=0.1)
        assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_a_band_beats_chance_only_far_from_the_positive(capsys: pytest.CaptureFixture[str]) -> None:
    check.beats_chance(BandNegatives(0.5, 1.0), ALL)
    assert said(capsys).startswith("Right.")
    for wrong, words in (
        (BandNegatives(0.0, 0.3), "more false negatives than chance"),
        (BandNegatives(0.0, 1.0), "no difference is shown"),
        (RandomNegatives(0.5), "is of type RandomNegatives"),
        (BandNegatives(0.0, 0.001), "keeps no key"),
    ):
        check.beats_chance(wrong, ALL)
        assert words in (text := said(capsys)) and text.startswith("Not yet")


def test_the_negatives_of_a_band_without_edges(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(made(200)).set(positives={"k": 3, "weighting": "hard"})
    check.negatives_left(196, session)
    assert said(capsys) == "Right. Of 199 other keys 3 are mined as positives, and those are not pushed."
    for wrong, words in ((200, "the anchor's own is its positive"), (199, "some of them are mined"), (5, "keeps more")):
        check.negatives_left(wrong, session)
        assert words in (text := said(capsys)) and text.startswith("Not yet")


@pytest.mark.parametrize("answer", [None, ...])
def test_unsolved_exercises_stop_nothing(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check.kept(answer, S, lower=0.05, upper=0.3)
    check.lower_edge(answer, ALL, budget=0.1)
    check.beats_chance(answer, ALL)
    check.negatives_left(answer, Session(made(200)))
    assert said(capsys) == "\n".join(["Not solved yet."] * 4)
