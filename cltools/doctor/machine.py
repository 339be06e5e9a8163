"""The machine: GPU, processors, free memory, free disk."""

import os
import shutil
import warnings
from pathlib import Path

from cltools.datasets import data_root
from cltools.doctor.finding import Finding, one_line, python, size
from cltools.provenance import usable_processors

LITTLE = 2e9
"""Bytes of memory or disk below which it is said: CIFAR-10 takes half of it, archive, pictures and pixels together."""
NVIDIA = Path("/dev/nvidia0")
MEMORY = Path("/proc/meminfo")
CONTROL = Path("/sys/fs/cgroup")


def check_gpu() -> Finding:
    """The GPUs that torch can use, or why it can use none; none is needed."""
    import torch

    with warnings.catch_warnings(record=True) as caught:  # how torch tells that a driver is too old
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return Finding("GPU", "ok", ", ".join(_gpu(number) for number in range(torch.cuda.device_count())))
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and NVIDIA.exists():
        return Finding(
            "GPU",
            "note",
            f"none that torch may use: CUDA_VISIBLE_DEVICES is {hidden!r}",
            "unset CUDA_VISIBLE_DEVICES, if that is not what you want",
        )
    if not NVIDIA.exists():
        return Finding("GPU", "ok", "none; the course needs none, and the presets train on a CPU with --laptop")
    if torch.version.cuda is None:
        return Finding(
            "GPU",
            "note",
            f"the machine has one, but torch {torch.__version__} is built for CPUs only",
            f"{python()} -m pip uninstall torch torchvision, then install builds for CUDA by the command that "
            "pytorch.org/get-started/locally gives",
        )
    said = "; ".join(one_line(warning.message) for warning in caught) or "torch gives no reason"
    return Finding(
        "GPU",
        "problem",
        f"the machine has one, but torch (built for CUDA {torch.version.cuda}) cannot use it: {said}",
        f"run nvidia-smi: it must list the GPU, and a CUDA version of at least {torch.version.cuda}; else update "
        "NVIDIA's driver, and restart the machine. Until then give --device cpu.",
    )


def _gpu(number: int) -> str:
    """A GPU's name, and how much memory of how much is free, which needs a working driver."""
    import torch

    free, total = torch.cuda.mem_get_info(number)
    return f"{torch.cuda.get_device_name(number)}, {size(free)} of {size(total)} free"


def check_processors() -> Finding:
    """The processors this process may use, and whether torch starts more threads than there are."""
    usable = usable_processors()
    threads = os.environ.get("OMP_NUM_THREADS")
    found = f"{usable} usable, OMP_NUM_THREADS {'not set' if threads is None else f'is {threads!r}'}"
    if threads is None or (threads.strip().isdecimal() and 0 < int(threads) <= usable):
        return Finding("processors", "ok", found)
    more = threads.strip().isdecimal() and int(threads) > 0
    why = "threads that share a processor wait for each other" if more else "which is no number of threads"
    return Finding(
        "processors", "note", f"{found}: {why}", f"unset OMP_NUM_THREADS, or: export OMP_NUM_THREADS={usable}"
    )


def check_memory() -> Finding:
    """The memory that is still free, for the machine and for the container this may be."""
    free = [f for f in (_free_of_machine(), _free_of_container()) if f is not None]
    if not free:
        return Finding("free memory", "ok", "not told by this system")
    found = size(min(free))
    if min(free) >= LITTLE:
        return Finding("free memory", "ok", found)
    remedy = "close other programs and notebooks (Kernel, Shut Down All Kernels), or train less: --limit 5000"
    return Finding("free memory", "note", f"{found}, which may be too little to train", remedy)


def _free_of_machine() -> float | None:
    """Bytes, by Linux's own account; None on other systems."""
    if not MEMORY.is_file():
        return None
    rows = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines() if ":" in line)
    return float(rows["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in rows else None


def _free_of_container() -> float | None:
    """Bytes a control group (version 2) leaves; None without a limit."""
    limit, used = CONTROL / "memory.max", CONTROL / "memory.current"
    if not limit.is_file() or not used.is_file() or not limit.read_text().strip().isdecimal():
        return None
    return max(0.0, float(limit.read_text()) - float(used.read_text()))


def check_disk() -> list[Finding]:
    """The disk space that is free where data and where runs are written."""
    return [
        _disk("disk for data", data_root(), "set CLTOOLS_DATA to a folder on a larger disk"),
        _disk("disk for runs", Path.cwd() / "runs", "give --out a folder on a larger disk"),
    ]


def _disk(name: str, folder: Path, remedy: str) -> Finding:
    free = shutil.disk_usage(nearest(folder)).free
    found = f"{size(free)} free at {folder}"
    return Finding(name, "ok", found) if free >= LITTLE else Finding(name, "note", found, f"make room, or {remedy}")


def nearest(path: Path) -> Path:
    """The path itself, or the folder nearest to it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())
