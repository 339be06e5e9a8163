"""The doctor: what each check finds and which remedy it names, that none stops the others, and the report."""

import os
import shlex
import shutil
import sys
import warnings
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from cltools import doctor
from cltools.cli import main
from cltools.doctor import Finding, examine

ROOT = Path(__file__).parent.parent
PYTHON = shlex.quote(sys.executable)
PIP = f"{PYTHON} -m pip install --constraint {shlex.quote(str(ROOT / 'constraints.txt'))}"


def remedy(found: Finding, state: str) -> str:
    """The remedy of a finding that has one."""
    assert found.state == state and found.remedy, found
    return found.remedy


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the package look as if pip had put it into this folder, with no clone."""
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "site" / "cltools" / "doctor.py"))
    monkeypatch.setattr(doctor, "CLONE", None)
    return tmp_path / "site"


def test_a_check_that_raises_is_a_problem_and_stops_none() -> None:
    def broken() -> Finding:
        raise KeyError("two\nlines")

    found = examine({"a": lambda: Finding("a", "ok", "1"), "b": broken, "c": lambda: [Finding("c", "note", "3")]})
    assert [f.name for f in found] == ["a", "b", "c"]
    assert "KeyError" in found[1].found and "\n" not in found[1].found and remedy(found[1], "problem")


def test_without_an_installation_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    for name in ("metadata", "requires", "version"):
        monkeypatch.setattr(metadata, name, gone)
    found = examine({name: doctor.CHECKS[name] for name in ("cltools", "dependencies")})
    assert {remedy(f, "problem") for f in found} == {f"{PIP} --editable '{ROOT}[notebooks]'"}


@pytest.mark.parametrize("state", ["ok", "note", "problem"])
def test_the_report_counts_and_ends_in_one_where_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Any
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("disk", state, "such", "do this")])
    try:
        main(["doctor"])
        assert state != "problem"
    except SystemExit as stop:
        assert stop.code == 1 and state == "problem"
    first, second, *_, last = capsys.readouterr().out.splitlines()
    assert first.split() == [state, "disk", "such"] and second.split() == ["→", "do", "this"]
    assert ("1 problem," in last, "1 note." in last) == (state == "problem", state == "note")


def test_here_every_check_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOAD", "pass")
    found = examine()
    assert not [f for f in found if "could not be checked" in f.found or "\n" in f.found]
    assert {"Python", "cltools", "torch", "GPU", "runs", "cache", "data"} <= {f.name for f in found}


@pytest.mark.parametrize(
    ("line", "version", "state"),
    [
        ("torch>=2.6", "2.6.0+cpu", "ok"), ("torch>=2.6", "2.6.0rc1", "problem"), ("torch>=2.6", "2.7.0rc1", "ok"),
        ("torch>=2.6", None, "problem"), ("torch>=2.6", "unknown", "problem"),
        ("plotly<8,>=6.1; extra == 'notebooks'", "8.0", "problem"), ("pytest>=8; extra == 'dev'", None, None),
        ("plotly<8,>=6.1; extra == 'notebooks'", None, "problem"), ("tqdm>=9; extra == 'docs'", None, "note"),
    ],
)  # fmt: skip
def test_a_dependency_is_there_fits_or_is_named(
    monkeypatch: pytest.MonkeyPatch, line: str, version: str | None, state: str | None
) -> None:
    def known(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "requires", lambda name: [line])
    monkeypatch.setattr(metadata, "version", known)
    found = doctor.check_dependencies()
    assert [f.state for f in found] == ([] if state is None else [state])
    if state not in (None, "ok"):
        assert shlex.quote(line.partition(";")[0]) in remedy(found[0], str(state)).removeprefix(PIP)


def test_an_installed_package_needs_no_notebooks_and_no_clone(installed: Path) -> None:
    told = remedy(doctor.check_dependency(Requirement("no-such>=1"), "notebooks"), "note")
    assert told.startswith(f"{PYTHON} -m pip install 'no-such>=1'") and "'cltools-ssl[notebooks]'" in told


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pass", None),
        ("raise RuntimeError('operator nms does not exist')", "operator nms"),
        ("import os; os.kill(os.getpid(), 11)", "status -11"),
    ],
)
def test_a_pair_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch, code: str, said: str | None) -> None:
    monkeypatch.setattr(doctor, "LOAD", code)
    found = doctor.check_torchvision()
    assert found.state == "ok" if said is None else (remedy(found, "problem") and said in found.found)


@pytest.mark.parametrize(
    ("there", "hidden", "cuda", "state", "told"),
    [
        (False, None, "12.8", "ok", "needs none"),
        (True, "", "12.8", "note", "unset CUDA_VISIBLE_DEVICES"),
        (True, None, None, "note", "pip uninstall torch torchvision"),
        (True, None, "12.8", "problem", "The NVIDIA driver on your system is too old"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool, hidden: Any, cuda: Any, state: str, told: str
) -> None:
    def old() -> bool:
        warnings.warn("The NVIDIA driver\non your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr(doctor, "NVIDIA", ROOT if there else tmp_path / "nvidia0")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", old)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = doctor.check_gpu()
    assert found.state == state and told in f"{found.found} {found.remedy}"


def folders() -> dict[str, Finding]:
    return {found.name: found for found in doctor.check_folders()}


def test_folders_are_there_or_will_be_and_are_said_where_they_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "my data"
    monkeypatch.setenv("CLTOOLS_DATA", str(data))
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert {(name, found.state) for name, found in folders().items()} == {(n, "ok") for n in ("data", "runs", "cache")}
    assert "created when needed" in folders()["data"].found
    data.mkdir()
    assert "made when" not in folders()["data"].found
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        assert "CLTOOLS_CACHE" in remedy(folders()["cache"], "note")
    data.rmdir()
    data.touch()
    assert "CLTOOLS_DATA" in remedy(folders()["data"], "problem")


def test_a_user_without_a_home_is_told_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(doctor, "cache_folder", homeless)
    assert "CLTOOLS_CACHE" in remedy(folders()["cache"], "problem")


@pytest.mark.parametrize(("free", "state"), [(2_000_000_000, "ok"), (1_900_000_000, "note")])
def test_little_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, state: str) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: (asked.append(path), SimpleNamespace(free=free))[1])
    monkeypatch.setenv("CLTOOLS_DATA", str(tmp_path / "not" / "yet"))
    assert folders()["data"].state == state
    assert tmp_path in asked, "the nearest folder that is there"


@pytest.mark.parametrize("extension", doctor.EXTENSIONS)
def test_each_extension_is_found_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, extension: str) -> None:
    own, users = tmp_path / "environment", tmp_path / "user"
    monkeypatch.setattr(sys, "prefix", str(own))
    paths = SimpleNamespace(jupyter_path=lambda name: [str(own), str(users)])
    monkeypatch.setattr(doctor, "import_module", lambda name: paths)

    def state(folder: Path | None) -> str:
        if folder:
            (folder / extension).mkdir(parents=True)
            (folder / extension / "package.json").write_text("{}", encoding="utf-8")
        found = next(f for f in doctor.check_front_end() if f.name.endswith(extension.rpartition("/")[2]))
        assert found.state == "ok" or f" {doctor.EXTENSIONS[extension]}, then reload" in remedy(found, found.state)
        return found.state

    assert [state(None), state(users), state(own)] == ["problem", "note", "ok"]
    files = map(str, metadata.files(doctor.EXTENSIONS[extension]) or [])
    assert any(file.endswith(f"labextensions/{extension}/package.json") for file in files)


def test_what_the_data_folder_holds_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLTOOLS_DATA", str(tmp_path / "data"))
    assert "created when needed" in next(f for f in doctor.check_folders() if f.name == "data").found
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    assert f"{tmp_path / 'data'} (cifar-10-batches-py), " in doctor.check_folders()[0].found


def test_each_dependency_is_looked_at_once() -> None:
    names = [found.name.partition(" ")[0] for found in doctor.check_dependencies()]
    assert len(names) == len({*names}) and {"torch", "tyro", "anywidget", "sphinx"} <= {*names}
