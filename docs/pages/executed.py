"""Executed notebooks, kept under `.cache/`, so that the site is made from what the tests of the notebooks have run."""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

import nbformat
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

from cltools.errors import CltoolsError
from course.running import run_cells
from pages.explorers import FOLDER

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache" / "executed"
SNAPSHOTS = KEPT / "snapshots"
"""The snapshots that executed explorers show, as scripts."""
ENVIRONMENT = {FOLDER: str(SNAPSHOTS)}
"""Of a kernel whose outputs the site shows."""
EXTENSIONS = ("pages.asking", "pages.explorers")
"""IPython extensions of such a kernel."""


@cache
def _sources() -> bytes:
    """Return a digest of all code that a notebook can import, and of the snapshots and records that it reads."""
    digest = hashlib.sha256()
    trees = (
        "cltools/**/*.*",
        "notebooks/course/**/*.*",
        "docs/pages/asking.py",
        "docs/pages/explorers.py",
        "data/results/*.*",
        "data/snapshots/*.*",
    )
    files = [path for tree in trees for path in ROOT.glob(tree)]
    for path in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.digest()


def place(path: Path) -> Path:
    """Return where a notebook is kept: another name after any change that may change its outputs."""
    return KEPT / f"{path.stem}-{hashlib.sha256(_sources() + path.read_bytes()).hexdigest()[:16]}.ipynb"


def keep(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Keep an executed notebook in place of what it gave before."""
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, place(path))  # type: ignore[no-untyped-call]


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with its outputs, and execute it unless it is kept.

    Raises:
        ValueError: a cell failed, hung, or ended the kernel; names the notebook and the cell.
    """
    if place(path).is_file():
        return nbformat.read(place(path), as_version=4)  # type: ignore[no-any-return, no-untyped-call]
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    reached = [0]
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "notebooks"  # the course writes to ../runs
        inside.mkdir()
        try:
            environment = {**os.environ, **ENVIRONMENT}
            run_cells(notebook, inside, environment, lambda cell, cell_index: reached.append(cell_index), EXTENSIONS)
        except (CellControlSignal, DeadKernelError) as error:
            why = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
            cell = notebook.cells[reached[-1]]
            raise CltoolsError(
                f"{path.name}: cell {reached[-1] + 1} ({cell.get('id')}), counted from the top, failed: {why}\n"
                f"It begins: {cell.source.strip().partition(os.linesep)[0]}\n"
                "Open the notebook, mend the cell, run all cells, and make the site again."
            ) from None
    keep(path, notebook)
    return notebook
