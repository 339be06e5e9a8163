"""Backbones for small images, [B, 3, H, W] normalised pixels → [B, D] features, and the batch norm in them.

Statistics of training are taken over groups of consecutive images. One forward of several stacked batches then equals
separate forwards of each, and no image is normalised with the statistics of another group. A stack of two views has (at
least) two groups; MoCo's recipe takes 8 groups of 32.

Source: batch norm, arXiv:1502.03167; groups after the split batch norm of MoCo's CIFAR demo (arXiv:1911.05722).
Differs: groups are consecutive images, not every G-th, so that several ranks holding whole groups equal one process.

Legend: B images stacked, G groups, b = B/G images of a group, C channels, S positions (H W, or none).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cltools.errors import CltoolsError

TINY_WIDTHS = (32, 64, 128, 256)


@dataclass
class Stacking:
    """How the training batches of an encoder are stacked; one object, shared by all layers that depend on it.

    Attributes:
        group: Consecutive images that share batch statistics; None for a whole view.
        views: Equal views in the batch under way. The `Encoder` writes it at the start of each forward pass, after it
            has checked that views and groups divide the batch.
    """

    group: int | None = None
    views: int = 1

    def groups(self, batch: int) -> int:
        """Into how many groups a batch of that many images falls."""
        return self.views if self.group is None else batch // self.group


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm of [B, C] or [B, C, H, W], with the parameters and buffers of torch's own.

    In evaluation mode it is ordinary batch norm. Running statistics move once a forward, by the mean over groups.

    Attributes:
        stacking: How training batches are stacked. An `Encoder` gives its own to each of its layers when it is made; a
            layer that belongs to no encoder takes the statistics of the whole batch.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int) -> None:
        """Batch norm of that many channels C, with torch's defaults."""
        super().__init__(channels)
        self.stacking = Stacking()

    def forward(self, input: Float[Tensor, "B C *S"]) -> Float[Tensor, "B C *S"]:
        """Normalise; statistics are at least float32, whatever the input's type."""
        mean, var = self.running_mean, self.running_var
        if not self.training:
            return F.batch_norm(input, mean, var, self.weight, self.bias, eps=self.eps)
        self.num_batches_tracked.add_(1)
        groups = self.stacking.groups(len(input))
        if groups == 1:
            return F.batch_norm(input, mean, var, self.weight, self.bias, True, self.momentum, self.eps)
        # Each group moves its own copy of the running statistics; their mean has moved by the mean over groups.
        means, variances = mean.repeat(groups, 1), var.repeat(groups, 1)
        # A kernel a group costs a CPU nothing and a GPU, launching hundreds, more than two copies of the input.
        normalise = self.folded if input.is_cuda and groups > 2 else self.one_by_one
        output = normalise(input, means, variances)
        mean.copy_(means.mean(0))
        var.copy_(variances.mean(0))
        return output

    def one_by_one(self, x: Tensor, means: Float[Tensor, "G C"], variances: Float[Tensor, "G C"]) -> Tensor:
        """Normalise each group of x [B, C, *S] by a call of its own; `means` and `variances` are moved in place."""
        groups = zip(x.chunk(len(means)), means, variances, strict=True)
        options = self.weight, self.bias, True, self.momentum, self.eps
        return torch.cat([F.batch_norm(part, mean, variance, *options) for part, mean, variance in groups])

    def folded(self, x: Tensor, means: Float[Tensor, "G C"], variances: Float[Tensor, "G C"]) -> Tensor:
        """The same in one call: group g's channel c becomes channel gC + c of a batch of b images."""
        groups = len(means)
        last = x.movedim(1, -1)  # [B, S, C], without a copy where the memory is channels_last
        grouped = torch.unflatten(last, 0, (groups, -1)).movedim(0, -2).flatten(-2).movedim(-1, 1)  # [b, GC, S]
        weight, bias = self.weight.repeat(groups), self.bias.repeat(groups)
        y = F.batch_norm(grouped, means.view(-1), variances.view(-1), weight, bias, True, self.momentum, self.eps)
        split = torch.unflatten(y.movedim(1, -1), -1, (groups, -1)).movedim(-2, 0)  # [G, b, S, C]
        return split.flatten(0, 1).movedim(-1, 1)


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
    pictures = f"pictures {[*blank.shape]}"
    with torch.no_grad(), eval_mode(backbone):
        try:
            features = backbone(blank)
        except Exception as error:
            raise CltoolsError(f"The backbone fails on {pictures}: {error}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        wanted = "it must return one feature vector a picture, [2, D]. Pool over positions and flatten."
        raise CltoolsError(f"The backbone turns {pictures} into {shape}; {wanted}")
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
