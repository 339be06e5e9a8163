"""Executed notebooks are kept, and a cell that fails is named."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from cltools.errors import CltoolsError
from pages import executed as module
from pages.executed import executed, place


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept")
    return tmp_path


def written(folder: Path, *sources: str) -> Path:
    path = folder / "01_made.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


@pytest.mark.slow
def test_a_notebook_is_executed_once_and_again_after_a_change(kept: Path) -> None:
    path = written(
        kept, "from course import Predict\nguess = Predict('How many?', unit='keys')\nguess", "import os\nos.getpid()"
    )
    first = executed(path)
    asked, process = (cell.outputs[0].data for cell in first.cells)
    assert '<form class="cl-ask"' in asked["text/html"] and asked["text/plain"] == "How many?"
    assert executed(path).cells[1].outputs[0].data == process, "the same process"
    old = place(path)
    again = executed(written(kept, "import os\nos.getpid()"))
    assert again.cells[0].outputs[0].data != process and not old.exists(), "what is out of date is not kept"


@pytest.mark.slow
def test_a_cell_that_fails_is_named(kept: Path) -> None:
    with pytest.raises(CltoolsError, match=r"01_made\.ipynb: cell 2 .* failed: ZeroDivisionError") as raised:
        executed(written(kept, "x = 0", "1 / x"))
    assert "It begins: 1 / x" in str(raised.value) and not any((kept / "kept").glob("*"))
