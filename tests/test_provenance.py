"""Records: what stands beside a figure, and files that are whole or not there."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from cltools import provenance
from cltools.provenance import check_record, command, commit, read_record, usable_processors, write_record

CPU = torch.device("cpu")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True, encoding="utf-8"
    ).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one commit, which the package believes to run from."""
    (tmp_path / "package").mkdir()
    module = tmp_path / "package" / "provenance.py"
    module.write_text("first", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    monkeypatch.setattr(provenance, "__file__", str(module))
    return tmp_path


def test_names_the_commit_and_whether_the_code_was_changed_since(clone: Path) -> None:
    head = git(clone, "rev-parse", "--short=10", "HEAD")
    assert commit() == head
    (clone / "notes.txt").write_text("new, and no code", encoding="utf-8")
    (clone / "package" / "notes.txt").write_text("new, and no code", encoding="utf-8")
    (clone / "package" / "__pycache__").mkdir()
    assert commit() == head
    (clone / "package" / "new.py").write_text("code", encoding="utf-8")
    assert commit() == head + "+"
    (clone / "package" / "new.py").unlink()
    (clone / "package" / "provenance.py").write_text("second", encoding="utf-8")
    assert commit() == head + "+"
    (clone / "package" / "provenance.py").write_text("first", encoding="utf-8")
    (clone / "benchmarks").mkdir()
    (clone / "benchmarks" / "steps.py").write_text("what measured it", encoding="utf-8")
    assert commit() == head + "+"


def test_outside_a_clone_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert commit() == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() == "", "without git"


def test_the_clone_of_another_project_is_not_ours(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = clone / ".venv" / "provenance.py"
    inside.parent.mkdir()
    inside.write_text("installed here", encoding="utf-8")
    monkeypatch.setattr(provenance, "__file__", str(inside))
    assert commit() == ""


def test_says_with_what_a_figure_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/cltools/__main__.py", "compare", "digits", "a b.json"])
    found = provenance.provenance(CPU)
    assert found["command"] == "python -m cltools compare digits 'a b.json'"
    assert found["commit"] == commit()
    assert found["versions"]["torch"] == torch.__version__ and set(found["versions"]) >= {"python", "scikit-learn"}
    assert found["hardware"]["device"] and found["hardware"]["threads"] == torch.get_num_threads()
    json.dumps(found)
    monkeypatch.setattr("sys.argv", ["/somewhere/benchmarks/__main__.py", "costs"])
    assert command() == "python -m benchmarks costs"
    monkeypatch.setattr("sys.argv", ["/somewhere/notebook.py", "-f"])
    assert provenance.provenance(CPU)["command"] == "from Python"


def test_a_command_begun_by_torchrun_says_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/cltools/__main__.py", "train", "digits-moco", "--out", "a b"])
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert command() == "torchrun --nnodes 2 --nproc-per-node 4 -m cltools train digits-moco --out 'a b'"
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert command() == "python -m cltools train digits-moco --out 'a b'"


def test_a_record_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "record.json"
    write_record(path, {"kind": "test", "rows": [1, None, "π"]})
    assert read_record(path) == {"kind": "test", "rows": [1, None, "π"]}
    assert path.read_text(encoding="utf-8").endswith("}\n") and [p.name for p in path.parent.iterdir()] == [
        "record.json"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "record.json cannot be read as a record"),
        ("[]", "record.json holds no record of cltools"),
        (
            '{"kind": "test", "rows": [NaN]}',
            "record.json cannot be read as a record: it is not valid JSON: 'NaN' is not a finite number",
        ),
        (
            '{"kind": "test", "rows": [1e999]}',
            "record.json cannot be read as a record: it is not valid JSON: '1e999' is not a finite number",
        ),
        (
            '{"kind": "test", "kind": "bench"}',
            "record.json cannot be read as a record: it is not valid JSON: 'kind' occurs twice in an object",
        ),
        ('{"kind": "test", "rows": ' + "[" * 60 + "]" * 60 + "}", "record.json cannot be read .*nested deeper than 32"),
        ('{"kind": "test", "rows": ' + "[" * 10**5 + "]" * 10**5 + "}", "record.json cannot be .*recursion depth"),
        ("\0", "record.json cannot be read as a record"),
        ("", "record.json cannot be read as a record"),
        ('{"kind": "bench"}', "record.json holds a record of kind 'bench'; one of kind 'test' is needed"),
    ],
)
def test_damaged_and_foreign_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        check_record(path, read_record(path), "test")


@pytest.mark.parametrize(("told", "fits"), [({}, False), ({"format": 1}, False), ({"format": 2}, True)])
def test_a_record_of_an_earlier_format_is_told_how_it_is_converted(told: dict[str, int], fits: bool) -> None:
    def check() -> None:
        check_record(Path("old.json"), {"kind": "test", **told}, "test", form=2)

    if fits:
        return check()
    with pytest.raises(ValueError, match=r"python data/convert\.py old\.json"):
        check()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(FileNotFoundError, match=rf"{path.name} is not a file; give a record"):
            read_record(path)


def test_processors_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert usable_processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_processors() == 64
