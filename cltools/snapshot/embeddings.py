"""A snapshot of embeddings that were made elsewhere: no run of ours stands behind it.

Legend: N rows, M rows drawn, d embedding.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy import ndarray
from torch import Tensor

from cltools.config import Experiment
from cltools.datasets import DataSettings, ImageSet
from cltools.datasets.image_set import draw
from cltools.errors import CltoolsError, unknown
from cltools.snapshot.snapshot import Snapshot
from cltools.snapshot.sprite import numbered
from cltools.snapshot.taking import snapshot_of

LARGEST = 20_000
"""Rows of a snapshot: each anchor is compared with all keys, and each row is a thumbnail on the page."""
UNKNOWN = -1


def snapshot_of_embeddings(
    embeddings: ndarray | Tensor,
    positives: ndarray | Tensor | None = None,
    *,
    labels: Any = None,
    classes: Sequence[str] = (),
    ids: Any = None,
    images: ndarray | Tensor | None = None,
    name: str = "embeddings",
    n: int = 2000,
    seed: int = 0,
) -> Snapshot:
    """A snapshot that `explore` takes, of any encoder's embeddings.

    Its experiment says no more than the name: nothing is mined and every key kept until a rule is set. It has one
    epoch, 0.

    Args:
        embeddings: z [N, d] of real numbers and any length; every row is scaled to length 1.
        positives: z' [N, d], the same things seen again, as another view of each picture; these are the keys then.
            None takes the embeddings themselves: every anchor's cosine with its positive is 1.
        labels: [N] numbers or text; None, NaN, "" and numbers below 0 are unknown. Only shown, never selected by.
        classes: names in the order of the labels, or the names that labels are. Empty takes those that occur.
        ids: [N] whole numbers, all different; None counts from 0. What tables call a row.
        images: uint8 [N, 3, H, W]; None draws a tile with the id on it.
        name: of the data, for who sees the snapshot later.
        n: at most that many rows, 20,000 at most, drawn with the seed; the ids tell which.
        seed: of the draw.

    Raises:
        ValueError: rows of zeros or with numbers that are not finite, with their places; shapes, labels, ids or n
            that do not fit.
    """
    if n > LARGEST:
        raise CltoolsError(f"n is {n}; an explorer shows at most {LARGEST:,} rows. Leave n out, or draw fewer.")
    z = _checked(embeddings, "embeddings")
    other = None if positives is None else _checked(positives, "positives")
    if other is not None and other.shape != z.shape:
        raise CltoolsError(
            f"positives are {[*other.shape]} and embeddings {[*z.shape]}; give as many rows, of one length."
        )
    count = len(z)
    labels, names = indexed_labels(labels, classes, count)
    ids = _checked_ids(ids, count)
    if images is not None and len(images) != count:
        raise CltoolsError(f"There are {len(images)} images for {count} embeddings; give one per row.")
    rows = draw(count, n, seed).numpy()
    anchors = _unit(z[rows])
    keys = anchors if other is None else _unit(other[rows])
    pixels = torch.as_tensor(numbered(ids[rows]) if images is None else images[rows]).cpu()
    things = ImageSet(pixels, torch.from_numpy(labels[rows]), torch.from_numpy(ids[rows]), names, name, "train")
    return snapshot_of(Experiment(data=DataSettings(name=name), seed=seed), {0: (anchors, keys)}, things)


def indexed_labels(labels: Any, classes: Sequence[str], count: int) -> tuple[Int64[ndarray, " N"], tuple[str, ...]]:
    """Labels as places among class names, -1 where unknown, and the names.

    Args:
        labels: numbers or text, or None.
        classes: names; with labels of text what these may be, with numbers what they count through. Empty takes those
            that occur, numbers in their order and text in that of the alphabet.
        count: N.

    Raises:
        ValueError: not one per row, or a label that is no class.
    """
    if labels is None:
        return np.full(count, UNKNOWN), tuple(classes)
    values = labels.tolist() if hasattr(labels, "tolist") else [*labels]
    if len(values) != count or any(isinstance(value, list | tuple) for value in values):
        raise CltoolsError(f"There are {len(values)} labels for {count} embeddings; give one label a row.")
    values = [None if value is None or value != value or value == "" else value for value in values]
    given = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in given):
        if not all(isinstance(value, str) for value in given):
            raise CltoolsError("Some labels are text and some are numbers; make all of one kind.")
        names = tuple(classes) or tuple(sorted({*given}))
        place = {name: i for i, name in enumerate(names)}
        if strange := [text for text in given if text not in place]:
            raise unknown("class", strange[0], names)
        return np.array([UNKNOWN if text is None else place[text] for text in values], np.int64), names
    numbers = [UNKNOWN if value is None or value < 0 else value for value in values]
    if broken := [value for value in numbers if value == math.inf or value != int(value)]:
        raise CltoolsError(f"The label {broken[0]} is no whole number; give classes as whole numbers or text.")
    found = np.array(numbers, np.int64)
    if classes:
        if found.max(initial=UNKNOWN) >= len(classes):
            raise CltoolsError(f"Labels go up to {found.max()}, but there are {len(classes)} classes; name them all.")
        return found, tuple(classes)
    present = np.unique(found[found >= 0])
    return np.where(found < 0, UNKNOWN, np.searchsorted(present, found)), tuple(map(str, present))


def _checked(vectors: ndarray | Tensor, what: str) -> ndarray:
    """The rows as an array of real numbers, if each has a direction."""
    if isinstance(vectors, Tensor):
        vectors = vectors.detach().cpu()
        array = (vectors.float() if vectors.dtype == torch.bfloat16 else vectors).numpy()
    else:
        array = np.asarray(vectors)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise CltoolsError(f"{what} are {array.dtype} {[*array.shape]}; give real numbers [N, d], a row each.")
    if len(array) < 3 or array.shape[1] < 2:
        raise CltoolsError(f"{what} are {[*array.shape]}; a map needs at least 3 rows of at least 2 numbers.")
    for rows, fault in (
        (~np.isfinite(array).all(1), "hold numbers that are not finite (NaN or infinite)"),
        (~array.any(1), "are all zeros, which have no direction"),
    ):
        if rows.any():
            places = np.flatnonzero(rows)
            listed = ", ".join(map(str, places[:5])) + ", …" * (len(places) > 5)
            raise CltoolsError(f"{len(places)} of {len(array)} rows of {what} {fault}: {listed}. Leave them out.")
    return array


def _unit(rows: ndarray) -> Float32[ndarray, "M d"]:
    """Length 1, of rows of any size: squares of the largest and the smallest numbers are beyond any float."""
    exact = rows.astype(np.float64)
    exact /= np.abs(exact).max(1, keepdims=True)
    return np.asarray(exact / np.linalg.norm(exact, axis=1, keepdims=True), dtype=np.float32)


def _checked_ids(ids: Any, count: int) -> Int64[ndarray, " N"]:
    if ids is None:
        return np.arange(count)
    found = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if found.shape != (count,) or found.dtype.kind not in "iu" or len(np.unique(found)) < count:
        raise CltoolsError(
            f"ids are {found.dtype} {[*found.shape]} with {len(np.unique(found))} values; give {count} different whole "
            "numbers, and keep names in a table of your own beside them."
        )
    return found.astype(np.int64)
