"""Decoding of image files of any format to uint8 RGB pixels of one size, in several threads if the files are large.

Images are decoded once: their pixels are cached on disk as a memory-mapped NumPy file, and decoded again when the image
files change. NAME-DIGEST.npy holds the pixels, uint8 [N, 3, H, W], followed by a second array with the indices of
unreadable images. The digest is computed from the names, sizes, modification times and permissions of the image files,
so checking it takes one `stat` per file and opens no image. The cache file may be deleted at any time.

Shapes: N images, B of them in a block, H and W their height and width, S the target size, R requested rows, M of them
readable.
"""

import errno
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from glob import escape
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm.auto import tqdm

from cltools.errors import CltoolsError, printable
from cltools.files import cache_folder, replacing
from cltools.provenance import usable_processors

# Pillow releases the GIL while it decodes, but not while it opens a file, so threads help only with large files.
LARGE, MOST_THREADS = 1 << 15, 8  # LARGE: size of a file in bytes
# Images per block, and its largest size in bytes, so that memory is bounded.
BLOCK, BLOCK_BYTES = 64, 1 << 26
# Most pixels of an image, which may take 21 bytes each; largest aspect ratio that `resize` scales without cropping.
MOST_PIXELS, LONGEST = 25_000_000, 16
TOO_MANY = f"it has more than {MOST_PIXELS:,} pixels; scale it down, or load a JPEG, not a progressive one, with a size"
Read = tuple[UInt8[Tensor, "M 3 H W"], Int64[Tensor, " M"]]
"""Images that were read, and their indices among all."""
FOLDER = "decoded"
# Estimated decoding time on one processor, within a factor of two for PNG and JPEG of 32 to 2000 pixels.
SECONDS_PER_FILE, SECONDS_PER_BYTE = 1e-4, 1 / 20e6
CACHE_FROM = 1.0  # seconds of decoding from which pixels are cached


@cache
def kinds() -> Mapping[str, str]:
    """Map the extensions of files that are read as images to their formats.

    They are those to which Pillow assigns an image media type (image/…). That excludes formats that it passes to other
    programs, such as PostScript, as well as videos and arrays of numbers.
    """
    from PIL import Image

    endings = Image.registered_extensions()
    able = {name for name in Image.OPEN if Image.MIME.get(name, "").startswith("image/")}
    return {ending: name for ending, name in endings.items() if name in able}


def read_images(paths: Sequence[Path], size: int | None = None, skip_bad: bool = False) -> Read:
    """Read the images at `paths` in order, without unreadable ones; arguments and errors as of `decode`."""
    bad = dict[int, str]()
    blocks = decode(paths, size, skip_bad, bad)
    first = next(blocks)
    # Into one array, because concatenating blocks would need twice the memory.
    every = chain.from_iterable(chain([first], blocks))
    images = np.fromiter(every, np.dtype((np.uint8, first.shape[1:])), count=len(paths))
    return without(torch.from_numpy(images), torch.arange(len(paths)), [*bad])


def without(images: UInt8[Tensor, "N 3 H W"], rows: Int64[Tensor, " N"], bad: ArrayLike) -> Read:
    """Return the images without the bad rows; nothing is copied if there are none."""
    good = torch.from_numpy(np.isin(rows, bad, invert=True))
    return (images, rows) if good.all() else (images[good], rows[good])


def decode(
    paths: Sequence[Path], size: int | None, skip_bad: bool, bad: dict[int, str]
) -> Iterator[UInt8[np.ndarray, "B 3 H W"]]:
    """Decode the images at `paths` in order, in blocks; an unreadable one is replaced by an arbitrary other.

    Args:
        paths: At least one image file.
        size: Scale the shorter side to this many pixels, then crop the centre. Without it all must have one size.
        skip_bad: Do not raise an error if some files are unreadable.
        bad: Filled with the reasons for unreadable files, by index.

    Raises:
        ValueError: Files are not readable images (the first ten are named), or sizes differ and `size` is None.
    """
    first, known = 0, torch.empty(0, dtype=torch.uint8)

    def read(row: int) -> Tensor:
        try:
            pixels = read_image(paths[row], size)
        except CltoolsError as error:
            bad[row] = f"{paths[row]}: {error}"
            return known
        if len(known) and pixels.shape != known.shape:
            sizes = [f"{paths[i]} is {x.shape[2]}×{x.shape[1]}" for i, x in ((first, known), (row, pixels))]
            wrong = f"Images differ in size: {' and '.join(sizes)} (width×height)."
            raise CltoolsError(f"{wrong} Pass size=, such as size=64, to scale the shorter side and crop the centre.")
        return pixels

    opened = ((row, pixels) for row in range(len(paths)) if len(pixels := read(row)))
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
                without_them = ", or continue without them: skip_bad=True (--skip-bad)" * (len(bad) < len(paths))
                remedy = f"Replace or move them{without_them}."
                raise CltoolsError("\n".join([f"Cannot read {len(bad):,} of {len(paths):,} images:", *some, remedy]))
            yield block.numpy()


