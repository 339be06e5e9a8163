"""Checks of notebook 06: answers to each."""

from typing import Any

import torch
from exercise_cases import Cases
from snapshots import made

from cltools.explorer.session import Session

IDS = torch.tensor([4, 9, 2])
KEYS = torch.tensor([9, 1, 4, 9, 7])
OWN = torch.tensor([[i == k for k in KEYS.tolist()] for i in IDS.tolist()])
NEWEST = OWN.clone()
NEWEST[1, 0] = False
STRAY = OWN.clone()
STRAY[0, :3] = torch.tensor([True, True, False])

OWN_KEYS = Cases(
    right=OWN,
    forms=[OWN.tolist(), OWN.numpy()],
    wrong_type=("own", "true or false for each key is wanted, and this is of type str"),
    mistakes=[
        (torch.zeros(3, 5, dtype=torch.bool), "so 3 views of an anchor's own image would be pushed away"),
        (~OWN, "this marks all others"),
        (NEWEST, "an older one in the queue"),
        (torch.eye(3, 5, dtype=torch.bool), "positions were compared, not ids"),
        (STRAY, "own keys missed: 1, keys of other images marked: 2"),
        (OWN.T, "the other way round"),
        (OWN[:2], "a mask of shape [3, 5] is wanted, and this has [2, 5]"),
        (OWN.int(), "this holds int32"),
    ],
    given=(IDS, KEYS),
)


def at(count: int = 200, **changes: Any) -> Session:
    return Session(made(count)).set(rule="RankBand", **changes)


BATCH_EDGE = Cases(
    right=at(drop_closest=4 / 128),
    forms=[at(drop_closest=0.03, anchor=13), at(60, drop_closest=0.034)],
    wrong_type=(0.03, "the explorer itself is wanted, as returned by explore(…), and this is of type float"),
    mistakes=[
        (at(drop_closest=4 / 200), "You used the count, but a rule stores the share: 4 of 128"),
        (at(drop_closest=0.01), "raise it"),
        (at(drop_closest=0.1), "lower it"),
        (at(drop_closest=0.1).set(rule="CosineBand"), "rule is CosineBand"),
        (Session(made(200)).set(rule="AllNegatives"), "rule is AllNegatives"),
    ],
    settings={"keys": 128, "dropped": 4},
)

CASES = {"own_keys": OWN_KEYS, "batch_edge": BATCH_EDGE}
