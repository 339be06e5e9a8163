"""The page that stands alone, opened from a file without a network: every link of it, against `select`.

What the page shows is compared key by key, by ids, with what Python selects for the state that the page tells.
"""

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from alone import COUNTED, Opened, edge, opened, save_page
from own_rules import FarKeys
from playwright.sync_api import Browser
from snapshots import made

from cltools.explorer.session import Session
from cltools.explorer.standalone import page_of
from cltools.explorer.state import State, first_state
from cltools.mining import Band, DifficultAnchors
from cltools.snapshot import Snapshot, load_snapshot

pytestmark = pytest.mark.browser

NAMES = ("<b>bold</b><script>document.title='taken'</script>", "\"a\" & 'b' $x_1$ _y_", "x" * 400, "🐙 שלום")


def test_edges_by_pointer_and_by_keyboard(page: Opened) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        for name in ("closest", "beyond"):
            where = page.page.locator(".bars").first.bounding_box()
            box = edge(page.page, name).bounding_box()
            assert where is not None and box is not None
            x, y = box["x"] + box["width"] / 2, box["y"] + 30
            page.page.mouse.move(x, y)
            page.page.mouse.down()
            page.page.mouse.move(where["x"] + 34 + generator.uniform() * (where["width"] - 40), y, steps=2)
            page.page.mouse.up()
            page.agrees()
    keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Shift+ArrowLeft", "Home", "End"]
    for _ in range(20):
        for name in ("closest", "beyond"):
            for key in generator.choice(keys, 2):
                edge(page.page, name).press(key)
            told = page.agrees()
            now = edge(page.page, name).get_attribute("aria-valuetext")
            assert now is not None and now.startswith("leave out ")
            negatives = json.loads(told["state"])["a"]["negatives"]
            share = int(edge(page.page, name).get_attribute("aria-valuenow") or -1) / len(page.snapshot)
            field = {"closest": "drop_closest", "beyond": "keep_within"}[name]
            assert abs(negatives[field] - share) < 1 / len(page.snapshot)


def test_edges_in_cosine(page: Opened) -> None:
    page.page.get_by_role("button", name="More controls").click()
    page.page.get_by_role("combobox", name="rule for negatives").select_option(label="CosineBand")
    page.page.keyboard.press("Escape")
    page.agrees()
    for key in ("ArrowLeft", "PageDown", "End", "ArrowLeft"):
        edge(page.page, "closest").press(key)
        told = page.agrees()
        below = json.loads(told["state"])["a"]["negatives"]["below"]
        assert (
            below is None or abs(float(edge(page.page, "closest").get_attribute("aria-valuenow") or 9) - below) < 1e-6
        )


def test_a_picture_or_a_point_becomes_the_anchor(page: Opened) -> None:
    seen = {page.state.anchor}
    page.page.locator(".band-2 .tile").nth(2).click()
    seen.add(json.loads(page.agrees()["state"])["anchor"])
    page.page.locator(".flag.beyond .tile").first.click()
    seen.add(json.loads(page.agrees()["state"])["anchor"])
    page.page.get_by_role("button", name="next anchor").click()
    seen.add(json.loads(page.agrees()["state"])["anchor"])
    place = 700
    where = page.page.evaluate("place => cltools.page.map.pixelOf(place)", place)
    canvas = page.page.locator(".map canvas")
    canvas.hover(position={"x": where[0], "y": where[1]})
    card = page.page.locator(".card").inner_text()
    identity = int(card.split("image ")[1].split()[0])
    at = page.snapshot.ids.tolist().index(identity)
    session = Session(page.snapshot, page.state.to_json())
    judged = session.judged("A")
    assert f"cosine {judged.cosine[at]:.2f}".replace("-", "−") in card
    names = {Band.EASY: "too easy", Band.POTENTIAL: "pushed away", Band.HARD: "suspected", Band.MINED: "mined"}
    assert names[Band(int(judged.band[at]))] in card
    canvas.click(position={"x": where[0], "y": where[1]})
    assert json.loads(page.agrees()["state"])["anchor"] == identity
    canvas.focus()
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        canvas.press(key)
    walked = json.loads(page.agrees()["state"])["anchor"]
    assert walked != identity and len({*seen, identity, walked}) >= 5


