"""The doctor: what each check finds and which remedy it names, that none stops the others, and the report."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from cltools import cli, doctor
from cltools.cli import main
from cltools.doctor import Finding, examine, finding, front_end, machine, packages, rendered, storage
from cltools.files import cache_folder

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHON = shlex.quote(sys.executable)
PIP = f"{PYTHON} -m pip install --constraint {shlex.quote(str(ROOT / 'constraints.txt'))}"


def remedy(found: Finding, state: str) -> str:
    """The remedy of a finding that has one."""
    assert found.state == state and found.remedy, found
    return found.remedy


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make the package look as if pip had put it into a folder, with no clone."""

    def installed(folder: Path) -> None:
        for module in (finding, packages):
            monkeypatch.setattr(module, "__file__", str(folder / "cltools" / "doctor" / f"{module.__name__}.py"))

    return installed


class Known(metadata.Distribution):
    """A distribution with these files, whose modules lie in `place`."""

    def __init__(self, place: Path, files: dict[str, str | None]) -> None:
        self.place, self.texts = place, files

    def read_text(self, filename: str) -> str | None:
        return self.texts.get(filename)

    def locate_file(self, path: Any) -> Path:
        return self.place / path


class TestReport:
    def test_a_check_that_raises_is_a_problem_and_stops_none(self) -> None:
        def broken() -> Finding:
            raise KeyError("two\nlines")

        found = examine({"a": lambda: Finding("a", "ok", "1"), "b": broken, "c": lambda: [Finding("c", "note", "3")]})
        assert [f.name for f in found] == ["a", "b", "c"]
        assert found[1].found == r"could not be looked at: KeyError: 'two\nlines'"
        assert remedy(found[1], "problem").startswith("mend what the message names")

    def test_without_an_installation_it_names_the_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def gone(name: str) -> Any:
            raise metadata.PackageNotFoundError(name)

        for name in ("metadata", "requires", "distribution"):
            monkeypatch.setattr(metadata, name, gone)
        found = examine({name: doctor.CHECKS[name] for name in ("Python", "cltools", "dependencies")})
        assert [f.name for f in found] == ["Python", "cltools", "dependencies"]
        assert {remedy(f, "problem") for f in found} == {f"{PIP} --editable '{ROOT}[notebooks]'"}

    def test_lines_are_aligned_and_counted_and_have_no_colours(self) -> None:
        text = rendered(
            [Finding("a", "ok", "x"), Finding("longer", "problem", "y", "do this"), Finding("b", "note", "z")]
        )
        assert text == (
            "ok      a       x\nproblem longer  y\n                → do this\nnote    b       z\n\n1 problem, 1 note."
        )
        assert rendered([]).strip() == "0 problems, 0 notes."

    @pytest.mark.parametrize(("state", "status"), [("ok", 0), ("note", 0), ("problem", 1)])
    def test_the_command_ends_in_one_where_there_is_a_problem(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: Any, status: int
    ) -> None:
        monkeypatch.setattr(doctor, "examine", lambda: [Finding("disk", state, "such")])
        if status:
            with pytest.raises(SystemExit) as stop:
                main(["doctor"])
            assert stop.value.code == status
        else:
            main(["doctor"])
        assert capsys.readouterr().out.startswith(f"{state:8s}disk  such\n")

    def test_the_command_takes_no_arguments(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            cli.main(["doctor", "--fix"])
        assert stop.value.code == 2 and "takes no arguments, but was given: --fix" in capsys.readouterr().err

    def test_here_every_check_can_be_made(self) -> None:
        found = examine()
        assert not [f for f in found if "could not be looked at" in f.found]
        assert {"Python", "cltools", "torch", "GPU", "processors", "cache", "data"} <= {f.name for f in found}
        assert all("\n" not in f.found for f in found)


class TestPackages:
    def test_this_python_is_supported(self) -> None:
        assert packages.check_python() == Finding(
            "Python", "ok", f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
        )

    def test_another_python_is_a_problem(
        self, monkeypatch: pytest.MonkeyPatch, installed: Callable[[Path], None], tmp_path: Path
    ) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 10, 2, "final", 0))
        found = packages.check_python()
        assert "make setup PYTHON=python3.12" in remedy(found, "problem") and found.found.startswith("3.10.2 at ")
        assert "needs" in found.found and ">=3.11" in found.found
        installed(tmp_path)
        assert "python3.12 -m venv" in remedy(packages.check_python(), "problem")

    @pytest.mark.parametrize(
        ("line", "version", "state", "command"),
        [
            ("torch>=2.6", "2.6.0+cpu", "ok", None),
            ("torch>=2.6", "2.6.0rc1", "problem", f"{PIP} 'torch>=2.6'"),
            ("torch>=2.6", "2.7.0rc1", "ok", None),
            ("torch>=2.6", "2.5.1", "problem", f"{PIP} 'torch>=2.6'"),
            ("torch>=2.6", None, "problem", f"{PIP} 'torch>=2.6'"),
            ("plotly<8,>=6.1; extra == 'notebooks'", "8.0", "problem", f"{PIP} 'plotly<8,>=6.1'"),
            (
                "plotly<8,>=6.1; extra == 'notebooks'",
                None,
                "problem",
                f"{PIP} 'plotly<8,>=6.1', or all that notebooks need: {PIP} --editable '{ROOT}[notebooks]'",
            ),
            ("tensorboard>=2.17; extra == 'tensorboard'", None, "note", f"{PIP} 'tensorboard>=2.17'"),
            ("tensorboard>=2.17; extra == 'tensorboard'", "2.0", "problem", f"{PIP} 'tensorboard>=2.17'"),
            ("pytest>=8.3; extra == 'dev'", None, None, None),  # not a reader's
        ],
    )
    def test_a_dependency_is_there_fits_or_is_named(
        self, monkeypatch: pytest.MonkeyPatch, line: str, version: str | None, state: str | None, command: str | None
    ) -> None:
        def known(name: str) -> str:
            if version is None:
                raise metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(metadata, "requires", lambda name: [line])
        monkeypatch.setattr(metadata, "version", known)
        found = packages.check_dependencies()
        assert [f.state for f in found] == ([] if state is None else [state])
        if state is not None:
            assert found[0].remedy == command and (version or "not installed") in found[0].found

    @pytest.mark.parametrize("version", [None, "unknown"])
    def test_damaged_metadata_are_a_problem_of_one_line(
        self, monkeypatch: pytest.MonkeyPatch, version: str | None
    ) -> None:
        monkeypatch.setattr(metadata, "version", lambda name: version)
        found = packages.check_dependency(Requirement("torch>=2.6"))
        assert remedy(found, "problem") == f"{PIP} --force-reinstall --no-deps 'torch>=2.6'"
        assert "its version cannot be told: Invalid version" in found.found

    def test_an_installed_package_needs_no_notebooks_and_no_clone(
        self, monkeypatch: pytest.MonkeyPatch, installed: Callable[[Path], None], tmp_path: Path
    ) -> None:
        installed(tmp_path)
        told = remedy(packages.check_dependency(Requirement("no-such>=1"), "notebooks"), "note")
        assert told.startswith(f"{PYTHON} -m pip install 'no-such>=1', or all")
        assert told.endswith(f"{PYTHON} -m pip install 'cltools[notebooks]'")

    @pytest.mark.parametrize("same", [True, False])
    @pytest.mark.parametrize("editable", [True, False])
    def test_the_package_that_pip_knows_is_told_from_another(
        self,
        monkeypatch: pytest.MonkeyPatch,
        installed: Callable[[Path], None],
        tmp_path: Path,
        same: bool,
        editable: bool,
    ) -> None:
        here = ROOT if editable else tmp_path / "site"
        place = here if same else tmp_path / "other place"
        if not editable:
            installed(here)
        origin = json.dumps({"dir_info": {"editable": True}, "url": place.as_uri()}) if editable else None
        known = Known(place, {"direct_url.json": origin, "METADATA": "Name: cltools\nVersion: 0.1.0\n"})
        monkeypatch.setattr(metadata, "distribution", lambda name: known)
        found = packages.check_source()
        kind = f"0.1.0, a clone at {ROOT}" if editable else f"0.1.0, an installed package at {here / 'cltools'}"
        assert found.found.startswith(kind)
        if same:
            assert found.state == "ok" and found.remedy is None
        else:
            assert "cd elsewhere" in remedy(found, "note") and str(place) in found.found

    @pytest.mark.parametrize(
        ("code", "state", "said"),
        [
            ("pass", "ok", "they load together"),
            ("raise RuntimeError('operator torchvision::nms does not exist')", "problem", "operator torchvision::nms"),
            ("import os; os.kill(os.getpid(), 11)", "problem", "the process ended with status -11"),
        ],
    )
    def test_a_pair_that_does_not_load_is_a_problem(
        self, monkeypatch: pytest.MonkeyPatch, code: str, state: str, said: str
    ) -> None:
        monkeypatch.setattr(packages, "LOAD", code)
        found = packages.check_torchvision()
        assert found.state == state and said in found.found
        assert found.remedy == (None if state == "ok" else f"{PIP} --upgrade torch torchvision")

    def test_a_pair_that_never_loads_is_a_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def late(command: list[str], **rest: Any) -> None:
            raise subprocess.TimeoutExpired(command, rest["timeout"])

        monkeypatch.setattr(subprocess, "run", late)
        found = packages.check_torchvision()
        assert "after 120 seconds" in found.found and "-X importtime" in remedy(found, "problem")


