"""Executed notebooks as the pages of the course, and the files that the site's pages share."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from cltools.errors import CltoolsError
from cltools.explorer.session import Session
from cltools.explorer.standalone import HERE as FRONT
from cltools.snapshot import load_snapshot
from course import running
from course.style import StyleSheet
from pages import asking, charts, stills
from pages.executed import SNAPSHOTS, executed
from pages.explorers import embedded, site_script
from pages.formulas import with_formulas

HERE = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"\[\d+:\d\d")  # "[00:03<00:12, ...]" stands in every line of a tqdm bar
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
STILL = re.compile(r'"\.\./_static/charts/(\w+\.svg)"')
SHOWN = re.compile(r'data-explorer="\{&quot;snapshots&quot;: \[([^\]]*)\]')
BLOCK = re.compile(r"^<details>.*?</details>$", re.DOTALL | re.MULTILINE)
UNSOLVED = "Not solved yet"
"""How the check of an exercise begins that has no answer."""
ENTRY = "shapes-moco"
"""The snapshot that the entry page shows."""


def register(app: Any) -> None:
    """Connect to the steps of Sphinx's build."""
    app.connect("env-before-read-docs", _draw)
    app.connect("source-read", _read)
    app.connect("builder-inited", _share)
    app.connect("build-finished", _copy)


def _draw(app: Any, environment: Any, names: list[str]) -> None:
    """Draw the charts of the notebooks that will be read, in one browser."""
    notebooks = [executed(path) for name in names if (path := _notebook(app, name))]
    outputs = [output for notebook in notebooks for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    stills.draw([each[charts.KIND] for each in data if charts.KIND in each])


def _notebook(app: Any, name: str) -> Path | None:
    """Return the notebook of the course that a page shows."""
    path = Path(app.srcdir) / f"{name}.ipynb"
    return path if path.parent == running.NOTEBOOKS else None


def _read(app: Any, name: str, source: list[str]) -> None:
    """Put a notebook's outputs in place of the notebook that is committed without them."""
    if path := _notebook(app, name):
        notebook = for_site(executed(path), int(path.stem[:2]))
        source[0] = nbformat.writes(notebook)  # type: ignore[no-untyped-call]


def for_site(notebook: nbformat.NotebookNode, number: int) -> nbformat.NotebookNode:
    """Return an executed notebook, the course's of this number, as a page shows it without a kernel."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = BLOCK.sub(lambda found: with_formulas(found[0]), cell.source)
        elif cell.cell_type == "code":
            cell.outputs = [shown for output in cell.outputs for shown in _shown(output, number)]
    return notebook


def _shown(output: nbformat.NotebookNode, number: int) -> Iterator[nbformat.NotebookNode]:
    """Yield an output as a page shows it; nothing of a progress bar."""
    if output.output_type == "stream":
        if output.text.startswith(UNSOLVED):
            data = {"text/html": asking.in_notebook(number)}
            yield nbformat.v4.new_output("display_data", data)  # type: ignore[no-untyped-call]
        elif text := printed(output.text):
            yield nbformat.v4.new_output("stream", name=output.name, text=text)  # type: ignore[no-untyped-call]
        return
    if output.output_type == "error":  # the cell is marked as one that may fail
        yield output
        return
    data = output.data
    if StyleSheet.MARK in data.get("text/html", ""):  # pages link the sheet
        return
    if PROGRESS.search(str(data.get("text/plain", ""))):
        return
    if charts.KIND in data:
        output.data = {"text/html": charts.chart_html(data[charts.KIND], data.get("text/plain", ""))}
    elif WIDGET in data and "text/html" not in data:
        output.data = {"text/html": asking.still(str(data.get("text/plain", "")))}
    else:
        data.pop(WIDGET, None)
    yield output


def printed(text: str) -> str:
    """Return text as a terminal shows it: of a line that was written over only the last, and no progress bars."""
    lines = [line.rsplit("\r", 1)[-1] for line in ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")]
    shown = "\n".join(line for line in lines if not PROGRESS.search(line)).strip("\n")
    return f"{shown}\n" if shown.strip() else ""


def _share(app: Any) -> None:
    """Write the scripts and styles that pages share, where Sphinx copies static files from."""
    made = Path(app.doctreedir) / "shared"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    (made / "cltools.js").write_text(site_script(), encoding="utf-8")
    for source in (FRONT / "page.css", running.NOTEBOOKS / "course" / "charts.css", *HERE.glob("static/*")):
        if source.is_file():
            shutil.copy(source, made / ("explorer.css" if source.name == "page.css" else source.name))
    if not stills.LIBRARY.is_file():
        remedy = "run `make docs`, which installs it"
        raise CltoolsError(f"{stills.LIBRARY} is missing, with which charts are drawn: {remedy}.")
    shutil.copy(stills.LIBRARY, made)
    app.config.html_static_path.append(str(made))
    session = Session(load_snapshot(ENTRY)).set(rule="RankBand", positive_rule="AugmentedView")
    app.config.html_context["entry_explorer"] = embedded(session, ["pictures"], SNAPSHOTS)


def _copy(app: Any, error: Exception | None) -> None:
    """Copy the snapshots and the still images of charts that pages show, and remove those of pages that were."""
    if error is not None or app.builder.format != "html":
        return
    shown: set[Path] = set()
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        names = {name for listed in SHOWN.findall(text) for name in re.findall(r"&quot;(\w+)&quot;", listed)}
        shown |= {SNAPSHOTS / f"{name}.js" for name in names} | {stills.KEPT / name for name in STILL.findall(text)}
    for kept in (SNAPSHOTS, stills.KEPT):
        to = Path(app.outdir) / "_static" / kept.name
        to.mkdir(parents=True, exist_ok=True)
        for old in (*kept.glob("*"), *to.glob("*")):
            if kept / old.name not in shown:
                old.unlink()
        for path in shown:
            if path.parent == kept:
                shutil.copy(path, to)
