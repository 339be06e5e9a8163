"""`cltools runs`: a record that cannot be listed is named, and hides no other."""

import json
from pathlib import Path
from typing import Any

import pytest

from cltools.reports.listing import listed

GOOD: dict[str, Any] = {"epochs": 3, "evaluations": {"test": {"knn200": 50, "probe": 60.5}}, "experiment": {"seed": 0}}


@pytest.mark.parametrize(
    "change",
    [
        {"evaluations": {"test": {"knn200": 10**400}}},
        {"evaluations": {"test": {"knn200": True}}},
        {"evaluations": {"test": {"probe": "60.5"}}},
        {"epochs": "3"},
        {"epochs": False},
        {"evaluations": 5},
    ],
    ids=["400 digits", "a boolean", "a text", "epochs as text", "epochs as boolean", "no reports"],
)
def test_a_record_without_figures_is_named_beside_the_others(change: dict[str, Any], tmp_path: Path) -> None:
    for name, record in (("a", GOOD), ("b", GOOD | change)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(json.dumps(record), encoding="utf-8")
    text, (first, second) = listed(tmp_path)
    assert (first["epochs"], first["knn200"], first["probe"]) == (3, 50.0, 60.5) and "50.00" in text
    assert second["wrong"].startswith("cannot be read: ") and second.keys() == {"run", "wrong", "differs"}
