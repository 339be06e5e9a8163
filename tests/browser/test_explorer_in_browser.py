"""The explorer in JupyterLab, as a person uses it: what it shows is checked against `select` computed apart."""

import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import Lab, Shown
from playwright.sync_api import Download
from snapshots import made

from cltools.explorer.session import Session
from cltools.explorer.view import groups, painting
from cltools.mining import Band
from cltools.snapshot import Snapshot

pytestmark = pytest.mark.browser

PATIENCE = 10.0  # seconds
START = "from cltools import Snapshot, explore\nsnapshot = Snapshot.load('{}')"
SHOW = "explorer = explore(snapshot)\nexplorer"
BUSY = "import time\nfor i in range(40):\n    time.sleep(0.1)"


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of 5,000 points."""
    path = tmp_path_factory.mktemp("snapshots") / "large.npz"
    made(5000, dim=64, epochs=(1, 5)).save(path)
    return path


@pytest.fixture
def shown(desk: Lab, file: Path) -> Iterator[Shown]:
    """A new explorer in the window that tests share, above a cell that keeps the kernel busy for some seconds."""
    if desk.page.url == "about:blank":
        desk.open(START.format(file), SHOW, BUSY, name="shared.ipynb")
        desk.rerun(0)
    desk.page.mouse.up()
    desk.rerun(1)
    desk.scroll_to(1)
    yield Shown(desk)
    desk.check()


@pytest.fixture
def alone(lab: Lab, file: Path) -> Shown:
    """An explorer in a window of its own, for tests that leave a window changed."""
    lab.open(START.format(file), SHOW)
    lab.run_all()
    lab.scroll_to(1)
    return Shown(lab)


def agrees(shown: Shown, file: Path, **expected: Any) -> Session:
    """Assert that every panel comes to show what `select` says in the state that the page claims, and that state.

    On a busy machine a map is drawn seconds after the sentence.
    """
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return agrees_now(shown, file, **expected)
        except AssertionError:
            if time.monotonic() > until:
                raise
            shown.page.wait_for_timeout(100)


def agrees_now(shown: Shown, file: Path, **expected: Any) -> Session:
    """The same, of the page as it is."""
    session = Session(Snapshot.load(file), shown.state)
    for name, value in expected.items():
        assert getattr(session.state, name, None) == value or getattr(session.rules[1], name, None) == value, name
    j = session.judgement
    assert shown.sentence == session.sentence
    found = shown.groups()
    for group in groups(j):
        head, places = found.pop(int(group.band))
        assert head.endswith(f": {group.total:,}") and places == [*group.places], group.band
    assert found == {}, "no band is shown that holds nothing"
    for name, text in ((c.name, c.text) for c in session.controls if c.kind == "edge"):
        assert shown.edge(name).get_attribute("aria-valuetext") == text
        assert shown.control(name).get_attribute("aria-valuetext") == text
    painted = painting(session, session.state.active)
    (plot,) = shown.plots()
    for slot, (places, codes) in enumerate(zip(plot["slots"], plot["codes"], strict=True)):
        assert sorted(places) == np.flatnonzero(painted.slots == slot).tolist(), slot
        assert codes == painted.codes[places].tolist()
    return session


def test_it_shows_what_select_says_and_follows_the_keyboard(shown: Shown, file: Path) -> None:
    start = agrees(shown, file, drop_closest=0.1, keep_within=0.5)
    shown.edge("closest").focus()
    shown.settled(lambda: shown.page.keyboard.press("ArrowRight"))
    after = agrees(shown, file)
    assert after.rules[1].drop_closest < start.rules[1].drop_closest, "to the right scores grow, and fewer are dropped"  # type: ignore[attr-defined]
    shown.control("beyond").focus()
    shown.settled(lambda: shown.page.keyboard.press("ArrowLeft"))
    assert agrees(shown, file).rules[1].keep_within < 0.5  # type: ignore[attr-defined]
    shown.settled(lambda: shown.page.keyboard.press("Home"))
    assert agrees(shown, file).judgement.edges.beyond == after.judgement.edges.closest + 1  # type: ignore[union-attr]
    shown.settled(lambda: shown.root.get_by_text("back", exact=True).click())
    agrees(shown, file)
    chosen = [("by", "anchor"), ("rule", "CosineBand"), ("rule", "MarginBand"), ("rule", "RingNegatives")]
    chosen.append(("colour", "similarity"))
    for name, value in chosen:
        shown.settled(lambda name=name, value=value: shown.control(name).select_option(value))
        agrees(shown, file)
    shown.settled(lambda: shown.control("truth").check())
    assert "class" in agrees(shown, file, truth=True).sentence
    shown.settled(lambda: shown.control("epoch").press("Home"))
    assert agrees(shown, file).state.side.epoch == 1


def test_typed_values_and_mistakes(shown: Shown, file: Path) -> None:
    typed = shown.root.get_by_role("textbox", name="drop the closest, percent of the keys")
    typed.fill("2.5")
    shown.settled(lambda: typed.press("Enter"))
    agrees(shown, file, drop_closest=0.025)
    typed.fill("many")
    shown.settled(lambda: typed.press("Enter"))
    assert '"many" is no number' in shown.root.get_by_role("alert").inner_text()
    anchor = shown.root.get_by_role("textbox", name="anchor, by image id")
    anchor.fill("19")
    shown.settled(lambda: anchor.press("Enter"))
    agrees(shown, file, anchor=19, drop_closest=0.025)
    anchor.fill("20")
    shown.settled(lambda: anchor.press("Enter"))
    assert 'No image has the id "20"' in shown.root.get_by_role("alert").inner_text()
    agrees(shown, file, anchor=19)


# --- the three links, and that their checks can fail


class LinkBroken(AssertionError):
    """What a person did on the page had not the effect that it should have."""


def linked(holds: bool) -> None:
    if not holds:
        raise LinkBroken


def check_map_to_anchor(shown: Shown, file: Path) -> None:
    """A click on a point of the map makes it the anchor, and the pictures follow."""
    session = Session(Snapshot.load(file), shown.state)
    place = _lonely(shown, session)
    before = shown.groups()
    shown.settled(lambda: shown.page.mouse.click(*shown.pixel(place)))
    linked(agrees(shown, file).place == place)
    linked(shown.groups() != before)


def check_drag_to_edges(shown: Shown, file: Path) -> None:
    """A dragged edge drops as many keys as lie beyond where it was put, and the line stays there."""
    handle = shown.edge("closest")
    box = handle.locator("line").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    before = Session(Snapshot.load(file), shown.state).judgement.edges
    shown.page.mouse.move(x, y)
    shown.page.mouse.down()
    for step in range(1, 11):
        shown.page.mouse.move(x - 4 * step, y)
    shown.settled(shown.page.mouse.up)
    after = agrees(shown, file).judgement.edges
    assert before and after
    linked(after.closest > before.closest)
    moved = handle.locator("line").bounding_box()
    assert moved and abs(moved["x"] + moved["width"] / 2 - (x - 40)) < 3


def check_picture_to_anchor(shown: Shown, file: Path) -> None:
    """A click on a picture makes it the anchor."""
    place = shown.groups()[Band.HARD][1][3]
    shown.settled(lambda: shown.root.locator(f".cl-group[data-band='3'] [data-place='{place}']").click())
    linked(agrees(shown, file).place == place)


LINKS: dict[str, tuple[Callable[[Shown, Path], None], str]] = {
    "map": (check_map_to_anchor, "if (place !== undefined) this.explorer.goTo(place);"),
    "drag": (check_drag_to_edges, "this.explorer.askEdge(name, this.#valueAt(at.clientX));"),
    "picture": (check_picture_to_anchor, "onclick: () => explorer.goTo(this.place),"),
}
links = pytest.mark.parametrize("link", LINKS)


@links
def test_a_link_holds(shown: Shown, file: Path, link: str) -> None:
    LINKS[link][0](shown, file)


@links
def test_a_broken_link_is_seen(shown: Shown, file: Path, link: str) -> None:
    check, code = LINKS[link]
    whole = "from cltools.explorer.front import Front\nwhole = Front._esm\n"
    said = shown.lab.ask(f"{whole}assert {code!r} in whole\nFront._esm = whole.replace({code!r}, '')\nprint('broken')")
    assert said == "broken", said
    try:
        shown.lab.rerun(1)
        shown.lab.scroll_to(1)
        broken = Shown(shown.lab)
        agrees(broken, file)
        with pytest.raises(LinkBroken):
            check(broken, file)
    finally:
        shown.lab.ask("Front._esm = whole")


def _lonely(shown: Shown, session: Session) -> int:
    """A point with no other near it on the map, so that a click can mean no other."""
    place = session.snapshots[0].maps[0, -1]
    apart = np.linalg.norm(place[:, None] - place[None, ::7], axis=2)
    inside = np.abs(place).max(1) < 2.2
    apart[apart == 0] = np.inf
    order = np.argsort(-np.where(inside, apart.min(1), -1))
    for candidate in order[:200].tolist():
        gaps = np.linalg.norm(place - place[candidate], axis=1)
        if np.partition(gaps, 1)[1] > 0.02 and candidate != session.place:
            return int(candidate)
    raise AssertionError("no point stands alone")


def test_sweeping_the_bars_makes_them_the_band(shown: Shown, file: Path) -> None:
    box = shown.root.locator(".cl-histogram svg").bounding_box()
    assert box
    left, right, y = box["x"] + 0.4 * box["width"], box["x"] + 0.7 * box["width"], box["y"] + 30
    shown.page.mouse.move(left, y)
    shown.page.mouse.down()
    for share in (0.3, 0.6, 1.0):
        shown.page.mouse.move(left + share * (right - left), y)
    shown.settled(shown.page.mouse.up)
    session = agrees(shown, file)
    edges, scores = session.judgement.edges, session.judgement.ranked[:-1]
    assert edges is not None
    for count, at in ((edges.beyond, left), (edges.closest, right)):
        x = (at - box["x"]) / box["width"] * 392
        score = scores.min() + (x - 36) / (392 - 36 - 8) * (scores.max() - scores.min())
        assert (scores >= score + 0.006).sum() <= count <= (scores >= score - 0.006).sum(), "but for a pixel"


def test_the_card_follows_pointer_and_focus(shown: Shown, file: Path) -> None:
    session = Session(Snapshot.load(file), shown.state)
    place = _lonely(shown, session)
    x, y = shown.pixel(place)
    shown.page.mouse.move(x - 3, y)
    shown.page.mouse.move(x, y)
    shown.lab.until("!document.querySelector('.cl-card').hidden", 10)
    card, j = shown.card(), session.judgement
    assert card and card["place"] == place
    assert f"image {session.snapshots[0].ids[place]}" in card["text"]
    assert f"z'·n: {j.score[place]:.3f}" in card["text"] and f"z·n: {j.cosine[place]:.3f}" in card["text"]
    rank = int((j.ranked[:-1] >= j.score[place]).sum())
    assert f"rank {rank:,} of 4,999" in card["text"]
    shown.page.mouse.move(5, 300)
    shown.lab.until("document.querySelector('.cl-card').hidden", 10)
    tile = shown.root.locator(".cl-group[data-band='2'] .cl-tile").nth(2)
    tile.focus()
    card = shown.card()
    assert card and card["place"] == shown.groups()[Band.POTENTIAL][1][2]
    shown.settled(lambda: shown.page.keyboard.press("Enter"))
    assert agrees(shown, file).place == card["place"]
    focused = shown.root.evaluate(
        "root => root.contains(document.activeElement) && document.activeElement.dataset.place"
    )
    now = shown.card()
    assert focused is not False and now and now["place"] == int(focused), "focus stays, and the card follows"
    shown.settled(lambda: shown.page.keyboard.press("n"))
    assert agrees(shown, file).place == card["place"] + 1


def test_while_a_cell_runs_cards_show_and_the_last_value_waits(shown: Shown, file: Path) -> None:
    lab = shown.lab
    session = agrees(shown, file)
    count = int(lab.ask("print(len(explorer.milliseconds))"))
    lab.run(2)
    lab.scroll_to(1)
    place = _lonely(shown, session)
    x, y = shown.pixel(place)
    shown.page.mouse.move(x - 3, y)
    shown.page.mouse.move(x, y)
    lab.until("!document.querySelector('.cl-card').hidden", 3)
    assert (shown.card() or {})["place"] == place
    before = shown.sentence
    shown.edge("closest").focus()
    for _ in range(6):
        shown.page.keyboard.press("ArrowRight")
    lab.until("!document.querySelector('.cl-waiting').hidden", 3)
    assert shown.root.get_by_text("waiting for the running cell").is_visible() and shown.sentence == before
    shown.settled(lab.idle)
    after = agrees(shown, file)
    stops = next(c.options for c in session.controls if c.name == "closest")
    edges = session.judgement.edges
    assert edges is not None and after.judgement.edges is not None
    nearest = min(range(len(stops)), key=lambda i: abs(stops[i] - edges.closest))
    assert after.judgement.edges.closest == stops[nearest - 6], "every press counts, from the value asked last"
    assert int(lab.ask("print(len(explorer.milliseconds))")) <= count + 2, "but only the last is computed"


def test_a_restarted_kernel_is_told_and_not_waited_for(alone: Shown) -> None:
    alone.lab.expected = "Canceled future"  # JupyterLab's own complaint, of what it had asked the old kernel
    told = alone.root.get_by_text("the kernel was restarted: run the cells again")
    assert told.count() == 1 and not told.is_visible()
    alone.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    told.wait_for()
    alone.control("truth").check()
    alone.lab.until("!document.querySelector('.cl-waiting').hidden", 3)
    assert told.is_visible() and not alone.root.get_by_text("waiting for the running cell").is_visible()


def test_each_step_back_counts_while_a_cell_runs(shown: Shown, file: Path) -> None:
    lab = shown.lab
    first = agrees(shown, file)
    for act in (shown.control("truth").check, shown.control("doubtful").check):
        shown.settled(act)
    lab.run(2)
    for _ in range(2):
        shown.root.get_by_text("back", exact=True).click()
    shown.settled(lab.idle)
    assert agrees(shown, file).state == first.state


def test_running_the_cell_again_leaves_one_explorer(shown: Shown, file: Path) -> None:
    lab = shown.lab
    count = "from ipywidgets.widgets.widget import _instances\nprint(len(_instances))"
    before = lab.ask(count)
    for _ in range(8):
        lab.rerun(1)
    again = Shown(lab)
    assert lab.ask(count) == before
    assert lab.page.locator(".cltools-explorer").count() == 1
    lab.scroll_to(1)
    check_picture_to_anchor(again, file)
    assert lab.ask("print(explorer.errors)") == "[]"


def test_a_second_view_of_the_output_works_too(alone: Shown, file: Path) -> None:
    alone.page.evaluate(
        "() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1;"
        " window.jupyterapp.commands.execute('notebook:create-output-view') }"
    )
    alone.lab.until("document.querySelectorAll('.cl-sentence:not(:empty)').length === 2")
    second = Shown(alone.lab, 1)
    second.settled(lambda: second.control("truth").check())
    agrees(second, file, truth=True)
    assert Shown(alone.lab).sentence == second.sentence


def test_themes_change_while_it_shows_and_text_stays_legible(shown: Shown) -> None:
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        shown.lab.command("apputils:change-theme", theme=theme)
        shown.lab.until(f"document.querySelector('.cltools-explorer').dataset.theme === '{name}'")
        shown.page.wait_for_timeout(800)
        assert shown.root.evaluate("tests.faint") == [], name


def test_keys_pressed_in_it_do_nothing_to_the_notebook(shown: Shown) -> None:
    before = shown.lab.cells()
    parts = [
        shown.edge("closest"),
        shown.control("rule"),
        shown.control("truth"),
        shown.root.locator(".cl-button").first,
        shown.root.locator(".cl-tile").first,
        shown.root.locator("summary").first,
        shown.root.get_by_role("textbox", name="anchor, by image id"),
    ]
    for part in parts:
        part.focus()
        for key in ("a", "b", "x", "z", "n", "p", "d", "d", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"):
            shown.page.keyboard.press(key)
        assert shown.lab.cells()[0] == before[0] and shown.lab.cells()[2] == before[2]
    shown.settled(lambda: shown.page.wait_for_timeout(300))
    shown.page.mouse.click(*shown.pixel(0))
    for key in ("a", "b", "x", "z", "n", "p", "d", "d"):
        shown.page.keyboard.press(key)
    assert shown.lab.cells()[2] == before[2], "nor with the map clicked"


def test_n_and_p_walk_through_the_anchors(shown: Shown, file: Path) -> None:
    shown.root.locator(".cl-button").first.focus()
    shown.settled(lambda: shown.page.keyboard.press("n"))
    agrees(shown, file, anchor=10)
    shown.settled(lambda: shown.page.keyboard.press("p"))
    agrees(shown, file, anchor=7)


def test_every_control_has_a_role_a_name_and_a_value_in_words(shown: Shown) -> None:
    shown.root.locator("summary").nth(0).click()
    shown.root.locator("summary").nth(1).click()
    session = shown.page.context.new_cdp_session(shown.page)
    session.send("Accessibility.enable")
    tree = session.send("Accessibility.getFullAXTree")["nodes"]
    inside = {node["nodeId"]: node for node in tree}
    expected = ("slider", "combobox", "checkbox", "textbox", "button")
    found: dict[str, list[str]] = {role: [] for role in expected}
    names = shown.root.evaluate("tests.names")
    for node in inside.values():
        role, name = node.get("role", {}).get("value"), node.get("name", {}).get("value", "")
        if role in expected and name in names:
            found[role].append(name)
    assert {"drop the closest", "drop beyond", "epoch", "temperature τ"} <= {*found["slider"]}
    assert {"rule", "rank by", "colour by", "map"} <= {*found["combobox"]}
    assert shown.root.evaluate("tests.nameless") == []
    # Chromium's protocol gives no aria-valuetext, so the words are read where assistive technology reads them
    words = shown.root.locator("[role=slider], [type=range]").evaluate_all("all => all.map(n => n.ariaValueText)")
    assert len(words) >= 6 and all(text and re.search("[a-zτ%]", text) for text in words), words


def test_the_sentence_is_announced_when_it_rests(shown: Shown) -> None:
    live = shown.root.get_by_role("status")
    assert live.get_attribute("aria-live") == "polite"
    shown.page.wait_for_timeout(1000)
    assert live.text_content() == shown.sentence
    said = shown.root.evaluate("tests.announced")
    assert len(said) <= 8 and said[-1] == shown.sentence, "at most once per step, and the last is said"


def test_map_histogram_edges_and_sentence_fit_a_small_window(shown: Shown) -> None:
    shown.root.evaluate("root => root.scrollIntoView({ block: 'start' })")
    shown.page.wait_for_timeout(500)
    for part in (".cl-sentence", ".js-plotly-plot", ".cl-histogram svg", ".cl-edges"):
        box = shown.root.locator(part).first.bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= 720 - 24, (part, box)
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1280, (part, box)
    assert not shown.root.evaluate("tests.overlap")


def test_rules_and_keys_leave_it(shown: Shown, file: Path) -> None:
    shown.root.locator("summary").nth(1).click()
    session = Session(Snapshot.load(file), shown.state)
    assert shown.root.get_by_label("the rules as Python").inner_text() == session.python()
    assert json.loads(shown.root.get_by_label("the rules as JSON").inner_text())["negatives"]["rule"] == "RankBand"
    files: list[Download] = []
    shown.page.on("download", lambda file: files.append(file))
    with shown.page.expect_download() as download:
        shown.root.get_by_text("save this anchor's keys (CSV)").click()
    assert Path(download.value.path()).read_text() == session.csv()
    shown.page.wait_for_timeout(500)
    assert len(files) == 1
    line = Session(Snapshot.load(file)).set(anchor=31, drop_closest=0.3, truth=True).state.to_json()
    shown.root.locator("textarea").fill(line)
    shown.settled(lambda: shown.root.get_by_text("go to this view").click())
    agrees(shown, file, anchor=31, drop_closest=0.3, truth=True)


# --- speed, with ceilings that only a hang would pass; `-s` shows the figures


def test_answers_come_soon(shown: Shown, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown.lab.ask("explorer.milliseconds.clear()")
    times = shown.root.evaluate("tests.latencies")
    words, frames = (statistics.median(column) for column in zip(*times, strict=True))
    kernel = sorted(json.loads(shown.lab.ask("print([*explorer.milliseconds])")))
    late, middle = kernel[int(0.95 * len(kernel))], statistics.median(kernel)
    with capsys.disabled():
        print(
            f"\n5,000 points, medians: sentence {words:.0f} ms, painted {frames:.0f} ms; "
            f"kernel {middle:.1f} ms, {late:.1f} (95 %)"
        )
    assert words <= 2500 and frames <= 6000 and middle <= 250
    agrees(shown, file)


def test_a_key_held_leaves_no_backlog(shown: Shown, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stops = next(c.options for c in Session(Snapshot.load(file), shown.state).controls if c.name == "closest")
    late, presses = shown.root.evaluate("tests.afterRelease")
    with capsys.disabled():
        print(f"\nheld two seconds: the last words {late:.0f} ms after release")
    assert late <= 2500
    session = agrees(shown, file)
    first = min(range(len(stops)), key=lambda i: abs(stops[i] - 500))
    assert session.judgement.edges is not None and presses > 3
    assert session.judgement.edges.closest == stops[max(0, first - presses)], "as many stops as presses"


def test_run_all_shows_it_soon(lab: Lab, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab.open(START.format(file), SHOW)
    took = lab.page.evaluate("tests.firstFigure()")
    with capsys.disabled():
        print(f"\nfrom Run All to the first figure {took / 1000:.1f} s")
    assert took <= 50_000
