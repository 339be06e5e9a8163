"""Every notebook runs top to bottom as a reader runs it: a fresh kernel, all cells, no network, nothing on stderr.

In the same kernel its exercises are solved afterwards, which saves the time of another run; so does keeping what its
own cells gave for the site.
"""

import copy
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from exercises import exercises_of
from nbclient.exceptions import CellExecutionError

from course.running import run_cells
from course.times import over_budget
from pages.executed import ENVIRONMENT, EXTENSIONS, keep

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent.parent / "notebooks"
OFFLINE = HERE / "offline"

pytestmark = pytest.mark.notebooks

PROGRESS = re.compile(r"\[\d+:\d\d")  # "[00:03<00:12, ...]" stands in every line of a tqdm bar
VERDICT = re.compile(r"^(Right\.|Not yet:|Not solved yet\.)", flags=re.MULTILINE)  # how a check begins to speak
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def execute(notebook: nbformat.NotebookNode, folder: Path, on_cell_start: Callable[..., object] | None = None) -> None:
    """Run all cells of `notebook` in `folder`, in place, in a new kernel that reaches only this machine.

    No data were downloaded, as in a fresh clone. `on_cell_start` is called with `cell` and `cell_index`.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment["CLTOOLS_DATA"] = str(folder / "data")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), environment.get("PYTHONPATH")]))
    run_cells(notebook, folder, {**environment, **ENVIRONMENT}, on_cell_start, EXTENSIONS)


def complaints(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What an executed notebook wrote to stderr, progress bars aside, and errors it went on after."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield f"cell {number}: {output.ename}: {output.evalue}"
            elif output.output_type == "stream" and output.name == "stderr":
                lines = re.split(r"[\r\n]+", ESCAPES.sub("", output.text))
                yield from (f"cell {number}: {line}" for line in lines if line.strip() and not PROGRESS.search(line))


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


# Run after a notebook's own cells, in its kernel: every control of every explorer that it shows, through its range.
SWEPT = f"""
import sys
sys.path.insert(0, {str(HERE.parent)!r})
from cltools.explorer.explorer import Explorer
from sweep import sweep
shown = {{name: each for name, each in globals().items() if isinstance(each, Explorer) and name[0] != "_"}}
swept = {{name: len(sweep(each)) for name, each in shown.items()}}
print("swept", swept, [error for each in shown.values() for error in each.errors])
"""


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_runs_top_to_bottom_then_its_exercises_are_solved_and_its_explorers_obey(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"  # what runs leave in ../runs is neither found there nor left in the clone
    folder.mkdir()
    notebook = nbformat.read(path, as_version=4)
    exercises, own = exercises_of(notebook), len(notebook.cells)
    notebook.cells += [nbformat.v4.new_code_cell(each.solved) for each in exercises]
    notebook.cells.append(nbformat.v4.new_code_cell(SWEPT))
    as_read = copy.deepcopy(notebook)

    def first_beyond(cell: nbformat.NotebookNode, cell_index: int) -> None:
        if cell_index == own:  # before exercises change what is shown
            as_read.cells = copy.deepcopy(notebook.cells[:own])

    execute(notebook, folder, first_beyond)
    assert list(complaints(notebook)) == []
    keep(path, as_read)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip())
    assert over_budget(path.stem, notebook) == []
    unsolved = [cell for cell in notebook.cells[:own] if cell.source in {each.answer for each in exercises}]
    solved = notebook.cells[own:-1]
    for each, before, after in zip(exercises, unsolved, solved, strict=True):
        first, then = VERDICT.findall(printed(before)), VERDICT.findall(printed(after))
        assert len(first) == len(each.checks) and "Right." not in first, printed(before)
        assert then == ["Right."] * len(each.checks), printed(after)
    said = printed(notebook.cells[-1])
    assert re.match(r"swept \{'\w+': [2-9]\d.*\} \[\]$", said), said


def printed(cell: nbformat.NotebookNode) -> str:
    """What an executed cell wrote to stdout, and its displayed checks."""
    lines = [out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout"]
    shown = [out.data.get("text/plain", "") for out in cell.outputs if out.output_type == "display_data"]
    return "\n".join([*lines, *(text for text in shown if VERDICT.match(text))])


def test_a_finished_run_is_loaded_when_all_cells_run_again(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / "05_cifar_and_tinyimagenet.ipynb", as_version=4)
    shortened = "import course.setting as setting\nsetting.SHORT = {'digits': 1, 'shapes': 1}"
    last = next(place for place, cell in enumerate(notebook.cells) if "fit(chosen" in cell.source)
    notebook.cells = [nbformat.v4.new_code_cell(shortened), *notebook.cells[: last + 1]]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    texts, weights = [], []
    for _ in range(2):
        execute(notebook, folder)
        assert list(complaints(notebook)) == []
        texts.append(str(notebook.cells[-1].outputs))
        weights.append([path.stat().st_mtime_ns for path in sorted(tmp_path.glob("runs/05/*/checkpoint.pt"))])
    assert "starting from the beginning" in texts[0] and "Nothing was changed" in texts[1]
    assert all("finished; training took" in text and "application/vnd.plotly.v1+json" in text for text in texts)
    assert len(weights[0]) == 1 and weights[0] == weights[1]


@pytest.mark.parametrize(
    "source",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import urllib.request; urllib.request.urlopen('http://example.invalid', timeout=1)",
        "import subprocess, sys\n"
        "code = \"import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)\"\n"
        "done = subprocess.run([sys.executable, '-c', code], capture_output=True, encoding='utf-8')\n"
        "raise OSError(done.stderr)",
    ],
    ids=["address", "name", "child process"],
)
def test_a_notebook_cannot_reach_the_network(source: str, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="without a network"):
        execute(notebook_of(source), tmp_path)


def test_a_warning_is_a_complaint_and_a_progress_bar_is_not(tmp_path: Path) -> None:
    bar = "import sys\nfrom tqdm import tqdm\nfor _ in tqdm(range(3), desc='epoch', file=sys.stderr): pass"
    warning = "import warnings\nwarnings.warn('look here')"
    notebook: Any = notebook_of(bar, warning)
    execute(notebook, tmp_path)
    found = list(complaints(notebook))
    assert found and all(line.startswith("cell 1") for line in found) and "look here" in found[0]