def read_image(path: Path, size: int | None = None) -> UInt8[Tensor, "3 H W"]:
    """Read one image file as RGB, scaled and cropped as by `resize` if a size is given.

    Transparent images are composited on white, 16-bit ones keep their upper eight bits, and the EXIF orientation is
    applied. A JPEG with too many pixels is scaled down while it is decoded.

    Raises:
        ValueError: The file cannot be read as an image; the message says why.
    """
    from PIL import Image

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would block
            raise CltoolsError("it is not a regular file")
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path, formats=[*kinds().values()]) as image,
        ):
            if size is not None and image.width * image.height > MOST_PIXELS and "progressive" not in image.info:
                image.draft(image.mode, (2 * size, 2 * size))
            if image.width * image.height > MOST_PIXELS:
                raise CltoolsError(TOO_MANY)
            image.load()
            pixels = torch.from_numpy(np.array(to_rgb(image), dtype=np.uint8)).permute(2, 0, 1)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = getattr(error, "strerror", None) or str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise CltoolsError(TOO_MANY if isinstance(error, Image.DecompressionBombError) else reason) from error
    return pixels if size is None else resize(pixels[None], size)[0]


def to_rgb(image: Any) -> Any:
    """Convert an open image of any mode to upright 8-bit RGB."""
    from PIL import Image, ImageOps

    if image.mode == "RGB" and not image.info:  # the fast path: nothing to rotate, nothing transparent
        return image
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise CltoolsError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grayscale, which Pillow would clip at 255 instead of scaling
        gray = np.asarray(image)
        if (most := int(gray.max())) > 65535 or 0 < most < 256 or gray.min() < 0:
            raise CltoolsError(f"its pixels go from {gray.min()} to {most}; save it with 8 bits, or 16 up to 65,535")
        return Image.fromarray((gray >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(images: UInt8[Tensor, "N 3 H W"], size: int) -> UInt8[Tensor, "N 3 S S"]:
    """Scale the shorter side to `size` (bilinear, antialiased), then crop the centre square.

    Images with an aspect ratio above `LONGEST` are cropped to their middle first.
    """
    if tuple(images.shape[2:]) == (size, size):
        return images
    images = _middle(images, LONGEST * min(images.shape[2:]))
    scale = size / min(images.shape[2:])
    shape = [max(size, round(side * scale)) for side in images.shape[2:]]
    scaled = torch.nn.functional.interpolate(images, shape, mode="bilinear", antialias=True, align_corners=False)
    return _middle(scaled, size).contiguous()


def _middle(images: UInt8[Tensor, "N 3 H W"], most: int) -> UInt8[Tensor, "N 3 h w"]:
    top, left = (max(0, (side - most) // 2) for side in images.shape[2:])
    return images[:, :, top : top + most, left : left + most]


def read_cached(
    paths: Sequence[Path], size: int | None, base: Path, kept: Sequence[Path], rows: Int64[Tensor, " R"], skip_bad: bool
) -> Read:
    """Return the images of some rows, and these rows, from cached pixels; else decode them, and cache all if slow.

    Cached pixels of all rows are a private memory map: writing to it changes neither the file nor other maps. If fewer
    than half of the images are requested, nothing new is cached.

    Args:
        paths: at least one image file, all below `base`.
        size: scale the shorter side to this many pixels, then crop the centre. Without it all must have one size.
        base: the folder that contains them; cached pixels in a data root stay valid when it moves.
        kept: possible paths of the cache file, from `cache_paths`.
        rows: indices in `paths` of the requested images.
        skip_bad: leave out files that cannot be read.

    Raises:
        ValueError: files are not readable images (named), or sizes differ and `size` is None.
    """

    def read() -> Read:
        images, good = read_images([paths[row] for row in rows.tolist()], size, skip_bad)
        return images, rows[good]

    digest, seconds = fingerprint(paths, base, size)
    if seconds < CACHE_FROM:
        return read()
    files = [path.with_name(f"{path.name}-{digest}.npy") for path in kept]
    for file in files:
        try:
            images, good = _mapped(file, len(paths), rows)
            if len(good) == len(rows) or (skip_bad and len(good)):
                return images, good
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Exception as error:  # a truncated file may raise almost any error
            say(f"{file} cannot be read ({error}): the images are decoded again.")
    if 2 * len(rows) < len(paths):
        return read()
    problems = []
    for file in files:
        try:
            _build(file, paths, size, skip_bad)
            return _mapped(file, len(paths), rows)
        except OSError as error:
            problems.append(f"{file}: {error}")
    say(f"Decoded images cannot be cached, so they are decoded at each load. {'; '.join(problems)}")
    return read()


def fingerprint(paths: Sequence[Path], base: Path, size: int | None) -> tuple[str, float]:
    """Return a digest of these files, their order and the size, and the estimated seconds of decoding."""
    digest, start, total = sha256(f"{size}".encode()), os.path.join(base, ""), 0
    for path in map(os.fspath, paths):
        status = ""
        with suppress(OSError):  # a dangling link
            known = os.stat(path)
            total += known.st_size
            status = f"{known.st_size} {known.st_mtime_ns} {known.st_mode}"
        digest.update(os.fsencode(f"\0{path.removeprefix(start)}\0{status}"))
    return digest.hexdigest()[:16], len(paths) * SECONDS_PER_FILE + total * SECONDS_PER_BYTE


def cache_paths(base: Path, name: str, split: str, size: int | None, root: Path | None) -> tuple[Path, ...]:
    """Return possible cache files of a split, without the digest: in `root`, then in the user's cache.

    Args:
        base: the folder with the image files, after which a file in the user's cache is named.
        name: name of the set.
        split: name of the split.
        size: size to which the images are scaled, or None.
        root: the data folder; None for a user's own image folder, in which nothing is written.
    """
    suffix = f"{split}{'' if size is None else f'-{size}'}"
    paths = [] if root is None else [root / FOLDER / f"{name}-{suffix}"]
    with suppress(RuntimeError):  # a user without a home folder
        absolute = base.resolve()
        mark = sha256(os.fsencode(absolute)).hexdigest()[:12]
        paths.append(cache_folder() / FOLDER / f"{absolute.name}-{mark}-{suffix}")
    return tuple(paths)


def _build(file: Path, paths: Sequence[Path], size: int | None, skip_bad: bool) -> None:
    """Decode images into a cache file, which appears complete or not at all; outdated cache files are deleted.

    Raises:
        ValueError: files are not readable images (named), or sizes differ and `size` is None.
        OSError: the file cannot be written, or there is too little disk space.
    """
    bad = dict[int, str]()
    blocks = decode(paths, size, skip_bad, bad)
    first = next(blocks)
    shape = (len(paths), *first.shape[1:])
    length = len(paths) * first[0].nbytes
    with replacing(file) as part:
        if (free := shutil.disk_usage(file.parent).free) < 2 * length:  # never fill the disk
            raise OSError(errno.ENOSPC, f"{length / 1e6:,.0f} MB would be more than half of the {free / 1e6:,.0f} free")
        say(f"Decoding {len(paths):,} images into {file} ({length / 1e6:,.0f} MB, may be deleted).")
        # Written, not mapped: on a full disk writing raises an error, while a memory map would crash the process.
        with part.open("wb") as written:
            np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for block in chain([first], blocks):
                written.write(block.data)
            np.lib.format.write_array(written, np.array([*bad], np.int64))
    name, _, digest = file.stem.rpartition("-")
    for former in file.parent.glob(f"{escape(name)}-{'[0-9a-f]' * len(digest)}.npy"):
        if former != file:
            with suppress(OSError):  # another process may have deleted it, or mapped it, which may forbid deletion
                former.unlink()


def _mapped(file: Path, count: int, rows: Int64[Tensor, " R"]) -> Read:
    """Return cached images of some rows, and these rows; a private memory map if all are requested and readable.

    Raises:
        FileNotFoundError: there is no such file.
        OSError, ValueError, EOFError: the file cannot be read, or is truncated.
    """
    pixels = np.load(file, mmap_mode="c")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:2] != (count, 3):
        raise ValueError(f"it holds {pixels.dtype} {[*pixels.shape]}")
    with file.open("rb") as behind:
        behind.seek(pixels.offset + pixels.nbytes)
        bad = np.load(behind)
    images = torch.from_numpy(np.asarray(pixels))
    return without(images if len(rows) == count else images[rows], rows, bad)


@cache
def say(message: str) -> None:
    """Print a line to stderr, once per process."""
    tqdm.write(printable(message), sys.stderr)
