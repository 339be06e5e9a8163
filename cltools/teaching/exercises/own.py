"""Checks of notebook 06: which keys are an anchor's own in one's own loop, and what a share means in a small batch.

Legend: B anchors, K keys.
"""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from cltools.mining.bands import rank_count
from cltools.teaching.exercises.asking import Mistake, as_number, exercise


@exercise
def own_keys(answer: Any, ids: Int64[Tensor, " B"], key_ids: Int64[Tensor, " K"]) -> str:
    """Which keys come from an anchor's own image: all of them, however old.

    Args:
        answer: [B, K] of true and false.
        ids: of the anchors' images.
        key_ids: of the images that the keys were made of.
    """
    right = ids[:, None] == key_ids
    given = _as_mask(answer, tuple(right.shape))
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
    raise Mistake(
        f"{missed} own keys are missed, and {extra} keys of other images are marked; compare every id with all"
    )


@exercise
def rows_needed(answer: Any, *, share: float, dropped: int) -> str:
    """The fewest keys of which a rank share drops as many as are asked for: floor(share·K + ½) ≥ dropped.

    Args:
        answer: a whole number of keys.
        share: a lower edge, as a share of all keys.
        dropped: keys that are to be dropped at least.
    """
    keys = as_number(answer)
    if keys != int(keys) or keys < 1:
        raise Mistake(f"a whole number of keys is wanted, and this is {keys:g}")
    needed = next(count for count in range(1, 10**7) if rank_count(share, count) >= dropped)
    said = f"of {int(keys):,} keys {100 * share:g} % drops {rank_count(share, int(keys))}"
    if keys == needed:
        return f"{said[0].upper()}{said[1:]}; of one fewer it drops {rank_count(share, needed - 1)}."
    if keys == round(dropped / share):
        raise Mistake(f"{said}, and {needed} are enough: the share is rounded to the nearest key, not down")
    if keys < needed:
        raise Mistake(f"{said}, and {dropped} are asked for: more keys are needed")
    raise Mistake(f"{said}, and fewer keys are enough for {dropped}")


def _newest(key_ids: Tensor) -> Tensor:
    """Which key is the last of its image."""
    last = {int(image): place for place, image in enumerate(key_ids.tolist())}
    return torch.tensor([last[image] == place for place, image in enumerate(key_ids.tolist())], dtype=torch.bool)


def _as_mask(answer: Any, shape: tuple[int, ...]) -> Tensor:
    try:
        given = torch.as_tensor(answer).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise Mistake(f"true or false for each pair is wanted, and this is of type {type(answer).__name__}") from None
    if given.dtype != torch.bool:
        raise Mistake(f"true or false for each pair is wanted, and this holds {str(given.dtype).split('.')[-1]}")
    if given.shape == shape[::-1] and given.shape != shape:
        raise Mistake("rows and columns are the other way round: a row for each anchor, a column for each key")
    if given.shape != shape:
        raise Mistake(f"a mask of shape {[*shape]} is wanted, and this has {[*given.shape]}")
    return given
