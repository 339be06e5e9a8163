"""The explorer in JupyterLab as a person uses it: what it shows is what `select` says, and Python and page agree."""

import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from agreement import PATIENCE, SHOW, START, agrees, meet
from lab import BUSY, Lab, Shown
from playwright.sync_api import TimeoutError

from cltools.explorer.state import State
from cltools.mining import Band
from cltools.snapshot import Snapshot

pytestmark = pytest.mark.browser

OWN = """import pathlib, time
from dataclasses import dataclass
import torch
from cltools.mining import AllNegatives, Band

@dataclass(frozen=True)
class FarOnly(AllNegatives):
    least: float = 0.2
    def judge(self, s, context):
        while pathlib.Path('hold').exists(): time.sleep(0.05)
        return torch.where(s.anchor_keys < self.least, Band.POTENTIAL, Band.HARD).to(torch.int8)
"""


@pytest.fixture
def shown(desk: Lab, points: Path) -> Iterator[Shown]:
    """A new explorer in the window that tests share, above a cell that keeps the kernel busy until it is freed."""
    if desk.page.url == "about:blank":
        desk.open(START.format(points), SHOW, BUSY, name="shared.ipynb")
        desk.rerun(0)
    desk.page.mouse.up()
    desk.rerun(1)
    desk.scroll_to(1)
    yield Shown(desk)
    desk.free()
    desk.check()
    desk.expected = None


@pytest.fixture
def alone(lab: Lab, points: Path) -> Shown:
    """An explorer in a window of its own, for tests that leave a window changed."""
    lab.open(START.format(points), SHOW, BUSY)
    lab.rerun(0)
    lab.rerun(1)
    lab.scroll_to(1)
    return Shown(lab)


# --- what it shows


def test_it_shows_what_select_says(shown: Shown, snapshot: Snapshot) -> None:
    first = agrees(shown, snapshot)
    shown.drag("closest", -60)
    dragged = agrees(shown, snapshot)
    assert dragged.rules[1].drop_closest > first.rules[1].drop_closest  # type: ignore[attr-defined]
    shown.drag("beyond", 40)
    assert agrees(shown, snapshot).rules[1].keep_within < dragged.rules[1].keep_within  # type: ignore[attr-defined]
    seen = {shown.state}
    for name in ("closest", "beyond"):
        for key in ("ArrowLeft", "PageDown", "ArrowRight"):
            shown.edge(name).press(key)
            agrees(shown, snapshot)
            seen.add(shown.state)
    assert len(seen) > 4, "keys move the edges"
    for name in ("ring", "tenth", "all", "middle"):
        shown.preset(name)
        agrees(shown, snapshot)
    shown.truth().check(force=True)
    assert agrees(shown, snapshot).state.truth
    assert "class" in shown.root.locator(".truth-words").inner_text()
    shown.button("next anchor").click()
    assert agrees(shown, snapshot).place == 1
    shown.root.locator(".band-2 .tile").nth(2).click()
    assert agrees(shown, snapshot).place > 1
    shown.button("Compare two rules, A and B").click()
    shown.preset("ring")
    agrees(shown, snapshot)
    shown.edge("closest", "A").press("PageDown")
    session = meet(shown, snapshot)
    assert session.state.b is not None and session.state.b.negatives != session.state.a.negatives


def test_python_and_page_follow_each_other(shown: Shown, snapshot: Snapshot) -> None:
    shown.lab.ask("explorer.set(drop_closest=0.2, anchor=16, truth=True)")
    shown.page.wait_for_function("root => root.explorer.state().anchor === 16", arg=shown.root.element_handle())
    session = meet(shown, snapshot)
    assert session.rules[1].drop_closest == 0.2 and session.state.truth  # type: ignore[attr-defined]
    shown.preset("tenth")
    assert meet(shown, snapshot).rules[1] != session.rules[1]
    for i in range(12):
        shown.edge("beyond").press("ArrowLeft" if i % 3 else "PageUp")
    meet(shown, snapshot)
    shown.lab.ask("explorer.set(drop_closest=0.1)")
    meet(shown, snapshot)
    shown.button("Undo").click()
    meet(shown, snapshot)


