"""Checks of notebooks 00 and 02: answers to each, and what an edge costs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from exercise_cases import Cases
from snapshots import made

from cltools.explorer.session import Session
from cltools.mining import AugmentedView, Band, CosineBand, RandomNegatives, RankBand, select
from course import check

SNAPSHOT = made(200, epochs=(1, 5))
S = SNAPSHOT.similarities(torch.tensor([11]))
ALL = SNAPSHOT.similarities()
assert S.positive_keys is not None and ALL.same_class is not None


def band(drop_closest: float, keep_within: float, *, by_anchor: bool = False, ranked_own: bool = False) -> torch.Tensor:
    """By ranks of a sort, without the package's cut."""
    score = S.anchor_keys if by_anchor else S.positive_keys
    assert score is not None
    score = score if ranked_own else score.masked_fill(S.own, -2)
    rank = score.argsort(dim=1, descending=True).argsort(dim=1)
    first, last = int(drop_closest * 200 + 0.5), int(keep_within * 200 + 0.5)
    return (rank >= first) & (rank < last) & ~S.own


KEPT = Cases(
    right=band(0.05, 0.3),
    forms=[band(0.05, 0.3)[0], band(0.05, 0.3).tolist(), band(0.05, 0.3).numpy()],
    wrong_type=("all", "true or false for each key is wanted, and this is of type str"),
    mistakes=[
        (band(0.05, 0.3) | S.own, "the anchor's own key"),
        (band(0.05, 0.3, by_anchor=True), "closeness to z"),
        (~band(0.05, 0.3) & ~S.own, "outside of the band"),
        (band(0.05, 0.3, ranked_own=True), "shifts every edge by one"),
        (band(0.0, 0.05), "you kept the closest keys"),
        (band(0.3, 1.0), "beyond keep_within"),
        (band(0.7, 0.95), "ranked from the farthest"),
        ((S.positive_keys >= 0.05) & (S.positive_keys < 0.3) & ~S.own, "cut at cosines"),
        (S.positive_keys, "as a comparison gives, and this holds float32"),
        (band(0.05, 0.3)[0, :7], "a mask of shape [1, 200] is wanted, and this has [7]"),
        (band(0.05, 0.29), "yours keeps 48 keys, the band keeps 50, and they differ in 2 keys"),
    ],
    given=(S,),
    settings={"drop_closest": 0.05, "keep_within": 0.3},
)


def at(snapshot: Any = SNAPSHOT, **changes: Any) -> Session:
    return Session(snapshot).set(rule="RankBand", **changes)


WIDE = at(drop_closest=0.0, keep_within=1.0).set(positive_rule="NearestKeys", k=3, min_weight=None)

NEGATIVES_LEFT = Cases(
    right=196,
    forms=[196.0, torch.tensor(196)],
    wrong_type=("nearly all", "one number is wanted, and this is of type str"),
    mistakes=[
        (200, "the anchor's own is its positive"),
        (199, "some of them are mined"),
        (5, "the anchor keeps more than 5"),
        (198, "the anchor keeps fewer than 198"),
    ],
    given=(WIDE,),
)

FALSE, TRUE = (keys & ~ALL.own for keys in (ALL.same_class, ~ALL.same_class))
"""False and true negatives."""


def priced(count: int, epoch: int = 5) -> tuple[float, float]:
    """Shares of the false and of the true negatives among the `count` closest keys, by a sort."""
    s = SNAPSHOT.similarities(epoch=SNAPSHOT.epochs.index(epoch))
    assert s.positive_keys is not None
    closest = torch.zeros_like(s.own).scatter_(
        1, s.positive_keys.masked_fill(s.own, -2).topk(count, dim=1).indices, True
    )
    return float((closest & FALSE).sum() / FALSE.sum()), float((closest & TRUE).sum() / TRUE.sum())


BUY, PRICE = priced(30)
NEED = {"false": BUY - 0.01, "true": PRICE + 0.01}

