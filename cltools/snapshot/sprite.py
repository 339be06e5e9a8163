"""Thumbnails as one picture, and back: a grid of tiles, row by row.

Legend: N images, H height, W width.
"""

import colorsys
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


def thumbnails(images: UInt8[ndarray, "N 3 H W"]) -> UInt8[ndarray, "N 3 h w"]:
    """The images, shrunk where they are larger than a thumbnail."""
    height, width = images.shape[2:]
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return images
    size = max(1, round(scale * height)), max(1, round(scale * width))
    parts = [
        interpolate(torch.from_numpy(part).float(), size, mode="area").round().byte().numpy()
        for part in np.array_split(images, max(1, len(images) // 500))
    ]
    return np.concatenate(parts)


NUMBERED = 40
"""Pixels of a tile that stands for something without a picture."""
IN_A_LINE = 5
"""Digits side by side on it; the longest id, of 20 characters, has four lines."""
GOLDEN = 618_034  # millionths of the circle of hues: ids that follow each other get colours far apart


def numbered(ids: Int64[ndarray, " N"]) -> UInt8[ndarray, "N 3 H W"]:
    """A tile for each id, for what has no picture: its number, dark on a pale colour of its own."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=11)
    tiles = np.empty((len(ids), 3, NUMBERED, NUMBERED), np.uint8)
    for tile, number in zip(tiles, ids.tolist(), strict=True):
        pale = tuple(round(255 * part) for part in colorsys.hls_to_rgb(number * GOLDEN % 10**6 / 10**6, 0.8, 0.7))
        picture, text = Image.new("RGB", (NUMBERED, NUMBERED), pale), str(number)
        lines = "\n".join(text[at : at + IN_A_LINE] for at in range(0, len(text), IN_A_LINE))
        written, centre = ImageDraw.Draw(picture), (NUMBERED / 2, NUMBERED / 2)
        written.multiline_text(centre, lines, fill="black", font=font, anchor="mm", align="center", spacing=0)
        tile[:] = np.asarray(picture).transpose(2, 0, 1)
    return tiles


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
    Image.fromarray(grid.reshape(rows * height, columns * width, channels)).save(file, "WEBP", quality=80)
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
