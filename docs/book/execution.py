"""A notebook executed for the book: with all outputs, or with the name of the cell that failed."""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

from cltools.errors import CltoolsError
from course.running import run_cells


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs; what it writes beside itself goes into a folder that is deleted afterwards.

    Raises:
        ValueError: a cell failed, hung, or ended the kernel; names the notebook and the cell.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    reached = [0]
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "notebooks"  # the course writes to ../runs
        inside.mkdir()
        try:
            run_cells(notebook, inside, os.environ, lambda cell, cell_index: reached.append(cell_index))
        except (CellControlSignal, DeadKernelError) as error:
            why = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
            cell = notebook.cells[reached[-1]]
            raise CltoolsError(
                f"{path.name}: cell {reached[-1] + 1} ({cell.get('id')}), counted from the top, failed: {why}\n"
                f"It begins: {cell.source.strip().partition(os.linesep)[0]}\n"
                "Open the notebook, mend the cell, run all cells, and make the book again."
            ) from None
    return notebook
