"""From picture files of any kind to uint8 RGB pixels of one size, by several threads where they are large.

Shapes: N pictures, B of them in a block, H and W their height and width, S the wanted size.
"""

import os
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from cltools.errors import CltoolsError
from cltools.provenance import usable_processors

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow lets go of Python's lock while it decodes, but not while it opens a file: threads pay for large ones alone.
LARGE, MOST_THREADS = 1 << 15, 8  # bytes of a file
# Pictures of a block; fewer where they are large, so that memory is bounded.
BLOCK, BLOCK_BYTES = 64, 1 << 26
# Pixels that are decoded at once, which may take 21 bytes each; sides of a square that are scaled of a longer picture.
MOST_PIXELS, LONGEST = 25_000_000, 16
TOO_MANY = f"it has more than {MOST_PIXELS:,} pixels; scale it down, or save it as a JPEG and load it with a size"
Read = tuple[UInt8[Tensor, "M 3 H W"], Int64[Tensor, " M"]]
"""Pictures that were read, and their places among all."""


@cache
def kinds() -> Mapping[str, str]:
    """The endings of files that are read as pictures, each with its format.

    They are those to which Pillow gives a media type of pictures (image/…), and so neither what it hands to other
    programs, such as PostScript, nor videos, nor arrays of numbers.
    """
    from PIL import Image

    endings = Image.registered_extensions()
    able = {name for name in Image.OPEN if Image.MIME.get(name, "").startswith("image/")}
    return {ending: name for ending, name in endings.items() if name in able}


def read_pictures(paths: Sequence[Path], size: int | None = None, skip_bad: bool = False) -> Read:
    """The pictures at `paths` that could be read, in order; arguments and errors as of `decode`."""
    bad = dict[int, str]()
    blocks = decode(paths, size, skip_bad, bad)
    first = next(blocks)
    # Into one array, as joining blocks would take the memory twice.
    every = chain.from_iterable(chain([first], blocks))
    images = np.fromiter(every, np.dtype((np.uint8, first.shape[1:])), count=len(paths))
    return without(torch.from_numpy(images), torch.arange(len(paths)), [*bad])


def without(images: UInt8[Tensor, "N 3 H W"], rows: Int64[Tensor, " N"], bad: ArrayLike) -> Read:
    """The pictures but for those of bad rows; not copied where there are none."""
    good = torch.from_numpy(np.isin(rows, bad, invert=True))
    return (images, rows) if good.all() else (images[good], rows[good])


def decode(
    paths: Sequence[Path], size: int | None, skip_bad: bool, bad: dict[int, str]
) -> Iterator[UInt8[ndarray, "B 3 H W"]]:
    """The pictures at `paths` in order, in blocks; in the place of one that cannot be read is any other.

    Args:
        paths: At least one image file.
        size: Scale the shorter side to this many pixels, then cut the centre. Without it all must have one size.
        skip_bad: Whether some that cannot be read are no error.
        bad: Takes why these cannot be read, by their places.

    Raises:
        ValueError: Files are no readable images (the first ten are named), or sizes differ and no `size` was given.
    """
    first, known = 0, torch.empty(0, dtype=torch.uint8)

    def read(row: int) -> Tensor:
        try:
            picture = read_picture(paths[row], size)
        except CltoolsError as error:
            bad[row] = f"{paths[row]}: {error}"
            return known
        if len(known) and picture.shape != known.shape:
            raise CltoolsError(
                f"Images differ in size: {paths[first]} is {known.shape[2]}×{known.shape[1]} and {paths[row]} is "
                f"{picture.shape[2]}×{picture.shape[1]} (width×height). Pass size=, for example size=64: the shorter "
                "side is scaled, then the centre cut."
            )
        return picture

    opened = ((row, picture) for row in range(len(paths)) if len(picture := read(row)))
    first, known = next(opened, (first, torch.empty(3, 1, 1, dtype=torch.uint8)))
    length = max(1, min(BLOCK, BLOCK_BYTES // known.numel()))
    threads = min(usable_processors(), MOST_THREADS) if first not in bad and paths[first].stat().st_size >= LARGE else 1
    bar = tqdm(total=len(paths), desc="Decoding images", leave=False, delay=1)
    with bar, ThreadPoolExecutor(threads) as pool:
        over = pool.map if threads > 1 else map
        for start in range(0, len(paths), length):
            rows = range(start, min(start + length, len(paths)))
            block = torch.stack([*over(read, rows)])
            bar.update(len(block))
            if bad and rows.stop == len(paths) and not (skip_bad and len(bad) < len(paths)):
                some = [bad[row] for row in sorted(bad)[:10]] + ["…"] * (len(bad) > 10)
                without_them = ", or go on without them: skip_bad=True (--skip-bad)" * (len(bad) < len(paths))
                remedy = f"Replace or move them{without_them}."
                raise CltoolsError("\n".join([f"Cannot read {len(bad):,} of {len(paths):,} images:", *some, remedy]))
            yield block.numpy()


def read_picture(path: Path, size: int | None = None) -> UInt8[Tensor, "3 H W"]:
    """One image file as RGB, scaled and cut as by `resize` where a size is given.

    Transparent pictures are laid on white, 16-bit ones keep their upper eight bits, and a camera's note on
    orientation is applied. A JPEG of very many pixels is scaled down while it is decoded.

    Raises:
        ValueError: The file cannot be read as an image; the message says why.
    """
    from PIL import Image

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise CltoolsError("it is no regular file")
        quiet = warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
        with quiet, Image.open(path, formats=[*kinds().values()]) as image:
            if size is not None and image.width * image.height > MOST_PIXELS and "progressive" not in image.info:
                image.draft(image.mode, (2 * size, 2 * size))
            if image.width * image.height > MOST_PIXELS:
                raise CltoolsError(TOO_MANY)
            image.load()
            picture = torch.from_numpy(np.array(to_rgb(image), dtype=np.uint8)).permute(2, 0, 1)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = getattr(error, "strerror", None) or str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise CltoolsError(TOO_MANY if isinstance(error, Image.DecompressionBombError) else reason) from error
    return picture if size is None else resize(picture[None], size)[0]


def to_rgb(image: "Image") -> "Image":
    """An open picture of any mode as upright 8-bit RGB."""
    from PIL import Image, ImageOps

    if image.mode == "RGB" and not image.info:  # the fast way: nothing to turn round, nothing transparent
        return image
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise CltoolsError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grayscale, which Pillow would cut off at 255 instead of scaling
        gray = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(images: UInt8[Tensor, "N 3 H W"], size: int) -> UInt8[Tensor, "N 3 S S"]:
    """Scales the shorter side to `size` (bilinear, antialiased), then cuts the centre square.

    Of a very long picture the middle alone is scaled.
    """
    if tuple(images.shape[2:]) == (size, size):
        return images
    images = _middle(images, LONGEST * min(images.shape[2:]))
    scale = size / min(images.shape[2:])
    shape = [max(size, round(side * scale)) for side in images.shape[2:]]
    scaled = interpolate(images, shape, mode="bilinear", antialias=True, align_corners=False)
    return _middle(scaled, size).contiguous()


def _middle(images: UInt8[Tensor, "N 3 H W"], most: int) -> UInt8[Tensor, "N 3 h w"]:
    top, left = (max(0, (side - most) // 2) for side in images.shape[2:])
    return images[:, :, top : top + most, left : left + most]
