"""Batched random views: each image of a batch has its own draw, in a handful of tensor operations on any device.

torchvision's transforms take a batch too, but share one draw among its images; here they are only the oracle of the
tests. Crop, flip and rotation are one resampling; colours change one operation at a time, as in torchvision.

Source: the augmentation of SimCLR (arXiv:2002.05709, appendix A) and MoCo v2 (arXiv:2003.04297).

Legend: B images, H and W height and width, T places of a blur's kernel.
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
"""Crops drawn for an image, of which the first that fits is taken."""
CHUNK = 128
"""Images whose colours change together on a CPU, so that they stay in its cache."""


@dataclass(frozen=True)
class ViewSettings(Settings):
    """How a view is drawn; a probability of 0 leaves an operation out, at no cost."""

    crop_scale: Annotated[tuple[float, float], "two ascending shares above 0 and at most 1"] = (0.2, 1.0)
    """Area of the crop, as a share of the image's; the crop is resized back."""
    crop_ratio: Annotated[tuple[float, float], "two ascending numbers above 0"] = (3 / 4, 4 / 3)
    """Width / height of the crop."""
    flip: Annotated[float, "a number between 0 and 1"] = 0.5
    """Probability of a horizontal flip."""
    jitter: Annotated[float, "a number between 0 and 1"] = 0.8
    """Probability of brightness, contrast, saturation and hue changes, drawn together."""
    brightness: Annotated[float, "a number between 0 and 1"] = 0.4
    """Largest change of the factor 1."""
    contrast: Annotated[float, "a number between 0 and 1"] = 0.4
    """Largest change of the factor 1."""
    saturation: Annotated[float, "a number between 0 and 1"] = 0.4
    """Largest change of the factor 1."""
    hue: Annotated[float, "between 0 and 0.5"] = 0.1
    """Largest turn of the hue, as a share of the circle."""
    gray: Annotated[float, "a number between 0 and 1"] = 0.2
    """Probability of grayscale."""
    blur: Annotated[float, "a number between 0 and 1"] = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: Annotated[tuple[float, float], "two ascending numbers above 0"] = (0.1, 2.0)
    """Its standard deviation, in pixels."""
    rotation: Annotated[float, "between 0 and 180 degrees"] = 0.0
    """Largest rotation either way, in degrees."""


@torch.no_grad()
def augment(
    images: Shaped[Tensor, "B 3 H W"] | Numbers,
    settings: ViewSettings,
    *,
    generator: torch.Generator | None = None,
    among: tuple[int, int] | None = None,
) -> Float[Tensor, "B 3 H W"]:
    """One random view of each image: crop, flip and rotation, then colour jitter, then grayscale, then blur.

    Differs from torchvision: the jitter's order is fixed (brightness, contrast, saturation, hue), where torchvision
    draws one; crops are of any place and size, not of whole pixels, and interpolate over their border where the image
    goes on; a rotation shows the image's border repeated, not black.

    Args:
        images: uint8, or float in [0, 1].
        settings: What is drawn.
        generator: Of all draws, on the images' device; None takes the device's global one.
        among: Place of the first of these images in a larger batch, and that batch's size. Draws are made for the whole
            batch, so that its parts, each viewed with an equal generator, are together the views of the batch.

    Returns:
        float32 in [0, 1], of the images' size.

    Raises:
        ValueError: the images are of another type.
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
    """Pixels in [0, 1]: uint8 is divided by 255, float passes, and what else it could be is refused."""
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise CltoolsError(f"Images must be uint8, or float in [0, 1], not {images.dtype}.")
    return images.float() / 255 if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class Draws:
    """Numbers for each of `count` images, the ones from place `first` on of a batch of `total`."""

    count: int
    device: torch.device
    generator: torch.Generator | None
    first: int = 0
    total: int | None = None

    def between(self, low: float, high: float, tries: int = 1) -> Float[Tensor, " n"]:
        """Uniform between two numbers, `tries` times for each image: all images' first, then all images' second."""
        size = tries, self.total or self.count
        unit = torch.rand(size, device=self.device, generator=self.generator, dtype=torch.float32)
        return low + (high - low) * unit[:, self.first : self.first + self.count].flatten()

    def happens(self, probability: float) -> Bool[Tensor, " B"]:
        """True with this probability."""
        return self.between(0.0, 1.0) < probability


def crop_sizes(
    settings: ViewSettings, draws: Draws, height_by_width: float
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Width and height of each crop, as shares of the image's: the first of ten draws that fits, else the whole."""
    area = draws.between(*settings.crop_scale, TRIES).view(TRIES, -1)
    low, high = settings.crop_ratio
    ratio = draws.between(math.log(low), math.log(high), TRIES).exp().view(TRIES, -1) * height_by_width
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (width <= 1) & (height <= 1)  # [TRIES, B]
    first = (fits.cumsum(0) == 0).sum(0, keepdim=True).clamp_(max=TRIES - 1)  # as many as failed before it
    width, height = (torch.where(fits, side, 1.0).gather(0, first)[0] for side in (width, height))
    return width, height


