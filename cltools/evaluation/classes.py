"""From predicted classes to figures: what every protocol is counted by.

Legend: Q test images, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.files import cell
from cltools.mining.handed_in import as_labels


def accuracy(predicted: Any, labels: Any) -> float:
    """Percent of the images, at least one, whose class [Q] was predicted (top-1); see `as_labels` for what they may be.

    Raises:
        ValueError: no images, or not as many predictions as labels.
    """
    predicted, labels = _pairs(predicted, labels)
    return 100 * int((predicted == labels).sum()) / len(labels)


def confusion(predicted: Any, labels: Any, classes: int) -> Int64[Tensor, "C C"]:
    """How many images of each class (row) were taken for each class (column), on the CPU; classes are 0 to C−1.

    Raises:
        ValueError: no images, not as many predictions as labels, or one that is no class.
    """
    predicted, labels = _pairs(predicted, labels)
    strange = [
        int(each) for side in (predicted, labels) for each in (side.min(), side.max()) if not 0 <= each < classes
    ]
    if strange:
        raise CltoolsError(f"A label is {strange[0]}, and classes are 0 to {classes - 1}; give as many as there are.")
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def _pairs(predicted: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """As many predictions as labels, on the CPU."""
    predicted, labels = (side.cpu() for side in as_labels("labels", predicted, labels))
    if predicted.shape != labels.shape or not len(labels):
        raise CltoolsError(
            f"There are {len(predicted)} predictions of {len(labels)} labels; give one each, at least 1."
        )
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
