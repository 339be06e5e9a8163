"""From predicted classes to figures: what every protocol is counted by.

Legend: Q test images, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from cltools.errors import CltoolsError, check_number
from cltools.files import cell
from cltools.mining.handed_in import as_labels, label_values


def accuracy(predicted: Any, labels: Any) -> float:
    """Percent of the images, at least one, whose class [Q] was predicted (top-1); see `as_labels` for what they may be.

    Raises:
        ValueError: no images, or not as many predictions as labels.
    """
    predicted, labels = _pairs(predicted, labels)
    return 100 * int((predicted == labels).sum()) / len(labels)


def confusion(predicted: Any, labels: Any, classes: int) -> Int64[Tensor, "C C"]:
    """How many images of each class (row) were taken for each class (column), on the CPU; classes are 0 to C−1.

    Of texts the order of the alphabet is that of the classes, if each of these occurs; else nobody knows their places.

    Raises:
        ValueError: no images, not as many predictions as labels, one that is no class, or texts that are fewer.
    """
    classes = check_number("The number of classes", classes, "a whole number from 1 to 30,000")
    sides = [label_values("labels", side) for side in (predicted, labels)]
    texts = {text for side in sides if isinstance(side, list) for text in side} - {None}
    if texts and len(texts) != classes:
        wrong = f"{len(texts)} of {classes} classes occur among these texts, which does not tell their places."
        raise CltoolsError(f"{wrong} Give labels as whole numbers from 0 to {classes - 1}.")
    predicted, labels = _pairs(*sides)
    low, high = torch.stack([predicted, labels]).aminmax()
    if low < 0 or high >= classes:
        raise CltoolsError(f"Labels go from {low} to {high}, and classes from 0 to {classes - 1}; give all that occur.")
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def _pairs(predicted: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """As many predictions as labels, on the CPU."""
    predicted, labels = (side.cpu() for side in as_labels("labels", predicted, labels))
    if predicted.shape != labels.shape or not len(labels):
        raise CltoolsError(f"There are {len(predicted)} predictions of {len(labels)} labels; give one each.")
    return predicted, labels


def per_class(counts: Int[Tensor, "C C"]) -> Float64[Tensor, " C"]:
    """Percent of each class's images that were predicted rightly, of a `confusion`; NaN for a class without images."""
    return 100 * counts.diagonal().double() / counts.sum(1)


def named(classes: Sequence[str]) -> list[str]:
    """Class names that tell classes apart: a name that is another's too, or is empty, carries its number."""
    times = Counter(classes)
    return [name if name and times[name] == 1 else f"{name} ({i})".strip() for i, name in enumerate(classes)]


def confusion_csv(counts: Int[Tensor, "C C"], classes: Sequence[str], protocol: str) -> str:
    """A `confusion` as CSV: a row for each true class, a column for each predicted one."""
    from pandas import DataFrame

    names = [*map(cell, named(classes))]
    table = DataFrame(counts.numpy(), index=names, columns=names)
    return str(table.to_csv(index_label=f"true \\ predicted by {protocol}", lineterminator="\n"))
