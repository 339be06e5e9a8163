"""What it takes to reproduce a measurement: command, commit, versions and hardware; and reading and writing records."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cltools.errors import CltoolsError
from cltools.files import parsed, reading, write_text
from cltools.ranks import launched

PROGRAMS = ("cltools", "benchmarks", "experiments")
"""Programs whose command lines records contain (`python -m PROGRAM`)."""
OTHERS = [f":(top){name}/*.py" for name in PROGRAMS[1:]]


def provenance(device: torch.device) -> dict[str, Any]:
    """Return command, commit, versions and hardware of this process, for a record in `data/results/`."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}  # with the CUDA it was built for
    versions |= {name: version(name) for name in ("torchvision", "numpy", "scikit-learn")}
    hardware = {"device": device_name(device), "threads": torch.get_num_threads()}
    return {"command": command(), "commit": commit(), "versions": versions, "hardware": hardware}


def command() -> str:
    """Return the command line that started this process, or "from Python" if it is not one of `PROGRAMS`.

    For torchrun it gives the number of machines and of processes per machine, but not the rendezvous address.
    """
    started = Path(sys.argv[0])  # a module, or the script that pip makes
    program = started.parent.name if started.stem == "__main__" else started.stem
    if program not in PROGRAMS:
        return "from Python"
    launcher = "python"
    if launched():
        machines, processes = os.environ["GROUP_WORLD_SIZE"], os.environ["LOCAL_WORLD_SIZE"]
        launcher = f"torchrun --nnodes {machines} --nproc-per-node {processes}"
    return f"{launcher} -m {program} {shlex.join(sys.argv[1:])}"


def commit() -> str:
    """Return the commit of the clone that this package runs from, or "" if it is in none.

    A "+" is appended if the code of the package, or of the benchmarks beside it, has uncommitted changes.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails in a project's clone that it is installed in
        changed = git("status", "--porcelain", "--untracked-files=all", "--", "*.py", *OTHERS)
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no clone
        return ""


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor as far as the system reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    named = re.search(r"model name\s*:\s*(.+)", known.read_text(encoding="utf-8")) if known.is_file() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def usable_processors() -> int:
    """Return the number of processors that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, replacing the file atomically; raise ValueError if a number in it is not finite."""
    with reading(f"{path} was not written, because `read_record` would refuse it"):
        text = json.dumps(record, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Read a record of any kind.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or not a record of cltools.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; give a record (.json) that `train` or `compare` has written.")
    record: Any = parsed(path.read_bytes(), f"{path} cannot be read as a record: it")
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        raise CltoolsError(f"{path} holds no record of cltools.")
    return record


def check_record(path: Path, record: Mapping[str, Any], kind: str, *, form: int | None = None) -> dict[str, Any]:
    """Return the entries of a record without "kind" and "format"; raise ValueError where these two are wrong.

    Args:
        path: path of the record, for messages.
        record: the record, from `read_record`.
        kind: the required kind.
        form: the required "format", for kinds whose format has changed since cltools 0.1.
    """
    if record["kind"] != kind:
        raise CltoolsError(f"{path} holds a record of kind {record['kind']!r}; one of kind {kind!r} is needed.")
    if form is not None and record.get("format") != form:
        wrong = f"{path} is a record of format {record.get('format', 1)!r}, and this version reads format {form}."
        raise CltoolsError(f"{wrong} One that cltools 0.1 wrote is converted by: python data/convert.py {path}")
    return {name: value for name, value in record.items() if name not in ("kind", "format")}
