"""From picture files of any kind to uint8 RGB pixels of one size, by several threads where they are large.

Pictures are decoded once: their pixels are kept on disk as a NumPy file, to be mapped, and made again when they change.
NAME-DIGEST.npy holds the pixels, uint8 [N, 3, H, W], and behind them, as a second array, the places of those that could
not be read; the digest is of the names, lengths, times of change and permissions of the picture files, so a look costs
one `stat` a file and no picture is opened. The file may be deleted at any time.

Shapes: N pictures, B of them in a block, H and W their height and width, S the wanted size, R rows asked for, M of them
that could be read.
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

# Pillow lets go of Python's lock while it decodes, but not while it opens a file: threads pay for large ones alone.
LARGE, MOST_THREADS = 1 << 15, 8  # bytes of a file
# Pictures of a block; fewer where they are large, so that memory is bounded.
BLOCK, BLOCK_BYTES = 64, 1 << 26
# Pixels that are decoded at once, which may take 21 bytes each; sides of a square that are scaled of a longer picture.
MOST_PIXELS, LONGEST = 25_000_000, 16
TOO_MANY = f"it has more than {MOST_PIXELS:,} pixels; scale it down, or save it as a JPEG and load it with a size"
Read = tuple[UInt8[Tensor, "M 3 H W"], Int64[Tensor, " M"]]
"""Pictures that were read, and their places among all."""
FOLDER = "decoded"
# Decoding takes about this long on one processor: right within a factor of two for PNG and JPEG of 32 to 2000 pixels.
SECONDS_PER_FILE, SECONDS_PER_BYTE = 1e-4, 1 / 20e6
KEEP_FROM = 1.0  # seconds of decoding; what is decoded faster is decoded each time


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
) -> Iterator[UInt8[np.ndarray, "B 3 H W"]]:
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
            sizes = [f"{paths[i]} is {x.shape[2]}×{x.shape[1]}" for i, x in ((first, known), (row, picture))]
            wrong = f"Images differ in size: {' and '.join(sizes)} (width×height)."
            raise CltoolsError(f"{wrong} Pass size=, such as size=64: the shorter side is scaled, then the centre cut.")
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


def to_rgb(image: Any) -> Any:
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
    scaled = torch.nn.functional.interpolate(images, shape, mode="bilinear", antialias=True, align_corners=False)
    return _middle(scaled, size).contiguous()


def _middle(images: UInt8[Tensor, "N 3 H W"], most: int) -> UInt8[Tensor, "N 3 h w"]:
    top, left = (max(0, (side - most) // 2) for side in images.shape[2:])
    return images[:, :, top : top + most, left : left + most]


def read_kept(
    paths: Sequence[Path], size: int | None, base: Path, kept: Sequence[Path], rows: Int64[Tensor, " R"], skip_bad: bool
) -> Read:
    """The pictures of some rows, with these rows: from kept pixels, else decoded, and kept where it pays.

    All kept pixels are a private map of the file: who writes into it changes neither the file nor what others see. With
    fewer rows than half of the pictures nothing new is kept.

    Args:
        paths: at least one picture file, all below `base`.
        size: scale the shorter side to this many pixels, then cut the centre. Without it all must have one size.
        base: the folder that holds them; kept pixels stay good when it moves.
        kept: where the pixels may be kept, as `places` says.
        rows: places in `paths` of the pictures wanted.
        skip_bad: leave out files that cannot be read.

    Raises:
        ValueError: files are no readable images (named), or sizes differ and no `size` was given.
    """

    def read() -> Read:
        images, good = read_pictures([paths[row] for row in rows.tolist()], size, skip_bad)
        return images, rows[good]

    digest, seconds = fingerprint(paths, base, size)
    if seconds < KEEP_FROM:
        return read()
    files = [place.with_name(f"{place.name}-{digest}.npy") for place in kept]
    for file in files:
        try:
            found = _mapped(file, len(paths), rows)
            if len(found[1]) == len(rows) or (skip_bad and len(found[1])):
                return found
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Exception as error:  # a file that is cut off surfaces as an error of almost any kind
            say(f"{file} cannot be read ({error}): the pictures are decoded again.")
    if 2 * len(rows) < len(paths):
        return read()
    problems = []
    for file in files:
        try:
            _build(file, paths, size, skip_bad)
            return _mapped(file, len(paths), rows)
        except OSError as error:
            problems.append(f"{file}: {error}")
    say(f"Decoded pictures are not kept, so they are decoded at each load. {'; '.join(problems)}")
    return read()


def fingerprint(paths: Sequence[Path], base: Path, size: int | None) -> tuple[str, float]:
    """What tells these files, in this order and for this size, from others; and about how many seconds they take."""
    digest, start, total = sha256(f"{size}".encode()), os.path.join(base, ""), 0
    for path in map(os.fspath, paths):
        told = ""
        with suppress(OSError):  # a link that leads nowhere
            known = os.stat(path)
            total += known.st_size
            told = f"{known.st_size} {known.st_mtime_ns} {known.st_mode}"
        digest.update(os.fsencode(f"\0{path.removeprefix(start)}\0{told}"))
    return digest.hexdigest()[:16], len(paths) * SECONDS_PER_FILE + total * SECONDS_PER_BYTE


def places(base: Path, name: str, split: str, size: int | None, root: Path | None) -> tuple[Path, ...]:
    """Where the pixels of a split may be kept, without the digest: in `root`, else in the user's cache.

    Args:
        base: the folder with the picture files; the name in the user's cache is its own.
        name: of the set.
        split: of the set.
        size: what the pictures are scaled to, or None.
        root: where data lie; None for a folder of a person's own, in which nothing is written.
    """
    ending = f"{split}{'' if size is None else f'-{size}'}"
    found = [] if root is None else [root / FOLDER / f"{name}-{ending}"]
    with suppress(RuntimeError):  # a user without a home
        whole = base.resolve()
        mark = sha256(os.fsencode(whole)).hexdigest()[:12]
        found.append(cache_folder() / FOLDER / f"{whole.name}-{mark}-{ending}")
    return tuple(found)


def _build(file: Path, paths: Sequence[Path], size: int | None, skip_bad: bool) -> None:
    """Decode pictures into a file, which appears whole or not at all; those of former picture files are deleted.

    Raises:
        ValueError: files are no readable images (named), or sizes differ and no `size` was given.
        OSError: nothing can be written there, or space is short.
    """
    bad = dict[int, str]()
    blocks = decode(paths, size, skip_bad, bad)
    first = next(blocks)
    shape = (len(paths), *first.shape[1:])
    length = len(paths) * first[0].nbytes
    with replacing(file) as part:
        if (free := shutil.disk_usage(file.parent).free) < 2 * length:  # refuse to be what fills a disk
            raise OSError(errno.ENOSPC, f"{length / 1e6:,.0f} MB would be more than half of the {free / 1e6:,.0f} free")
        say(f"Decoding {len(paths):,} pictures into {file} ({length / 1e6:,.0f} MB, may be deleted).")
        # Written, not mapped: on a full disk that is an error here, where a map would end the process.
        with part.open("wb") as written:
            np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for block in chain([first], blocks):
                written.write(block.data)
            np.lib.format.write_array(written, np.array([*bad], np.int64))
    name, _, digest = file.stem.rpartition("-")
    for former in file.parent.glob(f"{escape(name)}-{'[0-9a-f]' * len(digest)}.npy"):
        if former != file:
            with suppress(OSError):  # another process may have deleted it, or maps it where that forbids it
                former.unlink()


def _mapped(file: Path, count: int, rows: Int64[Tensor, " R"]) -> Read:
    """The pictures of some rows that are kept in a file, with their rows; of all, and if all are good, a private map.

    Raises:
        FileNotFoundError: there are none.
        OSError, ValueError, EOFError: they cannot be read, or are cut off.
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
    """A line for the reader, once in this process; beside what a command prints."""
    tqdm.write(printable(message), sys.stderr)