def test_a_group_within_a_line(page: Opened) -> None:
    page.page.get_by_role("button", name="Choose a group by a line around it").click()
    box = page.page.locator(".map canvas").bounding_box()
    assert box is not None
    corners = [(20, 150), (200, 150), (200, 300), (20, 300)]
    page.page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.page.mouse.down()
    for x, y in corners[1:]:
        page.page.mouse.move(box["x"] + x, box["y"] + y, steps=3)
    page.page.mouse.up()
    listed = page.page.get_by_label("ids of the group").input_value()
    found = [int(each) for each in listed.split(", ")]
    pixels = page.page.evaluate(f"Array.from({{length: {len(page.snapshot)}}}, (_, i) => cltools.page.map.pixelOf(i))")
    inside = [i for i, (x, y) in enumerate(pixels) if 20 < x < 200 and 150 < y < 300]
    assert found == page.snapshot.ids[inside].tolist() and len(found) > 20
    band = Session(page.snapshot, page.state.to_json()).judged("A").band[inside]
    assert f"pushed away {int((band == Band.POTENTIAL).sum()):,}" in page.page.locator("dialog p").first.inner_text()
    page.page.locator("dialog .tile").nth(3).click()
    assert json.loads(page.agrees()["state"])["anchor"] == found[3]


def test_presets_two_sides_and_undo(page: Opened) -> None:
    first = page.state
    for name in ("Keep all", "Ring", "Closest tenth", "As many by chance", "Middle band"):
        page.page.get_by_role("radio", name=name).click()
        page.agrees()
    assert page.state == first
    page.page.get_by_role("button", name="Compare two rules, A and B").click()
    page.page.get_by_role("radio", name="Ring").click()
    page.agrees()
    for side in ("A", "B"):
        edge(page.page, "closest", side).press("PageDown")
        told = page.agrees()
        assert json.loads(told["state"])["active"] == side
    pictures = page.page.locator(".bands h3").all_inner_texts()
    assert [each.split()[1] for each in pictures] == ["A", "both", "B"]
    page.page.get_by_role("radio", name="B", exact=True).click()
    before = page.state
    page.page.keyboard.press("Control+z")
    page.agrees()
    assert page.state != before
    page.page.keyboard.press("Control+Shift+z")
    assert page.state == before
    undo = page.page.get_by_role("button", name="Undo")
    while undo.is_enabled():
        undo.click()
        page.drawn()
    page.agrees()
    assert page.state == first


def test_epochs_by_hand_and_played(page: Opened) -> None:
    page.page.get_by_role("button", name="More controls").click()
    slider = page.page.get_by_label("epoch", exact=True)
    for key in ("Home", "ArrowRight"):
        slider.press(key)
        page.agrees()
    assert page.state.a.epoch == page.snapshot.epochs[1] and slider.get_attribute("aria-valuetext") == "epoch 5"
    seen = set()
    page.page.get_by_role("button", name="Play the epochs").click()
    for _ in range(60):
        seen.add(page.state.a.epoch)
        if seen >= {*page.snapshot.epochs[2:]}:
            break
        page.page.wait_for_timeout(100)
    assert seen >= {*page.snapshot.epochs[2:]}
    page.page.get_by_role("button", name="Play the epochs").wait_for()
    page.agrees()


def test_controls_stay_while_someone_uses_them(page: Opened) -> None:
    page.page.get_by_role("button", name="More controls").click()
    slider = page.page.get_by_label("epoch", exact=True)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.page.mouse.move(box["x"] + box["width"] - 8, y)
    page.page.mouse.down()
    for part in (0.7, 0.4, 0):
        page.page.mouse.move(box["x"] + 3 + part * box["width"], y)
        page.drawn()
    page.page.mouse.up()
    assert page.state.a.epoch == page.snapshot.epochs[0], "dragged over all epochs, not only to the next"
    page.page.get_by_role("button", name="Play the epochs").click()
    field = page.page.get_by_role("textbox", name="keep within")
    before = page.state.a.negatives
    field.fill("0.37")
    page.until(f"cltools.page.state().a.epoch > {page.snapshot.epochs[1]}")
    assert field.input_value() == "0.37" and page.state.a.negatives == before, "nothing is taken that is not entered"
    page.page.get_by_role("button", name="Stop").click()
    field.fill("")
    field.press("Enter")
    fault = page.page.locator(".panel .row", has=field).get_by_role("alert")
    assert fault.inner_text() == "keep within is empty; it must be a number."
    page.page.locator(".row", has=field).locator("summary").click()
    assert "In code: keep_within" in page.page.locator(".row", has=field).inner_text()


