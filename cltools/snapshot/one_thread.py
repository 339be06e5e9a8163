"""Work on some thousands of numbers, for which threads do not pay."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_LOCK = RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """For work on some thousands of numbers, to which waiting for another thread adds more than it takes away.

    Where other work shares the cores it takes a hundred times as long with threads.
    """
    with _LOCK:  # of two at once, the later would take the one thread of the earlier for what is usual
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
