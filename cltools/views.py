"""Batched random views: each image of a batch has its own draw, in a handful of tensor operations on any device.

torchvision's transforms take a batch too, but share one draw among its images; here they are only the oracle of the
tests. Crop, flip and rotation are one resampling; jitter and grayscale are one affine map of colour.

Legend: B images, H and W height and width.
"""

import math
from dataclasses import dataclass, fields
from functools import cache

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

GRAY = (0.299, 0.587, 0.114)
"""Rec. 601 luma."""


@dataclass(frozen=True)
class ViewSettings:
    """How a view is drawn; a probability of 0 leaves an operation out, at no cost."""

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Area of the crop, as a share of the image's; the crop is resized back."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width / height of the crop."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    jitter: float = 0.8
    """Probability of brightness, contrast, saturation and hue changes, drawn together."""
    brightness: float = 0.4
    """Largest change of the factor 1."""
    contrast: float = 0.4
    """Largest change of the factor 1."""
    saturation: float = 0.4
    """Largest change of the factor 1."""
    hue: float = 0.1
    """Largest turn of the hue, as a share of the circle."""
    gray: float = 0.2
    """Probability of grayscale."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Its standard deviation, in pixels."""
    rotation: float = 0.0
    """Largest rotation either way, in degrees."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        for name in ("flip", "jitter", "gray", "blur"):
            self._check(name, 0 <= getattr(self, name) <= 1, "a probability between 0 and 1")
        for name in ("brightness", "contrast", "saturation"):
            self._check(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._check("hue", 0 <= self.hue <= 0.5, "between 0 and 0.5")
        self._check("rotation", 0 <= self.rotation <= 180, "between 0 and 180 degrees")
        low, high = self.crop_scale
        self._check("crop_scale", 0 < low <= high <= 1, "two ascending shares above 0 and at most 1")
        for name in ("crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            self._check(name, 0 < low <= high, "two ascending numbers above 0")

    def _check(self, name: str, valid: bool, meaning: str) -> None:
        if not valid:
            raise ValueError(f"ViewSettings: {name} is {getattr(self, name)}; it must be {meaning}.")

    @property
    def recolours(self) -> bool:
        """Whether any draw changes colours."""
        changes = self.brightness, self.contrast, self.saturation, self.hue
        return self.gray > 0 or (self.jitter > 0 and any(changes))


NO_CHANGE = ViewSettings(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)
"""A view that is the image itself."""


@torch.no_grad()
def augment(
    images: Shaped[Tensor, "B 3 H W"], settings: ViewSettings, *, generator: torch.Generator | None = None
) -> Float[Tensor, "B 3 H W"]:
    """One random view of each image: crop, flip, rotation, then colour jitter, grayscale, then blur.

    Differs from torchvision: the order of the jitter is fixed (brightness, contrast, saturation, hue), values are
    clamped once at the end, and hue turns in YIQ, a linear approximation of the turn in HSV.

    Args:
        images: uint8, or float in [0, 1].
        settings: what is drawn.
        generator: on the images' device.

    Returns:
        float32 in [0, 1], of the images' size.
    """
    x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    draws = Draws(len(x), x.device, generator)
    if _resamples(settings):
        x = resample(x, sampling_matrices(settings, draws, x.shape[2] / x.shape[3]))
    if settings.recolours:
        x = recolour(x, *colour_maps(settings, draws, x))
    if settings.blur > 0:
        sigma = draws.between(*settings.blur_sigma)
        x = blur(x, torch.where(draws.happens(settings.blur), sigma, 0.0))
    return x


def _resamples(settings: ViewSettings) -> bool:
    return any(getattr(settings, f.name) != getattr(NO_CHANGE, f.name) for f in fields(settings)[:3]) or (
        settings.rotation > 0
    )


@dataclass(frozen=True)
class Draws:
    """Numbers for each of `count` images."""

    count: int
    device: torch.device
    generator: torch.Generator | None

    def unit(self) -> Float[Tensor, " B"]:
        """Uniform in [0, 1)."""
        return torch.rand(self.count, device=self.device, generator=self.generator)

    def between(self, low: float, high: float) -> Float[Tensor, " B"]:
        """Uniform between two numbers."""
        return low + (high - low) * self.unit()

    def happens(self, probability: float) -> Tensor:
        """Bool [B], true with this probability."""
        return self.unit() < probability


def sampling_matrices(settings: ViewSettings, draws: Draws, height_by_width: float) -> Float[Tensor, "B 2 3"]:
    """Where each output pixel is read, in coordinates that run from −1 to 1: crop, flip and rotation in one matrix."""
    area = draws.between(*settings.crop_scale)
    low, high = settings.crop_ratio
    ratio = draws.between(math.log(low), math.log(high)).exp()
    width = (area * ratio * height_by_width).sqrt().clamp(max=1)
    height = (area / ratio / height_by_width).sqrt().clamp(max=1)
    x_centre = (1 - width) * draws.between(-1, 1)
    y_centre = (1 - height) * draws.between(-1, 1)
    mirror = torch.where(draws.happens(settings.flip), -1.0, 1.0) if settings.flip > 0 else torch.ones_like(area)
    angle = math.radians(settings.rotation) * draws.between(-1, 1) if settings.rotation > 0 else torch.zeros_like(area)
    cosine, sine = angle.cos(), angle.sin()
    # output → mirrored → rotated about the crop's centre, in pixels → crop
    row_x = torch.stack([width * mirror * cosine, -width * sine * height_by_width, x_centre], dim=1)
    row_y = torch.stack([height * mirror * sine / height_by_width, height * cosine, y_centre], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def resample(x: Float[Tensor, "B 3 H W"], matrices: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B 3 H W"]:
    """Bilinear reading at the given places, the border repeated; crops only magnify, so nothing needs smoothing."""
    grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colour_maps(
    settings: ViewSettings, draws: Draws, x: Float[Tensor, "B 3 H W"]
) -> tuple[Float[Tensor, "B 3 3"], Float[Tensor, "B 1 1"]]:
    """The affine map of colour of each image: a matrix, and a grey offset (from contrast, about the mean grey)."""
    neutral = torch.ones(draws.count, device=draws.device)
    jittered = draws.happens(settings.jitter)

    def factor(change: float) -> Tensor:
        return torch.where(jittered, draws.between(1 - change, 1 + change), neutral)

    brightness, contrast, saturation = map(factor, (settings.brightness, settings.contrast, settings.saturation))
    turn = torch.where(jittered, 2 * math.pi * draws.between(-settings.hue, settings.hue), 0.0)
    luma, *_ = colour_bases(draws.device)
    to_gray = luma.expand(3, 3)  # every row is the luma
    identity = torch.eye(3, device=draws.device)
    s = saturation[:, None, None]
    matrix = hue_matrices(turn) @ (s * identity + (1 - s) * to_gray)
    if settings.gray > 0:
        grayed = draws.happens(settings.gray)[:, None, None]
        matrix = torch.where(grayed, to_gray @ matrix, matrix)
    mean_gray = brightness * (x.mean((2, 3)) @ luma)
    return (brightness * contrast)[:, None, None] * matrix, ((1 - contrast) * mean_gray)[:, None, None]


def hue_matrices(turn: Float[Tensor, " B"]) -> Float[Tensor, "B 3 3"]:
    """Turn of the hue by an angle, as a rotation of chroma in YIQ; grey stays grey and luma stays."""
    _, to_yiq, from_yiq = colour_bases(turn.device)
    cosine, sine, zero, one = turn.cos(), turn.sin(), torch.zeros_like(turn), torch.ones_like(turn)
    rotation = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1).view(-1, 3, 3)
    turned: Tensor = from_yiq @ rotation @ to_yiq
    return turned


@cache
def colour_bases(device: torch.device) -> tuple[Float[Tensor, "3"], Float[Tensor, "3 3"], Float[Tensor, "3 3"]]:
    """The luma's weights, RGB → YIQ and YIQ → RGB; made once a device, so that no step waits for a copy to it."""
    to_yiq = torch.tensor([GRAY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    return to_yiq[0].to(device), to_yiq.to(device), torch.linalg.inv(to_yiq).to(device)


def recolour(
    x: Float[Tensor, "B 3 H W"], matrix: Float[Tensor, "B 3 3"], offset: Float[Tensor, "B 1 1"]
) -> Float[Tensor, "B 3 H W"]:
    """The affine map applied to each pixel, clamped to [0, 1]."""
    return torch.baddbmm(offset, matrix, x.flatten(2)).clamp_(0, 1).view_as(x)


def blur_size(height: int) -> int:
    """Pixels of the blur's kernel: a tenth of the image, odd, at least 3 (SimCLR, arXiv:2002.05709, appendix A)."""
    return max(3, int(0.1 * height) // 2 * 2 + 1)


def blur(x: Float[Tensor, "B 3 H W"], sigma: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Gaussian blur of each image with its own standard deviation, borders reflected; 0 leaves an image as it is."""
    images, channels, height, width = x.shape
    size = blur_size(height)
    place = torch.arange(size, device=x.device) - size // 2
    # the floor keeps 0/0 out; at it the kernel is 1 in the middle and 0 beside
    kernel = (-0.5 * (place / sigma.clamp_min(1e-3)[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # [3B, 1, size]
    flat = F.pad(x.reshape(1, images * channels, height, width), [size // 2] * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, :, :, None], groups=images * channels)
    return F.conv2d(flat, kernel[:, :, None, :], groups=images * channels).view_as(x)
