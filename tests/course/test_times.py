"""The times of the notebooks: measured, written to where they are stated, and a budget for every cell."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from course import times
from course.times import HEADER, about, main, over_budget, read_times, row_of, seconds_of

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
needs_two_cores = pytest.mark.skipif(processors < 2, reason="the stated times are of two cores, on Linux")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@notebooks
def test_header_and_readme_state_what_was_measured(path: Path) -> None:
    assert path.stem in read_times(), f"run: make times ARGS={path.name[:2]}"
    said = about(sum(read_times()[path.stem]["cells"].values()))
    again = f"run, on a quiet machine: make times ARGS={path.name[:2]}"
    assert [found[1] for found in HEADER.findall(text(path))] == [said], again
    assert [found[1] for found in row_of(path.stem).findall(text(ROOT / "README.md"))] == [said], again


@notebooks
def test_every_cell_has_a_budget_and_no_budget_is_left_over(path: Path) -> None:
    cells = json.loads(text(path))["cells"]
    code = [cell["id"] for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    assert code == list(read_times()[path.stem]["cells"]), f"run: make times ARGS={path.name[:2]}"


def test_the_whole_course_fits_into_ten_minutes_and_each_notebook_into_three() -> None:
    wholes = {stem: sum(each["cells"].values()) for stem, each in read_times().items()}
    assert sorted(wholes) == [path.stem for path in NOTEBOOKS], "run: make times"
    assert max(wholes.values()) < 180 and sum(wholes.values()) < 600, wholes


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "5 seconds"), (22.6, "25 seconds"), (87, "85 seconds"), (90, "1½ minutes"), (128, "2 minutes")],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == words
    assert re.fullmatch(HEADER, f"all cells run in about {words} on two CPU cores")


def project(folder: Path, header: str = "all cells run in about 5 seconds on two CPU cores; working") -> Path:
    """A project of one notebook: a sentence, a cell that takes a second, an empty one, and what it sees."""
    (folder / "notebooks").mkdir()
    seen = "import os, pathlib\nprint(len(os.sched_getaffinity(0)), os.environ['CUDA_VISIBLE_DEVICES'], os.getcwd())"
    cells = [nbformat.v4.new_code_cell(source) for source in ("import time; time.sleep(1)", "", seen)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"**Time** | {header}"), *cells])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    (folder / "notebooks" / "07_made.ipynb").write_text(
        json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (folder / "README.md").write_text(
        "| notebook | |\n| [07_made](notebooks/07_made.ipynb) | one \\| two | ? |\nend\n", encoding="utf-8"
    )
    return folder


@pytest.fixture
def cores() -> Iterator[None]:
    """Puts back which processors this process may use."""
    before = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, before)


@needs_two_cores
def test_measuring_writes_times_and_says_them(
    tmp_path: Path, cores: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path, "all cells run in about 1½ minutes on two CPU cores; working")
    page = folder / "notebooks" / "07_made.ipynb"
    before = text(page)
    main(["07"], folder)
    measured = read_times(folder)["07_made"]
    assert list(measured["cells"]) == ["cell-1", "cell-3"] and 1 <= measured["cells"]["cell-1"] < 5
    assert measured["command"] == "make times ARGS=07" and measured["hardware"]["cores"] == 2
    assert text(page) == before.replace("1½ minutes", "5 seconds"), "nothing else changes in the notebook"
    assert "| one \\| two | 5 seconds |\nend" in text(folder / "README.md")
    monkeypatch.setattr(times, "measure", lambda path: {"cell-1": 100.0})
    main([], folder)
    assert capsys.readouterr().out.splitlines()[-1] == "07_made: 100 s, was 1 s"
    assert "about 1½ minutes on" in text(page) and "| 1½ minutes |" in text(folder / "README.md")


@needs_two_cores
def test_a_notebook_is_measured_on_two_cores_away_from_the_clone(tmp_path: Path, cores: None) -> None:
    path = project(tmp_path) / "notebooks" / "07_made.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source += f"\nassert os.getcwd() != {str(tmp_path / 'notebooks')!r}"
    notebook.cells[
        -1
    ].source += "\nassert len(os.sched_getaffinity(0)) == 2 and os.environ['CUDA_VISIBLE_DEVICES'] == ''"
    notebook.cells[-1].source += "\nassert not pathlib.Path(os.environ['CLTOOLS_DATA']).exists()"
    nbformat.write(notebook, path)
    times.hold_to_two_cores()
    assert len(times.measure(path)) == 2


def test_a_cell_far_over_its_budget_is_named(tmp_path: Path) -> None:
    folder = project(tmp_path)
    notebook = nbformat.read(folder / "notebooks" / "07_made.ipynb", as_version=4)
    for cell, seconds in zip(notebook.cells[1:], (30, 4, 400), strict=True):
        marks = {"busy": "2026-01-01T00:00:00.000000Z", "idle": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"}
        cell.metadata["execution"] = {f"iopub.status.{name}": mark for name, mark in marks.items()}
    assert seconds_of(notebook) == {"cell-1": 30, "cell-2": 4, "cell-3": 400}
    assert over_budget("07_made", notebook, folder) == [], "nothing measured yet"
    times.write({"07_made": {"cells": {"cell-1": 6.1, "cell-2": 0.1}}}, folder)
    assert over_budget("07_made", notebook, folder) == [], "below five times, below the floor, and of no budget"
    times.write({"07_made": {"cells": {"cell-1": 6.1, "cell-3": 79.9}}}, folder)
    (said,) = over_budget("07_made", notebook, folder)
    assert said.startswith("cell-3 of 07_made took 400.0 s, over 5 times its budget of 79.9 s.")
    assert said.endswith("make times ARGS=07")


def test_what_cannot_be_measured_or_stated_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, "it takes a while")
    with pytest.raises(ValueError, match=r"Unknown notebook '08'\. Did you mean 07\?"):
        main(["08"], folder)
    monkeypatch.setattr(times, "measure", lambda path: {"cell-1": 1.0})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with pytest.raises(ValueError, match=r"of 2 cores.*so many: 1. Measure on a Linux machine"):
        main(["07"], folder)
    monkeypatch.setattr(times, "hold_to_two_cores", lambda: None)
    with pytest.raises(ValueError, match=r"07_made\.ipynb has no place for a time. Write there.*: all cells run in"):
        main(["07"], folder)
    (folder / "notebooks" / "07_made.ipynb").write_text(
        "all cells run in about 5 seconds on two CPU cores", encoding="utf-8"
    )
    (folder / "README.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md has no place for a time.*\| \[07_made\]"):
        main(["07"], folder)
    assert read_times(folder) == {}
