"""From predicted classes to figures: what every protocol is counted by.

Legend: Q test images, C classes.
"""

import csv
import io
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from cltools.errors import CltoolsError


def accuracy(predicted: Int[Tensor, " Q"], labels: Int[Tensor, " Q"]) -> float:
    """Percent of the images whose class was predicted (top-1).

    Raises:
        ValueError: no images, or not one prediction an image.
    """
    _check(predicted, labels)
    return 100 * int((predicted == labels.to(predicted.device)).sum()) / len(labels)


def confusion(predicted: Int[Tensor, " Q"], labels: Int[Tensor, " Q"], classes: int) -> Int64[Tensor, "C C"]:
    """How many images of each class (row) were taken for each class (column), on the CPU.

    Raises:
        ValueError: no images, not one prediction an image, or a class outside 0 to C−1.
    """
    _check(predicted, labels)
    pairs = torch.stack([labels.cpu(), predicted.cpu()]).long()
    low, high = int(pairs.min()), int(pairs.max())
    if low < 0 or high >= classes:
        raise CltoolsError(
            f"Classes go from {low} to {high}, outside 0 to {classes - 1}; give the number of all classes."
        )
    return torch.bincount(pairs[0] * classes + pairs[1], minlength=classes * classes).view(classes, classes)


def per_class(counts: Int[Tensor, "C C"]) -> Float64[Tensor, " C"]:
    """Percent of each class's images that were predicted rightly, of a `confusion`; NaN for a class without images."""
    return 100 * counts.diagonal().double() / counts.sum(1)


def named(classes: Sequence[str]) -> list[str]:
    """Class names that tell classes apart: a name that is another's too, or is empty, carries its number."""
    return [name if name and classes.count(name) == 1 else f"{name} ({i})".strip() for i, name in enumerate(classes)]


def confusion_csv(counts: Int[Tensor, "C C"], classes: Sequence[str], protocol: str) -> str:
    """A `confusion` as CSV: a row for each true class, a column for each predicted one."""
    names = named(classes)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([f"true \\ predicted by {protocol}", *names])
    writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    return file.getvalue()


def _check(predicted: Tensor, labels: Tensor) -> None:
    if len(predicted) != len(labels):
        raise CltoolsError(f"There are {len(predicted)} predictions for {len(labels)} images; give one an image.")
    if not len(labels):
        raise CltoolsError("There is no image to count; give at least one.")
