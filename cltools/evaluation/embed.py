"""Features of images, without changing the encoder; figures of predicted classes; and the checks of both.

The checks are shared by all measurements, so that no figure is computed from invalid input.

Legend: N images, C channels or classes, H height, W width, D features, Q test images.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import torch
from jaxtyping import Float, Float32, Float64, Int, Int64, UInt8
from torch import Tensor, nn

from cltools.datasets import ImageSet
from cltools.encoders import Encoder, device_of, eval_mode, resolve_device
from cltools.errors import CltoolsError, check_number, described
from cltools.files import cell
from cltools.mining.handed_in import Numbers, as_labels, as_rows, as_tensor, label_values
from cltools.views import pixels


@runtime_checkable
class HasFeatures(Protocol):
    """Anything whose `features` turns images [N, C, H, W] in [0, 1] into vectors [N, D]."""

    def features(self, x: Tensor, /) -> Tensor:
        """Return the vectors [N, D] of images [N, C, H, W]."""


def has_features(encoder: object) -> TypeGuard[HasFeatures]:
    """Return whether an object has a method `features`; a module may have a number or a list of that name."""
    return callable(getattr(encoder, "features", None))


PARTS = {"mean", "std", "backbone", "head"}
"""Buffers and modules that identify an `Encoder` when its class is lost, as in a trace or an export."""
Embedder = nn.Module | HasFeatures
"""An object that turns images into vectors, by its method `features`; a module without one is called."""


@torch.no_grad()
def embed(
    encoder: Embedder, images: ImageSet | UInt8[Tensor, "N C H W"] | Float[Tensor, "N C H W"] | Numbers, *,
    projection: bool = False, batch: int = 1000, device: torch.device | str | None = None,
) -> Float32[Tensor, "N D"]:  # fmt: skip
    """Compute features of unaugmented images in evaluation mode and float32 (even under autocast), without gradient.

    Every buffer and training flag is restored afterwards, even if the encoder fails.

    Args:
        encoder: its `features` (the backbone, before the projection) is used if it has one; otherwise the encoder is
            called. Wrappers such as DataParallel, an AveragedModel or torch.compile make no difference.
        images: [N, C, H, W], uint8, or float in [0, 1]; the encoder receives float in [0, 1].
        projection: call the encoder even if it has `features`: an `Encoder` then returns the projections that samples
            are compared by, not normalised.
        batch: images per batch; it affects memory, and results only by rounding.
        device: the device of the batches and of the features; default is that of the encoder's weights. The encoder is
            not moved.

    Returns:
        The features, float32 [N, D].

    Raises:
        ValueError: there are no images; the batch is below 1; the encoder is not an encoder, returns other than one
            vector per image, or has no projections to call; or it cannot read the images, for example because of their
            channels or dtype.

    Example:
        >>> import torch
        >>> from cltools import embed, load_images
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 32))
        >>> embed(encoder, load_images("digits", "test", limit=10)).shape
        torch.Size([10, 32])
    """
    pixel_data = images.images if isinstance(images, ImageSet) else as_tensor("images", images)
    batch = check_number("The batch", batch, "a whole number of at least 1")
    if not len(pixel_data):
        raise CltoolsError("There are no images to embed; give at least one.")
    if pixel_data.is_floating_point() and not bool(((pixel_data > -1e-3) & (pixel_data < 1 + 1e-3)).all()):
        raise CltoolsError("The images are floats outside of [0, 1]; give uint8, or divide pixels up to 255 by 255.")
    target = device_of(encoder, pixel_data.device) if device is None else resolve_device(device)
    read = reader(encoder, projection)
    rows = []
    with eval_mode(encoder), torch.autocast(target.type, enabled=False):
        for part in torch.split(pixel_data, min(batch, len(pixel_data))):
            x = pixels(part.to(target, non_blocking=True)).float()
            try:
                features = read(x)
            except RuntimeError as error:
                if type(error) is not RuntimeError or not any(word in str(error) for word in ("size", "shape", "type")):
                    raise  # the encoder's own error, and not one of torch about the input
                wrong = f"The encoder cannot read {x.dtype} {[*x.shape]} ({error})"
                raise CltoolsError(f"{wrong}; give images [N, C, H, W] as in training, and encoder.float().") from error
            known = isinstance(features, Tensor)
            if not known or features.is_complex() or features.ndim != 2 or len(features) != len(part):
                what = f"features {[*features.shape]} of {features.dtype}" if known else f"a {type(features).__name__}"
                raise CltoolsError(f"{len(part)} images gave {what}; pool to one vector each, in a tensor of reals.")
            rows.append(features.float())
    return torch.cat(rows)


def bare(encoder: Embedder) -> Embedder:
    """Return the encoder without wrappers: DataParallel, an AveragedModel, torch.compile.

    A wrapper of a module without `features` is returned as it is, because it computes the same.
    """
    inner: Any = encoder
    while isinstance(inner, nn.Module) and not has_features(inner):
        inner = getattr(inner, "module", None)
    inner = getattr(inner, "_orig_mod", inner)  # set by torch.compile, which also forwards the attributes
    return inner if has_features(inner) else encoder


def reader(encoder: Embedder, projection: bool = False) -> Callable[[Tensor], Tensor]:
    """Return the function that turns images into vectors: the encoder's `features` if it has one, else the encoder.

    Raises:
        ValueError: the encoder would be called although it contains an `Encoder`, as in a trace or a user's module;
            projections are requested but it is not a module; or it is a function or a class.
    """
    if isinstance(encoder, type) or not (isinstance(encoder, nn.Module) or has_features(encoder)):
        raise CltoolsError(f"The encoder is {described(encoder)}; give an nn.Module or an object with `features`.")
    encoder = bare(encoder)
    name = type(encoder).__name__
    read: Any = encoder.features if has_features(encoder) and not projection else encoder
    if projection and not isinstance(encoder, nn.Module):
        raise CltoolsError(f"{name} is not a module and has no projections; ask for features.")
    if not projection and isinstance(read, nn.Module) and any(map(_is_encoder, read.modules())):
        raise CltoolsError(f"{name} would return projections; give its Encoder, or add a method `features`.")
    return cast("Callable[[Tensor], Tensor]", read)


def _is_encoder(module: nn.Module) -> bool:
    named = (*module.named_buffers(recurse=False), *module.named_children())
    return isinstance(module, Encoder) or {name for name, _ in named} >= PARTS


# checks shared by all measurements


def as_features(name: str, numbers: Numbers, what: str) -> Tensor:
    """Convert features [N, D] to a tensor; raise an error if there are none, or NaN or infinity among them.

    Args:
        name: name of the argument, for messages.
        numbers: value of the argument.
        what: what the features describe, for messages.
    """
    features = as_rows(name, numbers)
    if not features.numel():
        raise CltoolsError(f"The {what} holds no image, or no features {[*features.shape]}; give at least one.")
    if not features.isfinite().all():
        raise CltoolsError(f"The features of the {what} hold NaN or infinity: training diverged or weights are broken.")
    return features


def check_labels(features: Tensor, labels: Tensor, what: str) -> None:
    """Raise an error if labels are unknown, or their number is not that of the features."""
    if len(labels) != len(features):
        raise CltoolsError(f"The {what} has {len(features)} features but {len(labels)} labels; give one per image.")
    if unknown := int((labels < 0).sum()):
        raise CltoolsError(f"{unknown} of {len(labels)} labels of the {what} are unknown (-1); leave these out.")


def known_of(images: ImageSet) -> ImageSet:
    """Return the images of known class.

    Raises:
        ValueError: there are images, but none of known class.
    """
    known = images.labels >= 0
    if len(images) and not known.any():
        check_labels(images.images, images.labels, f"{images.split} images of {images.name!r}")
    return images if known.all() else images.select(known)


def as_bank(bank: Numbers, bank_labels: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return a bank, the index of each label among the classes that occur, and these classes, on the bank's device.

    Raises:
        ValueError: features or labels are missing or invalid.
    """
    bank = as_features("bank", bank, "bank")
    (labels,) = as_labels("bank_labels", bank_labels, device=bank.device)
    check_labels(bank, labels, "bank")
    classes, class_index = torch.unique(labels, return_inverse=True)
    return bank, class_index, classes


