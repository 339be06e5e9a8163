"""Pictures decoded once: their pixels are kept on disk as a NumPy file, to be mapped, and made again when they change.

NAME-DIGEST.npy holds the pixels, uint8 [N, 3, H, W]; the digest is of the names, lengths and times of change of the
picture files, so a look costs one `stat` a file and no picture is opened. The file may be deleted at any time.

Shapes: N pictures, H and W their height and width, M rows asked for.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from glob import escape
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
    digest, seconds = fingerprint(paths, base, size)
    if seconds < KEEP_FROM:
        return read_pictures(wanted, size)
    files = [place.with_name(f"{place.name}-{digest}.npy") for place in kept]
    for file in files:
        try:
            return _mapped(file, len(paths), rows)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Exception as error:  # a file that is cut off surfaces as an error of almost any kind
            say(f"{file} cannot be read ({error}): the pictures are decoded again.")
    if 2 * len(wanted) < len(paths):
        return read_pictures(wanted, size)
    problems = []
    for file in files:
        try:
            _build(file, paths, size)
            return _mapped(file, len(paths), rows)
        except OSError as error:
            problems.append(f"{file}: {error}")
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


def _build(file: Path, paths: Sequence[Path], size: int | None) -> None:
    """Decode pictures into a file, which appears whole or not at all; those of former picture files are deleted.

    Raises:
        ValueError: a file is not a readable image (named), or sizes differ and no `size` was given.
        OSError: nothing can be written there, or space is short.
    """
    blocks = decode(paths, size)
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
    name, _, digest = file.stem.rpartition("-")
    for former in file.parent.glob(f"{escape(name)}-{'[0-9a-f]' * len(digest)}.npy"):
        if former != file:
            with suppress(OSError):  # another process may have deleted it, or maps it where that forbids it
                former.unlink()


def _mapped(file: Path, count: int, rows: Int64[Tensor, " M"] | None) -> UInt8[Tensor, "M 3 H W"]:
    """The pictures kept in a file: all of them as a private map of it, or a copy of some rows.

    Raises:
        FileNotFoundError: there are none.
        OSError, ValueError, EOFError: they cannot be read, or are cut off.
    """
    pixels = np.load(file, mmap_mode="c")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:2] != (count, 3):
        raise ValueError(f"it holds {pixels.dtype} {[*pixels.shape]}")
    images = torch.from_numpy(np.asarray(pixels))
    return images if rows is None else images[rows]


@cache
def say(message: str) -> None:
    """A line for the reader, once in this process."""
    tqdm.write(message)
