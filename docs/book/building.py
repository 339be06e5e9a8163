"""`make book`: the pages made beside the former book, weighed, and only then put in its place."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import tyro
from tqdm.auto import tqdm

from book.execution import executed
from book.pages import GENERATOR, Page, front_page, notebook_page, rendered, style_sheet
from cltools.errors import CltoolsError
from cltools.files import CARRIED
from cltools.lab import notebooks

PAGE, BOOK = 2.0, 20.0
"""Megabytes of a page, which a phone has to lay out, and of the whole folder, which is passed on by mail or stick."""


def make_book(out: tyro.conf.Positional[Path] = Path("book")) -> str:
    """Execute all notebooks, and write them as HTML pages that need no network; says in a line what was made.

    Args:
        out: The folder; a book that is there is replaced.

    Raises:
        ValueError: a cell failed, a page is too large, or the folder holds something else; a former book stays.
    """
    paths = [*notebooks().values()]
    began = time.monotonic()
    size = build(out, paths, CARRIED / "README.md")
    minutes = (time.monotonic() - began) / 60
    return f"{out / 'index.html'}: {len(paths)} notebooks, {size:.1f} MB, made in {minutes:.1f} minutes"


def build(
    out: Path, paths: Sequence[Path], readme: Path, run: Callable[[Path], nbformat.NotebookNode] = executed
) -> float:
    """Make a book, and give its size in megabytes.

    Args:
        out: the folder.
        paths: the notebooks in their order.
        readme: what the first page is made from.
        run: gives the executed notebook of a path.

    Raises:
        ValueError: a cell failed, a page is too large, or the folder holds something else; a former book stays.
    """
    _refuse_what_is_no_book(out)
    addresses = {path.resolve(): f"{path.stem}.html" for path in paths}
    pages = [front_page(readme, addresses)]
    for path in (bar := tqdm(paths, desc="book", unit="notebook")):
        bar.set_postfix_str(path.stem)
        pages.append(notebook_page(run(path), path, addresses))
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write(part, pages)
        size = _weighed(part)
        shutil.rmtree(out, ignore_errors=True)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return size


def _refuse_what_is_no_book(out: Path) -> None:
    index = out / "index.html"
    ours = index.is_file() and f'name="generator" content="{GENERATOR} ' in index.read_text(encoding="utf-8")
    if out.exists() and not ours and not (out.is_dir() and not any(out.iterdir())):
        raise CltoolsError(f"{out} is there and is no book of this course. Name a new folder, or move it away.")


def _write(folder: Path, pages: Sequence[Page]) -> None:
    for page, before, after in zip(pages, [None, *pages], [*pages[1:], None], strict=False):
        (folder / page.address).write_text(rendered(page, before, after), encoding="utf-8")
    (folder / "style.css").write_text(style_sheet(), encoding="utf-8")


def _weighed(folder: Path) -> float:
    """Megabytes of a book.

    Raises:
        ValueError: it, or a page of it, is too large.
    """
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.iterdir())}
    large = [f"{name} {size:.1f} MB" for name, size in sizes.items() if name.endswith(".html") and size > PAGE]
    if large:
        raise CltoolsError(
            f"A page of the book may have {PAGE:g} MB, but there are: {', '.join(large)}. Show fewer or smaller "
            "pictures in these notebooks. A book that was there before is as it was."
        )
    if (total := sum(sizes.values())) > BOOK:
        listed = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
        raise CltoolsError(
            f"The book may have {BOOK:g} MB, but it would have {total:.1f}: {listed}. Show fewer or smaller pictures. "
            "A book that was there before is as it was."
        )
    return total
