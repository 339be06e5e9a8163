"""Images → features, the encoder left exactly as it was found.

Legend: N images, C channels, H height, W width, D features.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from cltools.datasets import ImageSet
from cltools.encoders.backbones import eval_mode, home
from cltools.encoders.encoder import pixels
from cltools.errors import CltoolsError


@runtime_checkable
class HasFeatures(Protocol):
    """Anything whose `features` turns images [N, C, H, W] in [0, 1] into vectors [N, D]."""

    def features(self, x: Tensor, /) -> Tensor:
        """The vectors [N, D] of images [N, C, H, W]."""


Embedder = nn.Module | HasFeatures
"""What turns images into vectors: a module without `features` is called itself."""


@torch.no_grad()
def embed(
    encoder: Embedder,
    images: ImageSet | UInt8[Tensor, "N C H W"] | Float[Tensor, "N C H W"],
    *,
    projection: bool = False,
    batch: int = 1000,
    device: torch.device | str | None = None,
) -> Float32[Tensor, "N D"]:
    """Features of images, unaugmented, in evaluation mode and float32 (also inside autocast), without gradient.

    Buffers and training flags are afterwards what they were, one by one, also when the encoder fails.

    Args:
        encoder: read by its `features` (the backbone, before the projection) where it has that, else called.
        images: uint8, or float in [0, 1]; the encoder is given float in [0, 1].
        projection: call the encoder also where it has `features`: an `Encoder` then gives the projections, not
            normalised, in which samples are compared.
        batch: images at a time; changes memory, not the result beyond rounding.
        device: where each batch is sent and the features stay; default is where the encoder's weights are. The
            encoder itself is not moved.

    Raises:
        ValueError: no images, a batch below 1, features that are not one vector an image, or projections of what is
            no module.
    """
    pictures = images.images if isinstance(images, ImageSet) else images
    if batch < 1:
        raise CltoolsError(f"The batch is {batch}; it must be at least 1.")
    if not len(pictures):
        raise CltoolsError("There are no images to embed; give at least one.")
    place = torch.device(device) if device is not None else home(encoder, pictures.device)
    read = reader(encoder, projection)
    rows = []
    with eval_mode(encoder), torch.autocast(place.type, enabled=False):
        for part in torch.split(pictures, batch):
            features = read(pixels(part.to(place, non_blocking=True)).float())
            if features.ndim != 2 or len(features) != len(part):
                raise CltoolsError(
                    f"The encoder turned {len(part)} images into features of shape {tuple(features.shape)}; expected "
                    f"({len(part)}, D). Pool feature maps to one vector an image first."
                )
            rows.append(features.float())
    return torch.cat(rows)


def reader(encoder: Embedder, projection: bool = False) -> Callable[[Tensor], Tensor]:
    """What turns images into vectors: the encoder's `features` where it has that, else itself."""
    if isinstance(encoder, HasFeatures) and not projection:
        return encoder.features
    if not isinstance(encoder, nn.Module):
        raise CltoolsError(f"{type(encoder).__name__} has features alone; its projections cannot be asked for.")
    return encoder
