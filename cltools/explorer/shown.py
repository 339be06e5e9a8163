"""Which explorer a notebook cell shows: one made when the cell is run again takes the place of the one before."""

from collections.abc import Callable
from typing import Any

Close = Callable[[], None]

_shown: dict[str, tuple[str, list[Close]]] = {}
"""For each cell, by its id: which run of it shows something, and how that is closed."""


def replace_in_cell(close: Close) -> None:
    """Close what an earlier run of the running cell has shown, and remember how to close what this one shows.

    Two explorers of one run of a cell stand beside each other. Outside of notebooks nothing happens.
    """
    cell, run = _running()
    if cell is None:
        return
    before, shown = _shown.get(cell, (run, []))
    if before != run:
        for close_old in shown:
            close_old()
        shown = []
    _shown[cell] = run, [*shown, close]


def _running() -> tuple[str | None, str]:
    """Id of the cell that runs, and of this run of it; None where no notebook says so."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None, ""
    parent: dict[str, Any] = kernel.get_parent("shell")
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