def test_a_mistake_in_python_leaves_the_page_as_it_was(shown: Shown, snapshot: Snapshot) -> None:
    before = shown.state
    assert "No image has the id 8" in shown.lab.ask("explorer.set(anchor=8)")
    assert shown.state == before
    meet(shown, snapshot)


# --- several explorers, several views


def test_explorers_of_one_snapshot_ask_for_its_arrays_once(lab: Lab, snapshot: Snapshot, points: Path) -> None:
    counting = (
        "from dataclasses import replace\nfrom cltools.explorer.explorer import Front\nsent, send = [], Front.send\n"
        "def counted(self, content, buffers=None):\n    sent.append('held' in content)\n"
        "    send(self, content, buffers)\nFront.send = counted"
    )
    two = "first, explorer = explore(snapshot), explore(snapshot)\ndisplay(first, explorer)"
    lab.open(f"{START.format(points)}\n{counting}", two)
    lab.run_all()
    lab.scroll_to(1)
    one, other = Shown(lab, 0), Shown(lab, 1)
    assert lab.ask("print(sum(sent))") == "1"
    other.preset("tenth")
    session = meet(other, snapshot)
    assert agrees(one, snapshot).rules[1] != session.rules[1], "they are two"
    assert lab.ask("print(first.rules == explorer.rules, first.errors)") == "False []"
    for change, count in (("classes=snapshot.classes", 1), ("labels=snapshot.labels[::-1].copy()", 2)):
        lab.ask(f"snapshot = replace(snapshot, {change})")
        lab.rerun(1)
        Shown(lab, 1)
        assert lab.ask("print(sum(sent))") == str(count), change


def test_two_views_of_one_explorer_follow_each_other(alone: Shown, snapshot: Snapshot) -> None:
    alone.page.evaluate(
        "() => { window.notebook = window.jupyterapp.shell.currentWidget; window.notebook.content.activeCellIndex = 1;"
        " window.jupyterapp.commands.execute('notebook:create-output-view') }"
    )
    back = "() => { window.jupyterapp.shell.activateById(window.notebook.id) }"
    alone.lab.until("document.querySelectorAll('.cltools-explorer .sentence:not(:empty)').length === 2")
    second = Shown(alone.lab, 1)
    second.truth().check(force=True)
    second.edge("closest").press("PageDown")
    moved = agrees(second, snapshot).state
    assert moved.truth and agrees(alone, snapshot).state == moved
    alone.page.evaluate(back)
    assert meet(alone, snapshot).state == moved
    alone.button("next anchor").click()
    assert agrees(second, snapshot).state == meet(alone, snapshot).state != moved


def test_running_the_cell_again_leaves_one_explorer(shown: Shown, snapshot: Snapshot) -> None:
    count = "from ipywidgets.widgets.widget import _instances\nprint(len(_instances))"
    before = shown.lab.ask(count)
    for _ in range(20):
        shown.lab.rerun(1)
    assert shown.lab.ask(count) == before
    assert shown.page.locator(".cltools-explorer").count() == 1
    again = Shown(shown.lab)
    again.preset("ring")
    meet(again, snapshot)


# --- kernels


def test_the_page_goes_on_without_its_kernel_and_says_what_to_do(alone: Shown, snapshot: Snapshot) -> None:
    alone.lab.expected = "Canceled future"  # JupyterLab's own complaint, of what it had asked the old kernel
    alone.lab.restart()
    alone.drag("closest", -50)
    moved = agrees(alone, snapshot)
    for name in ("ring", "all", "tenth"):
        alone.preset(name)
        assert agrees(alone, snapshot).rules != moved.rules
    alone.truth().check(force=True)
    alone.button("next anchor").click()
    agrees(alone, snapshot)
    alone.lab.rerun(0)
    alone.lab.rerun(1)
    alone.lab.scroll_to(1)
    again = Shown(alone.lab)
    again.preset("ring")
    meet(again, snapshot)


