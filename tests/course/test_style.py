"""The style sheet of charts reaches a page once, and again when its cell runs again."""

from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from course import style
from course.charts import CSS


class Info:
    def __init__(self, cell_id: str | None) -> None:
        self.cell_id = cell_id


@pytest.mark.parametrize(("cell", "times"), [("a", 2), (None, 1)])
def test_once_per_page(monkeypatch: pytest.MonkeyPatch, cell: str | None, times: int) -> None:
    shell: Any = InteractiveShell()
    shell.kernel, shell.get_parent = object(), lambda: {"metadata": {"cellId": cell}}
    shown: list[Any] = []
    monkeypatch.setattr(style, "get_ipython", lambda: shell)
    monkeypatch.setattr(style, "display", shown.append)
    style.style_page()
    for ran in ("b", "a", None):
        shell.events.trigger("pre_run_cell", Info(ran))
    assert len(shown) == times
    assert shown[0]._repr_html_() == f'<style class="course-charts">{CSS}</style>' and repr(shown[0]) == ""


@pytest.mark.parametrize("shell", [None, object()], ids=["Python", "a terminal"])
def test_where_there_is_no_page_nothing_is_shown(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    monkeypatch.setattr(style, "get_ipython", lambda: shell)
    monkeypatch.setattr(style, "display", lambda _: pytest.fail("shown"))
    style.style_page()
