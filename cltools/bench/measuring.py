"""How long work takes and how much memory it holds."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]
WARM_UP = 2


def median_milliseconds(works: Mapping[str, Work], device: torch.device, repeats: int) -> dict[str, float]:
    """Median time of each, taken in turn, so that what else the machine does meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(repeats + WARM_UP):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if i >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak_mebibytes(work: Work, device: torch.device) -> float:
    """Most memory that torch holds at once for the work, beyond what is held before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    held = peak = 0
    for event in sorted(trace.events(), key=lambda event: event.time_range.start):
        held += event.self_cpu_memory_usage
        peak = max(peak, held)
    return peak / 2**20
