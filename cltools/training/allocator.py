"""Memory that a step frees and the next one needs again, kept by the process meanwhile.

The C library of Linux hands large blocks back to the system when they are freed, and every page that is asked for anew
is first zeroed by it: thousands a step, a tenth of the time of a tiny encoder.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of two of glibc's settings, from its malloc.h."""
SETTLED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
"""The same in the environment."""
KEEP = 2**30
"""Bytes: smaller blocks come from the heap, and so much free memory stays at its end."""
USUAL = 2**25
"""Bytes: up to where glibc raises the first by itself; of the second it makes twice that."""


@contextmanager
def keeping_freed_memory(device: torch.device) -> Iterator[None]:
    """Keep freed memory inside the block, and give it back after it.

    Nothing is done on a GPU, where there is no glibc, and where the environment has settled it, as `make` does.
    """
    settled = any(name in os.environ for name in SETTLED)
    libc = _glibc() if device.type == "cpu" and not settled else None
    if libc is None:
        yield
        return
    try:
        libc.mallopt(MMAP_THRESHOLD, KEEP)
        libc.mallopt(TRIM_THRESHOLD, KEEP)
        yield
    finally:
        libc.mallopt(MMAP_THRESHOLD, USUAL)
        libc.mallopt(TRIM_THRESHOLD, 2 * USUAL)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The process's C library where it has both functions."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library of the process
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
