"""Which explorer a notebook cell shows: one made when the cell is run again takes the place of the one before."""

from typing import Any, Protocol

Cell = str
Run = str


class Closable(Protocol):
    """What can be taken off a page."""

    def close(self) -> None:
        """Take it off and free its widgets."""


_shown: dict[Cell, tuple[Run, list[Closable]]] = {}


def replace_in_cell(explorer: Closable) -> None:
    """Close what an earlier run of the running cell has shown; outside of notebooks nothing happens.

    Two explorers of one run of a cell stand beside each other.
    """
    cell, run = _running()
    if cell is None:
        return
    before, explorers = _shown.get(cell, (run, []))
    if before != run:
        for old in explorers:
            old.close()
        explorers = []
    _shown[cell] = run, [*explorers, explorer]


def _running() -> tuple[Cell | None, Run]:
    """Id of the cell that runs, and of this run of it; None where no notebook says so."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None, ""
    parent: dict[str, Any] = kernel.get_parent("shell")
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
