"""Image sets that need no network: scikit-learn's handwritten digits, and drawn shapes.

The shapes are five figures in related families, so that hard and false negatives exist by construction. Disc and ring
are round, square and cross have fourfold symmetry, and the triangle is between them: figures of one family are each
other's hard negatives. Within a class the images differ in angle, size, position, brightness and tint, most of which
crop, flip and jitter do not undo, so an encoder can distinguish single images at the expense of the figure. The
background is the same everywhere and tints are pale, because a varying background or strong tint would be a shortcut
that identifies single images. A fifth of any queue has the anchor's class.

Shapes: N images, S side in pixels.
"""

import math
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cltools.datasets.image_set import DataSettings, ImageSet

DIGITS_TEST = 500
SHAPES = {"train": (4000, 1), "test": (1000, 2)}
"""Number of images per split, and the seed that draws them."""
SIDE = 32
RADIUS = (0.6, 0.9)  # of a figure; the image extends from -1 to 1
BRIGHTNESS = (0.3, 1.0)
TINT = 0.15  # largest change of a channel, as a share of the brightness
BACKGROUND = 0.1


def load_digits(split: str, data: DataSettings) -> ImageSet:
    """Load 1,297 training or 500 test digits, enlarged from 8×8 to 16×16 and repeated in three channels, stratified.

    Both splits have images by the same writers, so the test measures generalisation to new images, not to new writers.
    """
    source = _digits()
    labels = torch.from_numpy(source.target).long()
    ink = torch.from_numpy(source.images).float()[:, None] / 16
    large = torch.nn.functional.interpolate(ink, (16, 16), mode="bilinear", align_corners=False)
    images = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    everything = ImageSet(images, labels, torch.arange(len(labels)), tuple("0123456789"), "digits", split)
    # Every 3.594th image of the list sorted by class: stratified, and fixed without a random generator.
    by_class = torch.argsort(labels, stable=True)
    test = torch.zeros(len(labels), dtype=torch.bool)
    test[by_class[(torch.arange(DIGITS_TEST) * len(labels) + len(labels) // 2) // DIGITS_TEST]] = True
    return everything.select(test if split == "test" else ~test)


@cache
def _digits() -> Any:
    """Return scikit-learn's digits, which it reads from a text; nothing changes them."""
    from sklearn import datasets

    return datasets.load_digits()


def load_shapes(split: str, data: DataSettings) -> ImageSet:
    """Load 4,000 training or 1,000 test images, always the same, with equal numbers per class."""
    count, seed = SHAPES[split]
    labels = torch.arange(count) % len(FIGURES)
    images = draw_shapes(labels, torch.Generator().manual_seed(seed))
    return ImageSet(images, labels, torch.arange(count), tuple(FIGURES), "shapes", split)


def draw_shapes(labels: Int[Tensor, " N"], generator: torch.Generator) -> UInt8[Tensor, "N 3 32 32"]:
    """Draw one antialiased image per label (index in `FIGURES`); everything else is random."""

    def uniform(bounds: tuple[float, float], *shape: int) -> Tensor:
        low, high = bounds
        return torch.rand(len(labels), *shape, generator=generator) * (high - low) + low

    angle, radius = uniform((0.0, 2 * math.pi), 1, 1), uniform(RADIUS, 1, 1)
    shift_x, shift_y = (uniform((-1.0, 1.0), 1, 1) * (1 - radius) for _ in range(2))
    colour = uniform(BRIGHTNESS, 1, 1, 1) * (1 + uniform((-TINT, TINT), 3, 1, 1))

    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x - shift_x, y - shift_y
    u = (x * angle.cos() + y * angle.sin()) / radius
    v = (y * angle.cos() - x * angle.sin()) / radius
    distance = torch.empty_like(u)
    for label, figure in enumerate(FIGURES.values()):
        rows = labels == label
        distance[rows] = figure(u[rows], v[rows])
    # Share of a pixel that the figure covers, from the distance of its centre to the outline, in pixels.
    cover = (0.5 - distance * radius * SIDE / 2).clamp(0, 1)[:, None]
    return ((cover * colour + (1 - cover) * BACKGROUND).clamp(0, 1) * 255).round().to(torch.uint8)


Plane = Float[Tensor, "N S S"]
"""A number for each pixel: coordinates in a figure's own frame, or the signed distance to its outline."""


def disc(u: Plane, v: Plane) -> Plane:
    """Return the signed distance to a circle."""
    return torch.hypot(u, v) - 0.85


def ring(u: Plane, v: Plane) -> Plane:
    """Return the signed distance to a ring."""
    return (torch.hypot(u, v) - 0.7).abs() - 0.2


def square(u: Plane, v: Plane) -> Plane:
    """Return the signed distance to a square; too small near corners, where the error is less than a pixel."""
    return torch.maximum(u.abs(), v.abs()) - 0.75


def cross(u: Plane, v: Plane) -> Plane:
    """Return the signed distance to two crossed bars."""
    along, across = torch.maximum(u.abs(), v.abs()), torch.minimum(u.abs(), v.abs())
    return torch.maximum(along - 0.95, across - 0.3)


def triangle(u: Plane, v: Plane) -> Plane:
    """Return the signed distance to an equilateral triangle: the largest over its three sides."""
    sides = [u * math.cos(turn) + v * math.sin(turn) for turn in (0.0, 2 * math.pi / 3, 4 * math.pi / 3)]
    return torch.stack(sides).amax(0) - 0.5


FIGURES = {figure.__name__: figure for figure in (disc, ring, square, cross, triangle)}
