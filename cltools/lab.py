"""`cltools lab`, which opens the course's notebooks in this environment's JupyterLab."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cltools.doctor import install_cltools
from cltools.errors import CltoolsError
from cltools.files import CARRIED, CLONE

SHARING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""Environment of notebooks: torch's threads release shared cores after a short wait."""
COPY = "cltools-course"
"""The folder that the course of an installed package is copied into."""


def course() -> Path:
    """Return the folder that holds notebooks/ and data/: the clone, or a copy of the course in the wheel.

    The copy is made once, in the working folder; changes in it are kept.
    """
    if CLONE is not None:
        return CLONE
    folder = Path(COPY).absolute()
    if not folder.exists():
        part = folder.with_name(f"{COPY}.part")
        shutil.rmtree(part, ignore_errors=True)  # from an interrupted copy
        shutil.copytree(CARRIED, part, ignore=shutil.ignore_patterns("snapshots", "__pycache__"))
        part.rename(folder)
        print(f"The course was copied into {folder}.", file=sys.stderr)
    return folder


def notebooks(folder: Path = CARRIED) -> dict[int, Path]:
    """Return the course's notebooks by number, in order."""
    return {int(path.name[:2]): path for path in sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))}


def to_open(number: str | None, folder: Path) -> Path:
    """Return the notebook of a number, such as "2" or "02"; the first if None: JupyterLab lists the others beside it.

    Raises:
        ValueError: no notebook has this number; the message lists all.
    """
    known = notebooks(folder)
    number = "0" if number is None else number
    if not re.fullmatch(r"[0-9]{1,2}", number) or int(number) not in known:
        listed = "\n".join(f"  {each}  {path.stem}" for each, path in known.items())
        raise CltoolsError(f"No notebook has the number {number!r}. There are:\n{listed or '  none'}")
    return known[int(number)]


def open_lab(arguments: Sequence[str]) -> int:
    """Open JupyterLab, wait until it ends, and return its exit status.

    Args:
        arguments: optionally the number of a notebook first; all others are passed to JupyterLab.

    Raises:
        ValueError: JupyterLab is not installed, or no notebook has this number.
    """
    number, rest = (None, arguments) if not arguments or arguments[0].startswith("-") else (arguments[0], arguments[1:])
    if find_spec("jupyterlab") is None:
        raise CltoolsError(f"JupyterLab is not installed. Install it with: {install_cltools('notebooks')}")
    path = to_open(number, folder := course())
    settings = SHARING | {"CLTOOLS_DATA": str(folder / "data")}
    return _wait([sys.executable, "-m", "jupyterlab", str(path), *rest], {**settings, **os.environ})


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Run a server until it ends. It also receives Ctrl-C and asks before it stops, so this process just waits."""
    with subprocess.Popen(command, env=environment) as server:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        ended = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            status = server.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            signal.signal(signal.SIGTERM, ended)
    return status if status >= 0 else 128 - status  # the shell's status after a signal
