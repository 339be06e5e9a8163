"""Pictures decoded once: their pixels are kept on disk as a NumPy file, and made again when the picture files change.

NAME.npy holds the pixels, uint8 [N, 3, H, W], to be mapped. NAME.json beside it says what they were made from and has
a checksum for each block of pictures. Both may be deleted at any time. Whether they fit the picture files is told by
the names, lengths and times of change of those, so a look costs one `stat` a file and no picture is opened.

Shapes: N pictures, H and W their height and width, M rows asked for.
"""

import errno
import json
import math
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from cltools.datasets.decoding import decode, read_pictures
from cltools.files import cache_folder, replacing

FOLDER = "decoded"
# Decoding takes about this long on one processor: right within a factor of two for PNG and JPEG of 32 to 2000 pixels.
SECONDS_PER_FILE, SECONDS_PER_BYTE = 1e-4, 1 / 20e6
KEEP_FROM = 1.0  # seconds of decoding; what is decoded faster is decoded each time


class UnusableError(ValueError):
    """Kept pixels are not those that are wanted, or not whole; the message goes on after the file's name."""


def read_kept(
    paths: Sequence[Path], size: int | None, base: Path, kept: Sequence[Path], rows: Int64[Tensor, " M"] | None = None
) -> UInt8[Tensor, "M 3 H W"]:
    """The pictures at `paths`, or those of some rows: from kept pixels, else decoded, and kept where it pays.

    Without `rows` and with kept pixels the images are a private map of the file: who writes into it changes neither
    the file nor what others see. With fewer rows than half of the pictures nothing new is kept.

    Args:
        paths: at least one picture file, all below `base`.
        size: scale the shorter side to this many pixels, then cut the centre. Without it all must have one size.
        base: the folder that holds them; kept pixels stay good when it moves.
        kept: where the pixels may be kept, as `places` says.
        rows: places in `paths` of the pictures wanted; None for all.

    Raises:
        ValueError: a file is not a readable image (named), or sizes differ and no `size` was given.
        OSError: a picture file has gone.
    """
    wanted = list(paths) if rows is None else [paths[row] for row in rows.tolist()]
    source, seconds = fingerprint(paths, base, size)
    if seconds < KEEP_FROM:
        return read_pictures(wanted, size)
    for place in kept:
        try:
            return _mapped(place, source, len(paths), rows)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (UnusableError, OSError) as error:
            say(f"{place} {error}: the pictures are decoded again.")
    if 2 * len(wanted) < len(paths):
        return read_pictures(wanted, size)
    problems = []
    for place in kept:
        try:
            _build(place, paths, size, source)
            return _mapped(place, source, len(paths), rows)
        except (UnusableError, OSError) as error:
            problems.append(f"{place}: {error}")
    say(f"Decoded pictures are not kept, so they are decoded at each load. {'; '.join(problems)}")
    return read_pictures(wanted, size)


def fingerprint(paths: Sequence[Path], base: Path, size: int | None) -> tuple[str, float]:
    """What tells these files, in this order and for this size, from others; and about how many seconds they take.

    Raises:
        OSError: a file has gone.
    """
    digest, start, total = sha256(f"{size}".encode()), os.path.join(base, ""), 0
    for path in map(os.fspath, paths):
        known = os.stat(path)
        total += known.st_size
        digest.update(os.fsencode(f"\0{path.removeprefix(start)}\0{known.st_size} {known.st_mtime_ns}"))
    return digest.hexdigest(), len(paths) * SECONDS_PER_FILE + total * SECONDS_PER_BYTE


