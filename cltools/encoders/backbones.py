"""Backbones for small images: [B, 3, H, W] normalised pixels → [B, D] features."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cltools.encoders.norm import GroupedBatchNorm, Stacking
from cltools.errors import CltoolsError

TINY_WIDTHS = (32, 64, 128, 256)


class Tiny(nn.Module):
    """Four 3×3 convolutions of stride 2 and a mean over positions: learns on a CPU, from 16×16 pictures up.

    Attributes:
        dim: Length D of a feature vector.
    """

    dim = TINY_WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *TINY_WIDTHS), TINY_WIDTHS, strict=False):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, GroupedBatchNorm(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [B, D] of pixels [B, 3, H, W]."""
        features: Tensor = self.layers(pixels).mean((2, 3))
        return features


def resnet(name: str, max_pool: bool) -> tuple[nn.Module, int]:
    """A ResNet of torchvision, its stem made for small images: 3×3 with stride 1, and no max-pool unless asked for.

    Source: arXiv:1512.03385; the stem after SimCLR's CIFAR-10 appendix (arXiv:2002.05709, B.9).
    """
    from torchvision import models

    network = models.get_model(name, norm_layer=GroupedBatchNorm)
    network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if not max_pool:
        network.maxpool = nn.Identity()
    dim = int(network.fc.in_features)
    network.fc = nn.Identity()
    return network, dim


class OwnBackbone(nn.Module):
    """Any module [B, 3, H, W] → [B, D], run once for each view so that its own batch norms never mix views."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.stacking = Stacking()

    def forward(self, pixels: Tensor) -> Tensor:
        """Features [B, D] of equal views stacked, as many as `stacking` says."""
        if self.stacking.views == 1 or not self.training:
            features: Tensor = self.module(pixels)
            return features
        return torch.cat([self.module(view) for view in pixels.chunk(self.stacking.views)])


def feature_dim(backbone: nn.Module, size: tuple[int, int]) -> int:
    """D of a backbone: from one forward of two blank pictures, in evaluation mode, that leaves no trace.

    Raises:
        ValueError: it fails on pictures of that size, or does not return one vector a picture.
    """
    blank = torch.zeros(2, 3, *size, device=home(backbone))
    with torch.no_grad(), eval_mode(backbone):
        try:
            features = backbone(blank)
        except Exception as error:
            raise CltoolsError(f"The backbone fails on pictures [2, 3, {size[0]}, {size[1]}]: {error}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise CltoolsError(
            f"The backbone turns pictures [2, 3, {size[0]}, {size[1]}] into {shape}; it must return one feature "
            "vector a picture, [2, D]. Pool over positions and flatten."
        )
    return int(features.shape[1])


def home(encoder: object, fallback: torch.device | str = "cpu") -> torch.device:
    """The device of the encoder's first parameter or buffer."""
    tensors = (*encoder.parameters(), *encoder.buffers()) if isinstance(encoder, nn.Module) else ()
    return tensors[0].device if tensors else torch.device(fallback)


@contextmanager
def eval_mode(encoder: object) -> Iterator[None]:
    """Evaluation mode, in which no running statistic moves; afterwards every submodule has its own flag again.

    `encoder.train()` would be wrong afterwards: it would wake the parts that someone froze.
    """
    modules = list(encoder.modules()) if isinstance(encoder, nn.Module) else []
    flags = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
