"""Drawn pictures of five figures in related families, so that hard and false negatives exist by construction.

Shapes: N images, S side in pixels, A samples along a pixel's side.
"""

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cltools.datasets.image_set import ImageSet

CLASSES = ("triangle", "square", "pentagon", "cross", "star")
COUNTS = {"train": 4000, "test": 1000}
SIDE = 32


def load_shapes(split: str) -> ImageSet:
    """4,000 training or 1,000 test pictures, always the same, in equal numbers of each class."""
    count = COUNTS[split]
    generator = torch.Generator().manual_seed(20231 + list(COUNTS).index(split))
    labels = torch.arange(count) % len(CLASSES)
    return ImageSet(draw_shapes(labels, generator), labels, torch.arange(count), CLASSES, "shapes", split)


def draw_shapes(labels: Int[Tensor, " N"], generator: torch.Generator) -> UInt8[Tensor, "N 3 32 32"]:
    """One picture for each label; angle, size, place and tint are drawn anew for each."""
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle, radius = uniform(0, 2 * math.pi, 1, 1), uniform(0.35, 0.8, 1, 1)
    place = uniform(-1, 1, 2, 1, 1) * (0.95 - radius[:, None])
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x - place[:, 0], y - place[:, 1]
    u, v = (x * angle.cos() + y * angle.sin()) / radius, (y * angle.cos() - x * angle.sin()) / radius
    distance = torch.stack([figure(k, u, v) for k in range(len(CLASSES))])[labels, torch.arange(n)] * radius
    cover = (0.5 - distance * SIDE / 2).clamp(0, 1)[:, None]
    ink = uniform(0.3, 1.0, 3, 1, 1)
    background = 0.1
    return ((cover * ink + (1 - cover) * background) * 255).round().to(torch.uint8)


def figure(kind: int, u: Float[Tensor, "N S S"], v: Float[Tensor, "N S S"]) -> Float[Tensor, "N S S"]:
    """Signed distance (about, near the edge) of each point from the outline of a figure of radius 1."""
    name = CLASSES[kind]
    if name == "cross":
        a, b = torch.maximum(u.abs(), v.abs()), torch.minimum(u.abs(), v.abs())
        return torch.maximum(a - 0.9, b - 0.3)
    sides = {"triangle": 3, "square": 4, "pentagon": 5, "star": 5}[name]
    sector = 2 * math.pi / sides
    r, phi = torch.hypot(u, v), torch.atan2(v, u)
    phi = torch.remainder(phi + sector / 2, sector) - sector / 2
    if name == "star":  # the line from a tip at radius 1 to a notch at radius 0.45
        tip, notch = torch.tensor([1.0, 0.0]), 0.45 * torch.tensor([math.cos(sector / 2), math.sin(sector / 2)])
        normal = torch.stack([notch[1] - tip[1], tip[0] - notch[0]])
        normal = normal / normal.norm()
        star: Tensor = (r * phi.cos() - 1) * normal[0] + r * phi.sin().abs() * normal[1]
        return star
    return r * phi.cos() - math.cos(sector / 2)
