"""How long work takes, how much memory it holds, and how much arithmetic it is."""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], object]
WARM_UP = 2
PRODUCTS = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
"""Sides of the square matrices whose product shows what a device can do; the best counts."""


def median_milliseconds(works: Mapping[str, Work], device: torch.device, repeats: int) -> dict[str, float]:
    """Median time of each, taken in turn, so that what else the machine does meets all alike.

    Each is waited for before the next begins. Parts timed one by one may thus take longer than within a step, where a
    GPU works on one while the next is being asked for.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for i in range(repeats + WARM_UP):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            wait_for(device)
            if i >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(taken) for name, taken in times.items()}


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was asked for; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mebibytes(work: Work, device: torch.device) -> float:
    """Most memory that torch holds at once for the work, beyond what is held before it.

    On the CPU the work is done twice and the second time counts: only of what was allocated under the profiler does
    torch know the size when it is freed, and a step frees the gradients of the one before.
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


def held_mebibytes(tensors: Iterable[Tensor], device: torch.device) -> float:
    """Memory held between steps: on CUDA all that torch has allocated, else, where it keeps no count, these tensors'.

    With `peak_mebibytes` of a step that follows, the most that is held in all.
    """
    if device.type == "cuda":
        gc.collect()  # what only cycles still hold is not held by training
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device) / 2**20
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) / 2**20


def operations(work: Work) -> int:
    """Floating-point operations of products and convolutions, two for each multiply-add, by torch's count."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return counter.get_total_flops()


def products(device: torch.device, dtype: torch.dtype) -> dict[str, Work]:
    """The product of a random square matrix with itself at several sizes, by its operations, for `product_rate`.

    Of normal values, because a GPU draws less power, and so runs faster, where all values are the same.
    """
    works: dict[str, Work] = {}
    generator = torch.Generator(device).manual_seed(0)
    for side in PRODUCTS[device.type]:
        a = torch.randn(side, side, device=device, dtype=dtype, generator=generator)
        works[f"product {2 * side**3}"] = lambda a=a: a @ a  # type: ignore[misc]
    return works


def product_rate(milliseconds: Mapping[str, float]) -> float:
    """Operations a second of the best of the `products` among these times."""
    named = {
        name.removeprefix("product "): taken for name, taken in milliseconds.items() if name.startswith("product ")
    }
    return max(int(count) / taken * 1000 for count, taken in named.items())