def test_nothing_moves_under_the_pointer(browser: Browser, digits: Snapshot, file: Path) -> None:
    places = """() => ["[role=switch]", "[data-preset=all]", ".steps"].map((name) => {
      const { x, y } = document.querySelector(name).getBoundingClientRect();
      return [x, y];
    })"""
    for width in (360, 768, 1100):
        with opened(browser, digits, file, viewport={"width": width, "height": 700}) as page:
            start = page.page.evaluate(places)
            page.page.get_by_role("switch").click()
            for name in ("Keep all", "Ring", "As many by chance"):
                page.page.get_by_role("radio", name=name).click()
                page.drawn()
                assert page.page.evaluate(places)[0] == start[0], (width, name)
            page.page.evaluate("document.querySelector('[data-preset=all]').parentElement.scrollLeft = 0")
            page.page.get_by_role("button", name="next anchor").click()
            page.drawn()
            assert page.page.evaluate(places) == start, width


def test_what_is_told_to_those_who_do_not_see(page: Opened) -> None:
    heard = page.page.locator(".heard")
    page.page.evaluate(
        "new MutationObserver(() => (globalThis.told = (globalThis.told ?? 0) + 1))"
        ".observe(document.querySelector('.heard'), { childList: true })"
    )
    for _ in range(6):
        edge(page.page, "closest").press("ArrowLeft")
    page.until("globalThis.told > 0")
    page.page.wait_for_timeout(500)
    assert page.page.evaluate("globalThis.told") == 1, "once, after the last step"
    assert heard.inner_text().strip() == page.page.locator(".sentence").inner_text()
    undo = page.page.get_by_role("button", name="Undo")
    undo.focus()
    while undo.get_attribute("aria-disabled") == "false":
        undo.press("Enter")
        page.drawn()
    assert page.page.evaluate("document.activeElement.ariaLabel") == "Undo", "the focus stays at the last step"
    page.page.get_by_role("button", name="What is shown here?").click()
    page.page.get_by_role("dialog", name="What is shown here?").wait_for()
    page.page.mouse.click(5, 5)
    assert not page.page.locator("dialog").is_visible()
    page.page.get_by_role("button", name="More controls").click()
    page.page.mouse.click(5, 5)
    assert not page.page.locator(".panel").is_visible()


def test_colours_of_the_map_are_named(page: Opened) -> None:
    page.set(replace(page.state, truth=True, colour="class"))
    page.drawn()
    assert page.page.locator(".legend span").all_inner_texts() == [*page.snapshot.classes]
    page.set(replace(page.state, colour="similarity"))
    page.drawn()
    assert page.page.evaluate("getComputedStyle(document.querySelector('.legend'), '::after').content") == '"more"'


def test_the_address_restores_the_state_and_damage_is_ignored(page: Opened) -> None:
    page.page.get_by_role("switch", name="show true classes").click()
    edge(page.page, "closest").press("PageDown")
    page.page.locator(".band-3 .tile").first.click()
    state = page.state
    page.settle()
    address = page.page.evaluate("location.hash")
    assert State.from_json(unquote(address[1:])) == state
    page.page.reload()
    page.agrees()
    assert page.state == state
    for damaged in (
        "#%7B",
        "#nonsense",
        "#%",
        address.replace("anchor", "ancor"),
        address.replace("PCA", "x"),
        address[:-9],
    ):
        page.open(damaged)
        page.agrees()
    assert page.state == first_state(page.snapshot)


