"""Batched random views: each image of a batch gets its own draws, in a few tensor operations on any device.

torchvision's transforms take batches too, but share one draw among the images; only the tests use them, as a reference.
Crop, flip and rotation are one resampling; colours change one operation at a time, as in torchvision.

Source: the augmentation of SimCLR (arXiv:2002.05709, appendix A) and MoCo v2 (arXiv:2003.04297).

Legend: B images, H and W height and width, T taps of a blur kernel.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from cltools.errors import CltoolsError, Settings
from cltools.mining.handed_in import Numbers, as_tensor

GRAY = (0.299, 0.587, 0.114)
"""Rec. 601 luma."""
TRIES = 10
"""Number of crops drawn per image; the first that fits is taken."""
CHUNK = 128
"""Number of images whose colours are changed together on a CPU, so that they stay in its cache."""


@dataclass(frozen=True)
class ViewSettings(Settings):
    """Random augmentation of views (SimCLR, arXiv:2002.05709); an operation with probability 0 is skipped.

    Example:
        >>> import torch
        >>> from cltools import ViewSettings, augment
        >>> only_flips = ViewSettings(crop_scale=(1, 1), flip=1, jitter=0, gray=0, blur=0)
        >>> images = torch.rand(2, 3, 4, 4)
        >>> torch.equal(augment(images, only_flips), images.flip(3))
        True
    """

    crop_scale: Annotated[tuple[float, float], "two ascending shares above 0 and at most 1"] = (0.2, 1.0)
    """Smallest and largest crop area, as a share of the image area; the crop is resized to the image size."""
    crop_ratio: Annotated[tuple[float, float], "two ascending numbers above 0"] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio, width / height, of the crop."""
    flip: Annotated[float, "a number between 0 and 1"] = 0.5
    """Probability of a horizontal flip."""
    jitter: Annotated[float, "a number between 0 and 1"] = 0.8
    """Probability that brightness, contrast, saturation and hue are changed; all of them or none."""
    brightness: Annotated[float, "a number between 0 and 1"] = 0.4
    """Largest deviation of the brightness factor from 1."""
    contrast: Annotated[float, "a number between 0 and 1"] = 0.4
    """Largest deviation of the contrast factor from 1."""
    saturation: Annotated[float, "a number between 0 and 1"] = 0.4
    """Largest deviation of the saturation factor from 1."""
    hue: Annotated[float, "between 0 and 0.5"] = 0.1
    """Largest shift of the hue, as a share of the colour circle."""
    gray: Annotated[float, "a number between 0 and 1"] = 0.2
    """Probability of conversion to grayscale."""
    blur: Annotated[float, "a number between 0 and 1"] = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: Annotated[tuple[float, float], "two ascending numbers above 0"] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels."""
    rotation: Annotated[float, "between 0 and 180 degrees"] = 0.0
    """Largest rotation in either direction, in degrees."""


@torch.no_grad()
def augment(
    images: Shaped[Tensor, "B 3 H W"] | Numbers,
    settings: ViewSettings,
    *,
    generator: torch.Generator | None = None,
    among: tuple[int, int] | None = None,
) -> Float[Tensor, "B 3 H W"]:
    """Return one random view of each image: crop, flip and rotation, then colour jitter, grayscale and blur.

    The views are those of SimCLR (arXiv:2002.05709, appendix A) and MoCo v2 (arXiv:2003.04297), and rotation besides.
    Differs from torchvision: the order of the jitter is fixed (brightness, contrast, saturation, hue), while
    torchvision draws it; crops have real-valued positions and sizes, not whole pixels, and interpolate across their
    border where the image continues; a rotation repeats the image's border instead of showing black.

    Args:
        images: [B, 3, H, W], uint8, or float in [0, 1].
        settings: The augmentations.
        generator: Random generator of all draws, on the images' device; None for the device's global one.
        among: Index of the first of these images in a larger batch, and the size of that batch. Draws are made for the
            whole batch, so that its parts, each augmented with an equal generator, together are the batch's views.

    Returns:
        float32 in [0, 1], of the images' size.

    Raises:
        ValueError: the images have another dtype or shape.

    Example:
        >>> import torch
        >>> from cltools import ViewSettings, augment
        >>> images = torch.randint(256, (5, 3, 16, 16), dtype=torch.uint8)
        >>> view, other, again = (
        ...     augment(images, ViewSettings(), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 0)
        ... )
        >>> view.shape, view.dtype, torch.equal(view, other), torch.equal(view, again)
        (torch.Size([5, 3, 16, 16]), torch.float32, False, True)
    """
    images = as_tensor("images", images)
    if images.ndim != 4 or images.shape[1] != 3:
        raise CltoolsError(f"Images have shape {list(images.shape)}; give [B, 3, H, W].")
    x = pixels(images).float()
    draws = Draws(len(x), x.device, generator, *(among or (0, len(x))))
    with torch.autocast(x.device.type, enabled=False):
        if settings.crop_scale != (1.0, 1.0) or settings.rotation > 0:
            x = resample(x, sampling_matrices(settings, draws, x.shape[2] / x.shape[3]))
        elif settings.flip > 0:
            x = torch.where(_pixelwise(draws.happens(settings.flip)), x.flip(3), x)
        x = _recolour(x, settings, draws)
        if settings.blur > 0:
            blurred = blur(x, draws.between(*settings.blur_sigma), math.ceil(3 * settings.blur_sigma[1]))
            x = torch.where(_pixelwise(draws.happens(settings.blur)), blurred, x)
    return x


def pixels(images: Tensor) -> Tensor:
    """Return pixels in [0, 1]: uint8 is divided by 255, float is unchanged; other dtypes raise ValueError."""
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise CltoolsError(f"Images must be uint8, or float in [0, 1], not {images.dtype}.")
    return images.float() / 255 if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class Draws:
    """Random numbers for `count` images, which begin at index `first` of a batch of `total`."""

    count: int
    device: torch.device
    generator: torch.Generator | None
    first: int = 0
    total: int | None = None

    def between(self, low: float, high: float, tries: int = 1) -> Float[Tensor, " n"]:
        """Draw uniformly between two numbers, `tries` times per image; the first draws of all images come first."""
        size = tries, self.total or self.count
        unit = torch.rand(size, device=self.device, generator=self.generator, dtype=torch.float32)
        return low + (high - low) * unit[:, self.first : self.first + self.count].flatten()

    def happens(self, probability: float) -> Bool[Tensor, " B"]:
        """Draw True with this probability for each image."""
        return self.between(0.0, 1.0) < probability


def crop_sizes(
    settings: ViewSettings, draws: Draws, height_by_width: float
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return width and height of each crop as shares of the image's: the first of ten draws that fits, else 1."""
    area = draws.between(*settings.crop_scale, TRIES).view(TRIES, -1)
    low, high = settings.crop_ratio
    ratio = draws.between(math.log(low), math.log(high), TRIES).exp().view(TRIES, -1) * height_by_width
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (width <= 1) & (height <= 1)  # [TRIES, B]
    first = (fits.cumsum(0) == 0).sum(0, keepdim=True).clamp_(max=TRIES - 1)  # the number of draws that failed before
    width, height = (torch.where(fits, side, 1.0).gather(0, first)[0] for side in (width, height))
    return width, height