def sampling_matrices(settings: ViewSettings, draws: Draws, height_by_width: float) -> Float[Tensor, "B 2 3"]:
    """Where each output pixel is read, in coordinates that run from −1 to 1: crop, flip and rotation in one matrix."""
    width, height = crop_sizes(settings, draws, height_by_width)
    x_centre = (1 - width) * draws.between(-1.0, 1.0)
    y_centre = (1 - height) * draws.between(-1.0, 1.0)
    mirror = torch.ones_like(width)
    if settings.flip > 0:
        mirror.masked_fill_(draws.happens(settings.flip), -1.0)
    turned = math.radians(settings.rotation)
    angle = draws.between(-turned, turned) if turned > 0 else torch.zeros_like(width)
    cosine, sine = angle.cos(), angle.sin()
    # output → mirrored → turned about the centre, in pixels → crop
    row_x = torch.stack([width * mirror * cosine, -width * sine * height_by_width, x_centre], dim=1)
    row_y = torch.stack([height * mirror * sine / height_by_width, height * cosine, y_centre], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def resample(x: Float[Tensor, "B 3 H W"], matrices: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B 3 H W"]:
    """Bilinear reading at the given places, the border repeated; crops only magnify, so nothing needs smoothing."""
    grid = F.affine_grid(matrices, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolour(x: Tensor, settings: ViewSettings, draws: Draws) -> Tensor:
    """Jitter and grayscale, as far as the settings ask for them."""
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = []  # with an amount for each image
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
    """Every colour times a factor."""
    return (x * _pixelwise(factor)).clamp_(max=1)


def contrast(x: Float[Tensor, "B 3 H W"], factor: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Differences from the image's mean grey times a factor."""
    mean = luma(x.mean((2, 3), keepdim=True))
    factor = _pixelwise(factor)
    return (x * factor).add_((1 - factor) * mean).clamp_(0, 1)


def saturation(x: Float[Tensor, "B 3 H W"], factor: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Differences from each pixel's grey times a factor; 0 is grayscale."""
    factor = _pixelwise(factor)
    return (x * factor).add_((1 - factor) * luma(x)).clamp_(0, 1)


def hue(x: Float[Tensor, "B 3 H W"], turn: Float[Tensor, " B"]) -> Float[Tensor, "B 3 H W"]:
    """Hue in HSV turned by a share of the circle, from −0.5 to 0.5; the largest and smallest colour of a pixel stay.

    In sixths of the circle the hue lies at ±(1 + (G + B − R − min) / (max − min)), its sign that of G − B; a colour is
    max within 1 of its place on the circle (R 0, G 2, B −2), min beyond 2, linear between. So no case is told apart.
    """
    red, green, blue = x.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - low
    place = (green + blue).sub_(red).sub_(low).div_(chroma.clamp_min(1e-12)).add_(1)
    place = place.copysign_(green - blue).add_(6 * turn[:, None, None])
    top = high + chroma
    out = torch.empty_like(x)
    for channel, home in enumerate((0, 2, -2)):
        distance = (place - home).abs_()  # up to 8; then to the nearest multiple of 6
        distance.sub_(3).abs_().sub_(3).abs_()
        torch.addcmul(top, chroma, distance.clamp_(1, 2), value=-1, out=out[:, channel])
    return out


def luma(x: Float[Tensor, "B 3 *S"]) -> Float[Tensor, "B 1 *S"]:
    """How bright a colour looks."""
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def blur(x: Float[Tensor, "B 3 H W"], sigma: Float[Tensor, " B"], radius: int) -> Float[Tensor, "B 3 H W"]:
    """Gaussian blur of each image with its own standard deviation in pixels, the border reflected.

    The kernel is cut at `radius` pixels, or at the image's size less one, whatever is less.
    """
    rows = blur_matrices(sigma, radius, x.shape[2])
    columns = rows if x.shape[2] == x.shape[3] else blur_matrices(sigma, radius, x.shape[3])
    return rows[:, None] @ x @ columns[:, None].transpose(2, 3)


def blur_matrices(sigma: Float[Tensor, " B"], radius: int, size: int) -> Float[Tensor, "B n n"]:
    """The blur of a line of `size` pixels, as a matrix for each image: at these sizes faster than a convolution."""
    radius = min(radius, size - 1)
    place = torch.arange(-radius, radius + 1, device=sigma.device)  # [T]
    kernel = torch.softmax(-0.5 * (place / sigma[:, None]) ** 2, dim=1)  # [B, T]
    lines = F.pad(torch.eye(size, device=sigma.device, dtype=sigma.dtype)[None], (radius, radius), mode="reflect")[0]
    # taps[t, i, j] is 1 where the kernel's place t, laid on pixel i, reads pixel j
    taps = lines.unfold(1, size, 1).permute(1, 2, 0)
    return (kernel @ taps.flatten(1)).view(-1, size, size)


def _pixelwise(per_image: Tensor) -> Tensor:
    return per_image[:, None, None, None]