def places(base: Path, name: str, split: str, size: int | None, root: Path | None) -> tuple[Path, ...]:
    """Where the pixels of a split may be kept, the first choice first: in `root`, then in the user's cache.

    Args:
        base: the folder with the picture files; the name in the user's cache is its own.
        name: of the set.
        split: of the set.
        size: what the pictures are scaled to, or None.
        root: where data lie; None for a folder of a person's own, in which nothing is written.
    """
    ending = f"{split}{'' if size is None else f'-{size}'}.npy"
    found = [] if root is None else [root / FOLDER / f"{name}-{ending}"]
    with suppress(RuntimeError):  # a user without a home
        whole = base.resolve()
        mark = sha256(os.fsencode(whole)).hexdigest()[:12]
        found.append(cache_folder() / FOLDER / f"{whole.name}-{mark}-{ending}")
    return tuple(found)


def _about(place: Path) -> Path:
    return place.with_suffix(".json")


def _build(place: Path, paths: Sequence[Path], size: int | None, source: str) -> None:
    """Decode pictures into the file `place`, which appears whole or not at all; an older one is replaced.

    Raises:
        ValueError: a file is not a readable image (named), or sizes differ and no `size` was given.
        OSError: nothing can be written there, space is short, or what lies there is not known to be a cache.
    """
    if place.exists() and not _about(place).exists():
        raise FileExistsError(errno.EEXIST, f"what lies there has no {_about(place).name}, so it is left as it is")
    blocks, sums = decode(paths, size), []
    first = next(blocks)
    shape = (len(paths), *first.shape[1:])
    length = math.prod(shape)
    # Names of their own: two processes that build at once must not write into one file.
    with replacing(place, unique=True) as part:
        if (free := shutil.disk_usage(place.parent).free) < 2 * length:  # refuse to be what fills a disk
            raise OSError(errno.ENOSPC, f"{length / 1e6:,.0f} MB would be more than half of the {free / 1e6:,.0f} free")
        say(f"Decoding {len(paths):,} pictures into {place} ({length / 1e6:,.0f} MB, may be deleted).")
        # Written, not mapped: on a full disk that is an error here, where a map would end the process.
        with part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for block in chain([first], blocks):
                file.write(block.data)
                sums.append(zlib.crc32(block.data))
        # Before the pixels: after a crash between the two, sums that do not fit tell that these are others.
        with replacing(_about(place), unique=True) as about:
            about.write_text(json.dumps({"source": source, "block": len(first), "sums": sums}), encoding="utf-8")


def _mapped(place: Path, source: str, count: int, rows: Int64[Tensor, " M"] | None) -> UInt8[Tensor, "M 3 H W"]:
    """The pictures kept in a file: all of them as a private map of it, or a copy of some rows.

    Args:
        place: the file with the pixels.
        source: what its pictures must have been made from.
        count: how many there must be.
        rows: those wanted, of whose blocks the checksums are compared; None for all.

    Raises:
        FileNotFoundError: there are none.
        OSError: they cannot be read.
        UnusableError: they are others, or damaged.
    """
    try:
        about = json.loads(_about(place).read_text(encoding="utf-8"))
        if about["source"] != source:
            raise UnusableError("was made from other files than there are now")
        pixels = np.load(place, mmap_mode="c")
        length, sums = about["block"], about["sums"]
        blocks = range(len(sums)) if rows is None else (rows // length).unique().tolist()
        bar = tqdm(blocks, desc=f"Checking {place.name}", delay=2, leave=False)
        whole = (pixels.dtype, *pixels.shape[:2], len(sums)) == (np.uint8, count, 3, -(-count // length))
        if not whole or any(zlib.crc32(pixels[n * length : (n + 1) * length].data) != sums[n] for n in bar):
            raise UnusableError("is damaged (a checksum does not fit)")
    except (OSError, UnusableError):
        raise
    except Exception as error:  # a wrong byte in the head of either file surfaces as an error of almost any kind
        raise UnusableError(f"is damaged or cut off ({error})") from error
    images = torch.from_numpy(np.asarray(pixels))
    return images if rows is None else images[rows]


@cache
def say(message: str) -> None:
    """A line for the reader, once in this process."""
    tqdm.write(message)