class TestGpu:
    @pytest.fixture(autouse=True)
    def no_gpu(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(machine, "NVIDIA", tmp_path / "nvidia0")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def test_none_is_needed(self) -> None:
        found = machine.check_gpu()
        assert found.state == "ok" and found.remedy is None and "needs none" in found.found

    def test_names_and_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (4_200_000_000, 8_000_000_000))
        assert machine.check_gpu() == Finding(
            "GPU", "ok", "Card 0, 4.2 GB of 8.0 GB free, Card 1, 4.2 GB of 8.0 GB free"
        )

    def test_a_torch_for_cpus_beside_a_gpu(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(torch.version, "cuda", None)
        found = machine.check_gpu()
        assert "built for CPUs only" in found.found
        assert f"{PYTHON} -m pip uninstall torch torchvision" in remedy(found, "note")

    def test_a_driver_that_torch_cannot_use_in_its_words(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def old() -> bool:
            warnings.warn("The NVIDIA driver\non your system is too old", stacklevel=1)
            return False

        (tmp_path / "nvidia0").touch()
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch.cuda, "is_available", old)
        found = machine.check_gpu()
        assert "cannot use it: The NVIDIA driver on your system is too old" in found.found
        assert "nvidia-smi" in remedy(found, "problem") and "12.8" in remedy(found, "problem")

    def test_a_hidden_gpu(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "nvidia0").touch()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert "unset CUDA_VISIBLE_DEVICES" in remedy(machine.check_gpu(), "note")


class TestMachine:
    @pytest.mark.parametrize(
        ("threads", "state"), [(None, "ok"), ("1", "ok"), ("2", "ok"), ("3", "note"), ("0", "note"), ("many", "note")]
    )
    def test_threads_fit_the_processors(self, monkeypatch: pytest.MonkeyPatch, threads: str | None, state: str) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5}, raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if threads is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found = machine.check_processors()
        assert found.found.startswith("2 usable") and found.state == state
        if state == "note":
            assert "export OMP_NUM_THREADS=2" in remedy(found, "note")

    @pytest.mark.parametrize(
        ("machine_kb", "limit", "used", "found", "state"),
        [
            (8_000_000, None, None, "8.2 GB", "ok"),
            (8_000_000, "max", "5", "8.2 GB", "ok"),
            (8_000_000, "4000000000", "1000000000", "3.0 GB", "ok"),
            (8_000_000, "4000000000", "3500000000", "500 MB", "note"),
            (500_000, None, None, "512 MB", "note"),
            (None, None, None, "not told by this system", "ok"),
        ],
    )
    def test_memory_is_what_machine_and_container_leave(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        machine_kb: int | None,
        limit: str | None,
        used: str | None,
        found: str,
        state: str,
    ) -> None:
        monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
        monkeypatch.setattr(machine, "CONTROL", tmp_path)
        if machine_kb is not None:
            (tmp_path / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:   {machine_kb} kB\n")
        if limit is not None and used is not None:
            (tmp_path / "memory.max").write_text(f"{limit}\n")
            (tmp_path / "memory.current").write_text(f"{used}\n")
        made = machine.check_memory()
        assert made.found.startswith(found) and made.state == state
        if state == "note":
            assert "close other programs" in remedy(made, "note")

    @pytest.mark.parametrize(("free", "state"), [(2_000_000_000, "ok"), (1_900_000_000, "note")])
    def test_little_disk_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, state: str) -> None:
        asked: list[Path] = []

        def usage(path: Path) -> SimpleNamespace:
            asked.append(path)
            return SimpleNamespace(free=free)

        monkeypatch.setattr(shutil, "disk_usage", usage)
        monkeypatch.setenv("CLTOOLS_DATA", str(tmp_path / "not" / "yet"))
        monkeypatch.chdir(tmp_path)
        data, runs = machine.check_disk()
        assert asked == [tmp_path, tmp_path], "the nearest folder that is there"
        assert data.state == runs.state == state and str(tmp_path / "not" / "yet") in data.found
        if state == "note":
            assert "CLTOOLS_DATA" in remedy(data, "note") and "--out" in remedy(runs, "note")


