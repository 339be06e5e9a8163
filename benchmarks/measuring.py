"""How long work takes, how much memory it holds, and the records of both."""

import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer

from cltools.errors import CltoolsError
from cltools.provenance import provenance, write_record
from cltools.training.state import resolve_device

Work = Callable[[], object]
CALLS = 3
"""Calls that are timed together in a round."""


@dataclass(frozen=True)
class Run:
    """How every command measures, and where it writes."""

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
        """Median milliseconds per call; each round times every work, so that a busy machine delays all alike.

        Torch's `Timer` calls a work twice before it times it, and waits for a GPU before it reads the clock.
        """
        threads = torch.get_num_threads()
        timers = {name: Timer("work()", globals={"work": work}, num_threads=threads) for name, work in works.items()}
        taken = [{name: t.timeit(CALLS).mean * 1000 for name, t in timers.items()} for _ in range(self.rounds)]
        return {name: statistics.median(times[name] for times in taken) for name in works}

    def check(self, **given: tuple[object, ...]) -> None:
        """Raise ValueError for no rounds, an unknown device, or if one of these lists is empty."""
        if self.rounds < 1:
            raise CltoolsError(f"--rounds is {self.rounds}; it must be at least 1.")
        if empty := [name for name, values in given.items() if not values]:
            raise CltoolsError(f"--{empty[0].replace('_', '-')} is empty; give at least one value.")
        resolve_device(self.device)

    def record(self, kind: str, **figures: Any) -> dict[str, Any]:
        """These figures and how they came about; written to a file if asked."""
        command = f"python -m benchmarks {shlex.join(sys.argv[1:])}"
        made = {"kind": kind, **provenance(self.where), "command": command, **figures}
        if self.out is not None:
            write_record(self.out, made)
        return made


AsRun = Annotated[Run, tyro.conf.OmitArgPrefixes]
USUAL = Run()


def peak_mebibytes(work: Work, device: torch.device) -> float:
    """Most memory in MiB that torch holds at once for the work, beyond what it held before.

    On the CPU the work is done twice and the second time counts: the profiler knows the size of what is freed only if
    it saw the allocation, and a step frees the gradients of the step before.
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


def markdown(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """A table as lines below its caption; the first `words` columns hold words, the others figures."""
    rule = ["---" if i < words else "---:" for i in range(len(head))]
    return [caption, "", *(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))]
