"""Encoders for small images: backbone, projection head, predictor, and the momentum copy that computes keys.

An encoder maps raw pixels → features → projection. Its first layer normalises uint8 (÷255) or float in [0, 1] by the
training images' mean and standard deviation; these are buffers, saved with the weights, so weights and data cannot
disagree.

In training, batch statistics are computed over groups of consecutive images. One forward of several stacked batches
then equals separate forwards of each, and no image is normalised with the statistics of another group. A stack of two
views has at least two groups; MoCo's recipe uses 8 groups of 32.

Source: batch norm, arXiv:1502.03167; groups after the split batch norm of MoCo's CIFAR demo (arXiv:1911.05722).
Differs: groups are consecutive images, not every G-th, so that several ranks holding whole groups equal one process.

Legend: B stacked images, G groups, b = B/G images per group, C channels, S positions (H W, or none), D features,
d projection.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from cltools.datasets import ImageSet
from cltools.errors import SEED, CltoolsError, Settings, check_number, shown
from cltools.mining.handed_in import enough_memory, torch_defaults
from cltools.ranks import ALONE, Ranks
from cltools.views import pixels

TINY_WIDTHS = (32, 64, 128, 256)
Backbone = Literal["tiny", "resnet18", "resnet50"]
Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
"""Input of an encoder: uint8, or float in [0, 1]."""
CHUNK = 1024  # images per chunk of pixel statistics, whose channels are copied


# backbones, [B, 3, H, W] normalised pixels → [B, D] features


@dataclass
class Stacking:
    """How the training batches of an encoder are stacked; one object, shared by all layers that depend on it.

    Attributes:
        group: Consecutive images that share batch statistics; None for a whole view.
        views: Number of equal views in the current batch. The `Encoder` sets it at the start of each forward pass,
            after it has checked that views and groups divide the batch.
    """

    group: int | None = None
    views: int = 1

    def groups(self, batch: int) -> int:
        """Return the number of groups in a batch of that many images."""
        return self.views if self.group is None else batch // self.group


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch norm over groups, for [B, C] or [B, C, H, W], with the parameters and buffers of torch's batch norm.

    In evaluation mode it is ordinary batch norm. Running statistics are updated once per forward, by the mean over
    groups.

    Attributes:
        stacking: How training batches are stacked. An `Encoder` shares its own with its layers when it is created; a
            layer without an encoder uses the statistics of the whole batch.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int) -> None:
        """Create a batch norm of that many channels C, with torch's defaults."""
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
        # On a GPU one call avoids many kernel launches, at the cost of two copies.
        return self.folded(input, groups) if input.is_cuda and groups > 2 else self.one_by_one(input, groups)

    def one_by_one(self, x: Tensor, groups: int) -> Tensor:
        """Normalise each group of x [B, C, *S] by a separate call.

        Every call updates the running statistics, the earlier ones by larger momenta, so that together they are the
        update by the mean over groups.
        """
        given, left = (self.running_mean, self.running_var, self.weight, self.bias, True), range(groups)[::-1]
        momenta = (self.momentum / (groups - self.momentum * each) for each in left)
        parts = zip(x.chunk(groups), momenta, strict=True)
        return torch.cat([F.batch_norm(part, *given, momentum, self.eps) for part, momentum in parts])

    def folded(self, x: Tensor, groups: int) -> Tensor:
        """Normalise all groups in one call: group g's channel c becomes channel gC + c of a batch of b images."""
        last = x.movedim(1, -1)  # [B, S, C], without a copy if the memory format is channels_last
        grouped = torch.unflatten(last, 0, (groups, -1)).movedim(0, -2).flatten(-2).movedim(-1, 1)  # [b, GC, S]
        running = self.running_mean, self.running_var
        mean, var, weight, bias = (each.repeat(groups) for each in (*running, self.weight, self.bias))
        y = F.batch_norm(grouped, mean, var, weight, bias, True, self.momentum, self.eps)
        torch._foreach_copy_(running, [each.view(groups, -1).mean(0) for each in (mean, var)])
        split = torch.unflatten(y.movedim(1, -1), -1, (groups, -1)).movedim(-2, 0)  # [G, b, S, C]
        return split.flatten(0, 1).movedim(-1, 1)


