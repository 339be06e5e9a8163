"""Maps kept on disk by what they were made from, so that none is made twice.

The folder is `cltools.files.cache_folder`; it may be deleted at any time. Whatever is wrong with it, a map is only made
again.

Legend: N points.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cltools.files import cache_folder

CHECKSUM = 32  # bytes of SHA-256, before those of the map
PLACES = np.dtype("<f4")


def content_key(*parts: ndarray | str | int | None) -> str:
    """A name that is equal for equal parts; arrays are equal by type, shape and bytes."""
    digest = sha256()
    for part in parts:
        if isinstance(part, ndarray):
            digest.update(f"{part.dtype.str} {part.shape} ".encode())
            digest.update(part.tobytes())
        else:
            digest.update(f"{part!r} ".encode())
    return digest.hexdigest()


def cached(key: str, make: Callable[[], Float32[ndarray, "N 2"]]) -> Float32[ndarray, "N 2"]:
    """The map of this key: as it was kept, else made and kept."""
    try:
        path = cache_folder() / f"{key}.map"
    except RuntimeError:
        return make()
    place = _read(path)
    if place is None:
        place = make()
        _write(path, place)
    return place


def _read(path: Path) -> Float32[ndarray, "N 2"] | None:
    """The map in a file; None where there is none that is whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    places = content[CHECKSUM:]
    if sha256(places).digest() != content[:CHECKSUM]:
        return None
    return np.frombuffer(places, PLACES).astype(np.float32).reshape(-1, 2)


def _write(path: Path, place: Float32[ndarray, "N 2"]) -> None:
    """Keep a map, whole or not at all, in a folder that may allow it or not."""
    places = place.astype(PLACES).tobytes()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="part-") as part:  # other processes have their own
            written = Path(part) / path.name
            written.write_bytes(sha256(places).digest() + places)
            written.replace(path)
