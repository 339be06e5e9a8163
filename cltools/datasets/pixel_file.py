"""A file of decoded pictures: what it was made from, a checksum for each picture, then the pixels, to be mapped.

Layout: `MAGIC`, a JSON object (`source`, `shape`) filled up to `PAGE` bytes; N checksums, little-endian uint32; from
the next multiple of `PAGE` on the pixels, uint8 [N, 3, H, W].

Shapes: N pictures, H and W their height and width, M rows asked for.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt32
from numpy import ndarray
from torch import Tensor
from tqdm.auto import tqdm

NAME = b"cltools pixels "  # of any version
MAGIC = NAME + b"1\n"
PAGE = 4096  # bytes; a map begins at such an edge


class UnusableError(ValueError):
    """A file of pixels is not the one that is wanted, or not whole; the message goes on after its name."""


@dataclass(frozen=True)
class Layout:
    """Where what lies in a file of pictures of this shape, in bytes.

    Attributes:
        shape: N, 3, H, W.
    """

    shape: tuple[int, int, int, int]

    @property
    def row(self) -> int:
        """Length of one picture."""
        return self.shape[1] * self.shape[2] * self.shape[3]

    @property
    def pixels(self) -> int:
        """Where the first picture begins."""
        return PAGE + -(-4 * self.shape[0] // PAGE) * PAGE

    @property
    def length(self) -> int:
        """Length of the file."""
        return self.pixels + self.shape[0] * self.row


def checksum(picture: UInt8[ndarray, "3 H W"]) -> int:
    """CRC-32 of one picture's pixels: enough against bad disks and torn files, and it reads 1.6 GB/s."""
    return zlib.crc32(picture.data)


def is_ours(path: Path) -> bool:
    """Whether this is, or was before it was cut off, a file of pixels of any version: one that may be replaced.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(NAME))
    return NAME.startswith(start)


def write_head(path: Path, layout: Layout, source: str, sums: UInt32[ndarray, " N"]) -> None:
    """What stands before the pixels, written last: without it the file is none.

    Raises:
        OSError: the disk is full.
    """
    head = MAGIC + json.dumps({"source": source, "shape": layout.shape}).encode()
    with path.open("r+b") as file:
        file.write(head.ljust(PAGE - 1) + b"\n")
        file.write(sums.astype("<u4").tobytes())


def read_pixels(
    path: Path, source: str, count: int, rows: Int64[Tensor, " M"] | None = None, check: bool = True
) -> UInt8[Tensor, "M 3 H W"]:
    """The pictures in a file: all of them as a map of it, or a copy of some rows.

    The map is private: who writes into it changes neither the file nor what others see. Processes that map one file
    share its memory.

    Args:
        path: the file.
        source: what its pictures must have been made from.
        count: how many there must be.
        rows: those wanted; None for all.
        check: compare the checksums of those wanted.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        UnusableError: it holds other pictures, is cut off, or a checksum does not fit.
    """
    layout, sums = _read_head(path, source, count)
    pixels = np.asarray(np.memmap(path, np.uint8, "c", layout.pixels, layout.shape))
    wanted = range(count) if rows is None else rows.tolist()
    bar = tqdm(wanted, desc=f"Checking {path.name}", disable=not check, delay=2, leave=False)
    if check and any(checksum(pixels[row]) != sums[row] for row in bar):
        raise UnusableError("is damaged (a checksum does not fit)")
    images = torch.from_numpy(pixels)
    return images if rows is None else images[rows]


def _read_head(path: Path, source: str, count: int) -> tuple[Layout, UInt32[ndarray, " N"]]:
    with path.open("rb") as file:
        head = file.read(PAGE)
        if not head.startswith(NAME):
            raise UnusableError("is no file of decoded pictures")
        try:
            told = json.loads(head.removeprefix(MAGIC))
            total, channels, height, width = told["shape"]
            same = (told["source"], total, channels) == (source, count, 3)
            layout = Layout((count, 3, int(height), int(width)))
        except (ValueError, KeyError, TypeError):  # another version, or a byte of the head is wrong
            raise UnusableError("is damaged or of another version") from None
        if not same:
            raise UnusableError("was made from other files than there are now")
        length = path.stat().st_size
        if length != layout.length:
            raise UnusableError(f"has {length:,} bytes in place of {layout.length:,}")
        return layout, np.frombuffer(file.read(4 * count), "<u4").astype(np.uint32)
