"""Still images of charts, for readers without scripts and for print: drawn once by Chromium and the site's plotly.

Playwright draws them, not kaleido, which would add four packages, and a second plotly beside the one that pages load.
"""

import html
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Playwright, sync_playwright

from cltools.errors import CltoolsError
from cltools.files import write_text
from cltools.snapshot.maps import content_key
from pages.executed import ROOT

KEPT = ROOT / ".cache" / "charts"
LIBRARY = ROOT / "node_modules" / "plotly.js-cartesian-dist-min" / "plotly-cartesian.min.js"
WIDE, NARROW = 680, 320
"""Widths of a chart in a window of 1280 pixels and in that of a phone, in pixels."""
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
PAPER = {"paper_bgcolor": "#ffffff", "font": {"color": "#1f2328"}}
"""A still has its own ground, because an image knows nothing of the page's colours."""
DRAW = "([figure, size]) => Plotly.toImage(figure, { ...size, format: 'svg', imageDataOnly: true })"


def height_of(figure: Mapping[str, Any]) -> int:
    """Return the height of a chart in pixels."""
    return int(figure.get("layout", {}).get("height") or 360)


def still(figure: Mapping[str, Any], width: int) -> Path:
    """Return where the still image of a figure is kept: another file after any change that may change the image."""
    return KEPT / f"{content_key(json.dumps(figure), width, *_drawn_by())[:16]}.svg"


def draw(figures: Iterable[Mapping[str, Any]]) -> None:
    """Draw the still images that are not kept yet; without a browser, say so.

    Raises:
        ValueError: there is no browser, and CLTOOLS_BROWSER=required says that one must be there.
    """
    wanted = {still(figure, width): (figure, width) for figure in figures for width in (WIDE, NARROW)}
    missing = {path: each for path, each in wanted.items() if not path.is_file()}
    if not missing:
        return
    with sync_playwright() as playwright:
        browser = _browser(playwright)
        if browser is None:
            why = "No Chromium could be started, so charts have no still images."
            if os.environ.get("CLTOOLS_BROWSER") == "required":
                raise CltoolsError(f"{why} Install it: apt install chromium.")
            print(why)
            return
        page = browser.new_page()
        page.add_script_tag(path=LIBRARY)
        KEPT.mkdir(parents=True, exist_ok=True)
        for path, (figure, width) in missing.items():
            plain = {"data": figure["data"], "layout": {**figure.get("layout", {}), **PAPER}}
            drawn = page.evaluate(DRAW, [plain, {"width": width, "height": height_of(figure)}])
            write_text(path, smaller(drawn))
        browser.close()


def smaller(svg: str) -> str:
    """Return an image whose elements share their styles by class: half the size, if it has thousands of points."""
    names: dict[str, int] = {}

    def named(found: re.Match[str]) -> str:
        return f' class="s{names.setdefault(found[1], len(names))}"'

    body = re.sub(r' style="([^"]+)"', named, re.sub(r' class="[^"]*"', "", svg))
    rules = "".join(f".s{name}{{{html.unescape(style)}}}" for style, name in names.items())
    return body.replace(">", f"><style>{rules}</style>", 1)


def _browser(playwright: Playwright) -> Any:
    path = next(filter(None, map(shutil.which, SYSTEM)), None)
    try:
        return playwright.chromium.launch(executable_path=path, args=FLAGS)
    except Error:
        return None


@cache
def _drawn_by() -> list[str]:
    """Return this code, and the file that names the library's version and digest."""
    return [path.read_text(encoding="utf-8") for path in (Path(__file__), ROOT / "package-lock.json")]
