"""The style sheet of charts reaches a notebook's page once, in the output of the cell that imports the course."""

from typing import Any

from IPython import get_ipython
from IPython.display import display

from course.charts import CSS


class StyleSheet:
    """The style sheet as an output, which hides itself."""

    MARK = '<style class="course-charts">'

    def __repr__(self) -> str:
        return ""

    def _repr_html_(self) -> str:
        return f"{self.MARK}{CSS}</style>"


def style_page() -> None:
    """Put the style sheet into the output of the current cell, now and whenever that cell runs again."""
    shell: Any = get_ipython()
    if not hasattr(shell, "kernel"):
        return
    cell = shell.get_parent().get("metadata", {}).get("cellId")

    def again(info: Any) -> None:
        if info.cell_id is not None and info.cell_id == cell:
            display(StyleSheet())  # type: ignore[no-untyped-call]

    shell.events.register("pre_run_cell", again)
    display(StyleSheet())  # type: ignore[no-untyped-call]
