"""What a notebook shows of the records is what they say, and its title says no more."""

import json
from pathlib import Path
from typing import Any

import pytest

from cltools.teaching import comparison
from cltools.teaching.records import RESULTS


def record(folder: Path, seed: int, rows: list[dict[str, Any]], **more: Any) -> None:
    same = json.loads((RESULTS / "compare-shapes-0.json").read_text())
    (folder / f"compare-shapes-{seed}.json").write_text(json.dumps(same | more | {"rows": rows}))


def row(arm: str, seed: int, knn200: float, probe: float, purity: float | None = None) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "knn200": knn200,
        "probe": probe,
        "kept": 1.0,
        "false_negative_share": None,
        "mined_purity": purity,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path, 0, [row("moco", 0, 70, 90), row("nnclr", 0, 69, 91, 0.5)])
    record(tmp_path, 1, [row("moco", 1, 60, 80), row("nnclr", 1, 63, 82, 0.6), row("sce", 1, 60, 79)])
    return tmp_path


def test_differences_are_within_a_seed(folder: Path) -> None:
    records = comparison("shapes", folder=folder)
    assert records.seeds == (0, 1)
    assert records.of("moco") == {0: 70, 1: 60}
    assert records.gains("nnclr") == {0: -1, 1: 3}
    assert records.gains("nnclr", "probe") == {0: 1, 1: 2}
    assert records.gains("sce", against="nnclr") == {1: -3}


def test_a_row_an_arm(folder: Path) -> None:
    first, second = comparison("shapes", folder=folder).table({"nnclr": "replace", "sce": "every key"})
    assert first == {
        "arm": "nnclr",
        "what it does": "replace",
        "kNN-200 against moco": 1,
        "ahead in": "1 of 2 seeds",
        "probe against moco": 1.5,
        "mined purity %": pytest.approx(55),
    }
    assert second["ahead in"] == "0 of 1 seeds" and second["mined purity %"] is None


def test_what_cannot_be_told_is_refused(folder: Path, tmp_path: Path) -> None:
    records = comparison("shapes", folder=folder)
    with pytest.raises(ValueError, match="no knn200 of an arm 'mocco'"):
        records.gains("mocco")
    with pytest.raises(ValueError, match="no mined_purity of an arm 'moco'"):
        records.of("moco", "mined_purity")
    with pytest.raises(FileNotFoundError, match=r"no compare-digits-\*\.json"):
        comparison("digits", folder=folder)
    record(tmp_path, 2, [row("moco", 2, 60, 80)], warm_epochs=9)
    with pytest.raises(ValueError, match="warm_epochs"):
        comparison("shapes", folder=folder)
