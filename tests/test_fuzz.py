"""Hostile files of every format are refused in words or read; and the job that makes them finds what it should."""

import re
import sys
from pathlib import Path
from random import Random

import fuzz
import pytest
from fuzz_formats import FAULTS, FORMATS, alike
from fuzz_mutations import NAMES, csv_altered, json_altered, tree_altered

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")


@pytest.mark.slow
def test_hostile_files_have_no_findings(tmp_path: Path) -> None:
    """Some of them; `make fuzz` reads new ones for minutes."""
    found = [*fuzz.outcomes(18, range(70), 1.0, tmp_path)]
    assert len(found) > 50 and {each.kind for each in found} >= {"refused", "read"}
    told = [f"{each.name}: {each.kind}\n{each.altered}\n{each.told[-2000:]}" for each in found if each.found]
    assert not told, "\n\n".join([*told, "again: python tests/fuzz.py --seed 18 --case …"])


@pytest.mark.slow
def test_what_should_not_be_is_found_and_kept_and_the_next_is_read(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    found = [*fuzz.outcomes(18, range(7), 1.0, tmp_path, only=tuple(FAULTS), keep=keep, seconds=5.0)]
    assert {each.name: re.sub(r"\d+ MB", "MB", each.kind) for each in found} == {
        "foreign error": "KeyError", "hang": "hang", "memory": "MB", "end": "the process ended with status 3",
        "other": "other than was saved", "none": "refused",
    }  # fmt: skip
    for each in found:
        assert each.found == (each.name != "none") == (keep / f"18-{each.case}" / "a.txt").is_file()
    assert [each.case for each in found] == [*range(7)]


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    only = ("snapshot", "config", "embeddings.npz", "state")
    for case in range(8):
        told = [fuzz.prepared(tmp_path / "whole", tmp_path / f"{case} {turn}", 5, case, only) for turn in range(2)]
        assert told[0] == told[1]
        file = FORMATS[told[0][0]].file
        first, second = ((tmp_path / f"{case} {turn}" / file).read_bytes() for turn in range(2))
        assert len(first) == len(second)  # a zip tells the time


def test_an_alteration_alters() -> None:
    plain = {"a": [1, 2, {"b": None}], "c": "text"}
    changed = [not alike(tree_altered(plain, Random(seed))[0], plain) for seed in range(100)]
    assert sum(changed) > 90 and plain == {"a": [1, 2, {"b": None}], "c": "text"}
    assert len({json_altered(b'{"a": 1}', Random(seed))[0] for seed in range(50)}) > 30
    assert len({csv_altered(b"a,b\n1,2\n", Random(seed))[0] for seed in range(50)}) > 30
    assert set(FAULTS).isdisjoint(FORMATS) and len(set(NAMES)) == len(NAMES)