class TestFrontEnd:
    @pytest.fixture
    def folders(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
        """Where extensions are looked for: this environment's folder, then the user's."""
        own, users = tmp_path / "environment" / "labextensions", tmp_path / "user" / "labextensions"
        monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
        paths = SimpleNamespace(jupyter_path=lambda name: [str(own), str(users)])
        monkeypatch.setattr(front_end, "import_module", lambda name: paths)
        return own, users

    def put(self, folder: Path, extension: str) -> None:
        (folder / extension).mkdir(parents=True)
        (folder / extension / "package.json").write_text("{}")

    @pytest.mark.parametrize(
        ("extension", "distribution"),
        [("@jupyter-widgets/jupyterlab-manager", "jupyterlab_widgets"), ("anywidget", "anywidget")],
    )
    def test_each_extension_is_found_or_named(
        self, folders: tuple[Path, Path], extension: str, distribution: str
    ) -> None:
        def made() -> Finding:
            return next(f for f in front_end.check_front_end() if f.name.endswith(extension.rpartition("/")[2]))

        again = f"{PIP} --force-reinstall --no-deps {distribution}, then reload"
        assert remedy(made(), "problem").startswith(again)
        self.put(folders[1], extension)
        assert remedy(made(), "note").startswith(again) and str(folders[1]) in made().found
        self.put(folders[0], extension)
        assert made().state == "ok" and made().remedy is None

    def test_the_distributions_bring_the_extensions(self) -> None:
        for extension, distribution in front_end.EXTENSIONS.items():
            files = [str(file) for file in metadata.files(distribution) or []]
            assert any(file.endswith(f"share/jupyter/labextensions/{extension}/package.json") for file in files)

    def test_without_jupyterlab_there_is_nothing_to_look_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(front_end, "find_spec", lambda name: None)
        (found,) = front_end.check_front_end()
        assert remedy(found, "note") == f"{PIP} jupyterlab ipywidgets anywidget"

    def test_a_jupyter_of_another_environment_is_said(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        ours = f"{PYTHON} -m cltools lab"
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert front_end.check_jupyter().found.endswith(ours) and front_end.check_jupyter().state == "ok"
        monkeypatch.setattr(shutil, "which", lambda name: str(Path(sys.executable).parent / name))
        assert front_end.check_jupyter().state == "ok"
        monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / name))
        found = front_end.check_jupyter()
        assert remedy(found, "note").endswith(ours) and str(tmp_path / "jupyter") in found.found