def test_an_explorer_asks_again_when_the_first_to_ask_lost_its_kernel(
    lab: Lab, snapshot: Snapshot, points: Path
) -> None:
    lab.expected = "Canceled future"
    lab.open(START.format(points), f"{SHOW}\ndisplay(explorer)\n{BUSY}")
    (lab.folder / "busy").touch()
    lab.command("notebook:run-all-cells")
    lab.page.get_by_text("Waiting for the snapshot").first.wait_for()
    lab.restart()
    lab.page.get_by_text("run the cells again, from the first").first.wait_for()
    (lab.folder / "busy").unlink()
    lab.rerun(0)
    lab.rerun(1)
    again = Shown(lab)
    again.preset("ring")
    meet(again, snapshot)


def test_a_page_loaded_anew_after_a_restart_says_what_to_do(alone: Shown) -> None:
    """Where the file keeps widgets; where it keeps none, ipywidgets says that it found no model."""
    alone.lab.expected = "Canceled future"
    alone.lab.keep_widgets(True)
    assert "cltools-explorer" in alone.lab.save()
    alone.lab.restart()
    alone.page.reload()
    alone.lab.scroll_to(1)
    alone.page.get_by_text("run the cells again, from the first").first.wait_for(timeout=1000 * PATIENCE)
    alone.lab.keep_widgets(False)


