"""The page's part of the explorer: one anywidget of plain JavaScript, its files joined in the order of their names.

Joined text, not files: anywidget keeps every instance of a file-backed widget alive.
"""

from pathlib import Path
from typing import Any

import anywidget
import traitlets

HERE = Path(__file__).parent


class Front(anywidget.AnyWidget):
    """Controls, sentence, histogram with its two edges, pictures, and the card of a point.

    Attributes:
        fixed: what never changes: sprite, ids, classes, palettes.
        view: all that is shown, replaced as a whole; its `answered` is the number of the last request it heeds.
        request: what the page asks: `{"n": number, "changes": [[n, name, value], …]}`, each change with its own number,
            so that one asked twice is done once.

    A message `{"name", "text"}` is a file for the page to save.
    """

    _esm = "\n".join(path.read_text() for path in sorted(HERE.glob("*.js")))
    _css = (HERE / "style.css").read_text()
    fixed: Any = traitlets.Dict().tag(sync=True)
    view: Any = traitlets.Dict().tag(sync=True)
    request: Any = traitlets.Dict().tag(sync=True, echo_update=False)
