"""The course's notebooks in this environment, opened in JupyterLab: `python -m cltools lab`."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from cltools.doctor import install_cltools
from cltools.errors import CltoolsError

PROJECT = Path(__file__).resolve().parents[1]
SHARING = {"OMP_WAIT_POLICY": "passive"}
"""Torch's threads give a shared core away while they wait."""


def notebooks(project: Path = PROJECT) -> dict[int, Path]:
    """The course's notebooks by number, in order.

    Raises:
        ValueError: the package was installed without them.
    """
    found = sorted((project / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise CltoolsError("An installed package comes without notebooks; in a clone of the repository run: make lab")
    return {int(path.name[:2]): path for path in found}


def to_open(asked: str | None, project: Path = PROJECT) -> Path:
    """The notebook of that number, "2" or "02"; without one, the first, beside which JupyterLab lists the others.

    Raises:
        ValueError: no notebook has that number, with those there are; or there are none.
    """
    known = notebooks(project)
    if asked is None:
        return next(iter(known.values()))
    if not re.fullmatch(r"[0-9]{1,2}", asked) or int(asked) not in known:
        listed = "\n".join(f"  {number}  {path.stem}" for number, path in known.items())
        raise CltoolsError(f"No notebook has the number {asked!r}. There are:\n{listed}")
    return known[int(asked)]


def open_lab(arguments: Sequence[str]) -> int:
    """Open JupyterLab, wait until it ends, and give its exit status.

    Args:
        arguments: the number of a notebook first, or none; all others are JupyterLab's.

    Raises:
        ValueError: JupyterLab is not installed, no notebook has that number, or there are none.
    """
    asked, rest = (None, arguments) if not arguments or arguments[0].startswith("-") else (arguments[0], arguments[1:])
    path = to_open(asked)
    if find_spec("jupyterlab") is None:
        raise CltoolsError(f"JupyterLab is not installed here. Install it with: {install_cltools('notebooks')}")
    return _wait([sys.executable, "-m", "jupyterlab", str(path), *rest], {**SHARING, **os.environ})


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
