"""The page that stands alone for everybody: names, values, keyboard, targets, sizes, and what axe-core finds."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from alone import COUNTED, Opened, edge, opened, save_page
from playwright.sync_api import Browser

from cltools.explorer.standalone import page_of
from cltools.explorer.state import first_state
from cltools.mining import NearestKeys
from cltools.snapshot import Snapshot

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
TEXTS = """[...document.querySelectorAll("[role=slider], input[type=range]")].filter((e) => e.checkVisibility())
  .map((e) => e.getAttribute("aria-valuetext"))"""
CONTROLS = {"button", "slider", "switch", "radio", "checkbox", "combobox", "textbox", "spinbutton", "application"}
VALUED = {"slider", "combobox"}
VISIBLE = """() => {
  const within = (node) => {
    const { left, right, top, bottom } = node.getBoundingClientRect();
    return top >= 0 && left >= 0 && right <= innerWidth && bottom <= innerHeight && right > left;
  };
  const parts = { anchor: ".anchor-tile", sentence: ".sentence", farthest: ".edge.beyond u", closest: ".edge.closest u",
    bars: ".histogram .bars", picture: ".band .tile", map: ".map" };
  return Object.entries(parts).filter(([, name]) => within(document.querySelector(name))).map(([name]) => name);
}"""
SMALL = """() => [...document.querySelectorAll("button, input, select, textarea")]
  .filter((node) => node.checkVisibility())
  .map((node) => [node.ariaLabel ?? node.textContent, (node.closest("label") ?? node).getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 43.9 || height < 43.9)
  .map(([name, { width, height }]) => [name, width, height])"""


@pytest.fixture(params=[(1000, 540, "light"), (360, 640, "dark")], ids=["wide light", "phone dark"])
def page(request: pytest.FixtureRequest, browser: Browser, digits: Snapshot, file: Path) -> Iterator[Opened]:
    width, height, theme = request.param
    size = {"width": width, "height": height}
    with opened(browser, digits, file, viewport=size, color_scheme=theme, has_touch=width < 500) as found:
        yield found


def views(page: Opened) -> Iterator[str]:
    """Every part of the page, one after the other on the screen."""
    yield "first"
    page.page.get_by_role("switch", name="show true classes").click()
    page.until(COUNTED)
    yield "truth"
    for name in ("More controls", "What is shown here?"):
        page.page.get_by_role("button", name=name).click()
        yield name
        page.page.keyboard.press("Escape")
    page.page.get_by_role("button", name="Compare two rules, A and B").click()
    page.page.get_by_role("radio", name="Ring").click()
    page.drawn()
    yield "two sides"
    page.page.locator(".band .link:visible").first.click()
    yield "all pictures"
    page.page.keyboard.press("Escape")


def controls(page: Opened) -> list[dict[str, Any]]:
    """Chromium's accessibility tree: role, name, value and description of every control."""
    session = page.page.context.new_cdp_session(page.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    found = []
    for node in nodes:
        role = str(node.get("role", {}).get("value", "")).lower()
        if node.get("ignored") or role not in CONTROLS:
            continue
        told = {name: str(node.get(name, {}).get("value", "")) for name in ("name", "value", "description")}
        rest = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
        found.append({"role": role, **told, **rest})
    return found


def test_axe_finds_nothing(page: Opened) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make lint installs it")
    page.page.evaluate(AXE.read_text(encoding="utf-8"))
    for view in views(page):
        found = page.page.evaluate("rules => axe.run(document, { runOnly: rules })", RULES)
        faults = [(fault["id"], [node["html"][:200] for node in fault["nodes"]]) for fault in found["violations"]]
        assert faults == [], view


def test_every_control_has_a_role_a_name_and_a_value_with_its_unit(page: Opened) -> None:
    seen: set[str] = set()
    for view in views(page):
        for control in controls(page):
            assert control["name"].strip(), (view, control)
            if control["role"] in VALUED:
                assert control["value"], (view, control)
            seen.add(control["role"])
        for told in page.page.evaluate(TEXTS):  # which Chromium's tree has, but does not tell
            assert re.fullmatch(
                r"leave out none, .+|leave out the .+\u00a0%, .+ images?.*, .+ −?[\d.]+|epoch \d+", told
            ), told
        if view == "More controls":
            named = {each["name"]: each for each in controls(page)}
            assert (
                "Share of all K keys" in named["drop closest"]["description"]
                and named["drop closest"]["value"] == "0.05"
            )
            assert named["epoch"]["value"] in ("30", "epoch 30", "4") and named["temperature τ"]["description"]
    assert seen >= {"button", "slider", "switch", "radio", "combobox", "textbox", "application"}


def test_the_main_parts_are_on_the_first_screen(page: Opened) -> None:
    wanted = {"anchor", "sentence", "farthest", "closest", "bars", "picture"}
    assert wanted <= {*page.page.evaluate(VISIBLE)}
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if page.page.evaluate("innerWidth > 500"):
        page.page.get_by_role("button", name="Compare two rules, A and B").click()
        page.drawn()
        bottoms = page.page.evaluate(
            "[...document.querySelectorAll('.bars')].map((e) => e.getBoundingClientRect().bottom)"
        )
        assert max(bottoms) < 540 and "picture" in page.page.evaluate(VISIBLE)
        assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [320, 360, 600, 700, 900, 930, 1000, 1250])
def test_the_parts_of_the_head_do_not_overlap(browser: Browser, digits: Snapshot, file: Path, width: int) -> None:
    with opened(browser, digits, file, viewport={"width": width, "height": 640}) as page:
        parts = [page.page.locator(f".head {part}") for part in (".question", ".steps", ".icons", ".bar", ".sentence")]
        boxes = [box for part in parts if (box := part.bounding_box())]
        assert len(boxes) == 5
        for one, two in combinations(boxes, 2):
            across = min(one["x"] + one["width"], two["x"] + two["width"]) - max(one["x"], two["x"])
            down = min(one["y"] + one["height"], two["y"] + two["height"]) - max(one["y"], two["y"])
            assert min(across, down) <= 1, (one, two)


def test_targets_on_a_phone(browser: Browser, digits: Snapshot, file: Path) -> None:
    with opened(browser, digits, file, viewport={"width": 360, "height": 640}, has_touch=True) as page:
        for view in views(page):
            assert page.page.evaluate(SMALL) == [], view
            assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_a_whole_session_by_keyboard(browser: Browser, digits: Snapshot, file: Path) -> None:
    with opened(browser, digits, file) as page:
        keyboard = page.page.keyboard

        def go_to(name: str) -> None:
            """Press Tab until the control of this name has the focus."""
            for _ in range(120):
                keyboard.press("Tab")
                told = page.page.evaluate(
                    "(() => { const e = document.activeElement; return [e.getAttribute('aria-label'), e.textContent,"
                    " e.closest('label')?.textContent, e.dataset?.edge]; })()"
                )
                if any(each and each.startswith(name) for each in told):
                    return
            raise AssertionError(f"{name} is not reached")

        start = page.state
        go_to("next anchor")
        keyboard.press("Enter")
        go_to("Middle band")
        keyboard.press("ArrowRight")
        assert json.loads(page.agrees()["state"])["a"]["negatives"]["rule"] == "RingNegatives"
        go_to("show true classes")
        keyboard.press("Space")
        go_to("closest")
        for key in ("PageDown", "ArrowLeft", "Shift+ArrowRight"):
            keyboard.press(key)
        page.agrees()
        go_to("image ")
        keyboard.press("Enter")
        page.agrees()
        go_to("Map of all images")
        for key in ("ArrowUp", "ArrowLeft", "Enter"):
            keyboard.press(key)
        anchor = json.loads(page.agrees()["state"])["anchor"]
        assert anchor != start.anchor
        page.page.locator("body").press("Shift+Tab")
        for _ in range(120):
            if page.page.evaluate("document.activeElement.getAttribute('aria-label') === 'More controls'"):
                break
            keyboard.press("Shift+Tab")
        keyboard.press("Enter")
        assert page.page.evaluate("document.activeElement.tagName") == "SELECT"
        go_to("temperature τ")
        keyboard.press("ArrowDown")
        assert page.page.evaluate("document.activeElement.tagName") == "SELECT", "the focus stays where it was"
        assert page.state.a.temperature > start.a.temperature
        keyboard.press("Escape")
        assert page.page.evaluate("document.activeElement.getAttribute('aria-label')") == "More controls"
        for _ in range(20):
            keyboard.press("Control+z")
        page.agrees()
        assert page.state == start


def test_motion_and_print(browser: Browser, digits: Snapshot, file: Path) -> None:
    with opened(browser, digits, file, reduced_motion="reduce") as page:
        page.page.get_by_role("switch", name="show true classes").click()
        moving = (
            "[...document.querySelectorAll('*')].filter((e) => getComputedStyle(e).transitionDuration !== '0s').length"
        )
        assert page.page.evaluate(moving) == 0
        page.page.emulate_media(media="print", color_scheme="dark")
        page.drawn()
        shown = page.page.evaluate("[...document.querySelectorAll('.icons, .steps')].some((e) => e.checkVisibility())")
        ground = page.page.evaluate("getComputedStyle(document.querySelector('main')).backgroundColor")
        assert not shown and ground == "rgb(255, 255, 255)"
        assert page.page.evaluate("getComputedStyle(document.querySelector('.band .tile')).printColorAdjust") == "exact"


def test_snapshots_at_the_edge_open(browser: Browser, tmp_path: Path) -> None:
    from snapshots import made

    for name, snapshot in {"bare": made(3, groups=3, labelled=False, epochs=(5,)), "pair": made(2, groups=1)}.items():
        state = replace(first_state(snapshot), truth=False)
        with opened(browser, snapshot, save_page(tmp_path / f"{name}.html", page_of([snapshot], state))) as page:
            page.agrees()
            for key in ("Home", "End", "PageUp", "ArrowLeft"):
                for which in ("closest", "beyond"):
                    edge(page.page, which).press(key)
                    page.agrees()
            switch = page.page.get_by_role("switch", name="show true classes")
            assert switch.count() == snapshot.labelled


def test_a_finger_moves_an_edge_finely(browser: Browser, digits: Snapshot, file: Path) -> None:
    with opened(browser, digits, file, viewport={"width": 360, "height": 640}, has_touch=True) as page:
        moved = {}
        session = page.page.context.new_cdp_session(page.page)
        for down in (0, 200):
            page.open()
            box = edge(page.page, "closest").bounding_box()
            assert box is not None
            x, y = box["x"] + box["width"] / 2, box["y"] + 40
            for kind, to in (
                ("touchStart", (0, 0)),
                ("touchMove", (0, down)),
                ("touchMove", (-60, down)),
                ("touchEnd", ()),
            ):
                points = [{"x": x + to[0], "y": y + to[1]}] if to else []
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.agrees()
            after = edge(page.page, "closest").bounding_box()
            assert after is not None
            moved[down] = box["x"] - after["x"]
        assert abs(moved[0] - 60) < 8 and abs(moved[200] - 12) < 8, moved


def test_all_of_a_group_can_be_asked_for_where_columns_are_narrow(
    browser: Browser, digits: Snapshot, file: Path
) -> None:
    state = first_state(digits)
    mined = replace(state, a=replace(state.a, positives=NearestKeys(k=40, start=0.0, ramp=0.0)))
    for width in (768, 1000, 1100):
        with opened(browser, digits, file, viewport={"width": width, "height": 700}) as page:
            page.set(mined)
            page.drawn()
            cut = page.page.evaluate(
                "[...document.querySelectorAll('.band .link')].filter((e) => e.scrollWidth > e.clientWidth"
                " || e.getBoundingClientRect().bottom > e.closest('header').getBoundingClientRect().bottom).length"
            )
            assert page.page.get_by_role("button", name="show all 40").is_visible() and cut == 0, width


def test_two_fingers_zoom_the_map(browser: Browser, digits: Snapshot, file: Path) -> None:
    with opened(browser, digits, file, viewport={"width": 360, "height": 640}, has_touch=True) as page:
        canvas = page.page.locator(".map canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        places = "(() => { const [a, b] = [0, 700].map(cltools.page.map.pixelOf);"
        apart = f"{places} return Math.hypot(a[0] - b[0], a[1] - b[1]); }})()"
        before, anchor = page.page.evaluate(apart), page.state.anchor
        session = page.page.context.new_cdp_session(page.page)
        for kind, spread in (("touchStart", 20), ("touchMove", 30), ("touchMove", 40), ("touchEnd", 0)):
            points = [{"x": x - spread, "y": y, "id": 0}, {"x": x + spread, "y": y, "id": 1}] if spread else []
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.drawn()
        assert 1.7 < page.page.evaluate(apart) / before < 2.3 and page.state.anchor == anchor
