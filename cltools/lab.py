"""The course's notebooks in this environment, opened in JupyterLab: `cltools lab`."""

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

SHARING = {"OMP_WAIT_POLICY": "passive"}
"""Torch's threads give a shared core away while they wait."""
COPY = "cltools-course"
"""The folder that the course of an installed package is copied into."""


def course() -> Path:
    """The folder that holds notebooks/ and data/: the clone, or a copy of what the wheel carries.

    The copy is made in the working folder once; what was changed in it stays.
    """
    if CLONE is not None:
        return CLONE
    folder = Path(COPY).absolute()
    if not folder.exists():
        part = folder.with_name(f"{COPY}.part")
        shutil.rmtree(part, ignore_errors=True)  # of a copy that was interrupted
        shutil.copytree(CARRIED, part, ignore=shutil.ignore_patterns("snapshots", "__pycache__"))
        part.rename(folder)
        print(f"The course is copied into {folder}.", file=sys.stderr)
    return folder


def notebooks(folder: Path = CARRIED) -> dict[int, Path]:
    """The course's notebooks by number, in order."""
    return {int(path.name[:2]): path for path in sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))}


def to_open(asked: str | None, folder: Path) -> Path:
    """The notebook of that number, "2" or "02"; without one, the first, beside which JupyterLab lists the others.

    Raises:
        ValueError: no notebook has that number, with those there are.
    """
    known = notebooks(folder)
    asked = "0" if asked is None else asked
    if not re.fullmatch(r"[0-9]{1,2}", asked) or int(asked) not in known:
        listed = "\n".join(f"  {number}  {path.stem}" for number, path in known.items())
        raise CltoolsError(f"No notebook has the number {asked!r}. There are:\n{listed or '  none'}")
    return known[int(asked)]


def open_lab(arguments: Sequence[str]) -> int:
    """Open JupyterLab, wait until it ends, and give its exit status.

    Args:
        arguments: the number of a notebook first, or none; all others are JupyterLab's.

    Raises:
        ValueError: JupyterLab is not installed, or no notebook has that number.
    """
    asked, rest = (None, arguments) if not arguments or arguments[0].startswith("-") else (arguments[0], arguments[1:])
    if find_spec("jupyterlab") is None:
        raise CltoolsError(f"JupyterLab is not installed here. Install it with: {install_cltools('notebooks')}")
    path = to_open(asked, folder := course())
    settings = SHARING | {"CLTOOLS_DATA": str(folder / "data")}
    return _wait([sys.executable, "-m", "jupyterlab", str(path), *rest], {**settings, **os.environ})


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Run a server to its end. Ctrl-C reaches it too, and it asks before it stops: this process only waits for it."""
    with subprocess.Popen(command, env=environment) as server:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        ended = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            status = server.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            signal.signal(signal.SIGTERM, ended)
    return status if status >= 0 else 128 - status  # as a shell tells that a signal ended it