NO_EXPLORER = (0.15, "the explorer itself is wanted, as returned by explore(…), and this is of type float")
NO_EDGES: list[tuple[Any, str]] = [
    (Session(SNAPSHOT).set(rule="AllNegatives"), "rule is AllNegatives"),
    (at(drop_closest=0.15).set(rule="CosineBand"), "rule is CosineBand"),
    (at(made(200, labelled=False), drop_closest=0.15), "only labels show false negatives"),
]

DROPPED = Cases(
    right=at(drop_closest=0.15),
    forms=[
        at(drop_closest=0.15, keep_within=0.3, anchor=13),
        at(drop_closest=0.9, keep_within=1.0).set(compare=True, drop_closest=0.15),
    ],
    wrong_type=NO_EXPLORER,
    mistakes=[
        (at(drop_closest=0.02), "raise it"),
        (at(drop_closest=0.4), "No edge drops only false ones"),
        (at(drop_closest=0.17, epoch=1), "does the explorer show the last epoch?"),
        *NO_EDGES,
    ],
    settings=NEED,
)

BUDGET = 0.1
BEST = next(count for count in range(1, 199) if priced(count + 1)[1] > BUDGET) / 200  # the price rises with the count

DROP_CLOSEST = Cases(
    right=at(drop_closest=BEST, keep_within=0.9),
    forms=[
        at(drop_closest=BEST - 0.002, keep_within=1.0, anchor=13),
        at(keep_within=0.9).set(compare=True, drop_closest=BEST),
    ],
    wrong_type=NO_EXPLORER,
    mistakes=[(at(drop_closest=BEST + 0.005), "lower it"), (at(drop_closest=BEST - 0.05), "so raise it"), *NO_EDGES],
    settings={"budget": BUDGET},
)

BEATS_CHANCE = Cases(
    right=RankBand(0.5, 1.0),
    forms=[
        RankBand(0.6, 0.9),
        CosineBand(above=None, below=float(S.positive_keys.median())),
        RankBand(0.5, 1.0, by="anchor"),
    ],
    wrong_type=(RandomNegatives(0.5), "a band such as RankBand(0.1, 0.5) is wanted, and this is of type Random"),
    mistakes=[
        (RankBand, "and this is the class RankBand"),
        (RankBand(0.0, 0.3), "more false negatives than chance"),
        (RankBand(0.0, 1.0), "no difference is shown"),
        (RankBand(0.0, 0.001), "keeps no key"),
    ],
    given=(ALL,),
)

CASES = {
    "kept": KEPT,
    "negatives_left": NEGATIVES_LEFT,
    "dropped": DROPPED,
    "drop_closest": DROP_CLOSEST,
    "beats_chance": BEATS_CHANCE,
}


def test_negatives_are_counted_where_the_explorer_has_no_edge(capsys: pytest.CaptureFixture[str]) -> None:
    check.negatives_left(196, WIDE)
    assert capsys.readouterr().out == (
        "Right. 3 of the 199 other keys are mined as positives, and those are not pushed.\n"
    )
    for session, words in [
        (at(drop_closest=0.02, keep_within=0.5), "drops the closest 2 %, and beyond 50 %"),
        NO_EDGES[0],
    ]:
        check.negatives_left(196, session)
        assert words in (text := capsys.readouterr().out) and text.startswith("Not yet")


def test_a_price_is_what_a_sort_counts(capsys: pytest.CaptureFixture[str]) -> None:
    check.dropped(at(drop_closest=0.15), **NEED)
    said = f"An edge of 15 % drops {100 * BUY:.1f} % of the false negatives, {100 * PRICE:.1f} % of the true."
    assert capsys.readouterr().out == f"Right. {said}\n"


def test_the_best_edge_is_that_of_what_the_explorer_ranks_by(capsys: pytest.CaptureFixture[str]) -> None:
    rule = RankBand(0.0, 1.0, by="force")
    costs = []
    for count in range(200):
        hard = select(ALL, AugmentedView(), replace(rule, drop_closest=count / 200)).band == Band.HARD
        costs.append(float((hard & TRUE).sum() / TRUE.sum()))
    best = max(count for count, cost in enumerate(costs) if cost <= BUDGET) / 200
    check.drop_closest(at(keep_within=0.9, drop_closest=best, by="force"), budget=BUDGET)
    assert capsys.readouterr().out.startswith("Right. An edge of")
