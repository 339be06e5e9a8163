"""A notebook executed for the book: with all outputs, or with the name of the cell that failed."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError

from cltools.kernel import run_cells

WIDGET = "application/vnd.jupyter.widget-view+json"
PLOTLY = "application/vnd.plotly.v1+json"
FIGURES = """
import json
from ipywidgets.widgets.widget import _instances
from plotly.basedatatypes import BaseFigure
print(json.dumps({name: json.loads(w.to_json()) for name, w in _instances.items() if isinstance(w, BaseFigure)}))
"""
"""Asked after the last cell: what plotly's widgets show by then, as a curve of a training does that ends below it."""


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs; what it writes beside itself goes into a folder that is deleted afterwards.

    Raises:
        ValueError: a cell failed, hung, or ended the kernel; names the notebook and the cell.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    notebook.cells.append(nbformat.v4.new_code_cell(FIGURES))  # type: ignore[no-untyped-call]
    reached = [0]
    with tempfile.TemporaryDirectory() as folder:
        inside = Path(folder) / "notebooks"  # the course writes to ../runs
        inside.mkdir()
        try:
            run_cells(notebook, inside, os.environ, lambda cell, cell_index: reached.append(cell_index))
        except (CellControlSignal, DeadKernelError) as error:
            why = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else str(error)
            cell = notebook.cells[reached[-1]]
            raise ValueError(
                f"{path.name}: cell {reached[-1] + 1} ({cell.get('id')}), counted from the top, failed: {why}\n"
                f"It begins: {cell.source.strip().partition(os.linesep)[0]}\n"
                "Open the notebook, mend the cell, run all cells, and make the book again."
            ) from None
    _keep(json.loads(notebook.cells.pop().outputs[0].text), notebook)
    return notebook


def _keep(figures: dict[str, Any], notebook: nbformat.NotebookNode) -> None:
    """Put figures beside the widgets that showed them."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        name = output.get("data", {}).get(WIDGET, {}).get("model_id")
        if name in figures:
            output.data[PLOTLY] = figures[name]
