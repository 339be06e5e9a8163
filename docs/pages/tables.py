"""Tables of pages: no head without words, and long names in code that may be broken into lines."""

from typing import Any

from docutils import nodes

LONG = 32
"""Characters from which code in a cell may be broken, so that one name does not make its table twice as wide."""


def register(app: Any) -> None:
    """Connect to the steps of Sphinx's build."""
    app.connect("doctree-read", _mended)


def _mended(app: Any, document: nodes.document) -> None:
    """Remove the empty heads that Markdown requires of every table, and mark long code in cells."""
    for head in [*document.findall(nodes.thead)]:
        if not head.astext().strip():
            head.parent.remove(head)
    for cell in document.findall(nodes.entry):
        for code in cell.findall(nodes.literal):
            if len(code.astext()) >= LONG:
                code["classes"].append("cl-long")
