"""The course's notebooks in this environment: opened in JupyterLab (`python -m cltools lab`), or run cell by cell."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cltools.doctor import install_cltools
from cltools.errors import CltoolsError

if TYPE_CHECKING:
    import nbformat

PROJECT = Path(__file__).resolve().parents[1]
SHARING = {"OMP_WAIT_POLICY": "passive"}
"""Torch's threads give a shared core away while they wait."""
CELL_SECONDS = 900
"""Far above any cell of the course: it ends a hung kernel."""


def notebooks(project: Path = PROJECT) -> dict[int, Path]:
    """The course's notebooks by number, in order.

    Raises:
        ValueError: the package was installed without them.
    """
    found = sorted((project / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise CltoolsError(
            f"There are no notebooks beside {Path(__file__).parent}: an installed package comes without them. They are "
            "the folder notebooks/ of cltools's repository; in a clone of it, run: make lab"
        )
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


def run_cells(
    notebook: "nbformat.NotebookNode",
    folder: Path,
    environment: Mapping[str, str],
    on_cell_start: Callable[..., Any] | None = None,
) -> None:
    """Run all cells in place in a new kernel, as they would in JupyterLab: for the book, the times and the tests.

    Args:
        notebook: gets the outputs.
        folder: where the kernel works; the course writes to `../runs` from there.
        environment: of the kernel.
        on_cell_start: called with `cell` and `cell_index`.

    Raises:
        nbclient.exceptions.CellControlSignal: a cell failed or hung.
        nbclient.exceptions.DeadKernelError: the kernel ended.
    """
    from nbclient import NotebookClient  # comes with the notebooks

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=120,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=on_cell_start,
    )
    found = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(PROJECT / "notebooks")]))
    client.execute(env={**SHARING, **environment, "PYTHONPATH": found})  # so that `course` is found
