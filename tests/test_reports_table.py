"""Tables of records, and that docs/results.md shows what the records say."""

import json
from pathlib import Path

import pytest
from pandas import DataFrame

from cltools.errors import CltoolsError
from cltools.reports.table import markdown, table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "data" / "results"


def test_cells_come_back_from_markdown_and_a_bar_in_one_splits_nothing() -> None:
    cells = DataFrame([["a", "1.0"], ["b|c", ""]], columns=["arm", "kNN"])
    caption, blank, head, rule, *rows = markdown("What it shows.", cells, left=("arm",)).splitlines()
    assert (caption, blank, head, rule) == ("What it shows.", "", "| arm | kNN |", "|---|---:|")
    assert [[cell.strip() for cell in row[1:-1].split("|")] for row in rows] == [["a", "1.0"], ["b∣c", ""]]


def test_a_cell_breaks_no_table() -> None:
    """Names of folders are cells: none ends its row, opens a tag or moves the cursor."""
    cells = DataFrame({"images": ["a|b", "<img src=x>", "a\nb", "\x1b[31m", "\u202eb"]})
    rows = markdown("What it shows.", cells, left=("images",)).splitlines()[4:]
    assert rows == ["| a∣b |", "| &lt;img src=x> |", "| a\\nb |", "| \\x1b[31m |", "| \\u202eb |"]


def test_a_record_that_is_no_table_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"kind": "bunch"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs or comparisons.*other\.json of kind 'bunch'"):
        table([other])


@pytest.mark.parametrize("name", ["s.npz", "checkpoint.pt", "a.bmp"])
def test_a_file_of_another_kind_is_no_record(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(CltoolsError, match=f"{name} cannot be read as a record"):
        table([tmp_path / name])


SHOWN = ["compare-shapes", "late-shapes", "compare-cifar10"]


@pytest.mark.parametrize("name", SHOWN)
def test_the_readme_shows_what_the_records_say(name: str) -> None:
    paths = sorted(RESULTS.glob(f"{name}*.json"))
    assert paths and table(paths) in (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), (
        f"paste: python -m cltools table data/results/{name}*.json"
    )


def test_the_readme_shows_some_arms_before_all() -> None:
    whole = table(sorted(RESULTS.glob("compare-shapes*.json"))).splitlines()[2:]
    section = (
        (ROOT / "docs" / "results.md")
        .read_text(encoding="utf-8")
        .split("### `shapes`, three seeds")[1]
        .split("<details>")[0]
    )
    some = [line for line in section.splitlines() if line.startswith("|")]
    assert len(some) == 2 + 7 and some[:2] == whole[:2] and set(some) <= set(whole)
    assert "\n".join(some) in (ROOT / "README.md").read_text(encoding="utf-8"), "the README shows the same seven"


def test_the_readme_shows_the_runs_beside_published_figures() -> None:
    paths = sorted(RESULTS.glob("run-*.json"))
    assert paths and table(paths, references=True) in (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), (
        "paste: python -m cltools table --references data/results/run-*.json"
    )


def test_a_comparison_on_a_machine_that_is_not_told_is_shown(tmp_path: Path) -> None:
    record = json.loads((ROOT / "data" / "results" / "compare-shapes-0.json").read_text(encoding="utf-8"))
    (tmp_path / "a.json").write_text(json.dumps(record | {"hardware": {}}), encoding="utf-8")
    assert "unknown device." in table([tmp_path / "a.json"])
