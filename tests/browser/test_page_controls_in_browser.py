"""Controls of the page that stands alone under unusual hands: edges that meet, drags taken back, lost workers."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from alone import COUNTED, Opened, edge, opened
from playwright.sync_api import Browser, FloatRect, Page

from cltools.explorer.judgement import judge
from cltools.explorer.session import Session
from cltools.mining import AllNegatives, AugmentedView, Band, MarginBand, NearestKeys
from cltools.snapshot import Snapshot

pytestmark = pytest.mark.browser


def drag(page: Page, box: FloatRect, x: float) -> None:
    """Press where the box's grip is, and move to another place without letting go."""
    at = box["x"] + box["width"] / 2, box["y"] + 45
    page.mouse.move(*at)
    page.mouse.down()
    page.mouse.move(x, at[1], steps=4)


def box_of(page: Opened, name: str) -> FloatRect:
    found = edge(page.page, name).bounding_box()
    assert found is not None
    return found


def test_edges_that_meet_come_apart_again(page: Opened) -> None:
    page.page.get_by_role("radio", name="Keep all").click()
    page.drawn()
    for name in ("closest", "beyond"):  # the right edge is at the right end
        start, meet = box_of(page, "beyond"), box_of(page, "closest")["x"] + 12
        drag(page.page, start, meet)
        page.page.mouse.up()
        page.drawn()
        before = json.loads(page.agrees()["state"])["a"]["negatives"]
        assert before["keep_within"] - before["drop_closest"] < 0.01
        drag(page.page, box_of(page, name), meet - 200)
        page.page.mouse.up()
        after = json.loads(page.agrees()["state"])["a"]["negatives"]
        assert after["keep_within"] > 0.05 and after["drop_closest"] == before["drop_closest"]
    drag(page.page, box_of(page, "beyond"), meet)
    page.page.mouse.up()
    page.drawn()


def test_a_drag_is_taken_back_by_escape_and_by_undo(page: Opened) -> None:
    first = page.state
    undo = page.page.get_by_role("button", name="Undo")
    for key in ("Escape", "Control+z"):
        box = box_of(page, "closest")
        drag(page.page, box, box["x"] - 150)
        assert page.state != first
        page.page.keyboard.press(key)
        page.page.mouse.move(box["x"] - 200, box["y"] + 45)
        page.page.mouse.up()
        page.agrees()
        assert page.state == first and undo.is_disabled()
    box = box_of(page, "closest")
    drag(page.page, box, box["x"] - 150)
    page.page.evaluate("document.querySelector('[aria-label=Undo]').click()")  # with another finger
    assert page.state == first
    page.page.mouse.up()
    page.agrees()
    assert undo.is_disabled() and page.page.get_by_role("button", name="Redo").is_disabled()


WRITTEN = """() => {
  const written = [];
  const fill = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    if (this.canvas.matches(".bars")) written.push([text, x, y, this.measureText(text).width, this.textAlign]);
    return fill.call(this, text, x, y);
  };
  cltools.page.set(cltools.page.state());
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
    CanvasRenderingContext2D.prototype.fillText = fill;
    done(written);
  })));
}"""


def test_numbers_at_the_axis(page: Opened) -> None:
    page.page.get_by_role("radio", name="Ring").click()
    page.drawn()
    at_edge = page.page.locator(".flag.closest small").first.inner_text()
    keys, mined = (int(each) for each in re.findall(r"\d+", at_edge.replace(" mined", "") + " 0")[:2])
    judged = Session(page.snapshot, page.state.to_json()).judged("A")
    assert keys - mined == int((judged.band == Band.HARD).sum()) and mined < int((judged.band == Band.MINED).sum())

    from_far = np.argsort(judged.score, kind="stable")
    from_far = from_far[judged.band[from_far] != Band.OWN]
    easy = int((judged.band == Band.EASY).sum())
    plain = replace(page.state.a, positives=AugmentedView(), negatives=AllNegatives())
    force = judge(judged.similarities, plain, "sep").force[from_far]
    ends = [0, easy, len(from_far) - keys, len(from_far)]
    want = [100 * force[a:b].sum() for a, b in pairwise(ends)]
    found = [
        float(text[:-2]) for text, *_ in page.page.evaluate(WRITTEN) if text.endswith("\u00a0%") and text[0] != "<"
    ]
    assert found == pytest.approx([each for each in want if each >= 0.05], abs=0.06)

    page.set(replace(page.state, a=replace(page.state.a, positives=NearestKeys(k=60).at(1.0))))
    stars = {x for text, x, *_ in page.page.evaluate(WRITTEN) if text == "★"}
    assert len(stars) >= 5


@pytest.mark.parametrize("width", [360, 1100])
def test_words_of_the_axis_do_not_overlap(browser: Browser, digits: Snapshot, file: Path, width: int) -> None:
    with opened(browser, digits, file, viewport={"width": width, "height": 700}) as page:
        for preset in ("Keep all", "Middle band", "Ring", "Closest tenth"):
            page.page.get_by_role("radio", name=preset).click()
            page.drawn()
            words = page.page.evaluate(WRITTEN)
            below = next(y for text, _, y, *_ in words if re.fullmatch(r"−?\d\.\d+", text))
            spans = sorted((x - w / 2, x + w / 2) for _, x, y, w, _ in words if y == below)
            left = [each["x"] for each in (box_of(page, name) for name in ("closest", "beyond"))]
            bars = page.page.locator(".bars").first.bounding_box()
            assert bars is not None and len(spans) >= 2
            assert all(one[1] < two[0] for one, two in pairwise(spans))
            half = 22 if width == 360 else 16
            assert not any(a < x + half - bars["x"] < b for x in left for a, b in spans)