def as_queries(queries: Numbers, bank: Tensor) -> Tensor:
    """Convert queries to a tensor on the bank's device; raise ValueError if they cannot be compared with the bank."""
    features = as_features("queries", queries, "queries")
    if (dim := bank.shape[1]) != (other := features.shape[1]):
        raise CltoolsError(f"The bank has {dim} features, the queries {other}; embed both with the same encoder.")
    return features.to(bank.device)


# figures of predicted classes, for all protocols


def accuracy(predicted: Any, labels: Any) -> float:
    """Return the top-1 accuracy in percent of predicted classes [Q]; see `as_labels` for accepted types.

    Raises:
        ValueError: there are no images, or the numbers of predictions and labels differ.
    """
    predicted, labels = _pairs(predicted, labels)
    return 100 * int((predicted == labels).sum()) / len(labels)


def confusion(predicted: Any, labels: Any, classes: int) -> Int64[Tensor, "C C"]:
    """Return the confusion matrix: numbers of images by true class (row) and predicted class (column), on the CPU.

    Classes are 0 to C−1. Strings are numbered in sorted order, which requires that each class occurs.

    Raises:
        ValueError: there are no images, the numbers of predictions and labels differ, a label is not a class, or fewer
            than `classes` strings occur.
    """
    classes = check_number("The number of classes", classes, "a whole number from 1 to 30,000")
    sides = [label_values("labels", side) for side in (predicted, labels)]
    texts = {text for side in sides if isinstance(side, list) for text in side} - {None}
    if texts and len(texts) != classes:
        raise CltoolsError(f"{len(texts)} of {classes} classes occur among these strings; give whole numbers.")
    predicted, labels = _pairs(*sides)
    low, high = torch.stack([predicted, labels]).aminmax()
    if low < 0 or high >= classes:
        raise CltoolsError(f"Labels go from {low} to {high}, but classes from 0 to {classes - 1}; give all that occur.")
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def _pairs(predicted: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Return predictions and labels as tensors of equal length on the CPU."""
    predicted, labels = (side.cpu() for side in as_labels("labels", predicted, labels))
    if predicted.shape != labels.shape or not len(labels):
        raise CltoolsError(f"There are {len(predicted)} predictions for {len(labels)} labels; give one each.")
    return predicted, labels


def per_class(counts: Int[Tensor, "C C"]) -> Float64[Tensor, " C"]:
    """Return the accuracy of each class in percent, from a `confusion`; NaN for a class without images."""
    return 100 * counts.diagonal().double() / counts.sum(1)


def named(classes: Sequence[str]) -> list[str]:
    """Return unambiguous class names: a repeated or empty name gets the class's number."""
    times = Counter(classes)
    return [name if name and times[name] == 1 else f"{name} ({i})".strip() for i, name in enumerate(classes)]


def confusion_csv(counts: Int[Tensor, "C C"], classes: Sequence[str], protocol: str) -> str:
    """Format a `confusion` as CSV, with a row for each true class and a column for each predicted one."""
    from pandas import DataFrame

    names = [*map(cell, named(classes))]
    table = DataFrame(counts.numpy(), index=names, columns=names)
    return str(table.to_csv(index_label=f"true \\ predicted by {protocol}", lineterminator="\n"))
