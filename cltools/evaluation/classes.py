"""From predicted classes to figures: what every protocol is counted by.

Legend: Q test images, C classes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from cltools.files import cell


def accuracy(predicted: Int[Tensor, " Q"], labels: Int[Tensor, " Q"]) -> float:
    """Percent of the images, at least one, whose class was predicted (top-1)."""
    return 100 * int((predicted == labels.to(predicted.device)).sum()) / len(labels)


def confusion(predicted: Int[Tensor, " Q"], labels: Int[Tensor, " Q"], classes: int) -> Int64[Tensor, "C C"]:
    """How many images of each class (row) were taken for each class (column), on the CPU; classes are 0 to C−1."""
    pairs = labels.cpu().long() * classes + predicted.cpu()
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def per_class(counts: Int[Tensor, "C C"]) -> Float64[Tensor, " C"]:
    """Percent of each class's images that were predicted rightly, of a `confusion`; NaN for a class without images."""
    return 100 * counts.diagonal().double() / counts.sum(1)


def named(classes: Sequence[str]) -> list[str]:
    """Class names that tell classes apart: a name that is another's too, or is empty, carries its number."""
    return [name if name and classes.count(name) == 1 else f"{name} ({i})".strip() for i, name in enumerate(classes)]


def confusion_csv(counts: Int[Tensor, "C C"], classes: Sequence[str], protocol: str) -> str:
    """A `confusion` as CSV: a row for each true class, a column for each predicted one."""
    from pandas import DataFrame

    names = [*map(cell, named(classes))]
    table = DataFrame(counts.numpy(), index=names, columns=names)
    return str(table.to_csv(index_label=f"true \\ predicted by {protocol}", lineterminator="\n"))
