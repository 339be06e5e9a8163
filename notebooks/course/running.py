"""Run a notebook's cells in a new kernel, as a reader does."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from cltools.lab import SHARING

NOTEBOOKS = Path(__file__).resolve().parents[1]
IMPORTABLE = (NOTEBOOKS, NOTEBOOKS.parent / "docs")
"""Folders from which kernels import: `course`, and the extensions of the site."""
CELL_SECONDS = 900
"""A timeout that ends a hung kernel, far above the time of any cell of the course."""


def run_cells(
    notebook: nbformat.NotebookNode,
    folder: Path,
    environment: Mapping[str, str],
    on_cell_start: Callable[..., Any] | None = None,
    extensions: Sequence[str] = (),
) -> None:
    """Run all cells in place in a new kernel, as they would in JupyterLab: for the site, the times and the tests.

    Args:
        notebook: the notebook, to which outputs are added.
        folder: the kernel's working directory; the course writes to `../runs` from there.
        environment: environment variables of the kernel.
        on_cell_start: called with `cell` and `cell_index`.
        extensions: modules that the kernel loads as IPython extensions.

    Raises:
        nbclient.exceptions.CellControlSignal: a cell failed or hung.
        nbclient.exceptions.DeadKernelError: the kernel ended.
    """
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        startup_timeout=120,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=on_cell_start,
        extra_arguments=[f"--InteractiveShellApp.extra_extensions={name}" for name in extensions],
    )
    path = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), *map(str, IMPORTABLE)]))
    client.execute(env={**SHARING, **environment, "PYTHONPATH": path})
