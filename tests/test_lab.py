"""`python -m cltools lab`: which notebook is opened, by whose JupyterLab, and what is said where there is none."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cltools import lab
from cltools.cli import main

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is started instead of JupyterLab: each command with its environment; it ends with status 0."""
    started: list[dict[str, Any]] = []

    class Server:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            started.append({"command": command, "env": env})

        def __enter__(self) -> "Server":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Server)
    return started


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("digits", [1, 2])
def test_opens_each_notebook_by_its_number(started: list[dict[str, Any]], path: Path, digits: int) -> None:
    main(["lab", f"{int(path.name[:2]):0{digits}d}"])
    assert [start["command"] for start in started] == [[sys.executable, "-m", "jupyterlab", str(path)]]


def test_opens_the_first_without_a_number_and_passes_the_rest_on(started: list[dict[str, Any]]) -> None:
    main(["lab"])
    main(["lab", "--no-browser", "--port", "9999"])
    main(["lab", "2", "--no-browser"])
    assert [start["command"][3:] for start in started] == [
        [str(NOTEBOOKS[0])],
        [str(NOTEBOOKS[0]), "--no-browser", "--port", "9999"],
        [str(ROOT / "notebooks" / "02_bands_and_false_negatives.ipynb"), "--no-browser"],
    ]


def test_threads_wait_passively_as_under_make_unless_told_otherwise(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    main(["lab"])
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    main(["lab"])
    assert [start["env"]["OMP_WAIT_POLICY"] for start in started] == ["passive", "active"]
    assert {start["env"]["GOMP_SPINCOUNT"] for start in started} == {"1000"}
    assert started[0]["env"]["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("asked", ["99", "2.5", "two", "002", "²", ""])
def test_an_unknown_number_lists_what_there_is(
    started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["lab", asked])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and f"No notebook has the number {asked!r}" in said and started == []
    assert said.splitlines()[1:] == [f"  {int(path.name[:2])}  {path.stem}" for path in NOTEBOOKS]


def test_an_installed_package_copies_the_course_once(
    started: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("notebooks/02_some.ipynb", "notebooks/course/a.py", "data/results/a.json", "data/snapshots/a.npz"):
        path = tmp_path / "shipped" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    monkeypatch.setattr(lab, "CLONE", None)
    monkeypatch.setattr(lab, "CARRIED", tmp_path / "shipped")
    monkeypatch.delenv("CLTOOLS_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cltools-course.part").mkdir()  # of a copy that was interrupted
    main(["lab", "2", "--no-browser"])
    folder = tmp_path / "cltools-course"
    assert started[0]["command"][3:] == [str(folder / "notebooks" / "02_some.ipynb"), "--no-browser"]
    assert started[0]["env"]["CLTOOLS_DATA"] == str(folder / "data")
    assert (folder / "notebooks" / "course" / "a.py").is_file() and (folder / "data" / "results" / "a.json").is_file()
    assert not (folder / "data" / "snapshots").exists() and not (tmp_path / "cltools-course.part").exists()
    (folder / "notebooks" / "02_some.ipynb").write_text("mine", encoding="utf-8")
    main(["lab", "2"])
    assert (folder / "notebooks" / "02_some.ipynb").read_text(encoding="utf-8") == "mine"


def test_without_jupyterlab_says_how_to_install_it(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(lab, "find_spec", lambda name: None if name == "jupyterlab" else found(name))
    with pytest.raises(SystemExit) as stop:
        main(["lab"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and started == [] and said.startswith("cltools: JupyterLab is not installed.")
    assert "-m pip install" in said and sys.executable in said and "[notebooks]" in said


CHILD = "import os, signal, sys, time\n"


SERVERS = {
    "sys.exit(3)": 3,
    "os.kill(os.getppid(), signal.SIGINT); sys.exit(4)": 4,  # Ctrl-C is the server's to answer
    "os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)": 128 + signal.SIGTERM,  # passed on
}


def test_waits_for_the_server_whatever_signal_comes_and_loads_no_heavy_library() -> None:
    # In a process of its own: a signal that came through would end the tests.
    script = (
        "import sys; from cltools.lab import _wait; import os, signal\n"
        "print(sorted({'torchvision', 'jupyterlab', 'plotly', 'tyro'} & set(sys.modules)))\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a shell's background ignores
        f"for code in {[CHILD + code for code in SERVERS]!r}:\n"
        "    print(_wait([sys.executable, '-c', code], dict(os.environ)))\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines() == ["[]", *map(str, SERVERS.values())], done.stderr


def test_the_servers_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "_wait", lambda command, environment: 5)
    with pytest.raises(SystemExit) as stop:
        main(["lab", "0"])
    assert stop.value.code == 5
