"""What every measurement refuses, in one place, so that a number is never computed from something it cannot mean."""

from typing import Any

import torch
from torch import Tensor

from cltools.datasets import ImageSet
from cltools.errors import CltoolsError, check_number
from cltools.mining.handed_in import Numbers, as_labels, as_rows


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


def as_seed(seed: Any) -> int:
    """A whole number as torch takes a seed, below 2**64; those that it takes by itself give what they gave.

    Raises:
        ValueError: no whole number.
    """
    return int(check_number("The seed", seed, "a whole number")) % 2**64