class SmallConvolution(nn.Conv2d):
    """A 3×3 convolution of stride 2 and padding 1; on a CPU, images of up to 4×4 are convolved by `ByWindows`."""

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B N h w"]:
        """Return [B, N, H/2, W/2]."""
        plain = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or torch._C._get_tracing_state()
        if plain or input.device.type != "cpu" or not {2, 4}.issuperset(input.shape[2:]):
            return super().forward(input)
        return ByWindows.apply(input, self.weight)  # type: ignore[no-any-return]


class ByWindows(torch.autograd.Function):
    """The convolution by one matrix product per position, [B, taps·C] @ [taps·C, N], over the taps inside the image.

    On such small images a third to a half of the taps are padding, which a general convolution multiplies like others.
    """

    @staticmethod
    def windows(height: int, width: int) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
        """Yield each position with the rows and columns of its window in the image, and those of its taps."""
        for i, j in product(range(height // 2), range(width // 2)):
            window = slice(max(0, 2 * i - 1), 2 * i + 2), slice(max(0, 2 * j - 1), 2 * j + 2)
            yield (i, j), window, (slice(int(i == 0), 3), slice(int(j == 0), 3))

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        """Return [B, N, H/2, W/2] for x [B, C, H, W] and weight [N, C, 3, 3]."""
        image, taps = x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).contiguous()
        y = x.new_empty(len(x), x.shape[2] // 2, x.shape[3] // 2, len(weight))
        for (i, j), window, inside in ByWindows.windows(*image.shape[1:3]):
            y[:, i, j] = image[:, *window].flatten(1) @ taps[inside].flatten(0, 2)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep the inputs."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and weight."""
        x, weight = ctx.saved_tensors
        image, taps = x.permute(0, 2, 3, 1), weight.permute(2, 3, 1, 0).contiguous()
        of_image, of_taps = torch.zeros_like(image), torch.zeros_like(taps)
        for (i, j), window, inside in ByWindows.windows(*image.shape[1:3]):
            part, own = upstream[:, :, i, j].contiguous(), taps[inside]
            of_image[:, *window] += (part @ own.flatten(0, 2).T).view(-1, *own.shape[:3])
            of_taps[inside] += (image[:, *window].flatten(1).T @ part).view(own.shape)
        return of_image.permute(0, 3, 1, 2), of_taps.permute(3, 2, 0, 1)


class Tiny(nn.Module):
    """Four 3×3 convolutions of stride 2 and a mean over positions; it trains on a CPU, on images from 16×16 up.

    Attributes:
        dim: Length D of a feature vector.
    """

    dim = TINY_WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *TINY_WIDTHS), TINY_WIDTHS, strict=False):
            convolution = SmallConvolution(before, after, 3, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, GroupedBatchNorm(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features [B, D] of pixels [B, 3, H, W]."""
        return self.layers(pixels).mean((2, 3))  # type: ignore[no-any-return]


def resnet(name: str, max_pool: bool) -> tuple[nn.Module, int]:
    """Create a torchvision ResNet with a stem for small images: 3×3 with stride 1, and no max-pool by default.

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
    """Wrapper of a module [B, 3, H, W] → [B, D] that runs it once per view, so that its batch norms never mix views."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.stacking = Stacking()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features [B, D] of `stacking.views` stacked views."""
        if self.stacking.views == 1 or not self.training:
            return self.module(pixels)  # type: ignore[no-any-return]
        return torch.cat([self.module(view) for view in pixels.chunk(self.stacking.views)])


def feature_dim(backbone: nn.Module, size: tuple[int, int]) -> int:
    """Return D of a backbone, from one forward of two blank images in evaluation mode, which changes nothing.

    Raises:
        ValueError: it fails on images of that size, or does not return one vector per image.
    """
    blank = torch.zeros(2, 3, *size, device=device_of(backbone))
    images = f"images {[*blank.shape]}"
    with torch.no_grad(), eval_mode(backbone):
        try:
            features = backbone(blank)
        except Exception as error:
            raise CltoolsError(f"The backbone fails on {images}: {error}") from error
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
        shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise CltoolsError(f"The backbone turns {images} into {shape}; it must return one vector per image, [2, D].")
    return int(features.shape[1])


def device_of(encoder: object, fallback: torch.device | str = "cpu") -> torch.device:
    """Return the device of the encoder's first parameter or buffer."""
    tensors = (*encoder.parameters(), *encoder.buffers()) if isinstance(encoder, nn.Module) else ()
    return tensors[0].device if tensors else torch.device(fallback)


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the device of a name; "auto" is CUDA if available.

    Raises:
        ValueError: an unknown name, or a GPU on a machine without one.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(name, torch.device) and not re.fullmatch(r"(cpu|cuda)(:(0|[1-9]\d?))?", str(name)):
        raise CltoolsError(f'Unknown device {shown(name)}. Use "auto", "cpu", "cuda" or "cuda:1".')
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CltoolsError(
            f'Device {str(device)!r} was asked for, but this machine has no CUDA GPU. Use "cpu" or "auto".'
        )
    return device


@contextmanager
def eval_mode(encoder: object) -> Iterator[None]:
    """Put the encoder in evaluation mode within the block, and restore each submodule's own mode afterwards.

    `encoder.train()` would also switch submodules that were deliberately in evaluation mode.
    """
    before = {each: each.training for each in (encoder.modules() if isinstance(encoder, nn.Module) else ())}
    try:
        for module in before:
            module.training = False
        yield
    finally:
        for module, training in before.items():
            module.training = training


# the encoder


@dataclass(frozen=True)
class EncoderSettings(Settings):
    """Architecture of the encoder (without a preset, that of MoCo's CIFAR recipe).

    Raises:
        ValueError: a value outside its limits, or a max-pool for the tiny backbone, which has none.

    Example:
        >>> from cltools import EncoderSettings
        >>> EncoderSettings(backbone="tiny", hidden=128, projection=64).projection
        64
        >>> EncoderSettings(backbone="tiny", max_pool=True)
        Traceback (most recent call last):
        cltools.errors.CltoolsError: EncoderSettings: the tiny backbone has no max-pool; ...
    """

    backbone: Backbone = "resnet18"
    """Backbone for small images: "tiny" trains on a CPU; ResNets have a 3×3 stem of stride 1."""
    max_pool: bool = False
    """Keep the ResNet's max-pool after the stem; for 64×64 images."""
    hidden: Annotated[int, "a whole number of at least 1"] = 512
    """Width of the hidden layer of the projection head (and predictor)."""
    projection: Annotated[int, "a whole number of at least 1"] = 128
    """Dimension of the projection, in which samples are compared."""
    head_norm: bool = False
    """Use batch norm in the hidden layer of the projection head (and predictor)."""
    predictor: bool = False
    """Add a predictor, a second head of the same form, to the online encoder only."""
    bn_group: Annotated[int | None, "a whole number of at least 2", "Give None for a whole view."] = 32
    """Number of consecutive images of one view that share batch statistics; None for a whole view."""

    def __post_init__(self) -> None:
        """Refuse `max_pool` for a backbone without one."""
        super().__post_init__()
        if self.max_pool and self.backbone == "tiny":
            raise CltoolsError("EncoderSettings: the tiny backbone has no max-pool; set max_pool=False, or a ResNet.")


class Encoder(nn.Module):
    """Normalisation of pixels, backbone, projection head and optional predictor.

    In training mode batch statistics are computed over consecutive groups of `bn_group` images (None: over each view)
    in every batch norm of this package. A custom backbone keeps its batch norms: `bn_group` does not affect them, and
    it is run once per view. In evaluation mode groups and views have no effect.

    Attributes:
        dim: Length D of a feature vector.
        projection: Length d of a projection.
        stacking: How training batches are stacked, shared with every layer that depends on it.
        mean: Mean of each channel of the training images, in [0, 1]; a buffer [3, 1, 1].
        std: Standard deviation of each channel, in [0, 1]; a buffer [3, 1, 1].
        backbone: The module from normalised pixels [B, 3, H, W] to features [B, D].
        head: The projection head, from [B, D] to [B, d].
        predictor: The second head, from [B, d] to [B, d]; None without one.

    Example:
        >>> import torch
        >>> from cltools import Encoder, EncoderSettings
        >>> backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 32))
        >>> encoder = Encoder(backbone, 32, EncoderSettings(hidden=64, projection=16)).eval()
        >>> images = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
        >>> encoder.features(images).shape, encoder(images).shape
        (torch.Size([5, 32]), torch.Size([5, 16]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, dim: int, settings: EncoderSettings) -> None:
        """Combine a backbone [B, 3, H, W] → [B, D] with new heads; see `build_encoder` for seeds and statistics."""
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
        """Return projections, not normalised, after the predictor if there is one.

        Args:
            images: uint8, or float in [0, 1].
            views: Number of equal views stacked in the batch; views never share batch statistics.

        Raises:
            ValueError: in training mode, the batch does not consist of `views` views of whole groups.
        """
        projected = self.project(images, views)
        return projected if self.predictor is None else self.predictor(projected)

    def project(self, images: Images, views: int = 1) -> Float[Tensor, "B d"]:
        """Return projections before the predictor; arguments as of `forward`."""
        return self.head(self.features(images, views))  # type: ignore[no-any-return]

    def features(self, images: Images, views: int = 1) -> Float[Tensor, "B D"]:
        """Return the backbone's features, before the projection; arguments as of `forward`."""
        if self.training:
            self._stack(len(images), views)
        # On a CPU the first convolution is faster on channels_last; on a GPU it would make that copy itself.
        normalised = ((pixels(images) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.backbone(normalised)  # type: ignore[no-any-return]

    def _stack(self, batch: int, views: int) -> None:
        """Set the number of views in this batch; refuse a batch that is not whole views of whole groups."""
        if batch % views:
            raise CltoolsError(f"A batch of {batch} images is not {views} equal views.")
        group = batch // views if self.stacking.group is None else self.stacking.group
        if (batch // views) % group:
            raise CltoolsError(f"{batch // views} images per view are not a multiple of bn_group={group}; change one.")
        self.stacking.views = views


def head(inputs: int, settings: EncoderSettings) -> nn.Sequential:
    """Two linear layers with a ReLU between; `head_norm` adds a batch norm before it and removes the first bias."""
    norm: list[nn.Module] = [GroupedBatchNorm(settings.hidden)] if settings.head_norm else []
    first = nn.Linear(inputs, settings.hidden, bias=not settings.head_norm)
    return nn.Sequential(first, *norm, nn.ReLU(inplace=True), nn.Linear(settings.hidden, settings.projection))


def pixel_statistics(images: UInt8[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Return mean and standard deviation of each channel over images and positions, in [0, 1].

    Sums are of integers, so the result does not depend on their order. A constant channel gets a deviation of one grey
    level, so that nothing is divided by zero.
    """
    counts = torch.zeros(3, 256, dtype=torch.int64, device=images.device)
    for chunk in torch.split(images, CHUNK):
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in chunk.unbind(1)])
    level = torch.arange(256, device=images.device)
    mean, square = ((counts * values).sum(1).double() / (images.numel() / 3) for values in (level, level.square()))
    std = (square - mean.square()).clamp(min=1.0).sqrt()
    return (mean / 255).float().view(3, 1, 1), (std / 255).float().view(3, 1, 1)


@torch_defaults()
def build_encoder(
    settings: EncoderSettings, images: ImageSet | None, backbone: nn.Module | None = None, seed: int = 0
) -> Encoder:
    """Create an encoder in training mode, on the CPU or on the device of a custom backbone.

    Args:
        settings: Architecture.
        images: Training images, whose pixel mean and standard deviation become its buffers; None leaves 0.5 and 0.25,
            to be replaced by loaded weights.
        backbone: A custom module, normalised pixels [B, 3, H, W] → features [B, D], to use instead of
            `settings.backbone`. It is used with its weights and batch norms, without a copy; D is determined by one
            forward of two blank images of the images' size (32×32 without images).
        seed: Seed of the new weights; the global random state is unchanged.

    Raises:
        ValueError: the custom backbone fails on such images, or does not return [B, D].
    """
    with torch.random.fork_rng(devices=[]), enough_memory("The encoder", "Make hidden or projection smaller."):
        torch.default_generator.manual_seed(check_number("The seed", seed, SEED))  # only the CPU's generator
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
    return encoder.to(device_of(module)).train()


class MomentumCopy(nn.Module):
    """Exponential moving average of an encoder, without gradient and without predictor, which computes the keys.

    Source: MoCo, arXiv:1911.05722, section 3.2 (momentum) and 3.3 (shuffled keys).

    Attributes:
        encoder: The averaged encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Copy `encoder`, which is not changed."""
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.encoder.predictor = None
        self.encoder.requires_grad_(False).zero_grad(set_to_none=True)
        self.project: Callable[[Tensor, int], Tensor] = self.encoder.project  # training may compile it
        self.train()

    @torch.no_grad()
    def update(self, encoder: Encoder, momentum: float) -> None:
        """Update every parameter: own ← momentum · own + (1 − momentum) · encoder's; buffers are copied.

        Args:
            encoder: The encoder of which this is a copy.
            momentum: Weight of the old parameters: 0 copies the encoder's, 1 changes nothing.
        """
        # One call for all tensors instead of a kernel launch for each.
        torch._foreach_lerp_([*self.encoder.parameters()], _copied(encoder.named_parameters()), 1.0 - momentum)
        torch._foreach_copy_([*self.encoder.buffers()], _copied(encoder.named_buffers()))

    @torch.no_grad()
    def keys(
        self, images: Images, views: int = 1, *, generator: torch.Generator | None = None, ranks: Ranks = ALONE
    ) -> Float[Tensor, "B d"]:
        """Return projections, not normalised, in the order of the images.

        In training mode each view is shuffled before the forward and restored after it, so that an image's key shares
        batch statistics with other images than its query does, and the statistics cannot reveal the pair.

        Args:
            images: uint8, or float in [0, 1].
            views: Number of equal views stacked in the batch.
            generator: Random generator of the order, on the images' device; in the same state on every rank.
            ranks: The ranks that share the batch. Each rank passes its share of the images and gets the keys of all; it
                computes its share of the shuffled order that a single process would use.
        """
        images = ranks.gathered(images, views)
        order = torch.arange(len(images), device=images.device)
        if self.encoder.training:
            if len(images) % views:
                raise CltoolsError(f"A batch of {len(images)} images is not {views} equal views.")
            draw = torch.rand(
                views, len(images) // views, device=order.device, generator=generator, dtype=torch.float32
            )
            order = order.view(views, -1).gather(1, draw.argsort(dim=1)).flatten()  # sorting does not wait for the GPU
        keys = self.project(images[ranks.own(order, views)], views)
        return ranks.gathered(keys, views)[order.argsort()]


def _copied(named: Iterable[tuple[str, Tensor]]) -> list[Tensor]:
    """Return an encoder's tensors without those of its predictor, which the copy lacks."""
    return [tensor for name, tensor in named if not name.startswith("predictor.")]
