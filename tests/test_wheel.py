"""The wheel, without the clone that it is built from: the command line, the explorer, the course, and its types."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cltools.lab import SHARING

ROOT = Path(__file__).parent.parent
RIGHT = """\
import torch
from cltools import NearestKeys, Queue, RankBand, contrastive_loss, preset, select, similarities
from cltools.losses import LossSettings

queue: Queue = Queue(64, 8)
z = torch.nn.functional.normalize(torch.randn(4, 8), dim=1)
rules = NearestKeys(k=2), RankBand()
ids = torch.arange(4), queue.ids
losses: torch.Tensor = contrastive_loss(z, z, queue.keys, *rules, LossSettings(), ids=ids)
epochs: int = preset("digits-moco").training.epochs
"""
WRONG = RIGHT + 'RankBand(drop_closest="much")\npreset(3)\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("cltools_ssl-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    """A folder with what the wheel holds."""
    site = wheel.with_name("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of this Python in that folder, in which the wheel's package is found before the clone's."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )


@pytest.mark.slow
def test_it_needs_nothing_of_the_clone(unpacked: Path, tmp_path: Path) -> None:
    code = "import cltools.files, cltools.lab; from cltools import explore, load_snapshot\n"
    code += "assert cltools.files.CLONE is None and len(cltools.lab.notebooks(cltools.lab.course())) == 7\n"
    code += "print(explore(load_snapshot('shapes-moco')).sentence)"
    shown = run(unpacked, tmp_path, "-c", code)
    assert shown.returncode == 0 and "This rule pushes" in shown.stdout, shown.stderr
    results = "from course.results import RESULTS; print(len([*RESULTS.glob('run-*.json')]))"
    found = run(unpacked, tmp_path / "cltools-course" / "notebooks", "-c", results)
    assert found.stdout.strip() == str(len([*(ROOT / "data" / "results").glob("run-*.json")])), found.stderr
    quick = ("--epochs", "1", "--limit", "200", "--device", "cpu", "--evaluation.no-probe", "--json")
    trained = run(unpacked, tmp_path, "-m", "cltools", "train", "digits-moco", *quick)
    assert trained.returncode == 0 and (tmp_path / "runs" / "digits-moco" / "record.json").is_file(), trained.stderr
    assert "an installed package at" in run(unpacked, tmp_path, "-m", "cltools", "doctor").stdout


@pytest.mark.slow
def test_its_types_are_seen(unpacked: Path, tmp_path: Path) -> None:
    """As mypy finds an installed package: by its py.typed, not as a source."""
    for name, text in (("right.py", RIGHT), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nmypy_path = {unpacked}\n", encoding="utf-8")
    right = run(unpacked, tmp_path, "-m", "mypy", "--strict", "--follow-imports=silent", "right.py")
    assert right.returncode == 0, right.stdout
    wrong = run(unpacked, tmp_path, "-m", "mypy", "--strict", "--follow-imports=silent", "wrong.py")
    assert wrong.returncode == 1 and "drop_closest" in wrong.stdout and 'to "preset"' in wrong.stdout, wrong.stdout


@pytest.mark.slow
@pytest.mark.nightly
def test_it_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed with what it declares and nothing else, in an empty folder: every way in that the README names."""
    python, folder = tmp_path / "venv" / "bin" / "python", tmp_path / "empty"
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CLTOOLS"))}
    environment |= SHARING  # as `cltools lab` sets it

    def done(*command: str | Path) -> str:
        found = subprocess.run(
            [str(each) for each in command],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert found.returncode == 0, f"{found.stdout[-2000:]}\n{found.stderr[-4000:]}"
        return found.stdout

    done(sys.executable, "-m", "venv", tmp_path / "venv")
    done(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[notebooks]")
    code = "from cltools import explore, load_snapshot; print(explore(load_snapshot('shapes-moco')).sentence)"
    assert "This rule pushes" in done(python, "-c", code)
    command = python.with_name("cltools")
    assert "knn200" in done(command, "train", "digits-moco", "--device", "cpu", "--json")
    assert done(command, "doctor")
    assert "00_start_here" in done(
        python, "-c", "from cltools.lab import course, to_open; print(to_open(None, course()))"
    )
    notebooks = sorted((folder / "cltools-course" / "notebooks").glob("0*.ipynb"))
    assert len(notebooks) == 7
    for path in notebooks:
        done(python.with_name("jupyter-execute"), path)
