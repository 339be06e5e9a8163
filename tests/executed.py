"""Executed notebooks, kept under `.cache/` so that pages are made from what the tests of the notebooks have run."""

import hashlib
from functools import cache
from pathlib import Path

import nbformat

from book.execution import executed as run_apart

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".cache" / "executed"


@cache
def _sources() -> bytes:
    """A digest of all code that a notebook can import, and of the snapshots and records that it reads."""
    digest = hashlib.sha256()
    files = [*ROOT.glob("cltools/**/*.*"), *ROOT.glob("notebooks/course/**/*.py"), *ROOT.glob("data/*/*.*")]
    for path in sorted(path for path in files if path.is_file() and path.suffix != ".pyc"):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.digest()


def place(path: Path) -> Path:
    """Where a notebook is kept; another name after any change that may change its outputs."""
    return FOLDER / f"{path.stem}-{hashlib.sha256(_sources() + path.read_bytes()).hexdigest()[:16]}.ipynb"


def keep(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Keep what a notebook gave, in place of what it gave before."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, place(path))


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs, executed only where no test has done so."""
    kept = place(path)
    return nbformat.read(kept, as_version=4) if kept.is_file() else run_apart(path)