def sampling_matrices(settings: ViewSettings, draws: Draws, height_by_width: float) -> Float[Tensor, "B 2 3"]:
    """Return the matrix from output to input coordinates, from −1 to 1, that combines crop, flip and rotation."""
    width, height = crop_sizes(settings, draws, height_by_width)
    x_centre, y_centre = ((1 - side) * draws.between(-1.0, 1.0) for side in (width, height))
    mirror = torch.ones_like(width)
    if settings.flip > 0:
        mirror.masked_fill_(draws.happens(settings.flip), -1.0)
    largest = math.radians(settings.rotation)
    angle = draws.between(-largest, largest) if largest > 0 else torch.zeros_like(width)
    cosine, sine = angle.cos(), angle.sin()
    # output → mirrored → rotated about the centre, in pixels → crop
    row_x = torch.stack([width * mirror * cosine, -width * sine * height_by_width, x_centre], dim=1)
    row_y = torch.stack([height * mirror * sine / height_by_width, height * cosine, y_centre], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def resample(x: Float[Tensor, "B 3 H W"], matrices: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B 3 H W"]:
    """Resample bilinearly, repeating the border; crops only magnify, so no smoothing is needed."""
    # affine_grid's small matrix products take several times as long (`python -m benchmarks plain`).
    down, across = (torch.arange(0.5, side, device=x.device, dtype=x.dtype) * (2 / side) - 1 for side in x.shape[2:])
    by_x, by_y, shift = matrices[:, :, None, None].unbind(4)  # [B, 2, 1, 1]
    grid = torch.addcmul(shift + by_y * down[:, None], by_x, across).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolour(x: Tensor, settings: ViewSettings, draws: Draws) -> Tensor:
    """Apply jitter and grayscale according to the settings."""
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = []  # operations, each with an amount per image
    if settings.jitter > 0:
        jittered = draws.happens(settings.jitter)
        largest = settings.brightness, settings.contrast, settings.saturation, settings.hue
        for jitter, most in zip((brightness, contrast, saturation, hue), largest, strict=True):
            neutral = 0.0 if jitter is hue else 1.0
            if most > 0:
                drawn = draws.between(neutral - most, neutral + most)
                steps.append((jitter, torch.where(jittered, drawn, neutral)))
    if settings.gray > 0:
        steps.append((saturation, (~draws.happens(settings.gray)).float()))
    if not steps:
        return x
    size = CHUNK if x.device.type == "cpu" else len(x)
    parts = []
    for start in range(0, len(x), size):
        part = x[start : start + size]
        for change, amounts in steps:
            part = change(part, amounts[start : start + size])
        parts.append(part)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def brightness(x: Float[Tensor, "B 3 H W"], factor: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Multiply every colour by a factor."""
    return (x * _pixelwise(factor)).clamp_(max=1)


def contrast(x: Float[Tensor, "B 3 H W"], factor: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Multiply differences from the image's mean grey by a factor."""
    factor = _pixelwise(factor)
    return (x * factor).add_((1 - factor) * luma(x.mean((2, 3), keepdim=True))).clamp_(0, 1)


def saturation(x: Float[Tensor, "B 3 H W"], factor: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Multiply differences from each pixel's grey by a factor; 0 is grayscale."""
    factor = _pixelwise(factor)
    return (x * factor).add_((1 - factor) * luma(x)).clamp_(0, 1)


def hue(x: Float[Tensor, "B 3 H W"], turn: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Rotate the HSV hue by a share of the circle, from −0.5 to 0.5, keeping each pixel's largest and smallest channel.

    In sixths of the circle the hue is ±(1 + (G + B − R − min) / (max − min)), with the sign of G − B. A channel is max
    within 1 of its position on the circle (R 0, G 2, B −2), min beyond 2, and linear in between, so that no cases have
    to be distinguished.
    """
    red, green, blue = x.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    position = (green + blue).sub_(red).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)
    position = position.copysign_(green - blue).add_(6 * turn[:, None, None])
    top = high + chroma
    out = torch.empty_like(x)
    for channel, centre in enumerate((0, 2, -2)):
        distance = (position - centre).abs_()  # up to 8; then to the nearest multiple of 6
        distance.sub_(3).abs_().sub_(3).abs_()
        torch.addcmul(top, chroma, distance.clamp_(1, 2), value=-1, out=out[:, channel])
    return out


def luma(x: Float[Tensor, "B 3 *S"]) -> Float[Tensor, "B 1 *S"]:
    """Return the luma, the perceived brightness, of colours."""
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def blur(x: Float[Tensor, "B 3 H W"], sigma: Float[Tensor, " B"], radius: int) -> Float[Tensor, "B 3 H W"]:
    """Blur each image by a Gaussian with its own standard deviation in pixels, reflecting the border.

    The kernel is truncated at `radius` pixels, or at the image's size − 1 if that is smaller.
    """
    rows = blur_matrices(sigma, radius, x.shape[2])
    columns = rows if x.shape[2] == x.shape[3] else blur_matrices(sigma, radius, x.shape[3])
    return rows[:, None] @ x @ columns[:, None].transpose(2, 3)


def blur_matrices(sigma: Float[Tensor, " B"], radius: int, size: int) -> Float[Tensor, "B n n"]:
    """Return the blur of a line of `size` pixels as one matrix per image, for use instead of a convolution."""
    radius = min(radius, size - 1)
    offset = torch.arange(-radius, radius + 1, device=sigma.device)  # [T]
    kernel = torch.softmax(-0.5 * (offset / sigma[:, None]) ** 2, dim=1)  # [B, T]
    lines = F.pad(torch.eye(size, device=sigma.device, dtype=sigma.dtype)[None], (radius, radius), mode="reflect")[0]
    # taps[t, i, j] is 1 where tap t of the kernel centred on pixel i reads pixel j
    taps = lines.unfold(1, size, 1).permute(1, 2, 0)
    return (kernel @ taps.flatten(1)).view(-1, size, size)


def _pixelwise(per_image: Tensor) -> Tensor:
    return per_image[:, None, None, None]
