"""Checks of notebook 06: the own keys of an anchor in a custom loop, and the meaning of a share in a small batch.

Legend: B anchors, K keys.
"""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from course.exercises.asking import Mistake, as_mask, exercise
from course.exercises.cases import Case, Cases, exercise_by_cases
from course.exercises.cutting import NO_RANKS, RULE


@exercise
def own_keys(answer: Any, ids: Int64[Tensor, " B"], key_ids: Int64[Tensor, " K"]) -> str:
    """Check which keys come from an anchor's own image, including old ones.

    Args:
        answer: bool [B, K].
        ids: ids of the anchors' images.
        key_ids: ids of the keys' images.
    """
    right = ids[:, None] == key_ids
    given = as_mask(answer, (len(ids), len(key_ids)))
    if torch.equal(given, right):
        return f"{int(right.sum()):,} of {right.numel():,} pairs are of the same image, so they are not negatives."
    if not given.any():
        raise Mistake(f"nothing is marked, so {int(right.sum())} views of an anchor's own image would be pushed away")
    if torch.equal(given, ~right):
        raise Mistake("this marks all others: `own` is True where the image is the same")
    newest = right & _newest(key_ids)
    if torch.equal(given, newest):
        raise Mistake("the newest key of each image is marked; an older one in the queue is of the same image too")
    if torch.equal(given, torch.eye(*right.shape, dtype=torch.bool)):
        raise Mistake("positions were compared, not ids: in a queue, anchor 3 and key 3 need not be of the same image")
    missed, extra = int((right & ~given).sum()), int((given & ~right).sum())
    raise Mistake(f"own keys missed: {missed}, keys of other images marked: {extra}; compare every id with all")


@exercise_by_cases
def batch_edge(*, keys: int, dropped: int) -> Cases:
    """Check that the explorer's share of closest keys drops the given number of keys of a batch.

    Args:
        keys: the number of keys of a batch, which differs from the explorer's.
        dropped: how many of them should be dropped as too close.
    """
    told = f"an edge of {{edge:.4g}} % drops {{here}} of the explorer's {{shown:,}} keys, {{there}} of {keys:,}"
    return Cases(
        (
            NO_RANKS,
            Case(f"{told}: a rule stores the share, not the count", {"there": (dropped, dropped)}, right=True),
            Case(
                f"{told}. You used the count, but a rule stores the share: {dropped} of {keys}",
                {"here": (dropped, dropped)},
            ),
            Case(f"{told}, but {dropped} should be dropped: raise it", {"there": (None, dropped)}),
            Case(f"{told}, but {dropped} should be dropped: lower it"),
        ),
        RULE | {"edge": ("drop_closest",), "there": ("dropped_of", keys), "here": ("dropped_of",), "shown": ("keys",)},
    )


def _newest(key_ids: Tensor) -> Tensor:
    """Mark the last key of each image."""
    last = {int(image): index for index, image in enumerate(key_ids.tolist())}
    return torch.tensor([last[image] == index for index, image in enumerate(key_ids.tolist())], dtype=torch.bool)
