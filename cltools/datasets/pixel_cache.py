"""Pictures decoded once: their pixels are kept on disk as a NumPy file, to be mapped, and made again when they change.

NAME-DIGEST.npy holds the pixels, uint8 [N, 3, H, W], and behind them, as a second array, the places of those that could
not be read; the digest is of the names, lengths, times of change and permissions of the picture files, so a look costs
one `stat` a file and no picture is opened. The file may be deleted at any time.

Shapes: N pictures, H and W their height and width, R rows asked for, M of them that could be read.
"""

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from glob import escape
from hashlib import sha256
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from tqdm.auto import tqdm

from cltools.datasets.decoding import Read, decode, read_pictures, without
from cltools.errors import printable
from cltools.files import cache_folder, replacing

FOLDER = "decoded"
# Decoding takes about this long on one processor: right within a factor of two for PNG and JPEG of 32 to 2000 pixels.
SECONDS_PER_FILE, SECONDS_PER_BYTE = 1e-4, 1 / 20e6
KEEP_FROM = 1.0  # seconds of decoding; what is decoded faster is decoded each time


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
