"""Encoders for small images: backbone, projection head, predictor, and the momentum copy that makes keys.

Image → features → projection, from raw pixels on. The first layer turns uint8 (÷255) or float in [0, 1] into normalised
float with the training images' mean and deviation; they are buffers, saved with the weights, so weights and data cannot
disagree.

Statistics of training are taken over groups of consecutive images. One forward of several stacked batches then equals
separate forwards of each, and no image is normalised with the statistics of another group. A stack of two views has (at
least) two groups; MoCo's recipe takes 8 groups of 32.

Source: batch norm, arXiv:1502.03167; groups after the split batch norm of MoCo's CIFAR demo (arXiv:1911.05722).
Differs: groups are consecutive images, not every G-th, so that several ranks holding whole groups equal one process.

Legend: B images stacked, G groups, b = B/G images of a group, C channels, S positions (H W, or none), D features,
d projection.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from cltools.datasets import ImageSet
from cltools.errors import SEED, CltoolsError, Settings, check_number
from cltools.mining.handed_in import enough_memory, torch_defaults
from cltools.ranks import ALONE, Ranks
from cltools.views import pixels

TINY_WIDTHS = (32, 64, 128, 256)
Backbone = Literal["tiny", "resnet18", "resnet50"]
Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
"""What an encoder takes: uint8, or float in [0, 1]."""
CHUNK = 1024  # images whose statistics are taken at once: an int32 copy is 50 MB at 64×64


# backbones, [B, 3, H, W] normalised pixels → [B, D] features


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
        return self.layers(pixels).mean((2, 3))  # type: ignore[no-any-return]


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
            return self.module(pixels)  # type: ignore[no-any-return]
        return torch.cat([self.module(view) for view in pixels.chunk(self.stacking.views)])


def feature_dim(backbone: nn.Module, size: tuple[int, int]) -> int:
    """D of a backbone: from one forward of two blank pictures, in evaluation mode, that leaves no trace.

    Raises:
        ValueError: it fails on pictures of that size, or does not return one vector a picture.
    """
    blank = torch.zeros(2, 3, *size, device=device_of(backbone))
    pictures = f"pictures {[*blank.shape]}"
    with torch.no_grad(), eval_mode(backbone):
        try:
            features = backbone(blank)
        except Exception as error:
            raise CltoolsError(f"The backbone fails on {pictures}: {error}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise CltoolsError(f"The backbone turns {pictures} into {shape}; it must return a vector a picture, [2, D].")
    return int(features.shape[1])


def device_of(encoder: object, fallback: torch.device | str = "cpu") -> torch.device:
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


# the encoder


@dataclass(frozen=True)
class EncoderSettings(Settings):
    """What the encoder is made of (MoCo's CIFAR recipe by default)."""

    backbone: Backbone = "resnet18"
    """Network for small images: "tiny" learns on a CPU; ResNets have a 3×3 stem of stride 1."""
    max_pool: bool = False
    """Keep the ResNet's max-pool after the stem; for 64×64 images."""
    hidden: Annotated[int, "a whole number of at least 1"] = 512
    """Width of the projection's (and predictor's) hidden layer."""
    projection: Annotated[int, "a whole number of at least 1"] = 128
    """Dimension of the projection, in which samples are compared."""
    head_norm: bool = False
    """Batch norm in the projection's (and predictor's) hidden layer."""
    predictor: bool = False
    """A second head of the same form on the online encoder alone."""
    bn_group: Annotated[int | None, "a whole number of at least 2", "Give None for a whole view."] = 32
    """Consecutive images of one view that share batch statistics; None for a whole view."""

    def __post_init__(self) -> None:
        """Refuse a max-pool where there is none."""
        super().__post_init__()
        if self.max_pool and self.backbone == "tiny":
            raise CltoolsError("EncoderSettings: the tiny backbone has no max-pool; set max_pool=False, or a ResNet.")


class Encoder(nn.Module):
    """Backbone, projection head and optional predictor, behind the layer that normalises pixels.

    In training mode batch statistics are taken over consecutive groups of `bn_group` images (None: over each view),
    in every batch norm of ours. A backbone of your own keeps its own batch norms: `bn_group` does not reach them, and
    it is run once a view. In evaluation mode groups and views do not matter.

    Attributes:
        dim: Length D of a feature vector.
        projection: Length d of a projection.
        stacking: How training batches are stacked, shared with every layer that depends on it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, dim: int, settings: EncoderSettings) -> None:
        """Compose a backbone [B, 3, H, W] → [B, D] with new heads; see `build_encoder` for seeds and statistics."""
        super().__init__()
        self.dim, self.projection, self.stacking = dim, settings.projection, Stacking(settings.bn_group)
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((3, 1, 1), 0.25))
        self.backbone = backbone
        self.head = head(dim, settings)
        self.predictor = head(settings.projection, settings) if settings.predictor else None
        for module in self.modules():
            if isinstance(module, GroupedBatchNorm | OwnBackbone):
                module.stacking = self.stacking

    def forward(self, images: Images, views: int = 1) -> Float[Tensor, "B d"]:
        """Projections, not normalised, after the predictor where there is one.

        Args:
            images: uint8, or float in [0, 1].
            views: How many equal views are stacked in the batch; batch statistics never cross from one to another.

        Raises:
            ValueError: in training mode, the batch is not `views` views of whole groups.
        """
        projected = self.project(images, views)
        return projected if self.predictor is None else self.predictor(projected)

    def project(self, images: Images, views: int = 1) -> Float[Tensor, "B d"]:
        """Projections without the predictor; arguments as of `forward`."""
        return self.head(self.features(images, views))  # type: ignore[no-any-return]

    def features(self, images: Images, views: int = 1) -> Float[Tensor, "B D"]:
        """The backbone's features, before the projection; arguments as of `forward`."""
        if self.training:
            self._stack(len(images), views)
        # The first convolution reads channels_last in two thirds of the time; on a GPU it would make that copy itself.
        normalised = ((pixels(images) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.backbone(normalised)  # type: ignore[no-any-return]

    def _stack(self, batch: int, views: int) -> None:
        """Note how many views this batch stacks, if it is whole views of whole groups."""
        if batch % views:
            raise CltoolsError(f"A batch of {batch} images is not {views} equal views.")
        group = batch // views if self.stacking.group is None else self.stacking.group
        if (batch // views) % group:
            raise CltoolsError(f"A view of {batch // views} images is no multiple of bn_group={group}; change one.")
        self.stacking.views = views


def head(inputs: int, settings: EncoderSettings) -> nn.Sequential:
    """Two linear layers, a ReLU between; with `head_norm` a batch norm before it, which makes the first bias idle."""
    norm: list[nn.Module] = [GroupedBatchNorm(settings.hidden)] if settings.head_norm else []
    first = nn.Linear(inputs, settings.hidden, bias=not settings.head_norm)
    last = nn.Linear(settings.hidden, settings.projection)
    return nn.Sequential(first, *norm, nn.ReLU(inplace=True), last)


def pixel_statistics(images: UInt8[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and deviation of each channel over images and positions, in [0, 1].

    Sums are of integers, so the result does not depend on their order. A channel that never varies gets the deviation
    of one grey level, so that it divides nothing by zero.
    """
    sums = torch.zeros(2, 3, dtype=torch.int64, device=images.device)
    for chunk in torch.split(images, CHUNK):
        values = chunk.int()
        sums[0] += values.sum((0, 2, 3))
        sums[1] += values.square().sum((0, 2, 3))
    count = images.numel() / 3
    mean, square = sums.double() / count
    std = (square - mean.square()).clamp(min=1.0).sqrt()
    return (mean / 255).float().view(3, 1, 1), (std / 255).float().view(3, 1, 1)


@torch_defaults()
def build_encoder(
    settings: EncoderSettings, images: ImageSet | None, backbone: nn.Module | None = None, seed: int = 0
) -> Encoder:
    """A new encoder on the CPU (with an own backbone: on its device), in training mode.

    Args:
        settings: What it is made of.
        images: Training images, whose pixel mean and deviation become its buffers; None leaves 0.5 and 0.25, to be
            replaced by loaded weights.
        backbone: An own module, normalised pixels [B, 3, H, W] → features [B, D], in place of `settings.backbone`. It
            is used as it is, weights and batch norms included, and not copied; D is found by one forward of two blank
            pictures of the images' size (32×32 without images).
        seed: Of the new weights; the global random state stays as it was.

    Raises:
        ValueError: the own backbone fails on such pictures, or does not return [B, D].
    """
    with torch.random.fork_rng(devices=[]), enough_memory("The encoder", "Make hidden or projection smaller."):
        torch.default_generator.manual_seed(check_number("The seed", seed, SEED))  # the CPU's alone
        if backbone is not None:
            size = (32, 32) if images is None else (images.images.shape[2], images.images.shape[3])
            dim = feature_dim(backbone, size)
            module: nn.Module = OwnBackbone(backbone)
        elif settings.backbone == "tiny":
            module, dim = Tiny(), Tiny.dim
        else:
            module, dim = resnet(settings.backbone, settings.max_pool)
        encoder = Encoder(module, dim, settings)
    if images is not None:
        mean, std = pixel_statistics(images.images)
        encoder.mean.copy_(mean)
        encoder.std.copy_(std)
    if backbone is not None:
        encoder.to(device_of(backbone))
    return encoder.train()


class MomentumCopy(nn.Module):
    """An encoder's exponential moving average, without gradient and without predictor: it makes the keys.

    Source: MoCo, arXiv:1911.05722, section 3.2 (momentum) and 3.3 (shuffled keys).

    Attributes:
        encoder: The copy.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Start as an equal copy of `encoder`, which is left alone."""
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.encoder.predictor = None
        self.encoder.requires_grad_(False).zero_grad(set_to_none=True)
        self.project: Callable[[Tensor, int], Tensor] = self.encoder.project  # compiled, where training asks for it
        self.train()

    @torch.no_grad()
    def update(self, encoder: Encoder, momentum: float) -> None:
        """Move every parameter: own ← momentum · own + (1 − momentum) · encoder's; buffers are copied.

        Args:
            encoder: The one this is a copy of.
            momentum: Share of itself it keeps: 0 copies, 1 changes no parameter.
        """
        # One call for all tensors instead of a hundred launches.
        torch._foreach_lerp_([*self.encoder.parameters()], _copied(encoder.named_parameters()), 1.0 - momentum)
        torch._foreach_copy_([*self.encoder.buffers()], _copied(encoder.named_buffers()))

    @torch.no_grad()
    def keys(
        self, images: Images, views: int = 1, *, generator: torch.Generator | None = None, ranks: Ranks = ALONE
    ) -> Float[Tensor, "B d"]:
        """Projections, not normalised, in the order of the images.

        In training mode each view is shuffled before the forward and restored after it, so that an image's key shares
        its batch statistics with other images than its query does, and these cannot give the pair away.

        Args:
            images: uint8, or float in [0, 1].
            views: How many equal views are stacked in the batch.
            generator: Of the order, on the images' device; in the same state on every rank.
            ranks: Who holds the rest of the batch. Each rank gives the images of its share and gets the keys of all
                images, of which it has made its share in the order that one process alone would have taken.
        """
        images = ranks.gathered(images, views)
        order = torch.arange(len(images), device=images.device)
        if self.encoder.training:
            order = _shuffled(len(images), views, images.device, generator)  # [B]
        made = self.project(images[ranks.own(order, views)], views)
        return ranks.gathered(made, views)[order.argsort()]


def _copied(named: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
    """An encoder's tensors without those of its predictor, which the copy has not."""
    return [tensor for name, tensor in named if not name.startswith("predictor.")]


def _shuffled(batch: int, views: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """An order of the batch that mixes images within each view; by sorting, because no device waits for that."""
    if batch % views:
        raise CltoolsError(f"A batch of {batch} images is not {views} equal views.")
    each = batch // views
    within = torch.rand(views, each, device=device, generator=generator, dtype=torch.float32).argsort(dim=1)
    return (within + each * torch.arange(views, device=device)[:, None]).flatten()
