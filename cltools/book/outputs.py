"""What a cell put out, as HTML: the richest form that lives on a page without a kernel."""

import html
import json
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import nbformat

from cltools.book.execution import PLOTLY, WIDGET
from cltools.book.prose import Prose, picture

DIGITS = 5
"""Of numbers in a figure: finer than a screen can show."""
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PROGRESS = re.compile(r"\[\d+:\d\d")  # "[00:03<00:12, ...]" stands in every line of a tqdm bar
OBSOLETE = ' border="1"'
CLEAR = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": "#888888"}}
"""A figure's ground is the page's, and its grey is legible on light and on dark pages."""


def output_html(output: nbformat.NotebookNode, prose: Prose) -> str:
    """One output; empty where there is nothing to show, as after a progress bar."""
    if output.output_type == "stream":
        return _text(output.text)
    if output.output_type == "error":  # the cell is marked as one that may fail
        return _text(f"{output.ename}: {output.evalue}")
    data, details = output.data, output.metadata
    words = str(data.get("text/plain", ""))
    if PLOTLY in data:
        return figure(data[PLOTLY])
    if "image/png" in data:
        wanted = details.get("image/png", {})
        note = "A still picture; in the notebook its controls move it." if WIDGET in data else ""
        shown = picture(b64decode(data["image/png"]), wanted.get("alt", words), wanted.get("width"))
        return f"<figure>{shown}{f'<figcaption>{note}</figcaption>' if note else ''}</figure>"
    if PROGRESS.search(words):
        return ""
    if WIDGET in data:
        return (
            f'<p class="still">{html.escape(words)} <small>A control of the notebook; here it stands still.</small></p>'
        )
    kinds: dict[str, Callable[[str], str]] = {"text/html": _markup, "text/markdown": prose.convert, "text/plain": _text}
    return next((make(data[kind]) for kind, make in kinds.items() if kind in data), "")


def figure(plot: dict[str, Any]) -> str:
    """A plotly figure: its numbers here, drawn by the one plotly.min.js of the book."""
    layout = {**plot.get("layout", {}), **CLEAR, "autosize": True}
    layout.pop("width", None)
    title = layout.get("title", {}).get("text") or "A figure"
    numbers = json.dumps(rounded({"data": plot["data"], "layout": layout}), separators=(",", ":"))
    numbers = numbers.replace("<", "\\u003c")  # nothing in it ends the script element
    label = html.escape(re.sub("<[^>]+>", "", title))
    place = f'<div class="plotly" role="group" aria-label="{label}"></div>'
    return f'<script type="application/json">{numbers}</script>\n{place}'


def rounded(value: Any) -> Any:
    """The same numbers with as many digits as a figure can show."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def _text(text: str) -> str:
    """Text as a terminal shows it: of a line that was written over only the last, and no progress bars."""
    lines = [line.rsplit("\r", 1)[-1] for line in ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")]
    shown = "\n".join(line for line in lines if not PROGRESS.search(line)).strip("\n")
    return f"<pre>{html.escape(shown)}</pre>" if shown.strip() else ""


def _markup(text: str) -> str:
    """HTML of an output; tables scroll by themselves, and lose an attribute that HTML no longer has."""
    return f'<div class="wide">{text.replace(OBSOLETE, "")}</div>'