def test_marks_are_those_of_the_side_that_is_shown(page: Opened) -> None:
    first = page.state
    other = replace(first.a, epoch=page.snapshot.epochs[1])
    page.set(replace(first, b=other, active="B", doubtful=True, map=page.snapshot.map_names[0]))
    found = page.page.evaluate("cltools.page.scene().misplaced")
    assert found == np.flatnonzero(np.rint(100 * page.snapshot.kept[0, 1]) < 20).tolist() and found
    page.set(replace(first, truth=True))
    page.drawn()
    labels = dict(zip(page.snapshot.ids.tolist(), page.snapshot.labels.tolist(), strict=True))
    for tile in page.page.locator("[data-side=A] .border .tile").all():
        name = tile.get_attribute("aria-label") or ""
        same = labels[int(name.split()[1].strip(","))] == labels[first.anchor]
        assert ("same class" in name) == same == ("same" in (tile.get_attribute("class") or "").split())


def test_as_many_by_chance_are_as_many(page: Opened) -> None:
    for preset in ("Middle band", "Ring"):
        page.page.get_by_role("radio", name=preset).click()
        kept = page.page.evaluate("cltools.page.scene().a.summary.keys[2]")
        for _ in range(2):
            page.page.get_by_role("radio", name="As many by chance").click()
            page.agrees()
            assert page.page.evaluate("cltools.page.scene().a.summary.keys[2]") == kept
    page.page.get_by_role("button", name="next anchor").click()
    chosen = page.state
    page.page.get_by_role("radio", name="As many by chance").click()
    assert page.state == chosen


FAILING = """window.Worker = class {
  constructor() { setTimeout(() => this.onerror()); }
  postMessage() {}
  terminate() { window.ended = true; }
}"""


def test_the_page_counts_where_the_worker_fails(page: Opened) -> None:
    page.page.add_init_script(FAILING)
    page.open()
    page.page.get_by_role("switch", name="show true classes").click()
    page.until(COUNTED)
    page.page.evaluate("cltools.page.close()")
    assert page.page.evaluate("ended")


def test_an_address_that_is_changed_is_shown(page: Opened) -> None:
    state = replace(page.state, anchor=int(page.snapshot.ids[7]))
    page.page.evaluate("line => { location.hash = encodeURIComponent(line); }", state.to_json())
    page.until(f"cltools.page.state().anchor === {state.anchor}")
    assert page.agrees() and page.page.locator(".alert").is_hidden()
    page.page.evaluate("location.hash = 'nonsense'")
    page.page.get_by_text("This address does not match any view of this page.").wait_for()
    assert page.state == state
    page.page.get_by_role("button", name="next anchor").click()
    assert page.page.locator(".alert").is_hidden()


def test_the_card_tells_of_what_is_under_the_pointer(page: Opened) -> None:
    card = page.page.locator(".card")
    tile = page.page.locator(".band-2 .tile").nth(2)
    tile.hover()
    assert card.is_visible()
    tile.click()
    page.drawn()
    assert card.is_hidden()
    page.page.locator(".band .link:visible").first.click()
    shown = page.page.locator("dialog .tile")
    for i in (0, 40):
        shown.nth(i).hover()
        box = card.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + box["height"] <= 640
        above = page.page.evaluate(
            """() => {
          const card = document.querySelector(".card");
          card.style.pointerEvents = "auto";
          const { x, y } = card.getBoundingClientRect();
          const found = card.contains(document.elementFromPoint(x + 5, y + 5));
          card.style.pointerEvents = "";
          return found;
        }"""
        )
        assert above


def test_a_zoomed_map_stays_in_sight_and_takes_the_finger(page: Opened) -> None:
    canvas = page.page.locator(".map canvas")
    touch = "getComputedStyle(document.querySelector('.map canvas')).touchAction"
    assert page.page.evaluate(touch) == "pan-y"
    lasso = page.page.get_by_role("button", name="Choose a group by a line around it")
    lasso.click()
    assert page.page.evaluate(touch) == "none"
    box = canvas.bounding_box()
    assert box is not None
    page.page.mouse.move(box["x"] + 50, box["y"] + 100)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 50, box["y"] + 200, steps=4)
    # as the browser takes a finger
    page.page.evaluate("document.querySelector('.map canvas').releasePointerCapture(1)")
    page.page.mouse.move(box["x"] + 100, box["y"] + 200, steps=2)
    page.page.mouse.up()
    assert page.page.locator("dialog[open]").count() == 0
    lasso.click()
    for _ in range(2):
        page.page.get_by_role("button", name="Zoom in").click()
    assert page.page.evaluate(touch) == "none"
    for _ in range(3):
        page.page.mouse.move(box["x"] + 10, box["y"] + 10)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + 300, box["y"] + 300, steps=3)
        page.page.mouse.up()
    pixels = np.array(
        page.page.evaluate(f"Array.from({{length: {len(page.snapshot)}}}, (_, i) => cltools.page.map.pixelOf(i))")
    )
    assert pixels.min() < min(box["width"], box["height"]) / 4
    page.page.get_by_role("button", name="Show the whole map").click()
    assert page.page.evaluate(touch) == "pan-y"


def test_edges_of_a_margin_reach_two(page: Opened) -> None:
    page.set(replace(page.state, a=replace(page.state.a, negatives=MarginBand(within=3.5, margin=1.5))))
    page.drawn()
    ends = [(edge(page.page, "beyond").get_attribute(f"aria-value{name}")) for name in ("min", "max", "now")]
    assert [float(each or 9) for each in ends] == pytest.approx([-2, 2, -2], abs=1e-3)