def test_truth_is_counted_over_all_anchors(page: Opened) -> None:
    label = page.snapshot.classes[page.snapshot.labels[0]]
    assert "of its own class" not in page.page.locator("body").inner_text()
    page.until(COUNTED)
    assert "of other classes" not in page.page.locator(".cost").inner_text(), "only what is left out, without classes"
    page.page.get_by_role("switch", name="show true classes").click()
    told = page.agrees()
    assert told["anchor"] == f"image {page.snapshot.ids[0]} of class {label}"
    session = Session(page.snapshot, told["state"])
    judged, same = session.judged("A"), page.snapshot.labels == page.snapshot.labels[0]
    kept = judged.band == Band.POTENTIAL
    words = page.page.locator(".truth-words").inner_text()
    assert words.startswith(f"For this image, {int((kept & same).sum())} of the {int(kept.sum())} (")
    census = session.census
    row = page.page.locator(".cost p")
    page.until(COUNTED)
    assert f"{100 * census.false.value:.1f}\u00a0%" in row.inner_text()
    assert f"{100 * census.kept.value:.1f}\u00a0%" in page.page.locator(".cost tr", has_text="pushed away").inner_text()
    cost = row.inner_text().partition("Of the suspected ")[2].partition(" (")[0]
    assert f"; over all {census.anchors:,} anchors, {cost}." in page.page.locator(".truth-words").inner_text()


def test_each_edge_tells_what_it_brings_and_what_it_costs(page: Opened) -> None:
    same = page.snapshot.labels == page.snapshot.labels[0]
    page.page.get_by_role("switch", name="show true classes").click()
    edges = [("The right edge", Band.HARD), ("The left edge", Band.EASY)]
    for name, by in (("Middle band", edges), ("As many by chance", [("It", Band.OTHER)]), ("Keep all", [])):
        page.page.get_by_role("radio", name=name).click()
        told = page.agrees()
        band = Session(page.snapshot, told["state"]).judged("A").band
        push = np.array(page.page.evaluate("[...cltools.page.scene().a.judgement.plain]"))
        lines = page.page.locator(".truth-words").inner_text().split("\n")
        assert f"; by chance {100 * (same.sum() - 1) / (len(same) - 1):.1f}\u00a0%." in lines[0]
        assert [line.partition(" leaves out ")[0] for line in lines[1:] if "leaves out" in line] == [
            who for who, code in by if (band == code).any()
        ]
        for (who, code), line in zip(by, lines[1:], strict=False):
            gain, cost = ((band == code) & of for of in (same, ~same))
            assert line.startswith(f"{who} leaves out "), line
            assert f" {100 * push[band == code].sum():.1f}".removesuffix(".0") + "\u00a0% of the push: " in line
            assert f": {gain.sum():,} false negative" in line and f"; its cost is {cost.sum():,} of other" in line
        chance = " by chance. It has no edges to drag." in told["sentence"]
        assert chance == (name == "As many by chance")


def test_names_are_shown_as_text(browser: Browser, digits: Snapshot, tmp_path: Path) -> None:
    named = replace(
        digits,
        classes=tuple(f"{NAMES[i % 4]} {i}" for i in range(10)),
        map_names=(NAMES[0], *digits.map_names[1:]),
        experiment=replace(digits.experiment, data=replace(digits.experiment.data, name="digits <i>")),
    )
    state = replace(first_state(named), truth=True)
    file = save_page(tmp_path / 'a "b" <c> $d_e$.html', page_of([named], state))
    for width in (1000, 360):
        with opened(browser, named, file, viewport={"width": width, "height": 640}) as page:
            for place in range(5):
                page.set(replace(state, anchor=int(named.ids[place])))
                page.drawn()
                want = f"image {named.ids[place]} of class {named.classes[named.labels[place]]}"
                assert page.page.locator(".anchor-name").text_content() == want
                tile = page.page.locator(".band .tile").nth(place % 3)
                tile.focus()
                at = int(tile.get_attribute("data-place") or -1)
                card = page.page.locator(".card").text_content() or ""
                assert f"image {named.ids[at]} of class {named.classes[named.labels[at]]}cosine" in card
                assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.page.title().startswith("digits <i>: ")
            assert page.page.locator("main :is(b b, script, i i, strong b)").count() == 0
            assert NAMES[0] in (page.page.locator(".map-note").text_content() or "")
            assert page.page.locator(".foot").inner_text().startswith("digits <i>: ")


