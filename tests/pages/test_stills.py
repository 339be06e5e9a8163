"""Still images of charts: named by what they show, drawn once, and left out where nothing can draw them."""

import re
from pathlib import Path
from typing import Any

import pytest

from cltools.errors import CltoolsError
from pages import stills
from pages.charts import chart_html
from pages.stills import NARROW, WIDE, draw, smaller, still

FIGURE = {"data": [{"type": "bar", "y": [1, 2]}], "layout": {"height": 300}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stills, "KEPT", tmp_path)
    return tmp_path


def kept(figure: dict[str, Any]) -> list[Path]:
    paths = [still(figure, width) for width in (WIDE, NARROW)]
    for path in paths:
        path.write_text("<svg/>", encoding="utf-8")
    return paths


def test_an_image_has_another_name_after_any_change() -> None:
    others = [still({**FIGURE, "data": []}, WIDE), still(FIGURE, NARROW), still({**FIGURE, "layout": {}}, WIDE)]
    assert len({still(FIGURE, WIDE), *others}) == 4 and still(FIGURE, WIDE) == still({**FIGURE}, WIDE)


def test_a_chart_shows_the_images_that_are_kept() -> None:
    assert "<img" not in chart_html(FIGURE, "bars")
    wide, narrow = kept(FIGURE)
    markup = chart_html(FIGURE, "bars")
    found = re.search(r'srcset="([^"]*)"><img src="([^"]*)" alt="" width="(\d+)" height="300" loading="lazy">', markup)
    assert found is not None
    assert found.groups() == (f"../_static/charts/{narrow.name}", f"../_static/charts/{wide.name}", str(WIDE))


def test_elements_of_an_image_share_their_styles() -> None:
    font = "font-family: &quot;Open Sans&quot;;"
    given = f'<svg class="a"><g style=""/><g class="b" style="{font}"/><g style="fill: red;"/><g style="{font}"/></svg>'
    rules = '.s0{font-family: "Open Sans";}.s1{fill: red;}'
    body = '<g style=""/><g class="s0"/><g class="s1"/><g class="s0"/></svg>'
    assert smaller(given) == f"<svg><style>{rules}</style>{body}"


def test_what_is_kept_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept(FIGURE)
    monkeypatch.setattr(stills, "sync_playwright", None)
    draw([FIGURE, FIGURE])


def test_without_a_browser_one_sentence_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stills.shutil, "which", lambda name: str(folder / name))
    monkeypatch.setenv("CLTOOLS_BROWSER", "required")
    with pytest.raises(CltoolsError, match="Install it"):
        draw([FIGURE])
    monkeypatch.delenv("CLTOOLS_BROWSER")
    draw([FIGURE])
    assert "no still images" in capsys.readouterr().out and not any(folder.iterdir())
