"""Pictures decoded once: kept as pixels on disk, made again when the picture files change.

A kept file belongs to a set, a split and a size; it may be deleted at any time. Whether it fits the picture files is
told by their names, lengths and times of change, so a look costs one `stat` a file and no picture is opened.

Shapes: N pictures, H and W their height and width, M rows asked for.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from jaxtyping import Int64, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from cltools.datasets.decoding import Target, decode_all, processors
from cltools.datasets.pictures import read_pictures, shape_of
from cltools.datasets.pixel_file import Layout, UnusableError, is_ours, read_pixels, write_head
from cltools.files import cache_folder

FOLDER = "decoded"
# Decoding takes about this long on one processor: right within a factor of two for PNG and JPEG of 32 to 2000 pixels.
SECONDS_PER_FILE, SECONDS_PER_BYTE = 1e-4, 1 / 20e6
KEEP_FROM = 1.0  # seconds of decoding; what is decoded faster is decoded each time
SHARE_FROM = 15.0  # seconds of decoding; below, further processes start too slowly (2 s each) to be of use


def places(base: Path, name: str, split: str, size: int | None, root: Path | None) -> tuple[Path, ...]:
    """Where the pixels of a split may be kept, the first choice first: in `root`, then in the user's cache.

    Args:
        base: the folder with the picture files; the name in the user's cache is its own.
        name: of the set.
        split: of the set.
        size: what the pictures are scaled to, or None.
        root: where data lie; None for a folder of a person's own, in which nothing is written.
    """
    ending = f"{split}{'' if size is None else f'-{size}'}.pixels"
    found = [] if root is None else [root / FOLDER / f"{name}-{ending}"]
    with suppress(RuntimeError):  # a user without a home
        whole = base.resolve()
        mark = sha256(os.fsencode(whole)).hexdigest()[:12]
        found.append(cache_folder() / FOLDER / f"{whole.name}-{mark}-{ending}")
    return tuple(found)


def read_decoded(
    paths: Sequence[Path],
    size: int | None,
    base: Path,
    kept: Sequence[Path],
    rows: Int64[Tensor, " M"] | None = None,
) -> UInt8[Tensor, "M 3 H W"]:
    """The pictures at `paths`, or those of some rows: from kept pixels, else decoded, and kept where it pays.

    Without `rows` and with kept pixels the images are a private map of the file. With fewer rows than half of the
    pictures nothing new is kept.

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
            return read_pixels(place, source, len(paths), rows)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (UnusableError, OSError) as error:
            say(f"{place} {_reason(error)}: the pictures are decoded again.")
    if 2 * len(wanted) < len(paths):
        return read_pictures(wanted, size)
    problems = []
    for place in kept:
        try:
            build(place, list(paths), size, source, processors() if seconds >= SHARE_FROM else 1)
            return read_pixels(place, source, len(paths), rows, check=False)
        except OSError as error:
            problems.append(f"{place}: {_reason(error)}")
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


def build(place: Path, paths: list[Path], size: int | None, source: str, processes: int) -> None:
    """Decode pictures into the file `place`, which appears whole or not at all; an older one is replaced.

    Raises:
        ValueError: a file is not a readable image (named), or sizes differ and no `size` was given.
        OSError: nothing can be written there, space is short, or what lies there is nobody's cache.
    """
    if place.exists() and not is_ours(place):
        raise FileExistsError(errno.EEXIST, "what lies there is no file of decoded pictures and is left as it is")
    shape = shape_of(paths[0], size)
    layout = Layout((len(paths), *shape))
    missing = [folder for folder in place.parents if not folder.exists()]  # the innermost first
    # A name of its own: two processes that build at once must not meet.
    part = place.with_name(f"{place.name}.{uuid4().hex[:8]}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
        _check_space(place.parent, layout.length)
        say(f"Decoding {len(paths):,} pictures into {place} ({layout.length / 1e6:,.0f} MB, may be deleted).")
        sums = decode_all(Target(part, layout.pixels, paths[0], shape, size), paths, processes)
        write_head(part, layout, source, sums)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(place)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
            if not place.exists():
                for folder in missing:
                    folder.rmdir()


def _check_space(folder: Path, length: int) -> None:
    """Refuse to be what fills a disk: as much again must stay free."""
    if (free := shutil.disk_usage(folder).free) < 2 * length:
        raise OSError(errno.ENOSPC, f"{length / 1e6:,.0f} MB would be more than half of the {free / 1e6:,.0f} free")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@cache
def say(message: str) -> None:
    """A line for the reader, once in this process."""
    tqdm.write(message)
