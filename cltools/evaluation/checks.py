"""What every measurement refuses, so that a number is never computed from something it cannot mean; and its figures.

Legend: N images, D features, Q test images, C classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Int, Int64
from torch import Tensor

from cltools.datasets import ImageSet
from cltools.errors import CltoolsError, check_number
from cltools.files import cell
from cltools.mining.handed_in import Numbers, as_labels, as_rows, label_values


def as_features(name: str, numbers: Numbers, what: str) -> Tensor:
    """Features [N, D] as a tensor; refuses none at all, and NaN or infinity, which would look like a poor result.

    Args:
        name: of the argument, for messages.
        numbers: what was given for it.
        what: they are features of.
    """
    features = as_rows(name, numbers)
    if not features.numel():
        raise CltoolsError(f"The {what} holds no image, or no features {[*features.shape]}; give at least one.")
    if not features.isfinite().all():
        raise CltoolsError(f"The features of the {what} hold NaN or infinity: training diverged or weights are broken.")
    return features


def check_labels(features: Tensor, labels: Tensor, what: str) -> None:
    """Refuse labels that are missing, unknown, or of another number than the features."""
    if len(labels) != len(features):
        raise CltoolsError(f"The {what} has {len(features)} features but {len(labels)} labels; give one per image.")
    if unknown := int((labels < 0).sum()):
        wrong = f"{unknown} of {len(labels)} labels of the {what} are unknown (-1), and agreement of labels is counted."
        raise CltoolsError(f"{wrong} Leave these out; in a folder with one sub-folder a class every image has one.")


def known_of(images: ImageSet) -> ImageSet:
    """The images whose class is known, as no other says whether an encoder tells classes apart.

    Raises:
        ValueError: no images, or none of known class.
    """
    known = images.labels >= 0
    if len(images) and not known.any():
        check_labels(images.images, images.labels, f"{images.split} images of {images.name!r}")
    return images if known.all() else images.select(known)


def as_bank(bank: Numbers, bank_labels: Any) -> tuple[Tensor, Tensor, Tensor]:
    """A bank, the places of its labels among the classes that occur, and these classes, all on the bank's device.

    Raises:
        ValueError: they mean nothing.
    """
    bank = as_features("bank", bank, "bank")
    (labels,) = as_labels("bank_labels", bank_labels, device=bank.device)
    check_labels(bank, labels, "bank")
    classes, places = torch.unique(labels, return_inverse=True)
    return bank, places, classes


def as_queries(queries: Numbers, bank: Tensor) -> Tensor:
    """Queries as a tensor on the bank's device; raises ValueError where they cannot be compared with it."""
    found = as_features("queries", queries, "queries")
    if (known := bank.shape[1]) != (asked := found.shape[1]):
        raise CltoolsError(f"The bank has {known} features, the queries {asked}; embed both with the same encoder.")
    return found.to(bank.device)


# from predicted classes to figures, which every protocol is counted by


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
