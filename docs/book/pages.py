"""A notebook, or the front of the README, as one page of the book."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from book.outputs import output_html
from book.prose import Prose
from cltools.errors import CltoolsError
from cltools.names import DISTRIBUTION

HERE = Path(__file__).parent
GENERATOR = "cltools"
STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
CONTENTS = re.compile(r"^(?:\[[^\]\n]*\]\(#[^)\n]*\)[ ·]*\n?)+$", re.MULTILINE)
"""Links of the README to its own sections, most of which a book does not hold."""
CODE_STYLES = {"light": "friendly", "dark": "github-dark"}


@dataclass(frozen=True)
class Page:
    """A page before it is put between its neighbours.

    Attributes:
        address: its file in the book.
        title: its first heading.
        body: HTML.
        headings: of level 2, as (id, HTML).
        styles: elements that outputs brought along; HTML has them in the head.
    """

    address: str
    title: str
    body: str
    headings: tuple[tuple[str, str], ...]
    styles: tuple[str, ...] = ()


def notebook_page(notebook: nbformat.NotebookNode, source: Path, pages: Mapping[Path, str]) -> Page:
    """The page of an executed notebook.

    Args:
        notebook: with outputs.
        source: its file.
        pages: address in the book of each file that has a page.

    Raises:
        ValueError: a formula cannot be converted, or a picture is not there.
    """
    prose = Prose(source, pages)
    body = "\n".join(_cell(cell, prose) for cell in notebook.cells)
    styles = dict.fromkeys(re.sub("<style[^>]*>", "<style>", style) for style in STYLE.findall(body))
    title, headings = prose.title or source.stem, tuple(prose.headings)
    return Page(pages[source.resolve()], title, STYLE.sub("", body), headings, tuple(styles))


def front_page(readme: Path, pages: Mapping[Path, str]) -> Page:
    """What the README says before its first section, and its section on the notebooks.

    Raises:
        ValueError: it has no section `## Notebooks`; a formula cannot be converted, or a picture is not there.
    """
    front, *sections = re.split(r"^(?=## )", readme.read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = next((section for section in sections if section.startswith("## Notebooks\n")), None)
    if listed is None:
        raise CltoolsError(f"{readme} has no section “## Notebooks”, from which the book's first page is made.")
    prose = Prose(readme, pages)
    body = prose.convert(CONTENTS.sub("", front) + listed.partition("\n### ")[0]) + prose.convert(
        "Figures stand still here. To move them, open the notebooks: `make lab` in a clone of the repository."
    )
    return Page("index.html", prose.title, body, tuple(prose.headings))


def rendered(page: Page, before: Page | None, after: Page | None) -> str:
    """The whole HTML of a page between its neighbours."""
    environment = Environment(
        loader=FileSystemLoader(HERE), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    generator, home = f"{GENERATOR} {version(DISTRIBUTION)}", page.address == "index.html"
    names: dict[str, Any] = {**vars(page), "before": before, "after": after}
    return environment.get_template("page.html").render(names, generator=generator, home=home)


def style_sheet() -> str:
    """The book's style, with colours of code for light and for dark."""
    light, dark = (HtmlFormatter(style=CODE_STYLES[ground]).get_style_defs(".highlight") for ground in CODE_STYLES)
    own = (HERE / "style.css").read_text(encoding="utf-8")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{own}"


def _cell(cell: nbformat.NotebookNode, prose: Prose) -> str:
    if cell.cell_type == "markdown":
        return prose.convert(cell.source)
    if cell.cell_type != "code" or not cell.source.strip():
        return ""
    shown = [output_html(output, prose) for output in cell.outputs]
    code: str = highlight(cell.source, PythonLexer(), HtmlFormatter())
    return code + "".join(f'<div class="output">{each}</div>\n' for each in shown if each)
