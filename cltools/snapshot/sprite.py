"""Thumbnails as one picture, and back: a grid of tiles, row by row.

Legend: N images, T pictures of a sprite, H height, W width.
"""

import io
import math

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch.nn.functional import interpolate


def sprite_columns(count: int) -> int:
    """How many of `count` tiles stand in a row."""
    return math.ceil(math.sqrt(count))


LARGEST = 64
"""Pixels of a thumbnail's longer side; larger pictures are shrunk, as WebP ends at 16,383 pixels."""


def thumbnail_size(images: UInt8[ndarray, "N 3 H W"]) -> tuple[int, int]:
    """Height and width of the images' thumbnails."""
    height, width = images.shape[2:]
    scale = min(1, LARGEST / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def thumbnails(images: UInt8[ndarray, "N 3 H W"]) -> UInt8[ndarray, "N 3 h w"]:
    """The images, shrunk where they are larger than a thumbnail."""
    size = thumbnail_size(images)
    if size == images.shape[2:]:
        return images
    parts = torch.split(torch.from_numpy(images), 500)  # whose numbers of four bytes do not fill the memory
    return torch.cat([interpolate(part.float(), size, mode="area").round().byte() for part in parts]).numpy()


PIXELS = 24_000_000
"""Pixels of a sprite, which a browser holds unpacked: 23,437 tiles of 32 × 32."""


def pictured_places(count: int, tile: tuple[int, int]) -> Int64[ndarray, " T"] | None:
    """Which of so many pictures a sprite shows: a draw of them where they would take too much room, else None for all.

    Args:
        count: of pictures.
        tile: height and width of a thumbnail.
    """
    most = PIXELS // (tile[0] * tile[1])
    return None if count <= most else np.sort(np.random.default_rng(0).permutation(count)[:most])


def as_sprite(images: UInt8[ndarray, "N 3 H W"]) -> bytes:
    """The images as WebP, √N to a row."""
    from PIL import Image

    count, channels, height, width = images.shape
    columns = sprite_columns(count)
    rows = math.ceil(count / columns)
    grid = np.zeros((rows, height, columns, width, channels), np.uint8)
    for row in range(rows):
        tiles = images[row * columns : (row + 1) * columns].transpose(2, 0, 3, 1)
        grid[row, :, : tiles.shape[1]] = tiles
    file = io.BytesIO()
    # the quickest method, which holds least in memory too; files are hardly larger
    Image.fromarray(grid.reshape(rows * height, columns * width, channels)).save(file, "WEBP", quality=80, method=0)
    return file.getvalue()


def fits(sprite: bytes, count: int, size: tuple[int, int]) -> bool:
    """Whether a sprite says that it is WebP with room for so many tiles, and is whole; nothing is unpacked."""
    columns = sprite_columns(count)
    rows = math.ceil(count / max(columns, 1))
    width, height = (int.from_bytes(sprite[at : at + 2], "little") for at in (26, 28))
    whole = int.from_bytes(sprite[4:8], "little") + 8 == len(sprite)
    return whole and sprite[8:16] == b"WEBPVP8 " and (height, width) == (rows * size[0], columns * size[1])


def tiles_of(sprite: bytes, count: int, size: tuple[int, int]) -> UInt8[ndarray, "N H W 3"]:
    """The first `count` tiles of a sprite whose tiles have this height and width."""
    from PIL import Image

    height, width = size
    with Image.open(io.BytesIO(sprite)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, height, width, 3)[:count]
