"""Images → features, the encoder left exactly as it was found.

Legend: N images, C channels, H height, W width, D features.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from cltools.datasets import ImageSet
from cltools.encoders.backbones import eval_mode, home
from cltools.encoders.encoder import Encoder
from cltools.errors import CltoolsError, check_number, described
from cltools.mining.handed_in import Numbers, as_tensor
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
    place = torch.device(device) if device is not None else home(encoder, pictures.device)
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
                wrong = f"The encoder turned {len(part)} images into features {[*features.shape]};"
                raise CltoolsError(f"{wrong} pool feature maps to one vector an image first.")
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
        wrong = f"{name} holds an Encoder, and calling it would judge projections instead of features."
        raise CltoolsError(f"{wrong} Give the Encoder itself, or what has a method `features`.")
    return encoder


def _is_ours(module: nn.Module) -> bool:
    named = (*module.named_buffers(recurse=False), *module.named_children())
    return isinstance(module, Encoder) or {name for name, _ in named} >= PARTS
