"""Checks of notebook 06: which keys are an anchor's own in one's own loop, and what a share means in a small batch.

Legend: B anchors, K keys.
"""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from cltools.mining.bands import rank_count
from course.exercises.asking import Mistake, as_mask, exercise, sentence
from course.exercises.exploring import as_explorer, rank_band_of


@exercise
def own_keys(answer: Any, ids: Int64[Tensor, " B"], key_ids: Int64[Tensor, " K"]) -> str:
    """Which keys come from an anchor's own image: all of them, however old.

    Args:
        answer: [B, K] of true and false.
        ids: of the anchors' images.
        key_ids: of the images that the keys were made of.
    """
    right = ids[:, None] == key_ids
    given = as_mask(answer, (len(ids), len(key_ids)))
    if torch.equal(given, right):
        return f"{int(right.sum()):,} of {right.numel():,} pairs are of one image, and none of them is a negative."
    if not given.any():
        raise Mistake(f"nothing is marked, so {int(right.sum())} views of an anchor's own image would be pushed away")
    if torch.equal(given, ~right):
        raise Mistake("this marks all others: `own` is True where the image is the same")
    newest = right & _newest(key_ids)
    if torch.equal(given, newest):
        raise Mistake("the newest key of each image is marked; an older one in the queue is of the same image too")
    if torch.equal(given, torch.eye(*right.shape, dtype=torch.bool)):
        raise Mistake("places were compared, not ids: anchor 3 and key 3 need not be of one image in a queue")
    missed, extra = int((right & ~given).sum()), int((given & ~right).sum())
    raise Mistake(f"own keys missed: {missed}, keys of other images marked: {extra}; compare every id with all")


@exercise
def batch_edge(answer: Any, *, keys: int, dropped: int) -> str:
    """A share of closest keys, set in an explorer of some other number of keys, that drops so many of a batch's keys.

    Args:
        answer: an explorer with a rank band.
        keys: of a batch.
        dropped: how many of them are to be dropped as too close.
    """
    session = as_explorer(answer)
    share, shown = rank_band_of(session).drop_closest, len(session.snapshots[0])
    here, there = rank_count(share, shown), rank_count(share, keys)
    said = f"an edge of {100 * share:.3g} % drops {here} of the explorer's {shown:,} keys, and {there} of {keys:,}"
    if there == dropped:
        return f"{sentence(said)}: the share travels, the count does not."
    if here == dropped:
        raise Mistake(f"{said}. You took the count over, and what a rule takes along is the share: {dropped} of {keys}")
    raise Mistake(f"{said}, where {dropped} are asked for: {'raise' if there < dropped else 'lower'} it")


def _newest(key_ids: Tensor) -> Tensor:
    """Which key is the last of its image."""
    last = {int(image): place for place, image in enumerate(key_ids.tolist())}
    return torch.tensor([last[image] == place for place, image in enumerate(key_ids.tolist())], dtype=torch.bool)
