"""Measurements of time and memory, and their records."""

import ctypes
import resource
import shlex
import statistics
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from cltools.encoders import resolve_device
from cltools.errors import CltoolsError
from cltools.provenance import provenance, write_record

Work = Callable[[], object]
CALLS = 3
"""Calls per timed round."""


@dataclass(frozen=True)
class Run:
    """Settings of the measurement and the output, common to all commands."""

    device: str = "auto"
    """Where to measure: auto, cpu or cuda."""
    rounds: int = 5
    """Timed rounds; the median is reported."""
    out: Path | None = None
    """Also write the figures as JSON."""

    @property
    def where(self) -> torch.device:
        """The device."""
        return resolve_device(self.device)

    def medians(self, works: Mapping[str, Work]) -> dict[str, float]:
        """Return median milliseconds per call; each round times every function, so a busy machine delays all equally.

        Torch's `Timer` calls a function twice before it times it, and synchronises a GPU before it reads the clock.
        """
        threads = torch.get_num_threads()
        timers = {name: Timer("work()", globals={"work": work}, num_threads=threads) for name, work in works.items()}
        taken = [{name: t.timeit(CALLS).mean * 1000 for name, t in timers.items()} for _ in range(self.rounds)]
        return {name: statistics.median(times[name] for times in taken) for name in works}

    def check(self, **given: tuple[object, ...]) -> None:
        """Raise ValueError if there are no rounds, the device is unknown, or one of these lists is empty."""
        if self.rounds < 1:
            raise CltoolsError(f"--rounds is {self.rounds}; it must be at least 1.")
        if empty := [name for name, values in given.items() if not values]:
            raise CltoolsError(f"--{empty[0].replace('_', '-')} is empty; give at least one value.")
        resolve_device(self.device)

    def record(self, kind: str, **figures: Any) -> dict[str, Any]:
        """Return these figures with their provenance; also write them to a file if requested."""
        command = f"python -m benchmarks {shlex.join(sys.argv[1:])}"
        record = {"kind": kind, **provenance(self.where), "command": command, **figures}
        if self.out is not None:
            write_record(self.out, record)
        return record


AsRun = Annotated[Run, tyro.conf.OmitArgPrefixes]
USUAL = Run()


def peak_mebibytes(work: Work, device: torch.device) -> float:
    """Return torch's peak memory in MiB during the work, beyond the memory held before.

    On the CPU the work runs twice and the second run counts: the profiler knows the size of freed memory only if it saw
    the allocation, and a step frees the gradients of the previous step.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    for _ in range(2):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
            work()
    held = peak = 0
    for event in sorted(trace.events(), key=lambda event: event.time_range.start):
        held += event.self_cpu_memory_usage
        peak = max(peak, held)
    return peak / 2**20


class PrivateMemory:
    """The most memory in MiB that this process holds within the block, beyond what it holds before; None if not Linux.

    Unlike `peak_mebibytes` this counts every allocation, NumPy's too. A thread reads it every millisecond, so what is
    held more briefly may be missed. Pages of a mapped file do not count, because the system can take them back.
    """

    STATM = Path("/proc/self/statm")

    def __init__(self) -> None:
        self.mebibytes: float | None = None
        self.ended = threading.Event()
        self.watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PrivateMemory":
        """Return memory that was freed but kept to the system, which would hide what is allocated, and start."""
        if self.STATM.exists():
            with suppress(OSError, AttributeError):  # of glibc alone
                ctypes.CDLL(None).malloc_trim(0)
            self.before, self.mebibytes = self._held(), 0.0
            self.watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.ended.set()
        if self.mebibytes is not None:
            self.watching.join()

    def _watch(self) -> None:
        while not self.ended.wait(0.001):
            self.mebibytes = max(self.mebibytes or 0.0, self._held() - self.before)

    def _held(self) -> float:
        _, resident, of_files, *_ = map(int, self.STATM.read_text(encoding="ascii").split())
        return (resident - of_files) * resource.getpagesize() / 2**20


def markdown(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """Return a table as lines below its caption; the first `words` columns contain words, the others figures."""
    rule = ["---" if i < words else "---:" for i in range(len(head))]
    return [caption, "", *(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))]
