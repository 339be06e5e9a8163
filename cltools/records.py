"""What a figure needs beside it to be repeated: command, commit, versions, hardware. Files are written whole."""

import json
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def provenance(device: torch.device) -> dict[str, Any]:
    """Command, commit, versions and hardware of this process, for a record in `data/results/`."""
    return {
        "command": f"python -m cltools {shlex.join(sys.argv[1:])}",
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # with the CUDA it was built for
            **{name: version(name) for name in ("torchvision", "numpy", "scikit-learn")},
        },
        "hardware": {"device": device_name(device), "threads": torch.get_num_threads()},
    }


def commit() -> str:
    """The commit of the clone that this package runs from, with "+" where files in it were changed; "" in no clone."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(here))
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):  # no git, or no clone
        return ""


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {platform.machine()}"


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON; the file is replaced whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(path)


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """A record of that kind.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, foreign, or of another kind.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a record: {error}.") from error
    found = record.get("kind") if isinstance(record, dict) else None
    if found != kind:
        raise ValueError(f"{path} holds {found or 'no record'!r}; a record of kind {kind!r} is needed.")
    return record
