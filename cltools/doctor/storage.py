"""Folders on disk: what is cached, and which downloaded images are there."""

import os
import shlex
from pathlib import Path

from cltools.datasets import data_root
from cltools.datasets.load import STORED, Stored
from cltools.datasets.pixel_cache import FOLDER as DECODED
from cltools.doctor.finding import Finding, python, size
from cltools.doctor.machine import nearest
from cltools.files import cache_folder


def check_cache() -> Finding:
    """The folder of what can be made again: its size, whether it can be written, and how to be rid of it."""
    elsewhere = "set CLTOOLS_CACHE to a folder you may write"
    try:
        folder = cache_folder()
    except RuntimeError as error:
        return Finding("cache", "problem", f"no folder for it: {error}", elsewhere)
    place = nearest(folder)
    if not place.is_dir():
        return Finding("cache", "problem", f"{place} is a file, not a folder", elsewhere)
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("cache", "problem", f"{folder} cannot be written", elsewhere)
    if not folder.exists():
        return Finding("cache", "ok", f"{folder}, not made yet")
    return Finding("cache", "ok", f"{folder}, {size(_bytes(folder))}; to empty it: rm -r {shlex.quote(str(folder))}")


def _bytes(folder: Path) -> int:
    """The length of all files below a folder; links are not followed."""
    return sum((Path(here) / name).lstat().st_size for here, _, names in os.walk(folder) for name in names)


def check_root() -> Finding:
    """The folder of data: there, or made by the first download."""
    root = data_root()
    given = os.environ.get("CLTOOLS_DATA")
    source = "by CLTOOLS_DATA" if given else "CLTOOLS_DATA is not set"
    if root.is_dir():
        if os.access(root, os.W_OK | os.X_OK):
            return Finding("data", "ok", f"{root} ({source})")
        remedy = "what is there can be read; to download set CLTOOLS_DATA to a folder you may write"
        return Finding("data", "note", f"{root} ({source}) cannot be written", remedy)
    if root.exists():
        return Finding("data", "problem", f"{root} ({source}) is not a folder", "set CLTOOLS_DATA to a folder")
    if given:
        remedy = f"mkdir -p {shlex.quote(str(root))}, or: unset CLTOOLS_DATA"
        return Finding("data", "problem", f"CLTOOLS_DATA names {root}, which is not there", remedy)
    return Finding("data", "ok", f"{root} ({source}), made by the first download")


def check_sets() -> list[Finding]:
    """Which of the images that have to be downloaded are there."""
    root = data_root()
    return [_set(name, stored, root) for name, stored in STORED.items()]


def _set(name: str, stored: Stored, root: Path) -> Finding:
    """What is there of one set; kept pixels alone do not load."""
    there = stored.parts(root)
    kept = sorted((root / DECODED).glob(f"{name}-*.npy"))
    decoded = [f"decoded pixels ({size(sum(path.stat().st_size for path in kept))})"] if kept else []
    if stored.whole(root):
        return Finding(f"images: {name}", "ok", ", ".join([*there, *decoded]))
    found = (
        f"{there[0]} without the other split" if there else "; ".join(["not there", *decoded, "the course needs none"])
    )
    return Finding(f"images: {name}", "note", found, f"{python()} -m cltools download {name}")
