"""What a cell put out, as HTML: the richest form that lives on a page without a kernel."""

import html
import re
from base64 import b64decode
from collections.abc import Callable

import nbformat

from book.prose import Prose, picture

WIDGET = "application/vnd.jupyter.widget-view+json"
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
PROGRESS = re.compile(r"\[\d+:\d\d")  # "[00:03<00:12, ...]" stands in every line of a tqdm bar
OBSOLETE = ' border="1"'


def output_html(output: nbformat.NotebookNode, prose: Prose) -> str:
    """One output; empty where there is nothing to show, as after a progress bar."""
    if output.output_type == "stream":
        return _text(output.text)
    if output.output_type == "error":  # the cell is marked as one that may fail
        return _text(f"{output.ename}: {output.evalue}")
    data, details = output.data, output.metadata
    words = str(data.get("text/plain", ""))
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


def _text(text: str) -> str:
    """Text as a terminal shows it: of a line that was written over only the last, and no progress bars."""
    lines = [line.rsplit("\r", 1)[-1] for line in ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")]
    shown = "\n".join(line for line in lines if not PROGRESS.search(line)).strip("\n")
    return f"<pre>{html.escape(shown)}</pre>" if shown.strip() else ""


def _markup(text: str) -> str:
    """HTML of an output; tables scroll by themselves, and lose an attribute that HTML no longer has."""
    return f'<div class="wide">{text.replace(OBSOLETE, "")}</div>'
