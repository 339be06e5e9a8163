"""Thumbnails as one picture, and back: a grid of tiles, row by row.

Legend: N images, H height, W width.
"""

import io
import math

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray


def sprite_columns(count: int) -> int:
    """How many of `count` tiles stand in a row."""
    return math.ceil(math.sqrt(count))


def as_sprite(images: UInt8[ndarray, "N 3 H W"]) -> bytes:
    """The images as WebP, √N to a row."""
    from PIL import Image

    count, _, height, width = images.shape
    columns = sprite_columns(count)
    rows = math.ceil(count / columns)
    tiles = np.zeros((rows * columns, 3, height, width), np.uint8)
    tiles[:count] = images
    grid = tiles.reshape(rows, columns, 3, height, width).transpose(0, 3, 1, 4, 2)
    file = io.BytesIO()
    Image.fromarray(grid.reshape(rows * height, columns * width, 3)).save(file, "WEBP", quality=80, method=6)
    return file.getvalue()


def tiles_of(sprite: bytes, count: int, size: tuple[int, int]) -> UInt8[ndarray, "N H W 3"]:
    """The first `count` tiles of a sprite whose tiles have this height and width."""
    from PIL import Image

    height, width = size
    with Image.open(io.BytesIO(sprite)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, height, width, 3)[:count]
