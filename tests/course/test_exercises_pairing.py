"""Checks of notebook 03: answers to each, and what paired seeds say."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from exercise_cases import Cases, drawn, one
from snapshots import made

from cltools import NearestKeys, Similarities
from cltools.explorer.session import Session
from course import check

S = one(drawn())
assert S.positive_keys is not None


def soft(s: Similarities, tau: float = 0.1, own: bool = False) -> np.ndarray:
    """In plain numpy, as a reader may write it."""
    assert s.positive_keys is not None
    score = s.positive_keys[0].numpy().copy()
    if not own:
        score[s.own[0].numpy()] = -np.inf
    e = np.exp(np.sort(score)[::-1][:5] / tau)
    return np.concatenate([[0.5], 0.5 * e / e.sum()])


OF_ALL = 0.5 * (S.positive_keys / 0.1).masked_fill(S.own, -torch.inf).softmax(1).topk(5).values[0]

SOFT_WEIGHTS = Cases(
    right=soft(S),
    forms=[soft(S).tolist(), tuple(soft(S).tolist()), torch.from_numpy(soft(S)), soft(S)[None]],
    wrong_type=("even", "a tensor of numbers is wanted, and this is of type str"),
    mistakes=[
        (soft(S)[1:], "6 weights are wanted"),
        (soft(S)[::-1].copy(), "their order is not"),
        (np.concatenate([[0.5], 2 * soft(S)[1:]]), "they should share what the augmented view leaves, 1 − 0.5"),
        (soft(S, own=True), "you kept the anchor's own key"),
        (soft(S, tau=1.0), "divide the cosines by the temperature 0.1"),
        ([0.5, *OF_ALL.tolist()], "runs over the 5 mined keys alone"),
        ([0.5] + [0.1] * 5, "these are uniform weights"),
        (soft(replace(S, positive_keys=S.anchor_keys)), "you ranked by closeness to z;"),
        ([0.3] * 6, "yours sum to 1.8 instead of 1, and start with 0.3"),
    ],
    given=(S, NearestKeys(k=5)),
)

SNAPSHOT = made(200, epochs=(1, 5), dim=6)


def at(**changes: Any) -> Session:
    return Session(SNAPSHOT).set(
        {"positives.weighting": "uniform", "positives.min_weight": None, "positives.augmented_share": 0.7, **changes}
    )


def wrong_weight(epoch: int, k: int) -> float:
    """Of mined weight 1 on the k keys closest to z', by a loop."""
    keys = SNAPSHOT.keys[SNAPSHOT.epochs.index(epoch)]
    wrong = []
    for place, row in enumerate(keys @ keys.T):
        closest = [other for other in np.argsort(-row) if other != place][:k]
        wrong.append(np.mean(SNAPSHOT.labels[closest] != SNAPSHOT.labels[place]))
    return float(np.mean(wrong))


LATE, EARLY = (wrong_weight(epoch, 5) for epoch in (5, 1))
LIMIT = 0.32 * LATE

STAKED = Cases(
    right=at(),
    forms=[at(anchor=13, scope="all"), at(rule="AllNegatives").set(compare=True), at(**{"positives.k": 4})],
    wrong_type=(0.7, "the explorer itself is wanted, as returned by explore(…), and this is of type float"),
    mistakes=[
        (at().set(positive_rule="AugmentedView"), "no key is mined, so nothing is guessed"),
        (at(**{"positives.augmented_share": 0.9}), "let the augmented view keep less"),
        (at(**{"positives.augmented_share": 0.5}), "let the augmented view keep more"),
        (at(**{"positives.augmented_share": 0.0}), "You replace the augmented view"),
        (at(epoch=1), "with the encoder at epoch 1"),
        (Session(made(200, labelled=False)), "only labels show wrong guesses"),
    ],
    settings={"mined": 0.3, "wrong": LIMIT},
)

BASE = {0: 70.0, 1: 68.0, 2: 71.0}

PAIRED = Cases(
    right={0: 72.0, 1: 70.1, 2: 73.0},
    forms=[{0: np.float32(72), 1: torch.tensor(70.1), 2: 73}, {2: 73.0, 1: 70.1, 0: 72.0}, {0: 72.0, 1: 67.0, 2: 71.0}],
    wrong_type=(71.2, "give both by seed"),
    mistakes=[
        ([72.0, 70.1, 73.0], "one mean does not show the effect of chance"),
        ({0: 71.0, 1: 70.0, 3: 70.0}, "Compare within a seed"),
        ({"first": 71.0, "second": 70.0}, "seeds are whole numbers"),
        ({0: "high", 1: 70.0, 2: 70.0}, "one number is wanted, and this is of type str"),
    ],
    given=(BASE,),
)

CASES = {"soft_weights": SOFT_WEIGHTS, "staked": STAKED, "paired": PAIRED}


def test_what_is_staked_is_what_a_loop_counts(capsys: pytest.CaptureFixture[str]) -> None:
    check.staked(at(), mined=0.3, wrong=LIMIT)
    check.staked(at(epoch=1), mined=0.3, wrong=LIMIT)
    late, early = capsys.readouterr().out.splitlines()
    assert f"mined keys have 30.0 % of the weight, and {30 * LATE:.1f} % is on other classes" in late.lower()
    assert EARLY > 1.2 * LATE and f"{30 * EARLY:.1f} % is on other classes" in early


def said_of(capsys: pytest.CaptureFixture[str], mine: Any, theirs: Any) -> str:
    capsys.readouterr()
    check.paired(mine, theirs)
    return capsys.readouterr().out.strip()


def test_arms_are_compared_within_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    better = said_of(capsys, {0: 72.0, 1: 70.1, 2: 73.0}, BASE)
    assert better.startswith("Right. Over 3 seeds the mean difference is +2.0 points")
    assert better.endswith(": ahead, by more than chance explains.")
    worse = said_of(capsys, {0: 68.0, 1: 66.1, 2: 69.0}, BASE)
    assert worse.endswith(": behind, by more than chance explains.")
    none = said_of(capsys, {0: 72.0, 1: 67.0, 2: 71.0}, BASE)
    assert none.startswith("Right. ") and none.endswith(": no difference shown, as the interval contains 0.")


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ({0: 71.2}, 70.0, "give both by seed"),
        ({0: 71.2}, None, "give both by seed"),
        ({0: 71.0}, {0: 70.0}, "1 seed cannot show"),
        ({0: 71.0, 1: 70.0}, {0: 70.0, 1: 69.0}, "2 seeds cannot show"),
        ({0: 0.71, 1: 0.70, 2: 0.72}, {0: 0.7, 1: 0.7, 2: 0.7}, "give accuracies in percent"),
    ],
)
def test_what_is_no_comparison_is_explained(
    mine: Any, theirs: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_of(capsys, mine, theirs)
    assert said.startswith("Not yet: ") and words in said