def test_two_snapshots_side_by_side(browser: Browser, digits: Snapshot, tmp_path: Path) -> None:
    pair = digits, load_snapshot("digits-moco")
    state = first_state(*pair)
    with opened(browser, pair, save_page(tmp_path / "pair.html", page_of(pair, state))) as page:
        assert page.page.get_by_role("button", name="Compare two rules, A and B").count() == 0
        for side in ("A", "B"):
            edge(page.page, "closest", side).press("PageDown")
            edge(page.page, "beyond", side).press("PageUp")
            assert json.loads(page.agrees()["state"])["active"] == side
        runs = page.page.locator(".axis-name:visible").all_inner_texts()
        assert [each.partition(":")[0] for each in runs] == [
            "Adigits, RankBand with NearestKeys",
            "Bdigits, AllNegatives with AugmentedView",
        ]
        page.page.get_by_role("button", name="More controls").click()
        assert page.page.locator(".panel h3").first.inner_text() == "Negatives of side B"
        page.page.keyboard.press("Escape")
        page.page.locator(".band .tile").first.click()
        page.agrees()


def test_a_rule_that_only_python_knows_says_so(browser: Browser, digits: Snapshot, tmp_path: Path) -> None:
    head, told, state = page_of([digits], first_state(digits)).partition('"state": ')
    text = head + told + state.replace('"rule": "RankBand"', '"rule": "ByItsOwn"', 1)
    with opened(browser, digits, save_page(tmp_path / "own.html", text)) as page:
        page.page.evaluate(
            "cltools.page.set({ ...cltools.page.state(), anchor: cltools.page.scene().a.snapshot.ids[1] })"
        )
        page.drawn()
        assert page.page.locator(".sentence").inner_text() == "ByItsOwn is a rule that only Python knows."
        assert not edge(page.page, "closest").is_visible()
        page.page.get_by_role("radio", name="Ring").click()
        page.agrees()


def test_what_a_rule_of_ones_own_chose_was_recorded(browser: Browser, tmp_path: Path) -> None:
    snapshot = made(200)
    first = first_state(snapshot)
    state = replace(first, a=replace(first.a, negatives=FarKeys(0.4)))
    with opened(browser, snapshot, save_page(tmp_path / "own.html", page_of([snapshot], state))) as page:
        for button in (None, "next anchor", "next anchor"):
            if button:
                page.page.get_by_role("button", name=button).click()
            told = page.agrees()
            session = Session(snapshot, told["state"])
            weight = session.selection.anchor_weight
            assert weight is not None
            assert f" In the mean of the loss this anchor has the weight {float(weight):g}." in told["sentence"]
            push = page.page.evaluate("[...cltools.page.scene().a.judgement.push()]")
            assert np.allclose(push, session.judgement.force, atol=1e-5)
        page.page.get_by_role("switch", name="show true classes").click()
        page.drawn()
        assert "Only Python counts what this rule does" in page.page.locator(".cost").inner_text()
        page.set(replace(state, a=replace(state.a, temperature=0.3)))
        page.drawn()
        assert page.page.locator(".sentence").inner_text() == "FarKeys is a rule that only Python knows."
        page.page.get_by_role("button", name="Undo").click()
        page.agrees()
        page.page.get_by_role("radio", name="Ring").click()
        page.agrees()


def test_the_weight_of_an_anchor_is_told(page: Opened) -> None:
    state = replace(page.state, a=replace(page.state.a, negatives=DifficultAnchors(min_cosine=-1.0, anchor_weight=0.1)))
    page.set(state)
    assert " In the mean of the loss this anchor has the weight 0.1." in page.agrees()["sentence"]


def test_only_the_parts_that_are_asked_for(browser: Browser, digits: Snapshot, tmp_path: Path) -> None:
    parts = {"pictures": ".bands", "map": ".map", "cost": ".cost"}
    for asked in ("pictures", "map"):
        file = save_page(tmp_path / f"{asked}.html", page_of([digits], first_state(digits), show=[asked]))
        with opened(browser, digits, file) as page:
            edge(page.page, "closest").press("PageDown")
            page.drawn()
            assert [name for name, part in parts.items() if page.page.locator(part).count()] == [asked]
