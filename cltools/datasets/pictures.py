"""From image files of any kind to uint8 RGB tensors of one size.

Shapes: N images, H and W height and width, S the wanted size.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})


def is_picture(name: str) -> bool:
    """Whether a file of this name is read as an image; hidden files (`._0001.png` of macOS) are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in ENDINGS


def read_pictures(paths: Sequence[Path], size: int | None = None) -> UInt8[Tensor, "N 3 H W"]:
    """The pictures at `paths`, in order.

    Args:
        paths: At least one image file.
        size: Scale the shorter side to this many pixels, then cut the centre. Without it all must have one size.

    Raises:
        ValueError: A file is not a readable image (named), or sizes differ and no `size` was given.
    """

    def read(path: Path) -> NDArray[np.uint8] | UInt8[Tensor, "3 S S"]:
        pixels = read_picture(path)
        return pixels if size is None else resize(torch.from_numpy(pixels).permute(2, 0, 1)[None], size)[0]

    first = read_picture(paths[0])
    height, width = (size, size) if size is not None else first.shape[:2]
    images = torch.empty(len(paths), 3, height, width, dtype=torch.uint8)
    # Decoding releases the interpreter lock, so a few threads help; more only queue up for it.
    with ThreadPoolExecutor(min(4, cpu_count() or 1)) as pool:
        for start in range(0, len(paths), 1000):  # in pieces, so that one bad file does not wait for all the others
            part = paths[start : start + 1000]
            for offset, (path, picture) in enumerate(zip(part, pool.map(read, part), strict=True)):
                if isinstance(picture, Tensor):
                    images[start + offset] = picture
                    continue
                if picture.shape != first.shape:
                    raise ValueError(
                        f"Images differ in size: {paths[0]} is {width}×{height} and {path} is "
                        f"{picture.shape[1]}×{picture.shape[0]} (width×height). Pass size=, for example size=64: "
                        "the shorter side is scaled to it and the centre is cut out."
                    )
                images[start + offset] = torch.from_numpy(picture).permute(2, 0, 1)
    return images


def read_picture(path: Path) -> NDArray[np.uint8]:
    """One image file as RGB, uint8 [H, W, 3].

    Transparent pictures are laid on white, 16-bit ones keep their upper eight bits, and a camera's note on
    orientation is applied.

    Raises:
        ValueError: The file cannot be read as an image; the message names it.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            return np.array(to_rgb(image), dtype=np.uint8)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise ValueError(
            f"Cannot read {path} as an image: {error}. Replace the file by an intact one or move it out of the folder."
        ) from error


def to_rgb(image: "Image") -> "Image":
    """An open picture of any mode as upright 8-bit RGB."""
    from PIL import Image, ImageOps

    if image.mode == "RGB" and not image.info:  # the fast way: nothing to turn round, nothing transparent
        return image
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
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
