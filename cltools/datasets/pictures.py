"""From image files of any kind to uint8 RGB tensors of one size.

Shapes: N images, H and W height and width, S the wanted size.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
BAR_FROM = 5000  # files; fewer are read within about a second


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
    shape = shape_of(paths[0], size)
    images = torch.empty(len(paths), *shape, dtype=torch.uint8)
    # One thread on purpose: for small pictures the hand-over between threads costs three times the decoding.
    for row, path in enumerate(tqdm(paths, desc="Reading images", disable=len(paths) < BAR_FROM, leave=False)):
        images[row] = read_like(path, size, paths[0], shape)
    return images


def shape_of(path: Path, size: int | None) -> tuple[int, int, int]:
    """3, H, W of a picture, scaled to `size`."""
    _, height, width = _sized(path, size).shape
    return 3, height, width


def read_like(path: Path, size: int | None, first: Path, shape: tuple[int, int, int]) -> UInt8[Tensor, "3 H W"]:
    """A picture, scaled to `size`, of the shape that `first` has.

    Raises:
        ValueError: The file is not a readable image, or has another size than `first`; both are named.
    """
    picture = _sized(path, size)
    if picture.shape != shape:
        raise ValueError(
            f"Images differ in size: {first} is {_wide_by_high(shape)} and {path} is {_wide_by_high(picture.shape)} "
            "(width×height). Pass size=, for example size=64: the shorter side is scaled, then the centre cut."
        )
    return picture


def _sized(path: Path, size: int | None) -> UInt8[Tensor, "3 H W"]:
    picture = torch.from_numpy(read_picture(path)).permute(2, 0, 1)
    return picture if size is None else resize(picture[None], size)[0]


def _wide_by_high(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}×{shape[1]}"


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
