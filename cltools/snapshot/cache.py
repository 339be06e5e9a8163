"""Maps kept on disk by what they were made from, so that none is made twice.

The folder is `cltools.files.cache_folder`; it may be deleted at any time. Whatever is wrong with it, a map is only made
again.

Legend: N points.
"""

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from cltools.files import cache_folder, replacing


def content_key(*parts: ndarray | str | float | None) -> str:
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
    """The map of this key: as it was kept, else made and kept, where the folder allows it."""
    try:
        path = cache_folder() / f"{key}.npz"
    except RuntimeError:
        return make()
    with suppress(Exception), path.open("rb") as kept, np.load(kept, allow_pickle=False) as arrays:  # with checksums
        place: ndarray = arrays["place"]
        return place
    place = make()
    with suppress(OSError), replacing(path) as part, part.open("wb") as file:
        np.savez(file, place=place)
    return place
