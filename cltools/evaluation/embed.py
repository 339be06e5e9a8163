"""Images → features, the encoder left exactly as it was found; and predicted classes → figures.

Between them stands what every measurement refuses, so that a number is never computed from something it cannot mean.

Legend: N images, C channels or classes, H height, W width, D features, Q test images.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Float64, Int, Int64, UInt8
from torch import Tensor, nn

from cltools.datasets import ImageSet
from cltools.encoders import Encoder, device_of, eval_mode
from cltools.errors import CltoolsError, check_number, described
from cltools.files import cell
from cltools.mining.handed_in import Numbers, as_labels, as_rows, as_tensor, label_values
from cltools.views import pixels


@runtime_checkable
class HasFeatures(Protocol):
    """Anything whose `features` turns images [N, C, H, W] in [0, 1] into vectors [N, D]."""

    def features(self, x: Tensor, /) -> Tensor:
        """The vectors [N, D] of images [N, C, H, W]."""


PARTS = {"mean", "std", "backbone", "head"}
"""Buffers and modules by which an `Encoder` is known where its class is lost, as in a trace or an export."""
Embedder = nn.Module | HasFeatures
"""What turns images into vectors: a module without `features` is called itself."""


@torch.no_grad()
def embed(
    encoder: Embedder,
    images: ImageSet | UInt8[Tensor, "N C H W"] | Float[Tensor, "N C H W"] | Numbers,
    *,
    projection: bool = False,
    batch: int = 1000,
    device: torch.device | str | None = None,
) -> Float32[Tensor, "N D"]:
    """Features of images, unaugmented, in evaluation mode and float32 (also inside autocast), without gradient.

    Buffers and training flags are afterwards what they were, one by one, also when the encoder fails.

    Args:
        encoder: read by its `features` (the backbone, before the projection) where it has that, else called; within
            DataParallel, an AveragedModel, torch.compile and the like it is the same encoder.
        images: uint8, or float in [0, 1]; the encoder is given float in [0, 1].
        projection: call the encoder also where it has `features`: an `Encoder` then gives the projections, not
            normalised, in which samples are compared.
        batch: images at a time; changes memory, not the result beyond rounding.
        device: where each batch is sent and the features stay; default is where the encoder's weights are. The
            encoder itself is not moved.

    Raises:
        ValueError: no images, a batch below 1, features that are not one vector an image, projections of what is no
            module, what is no encoder, or images that it cannot read, such as of other channels or type of number.
    """
    pictures = images.images if isinstance(images, ImageSet) else as_tensor("images", images)
    batch = check_number("The batch", batch, "a whole number of at least 1")
    if not len(pictures):
        raise CltoolsError("There are no images to embed; give at least one.")
    if pictures.is_floating_point() and not bool(((pictures > -1e-3) & (pictures < 1 + 1e-3)).all()):
        raise CltoolsError("The images are floats outside of [0, 1]; give uint8, or divide pixels up to 255 by 255.")
    place = torch.device(device) if device is not None else device_of(encoder, pictures.device)
    read = reader(encoder, projection)
    rows = []
    with eval_mode(encoder), torch.autocast(place.type, enabled=False):
        for part in torch.split(pictures, min(batch, len(pictures))):
            x = pixels(part.to(place, non_blocking=True)).float()
            try:
                features = read(x)
            except RuntimeError as error:
                if type(error) is not RuntimeError:  # such as memory that is full
                    raise
                wrong = f"The encoder cannot read {x.dtype} {[*x.shape]} ({error})"
                raise CltoolsError(f"{wrong}; give images [N, C, H, W] as it knows, and encoder.float().") from error
            if features.ndim != 2 or len(features) != len(part):
                raise CltoolsError(f"{len(part)} images gave features {[*features.shape]}; pool them to a vector each.")
            rows.append(features.float())
    return torch.cat(rows)


def bare(encoder: Embedder) -> Embedder:
    """The encoder itself, without what trains, averages or compiles it: DataParallel, an AveragedModel, torch.compile.

    What wraps a module without `features` stays, as it computes the same.
    """
    inner: Any = encoder
    while isinstance(inner, nn.Module) and not isinstance(inner, HasFeatures):
        inner = getattr(inner, "module", None)
    inner = getattr(inner, "_orig_mod", inner)  # which torch.compile names so, and whose attributes it has
    return inner if isinstance(inner, HasFeatures) else encoder


def reader(encoder: Embedder, projection: bool = False) -> Callable[[Tensor], Tensor]:
    """What turns images into vectors: the encoder's `features` where it has that, else itself.

    Raises:
        ValueError: an `Encoder` lies within something that is called, such as a trace or a module of one's own; or
            projections are asked of what is no module; or it is a function or a class.
    """
    if isinstance(encoder, type) or not isinstance(encoder, nn.Module | HasFeatures):
        raise CltoolsError(f"The encoder is {described(encoder)}; give an nn.Module, or what has a method `features`.")
    encoder = bare(encoder)
    name = type(encoder).__name__
    if isinstance(encoder, HasFeatures) and not projection:
        return encoder.features
    if not isinstance(encoder, nn.Module):
        raise CltoolsError(f"{name} has features alone; its projections cannot be asked for.")
    if not projection and any(map(_is_ours, encoder.modules())):
        raise CltoolsError(f"{name} would judge projections; give its Encoder, or what has a method `features`.")
    return encoder


def _is_ours(module: nn.Module) -> bool:
    named = (*module.named_buffers(recurse=False), *module.named_children())
    return isinstance(module, Encoder) or {name for name, _ in named} >= PARTS


# what every measurement refuses


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
        raise CltoolsError(f"{unknown} of {len(labels)} labels of the {what} are unknown (-1); leave these out.")


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
        raise CltoolsError(f"{len(texts)} of {classes} classes occur among these texts; give whole numbers.")
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