class TestStorage:
    @pytest.fixture
    def root(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setenv("CLTOOLS_DATA", str(tmp_path / "my data"))
        return tmp_path / "my data"

    def test_a_cache_says_how_large_it_is_and_how_to_be_rid_of_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        folder = tmp_path / "a cache"
        monkeypatch.setenv("CLTOOLS_CACHE", str(folder))
        assert storage.check_cache() == Finding("cache", "ok", f"{folder}, not made yet")
        (folder / "decoded").mkdir(parents=True)
        (folder / "decoded" / "a").write_bytes(bytes(3_000_000))
        (folder / "b").write_bytes(bytes(1_000_000))
        assert cache_folder() == folder
        assert storage.check_cache() == Finding("cache", "ok", f"{folder}, 4 MB; to empty it: rm -r '{folder}'")

    def test_a_cache_that_cannot_be_is_a_problem(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "file"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda *_: False)
            assert "cannot be written" in storage.check_cache().found
            assert "CLTOOLS_CACHE" in remedy(storage.check_cache(), "problem")
        (tmp_path / "file").touch()
        assert "is a file" in storage.check_cache().found
        assert "CLTOOLS_CACHE" in remedy(storage.check_cache(), "problem")
        monkeypatch.setattr(storage, "cache_folder", homeless)
        assert "home directory" in storage.check_cache().found
        assert "CLTOOLS_CACHE" in remedy(storage.check_cache(), "problem")

    def test_the_data_folder_is_there_or_will_be(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        made = remedy(storage.check_root(), "problem")
        assert made == f"mkdir -p '{root}', or: unset CLTOOLS_DATA"
        subprocess.run(made.partition(", or")[0], shell=True, check=True)
        assert storage.check_root() == Finding("data", "ok", f"{root} (by CLTOOLS_DATA)")
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda *_: False)
            assert "CLTOOLS_DATA" in remedy(storage.check_root(), "note")
        root.rmdir()
        root.touch()
        assert "is not a folder" in storage.check_root().found and storage.check_root().state == "problem"

    def test_no_data_folder_is_no_problem_where_none_was_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("CLTOOLS_DATA", raising=False)
        monkeypatch.setattr(storage, "data_root", lambda: tmp_path / "data")
        found = storage.check_root()
        assert found.state == "ok" and found.found.endswith("(CLTOOLS_DATA is not set), made by the first download")

    @pytest.mark.parametrize(
        ("files", "state", "said"),
        [
            ([], "note", "not there; the course needs none"),
            (["cifar10/train/a/", "cifar10/test/a/"], "ok", "folder tree (train, test)"),
            (["cifar10/train/a/"], "note", "folder tree (train) without the other split"),
            (["cifar10/train/a/", "cifar-10-batches-py/"], "ok", "folder tree (train), unpacked (cifar-10-batches-py)"),
            (["cifar-10-python.tar.gz"], "ok", "archive (cifar-10-python.tar.gz)"),
            (["decoded/cifar10-train.npy"], "note", "not there; decoded pixels (0 kB); the course needs none"),
            (
                ["cifar10/train/", "cifar10/test/", "decoded/cifar10-train.npy", "decoded/cifar100-train.npy"],
                "ok",
                "folder tree (train, test), decoded pixels (0 kB)",
            ),
        ],
    )
    def test_what_is_there_of_a_set(self, root: Path, files: list[str], state: str, said: str) -> None:
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).mkdir() if file.endswith("/") else (root / file).touch()
        found = next(f for f in storage.check_sets() if f.name == "images: cifar10")
        assert found.state == state and found.found == said
        assert found.remedy == (None if state == "ok" else f"{PYTHON} -m cltools download cifar10")

    def test_sizes_read_well(self) -> None:
        assert [finding.size(count) for count in (900, 3_400_000, 2_340_000_000)] == ["1 kB", "3 MB", "2.3 GB"]


def test_importing_the_doctor_loads_no_heavy_library() -> None:
    heavy = {"torchvision", "jupyter_core", "jupyterlab", "plotly", "ipywidgets", "PIL", "tyro"}
    code = f"import cltools.doctor, sys; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
