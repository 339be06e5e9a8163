"""From picture files of any kind to uint8 RGB pixels of one size, by several threads where they are large.

Shapes: N pictures, B of them in a block, H and W their height and width, S the wanted size.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from cltools.errors import CltoolsError
from cltools.provenance import usable_processors

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
# Pillow lets go of Python's lock while it decodes, but not while it opens a file: threads pay for large ones alone.
LARGE, MOST_THREADS = 1 << 15, 8  # bytes of a file
# Pictures of a block; fewer where they are large, so that memory is bounded.
BLOCK, BLOCK_BYTES = 64, 1 << 26


def is_picture(name: str) -> bool:
    """Whether a file of this name is read as an image; hidden files (`._0001.png` of macOS) are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in ENDINGS


def read_pictures(paths: Sequence[Path], size: int | None = None) -> UInt8[Tensor, "N 3 H W"]:
    """The pictures at `paths`, in order; arguments and errors as of `decode`."""
    return torch.from_numpy(np.concatenate([*decode(paths, size)]))


def decode(paths: Sequence[Path], size: int | None = None) -> Iterator[UInt8[ndarray, "B 3 H W"]]:
    """The pictures at `paths` in order, in blocks of one length but for the last.

    Args:
        paths: At least one image file.
        size: Scale the shorter side to this many pixels, then cut the centre. Without it all must have one size.

    Raises:
        ValueError: A file is not a readable image (named), or sizes differ and no `size` was given.
    """
    first = _sized(read_picture(paths[0]), size).shape
    length = max(1, min(BLOCK, BLOCK_BYTES // first.numel()))
    threads = min(usable_processors(), MOST_THREADS) if paths[0].stat().st_size >= LARGE else 1

    def fitting(path: Path) -> UInt8[Tensor, "3 H W"]:
        picture = _sized(read_picture(path), size)
        if picture.shape != first:
            raise CltoolsError(
                f"Images differ in size: {paths[0]} is {first[2]}×{first[1]} and {path} is {picture.shape[2]}×"
                f"{picture.shape[1]} (width×height). Pass size=, for example size=64: the shorter side is scaled, then "
                "the centre cut."
            )
        return picture

    bar = tqdm(total=len(paths), desc="Decoding images", leave=False, delay=1)
    with bar, ThreadPoolExecutor(threads) as pool:
        over = pool.map if threads > 1 else map
        for start in range(0, len(paths), length):
            block = torch.stack([*over(fitting, paths[start : start + length])])
            bar.update(len(block))
            yield block.numpy()


def _sized(picture: UInt8[Tensor, "3 H W"], size: int | None) -> Tensor:
    return picture if size is None else resize(picture[None], size)[0]


def read_picture(path: Path) -> UInt8[Tensor, "3 H W"]:
    """One image file as RGB.

    Transparent pictures are laid on white, 16-bit ones keep their upper eight bits, and a camera's note on
    orientation is applied.

    Raises:
        ValueError: The file cannot be read as an image; the message names it.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return torch.from_numpy(np.array(to_rgb(image), dtype=np.uint8)).permute(2, 0, 1)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        wrong = f"Cannot read {path} as an image: {error}."
        raise CltoolsError(f"{wrong} Replace the file by an intact one or move it out of the folder.") from error


def to_rgb(image: "Image") -> "Image":
    """An open picture of any mode as upright 8-bit RGB."""
    from PIL import Image, ImageOps

    if image.mode == "RGB" and not image.info:  # the fast way: nothing to turn round, nothing transparent
        return image
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise CltoolsError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grayscale, which Pillow would cut off at 255 instead of scaling
        gray = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(images: UInt8[Tensor, "N 3 H W"], size: int) -> UInt8[Tensor, "N 3 S S"]:
    """Scales the shorter side to `size` (bilinear, antialiased), then cuts the centre square."""
    height, width = images.shape[2:]
    if (height, width) == (size, size):
        return images
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    scaled = interpolate(images, shape, mode="bilinear", antialias=True, align_corners=False)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return scaled[:, :, top : top + size, left : left + size].contiguous()