def test_a_page_loaded_anew_shows_it_as_it_is(alone: Shown, snapshot: Snapshot) -> None:
    alone.truth().check(force=True)
    alone.edge("closest").press("PageDown")
    before = meet(alone, snapshot).state
    alone.lab.save()
    for _ in range(5):  # ipywidgets gives a busy kernel four seconds, and then looks at what the file held
        alone.lab.idle()
        alone.page.reload()
        alone.lab.until("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
        alone.lab.scroll_to(1)  # JupyterLab hides the cells beyond the window, and what they show
        with suppress(TimeoutError):
            again = Shown(alone.lab, patience=15)
            if State.from_json(again.state) == before:
                break
    assert agrees(again, snapshot).state == before
    again.preset("tenth")
    assert meet(again, snapshot).state != before


# --- while a cell runs


def test_everything_but_own_rules_works_while_a_cell_runs(shown: Shown, snapshot: Snapshot) -> None:
    shown.lab.occupy(2)
    shown.lab.scroll_to(1)
    seen = {shown.state}
    shown.drag("closest", -80)
    for act in (
        lambda: shown.preset("ring"),
        lambda: shown.preset("middle"),
        lambda: shown.truth().check(force=True),
        lambda: shown.button("next anchor").click(),
        lambda: shown.edge("beyond").press("PageDown"),
        lambda: shown.button("Compare two rules, A and B").click(),
        lambda: shown.preset("tenth"),
        lambda: shown.button("Undo").click(),
    ):
        act()
        agrees(shown, snapshot)
        seen.add(shown.state)
    assert len(seen) >= 7, "all but the step back is new"
    assert shown.lab.occupied, "all that happened while the cell ran"
    shown.lab.free()
    meet(shown, snapshot)


def test_an_own_rule_is_answered_once_python_has_judged(shown: Shown, snapshot: Snapshot) -> None:
    shown.lab.ask(OWN)
    shown.lab.ask("explorer.set(rule='FarOnly')")

    def known() -> list[int]:
        shown.page.wait_for_function(
            "root => root.explorer.state().a.negatives.rule === 'FarOnly' && !root.explorer.scene().shown.unknown",
            arg=shown.root.element_handle(),
        )
        return [*shown.told["bands"][0]]

    wanted = "print(explorer.selection.band[0].tolist(), explorer.errors)"
    assert f"{known()} []" == shown.lab.ask(wanted)
    before, hold = shown.told["bands"][0], shown.lab.folder / "hold"
    shown.lab.occupy(2)  # a kernel with subshells answers meanwhile, another afterwards
    shown.lab.scroll_to(1)
    hold.touch()
    shown.button("next anchor").click()
    told = shown.told
    assert "only Python knows" in told["unknown"]
    words = shown.root.inner_text()
    assert "FarOnly" in words, "it says what it waits for"
    hold.unlink()
    shown.lab.free()
    found = known()
    assert found != before and f"{found} []" == shown.lab.ask(wanted)
    assert f" {found.count(Band.POTENTIAL):,} of " in shown.told["sentence"]


# --- JupyterLab around it


def test_keys_pressed_in_it_do_nothing_to_the_notebook(shown: Shown) -> None:
    shown.root.locator("canvas").first.scroll_into_view_if_needed()
    before = shown.lab.cells()
    for part in (
        shown.edge("closest"),
        shown.button("next anchor"),
        shown.truth(),
        shown.root.locator(".tile").nth(1),
        shown.root.locator("[data-preset]").first,
        shown.root.locator(".map canvas").first,
    ):
        part.focus()
        for key in ("n", "p", "a", "b", "x", "d", "d", "z", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"):
            shown.page.keyboard.press(key)
        after = shown.lab.cells()
        assert after[0] == before[0] and after[2] == before[2], part
    shown.button("More controls").click()
    line = shown.root.locator("textarea:not([readonly])").first
    line.focus()
    for key in ("a", "b", "x", "d", "d", "z", "Enter"):
        shown.page.keyboard.press(key)
    assert shown.lab.cells()[2] == before[2] and "abxddz" in line.input_value(), "what is typed arrives"
    shown.button("More controls").click()


def test_it_follows_the_theme(shown: Shown) -> None:
    grounds = []
    for theme, name in (("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")):
        shown.lab.command("apputils:change-theme", theme=theme)
        shown.lab.until(f"document.querySelector('.cltools-explorer').dataset.theme === '{name}'")
        grounds.append(shown.root.evaluate("root => getComputedStyle(root).backgroundColor"))
        assert shown.root.evaluate("root => getComputedStyle(root).colorScheme") == name
    assert len({*grounds}) == 2


def test_what_counts_is_in_view(shown: Shown) -> None:
    """In an output of 1,000 × 540: anchor, sentence, both edges, histogram, and the first row of pictures."""
    width = shown.root.bounding_box()["width"]  # type: ignore[index]
    shown.lab.expected = "removeChild"  # of JupyterLab's own, now and then, when a window changes its size
    try:
        shown.page.set_viewport_size({"width": int(1280 + 1000 - width), "height": 720})
        shown.page.wait_for_timeout(500)
        shown.lab.scroll_to(1)
        root = shown.root.bounding_box()
        assert root is not None and abs(root["width"] - 1000) <= 2
        parts = [shown.root.locator(part).first for part in (".anchor-tile", ".sentence", ".bars")]
        parts += [shown.edge("closest"), shown.edge("beyond")]
        parts += shown.root.locator(".bands .band .tiles .tile:first-child").all()
        assert len(parts) >= 7
        for part in parts:
            box = part.bounding_box()
            assert box is not None and box["width"] > 0
            assert box["x"] >= root["x"] and box["x"] + box["width"] <= root["x"] + 1000
            assert box["y"] >= root["y"] and box["y"] + box["height"] <= root["y"] + 540, (part, box, root)
        assert shown.root.evaluate("root => root.scrollWidth <= root.clientWidth")
    finally:
        shown.page.set_viewport_size({"width": 1280, "height": 720})


def test_a_saved_notebook_holds_no_arrays(alone: Shown, snapshot: Snapshot) -> None:
    alone.preset("tenth")
    meet(alone, snapshot)
    alone.lab.keep_widgets(True)
    text = alone.lab.save()
    alone.lab.keep_widgets(True)
    assert "cltools-explorer" in text, "with what widgets are made of"
    bare = nbformat.from_dict(json.loads(text))
    for cell in bare.cells:
        cell.outputs = []
    bare.metadata.pop("widgets", None)
    assert len(text) - len(nbformat.writes(bare)) <= 200_000
    for array in (snapshot.anchors, snapshot.keys):
        held = array[-1].astype("<f2").tobytes()[:300]
        assert base64.b64encode(held).decode()[:200] not in text
    assert base64.b64encode(snapshot.sprite[:300]).decode()[:200] not in text
    output = next(out for cell in json.loads(text)["cells"] for out in cell.get("outputs", []) if "data" in out)
    assert "".join(output["data"]["text/plain"]).startswith("This rule pushes image 7 away from ")
