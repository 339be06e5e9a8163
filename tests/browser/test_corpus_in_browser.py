"""Embeddings made elsewhere: queries that search a corpus of texts, and rows that have neither picture nor text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alone import Opened, edge, opened
from playwright.sync_api import Browser

from cltools.explorer.session import Session
from cltools.explorer.standalone import save_html
from cltools.mining import Band
from cltools.snapshot import Snapshot, snapshot_of_embeddings

pytestmark = pytest.mark.browser

WORDS = (
    "river",
    "bank",
    "loan",
    "guitar",
    "cell",
    "virus",
    "city",
    "whale",
    "forest",
    "court",
    "bread",
    "star",
    "code",
)


def searched(queries: int, passages: int, **more: Any) -> Snapshot:
    """Queries whose matches are passages, in as many topics as there are words; each text names its topic first."""
    draws = np.random.default_rng(7)
    topics = np.arange(passages) % len(WORDS)
    corpus = draws.normal(size=(len(WORDS), 32))[topics] + 1.1 * draws.normal(size=(passages, 32))
    match = draws.permutation(passages)[:queries]
    texts = [f"{WORDS[topic]} {i} & <b>" for i, topic in enumerate(topics)]
    asked = [f"what of {WORDS[topics[place]]}?" for place in match]
    given = {"texts": (asked, texts), "ids": (700 + np.arange(queries), np.arange(passages))}
    metadata = {"language": np.where(np.arange(passages) % 3, "en", "de"), "year": 2000 + np.arange(passages) % 7}
    vectors = corpus[match] + 0.8 * draws.normal(size=(queries, 32)), corpus[match], corpus
    return snapshot_of_embeddings(*vectors, metadata=metadata, name="search", **given, **more)


@pytest.fixture(scope="module")
def search() -> Snapshot:
    return searched(40, 300)


def shown(browser: Browser, session: Session, folder: Path) -> Any:
    return opened(browser, session.snapshots[0], save_html(session, folder / "page.html"))


def test_why_are_84_percent_of_the_candidates_skipped(browser: Browser, tmp_path: Path) -> None:
    session = Session(searched(2000, 20_000))
    session.set(rule="RankBand", drop_closest=0.04, keep_within=0.2, by="anchor")
    report = session.report()
    others = sum(report.counts.values()) - report.counts["own"]
    skipped = 100 * (1 - report.counts["potential"] / others)
    assert f"{skipped:.1f}" == "84.0"
    with shown(browser, session, tmp_path) as page:
        words = page.page.locator(".cost p")
        for _ in range(600):
            if "all 2,000 anchors" in (words.text_content() or ""):
                break
            page.page.wait_for_timeout(100)
        assert (words.text_content() or "").replace(
            "\xa0", " "
        ) == "Over all 2,000 anchors, 84 % of the candidates are left out."
        rows = [row.split("\t") for row in page.page.locator(".cost tbody").inner_text().splitlines()]
        percent = {name: f"{100 * report.counts[name] / others:.1f}".removesuffix(".0") for name in report.counts}
        assert [[name[2:], share.replace("\xa0", " "), setting] for name, share, setting in rows] == [
            ["suspected", f"{percent['hard']} %", "right edge, drop_closest"],
            ["pushed away", f"{percent['potential']} %", "–"],
            ["too easy", f"{percent['easy']} %", "left edge, keep_within"],
        ]
        page.agrees()


def test_where_too_few_are_left_the_setting_to_loosen_is_named(
    browser: Browser, search: Snapshot, tmp_path: Path
) -> None:
    session = Session(search).set(rule="MarginBand", relative=0.5, margin=None, within=0.12)
    report = session.report()
    assert 0 < report.short < 40 and len(report.loosen) == 2
    with shown(browser, session, tmp_path) as page:
        page.until("document.querySelector('.cost p').textContent.includes('all 40')")
        now = {"within": 0.12, "relative": 0.5}
        settings = ", then ".join(f"{name[11:-3]} (now {now[name[11:-3]]})" for name in report.loosen)
        words = f"{report.short} keep fewer than 10: loosen {settings}."
        assert words in (page.page.locator(".cost p").text_content() or "")
        edge(page.page, "closest").press("PageDown")
        page.until(f"!document.querySelector('.cost p').textContent.includes({words!r})")
        page.agrees()


def test_texts_are_read_found_and_filtered_by(browser: Browser, search: Snapshot, tmp_path: Path) -> None:
    with shown(browser, Session(search).set(rule="RankBand", drop_closest=0.1, by="anchor"), tmp_path) as page:
        window = page.page
        assert window.locator(".anchor-tile").text_content() == search.texts[300]
        for tile in window.locator(".bands .tile").all():
            assert tile.text_content() == search.texts[int(tile.get_attribute("data-place") or -1)]
        tile = window.locator(".band-2 .tile").first
        tile.hover()
        assert window.locator(".card .text").text_content() == tile.text_content()
        own = int(window.locator(".match .tile").get_attribute("data-place") or -1)
        assert (
            window.evaluate("cltools.page.scene().own") == [own]
            and window.locator(".match .tile").text_content() == search.texts[own]
        )
        tile.click()
        key = int(tile.get_attribute("data-place") or -1)
        dialog = window.locator("dialog").inner_text()
        assert f"text {key}" in dialog and search.texts[key] in dialog and search.metadata["language"][key] in dialog
        assert "with the positive" in dialog and "are closer" in dialog
        assert page.state.anchor == 700, "a key of a corpus is no anchor"
        window.keyboard.press("Escape")
        window.locator(".anchor-tile").click()
        assert search.texts[300] in window.locator("dialog").inner_text()
        window.keyboard.press("Escape")
        field = window.locator(".find input")
        for question, expected in (
            ("GUITAR", [text.startswith("guitar") for text in search.texts[:300]]),
            ("language:de", [value == "de" for value in search.metadata["language"]]),
            ("year: 2003", [value == "2003" for value in search.metadata["year"]]),
        ):
            field.fill(question)
            page.drawn()
            assert window.locator(".find output").text_content() == f"{sum(expected)} found"
            places = [int(each.get_attribute("data-place") or -1) for each in window.locator(".bands .tile").all()]
            assert len(places) > 3 and all(expected[place] for place in places)
            circle(page)
            ids = window.locator("dialog textarea").input_value().split(", ")
            assert {*map(int, ids)} <= {place for place, hit in enumerate(expected) if hit} | {own}
            window.keyboard.press("Escape")
            window.get_by_role("button", name="Choose a group").click()
            band = page.agrees()["bands"][0]
            for code in (Band.EASY, Band.POTENTIAL, Band.HARD):
                found = sum(hit and held == code for hit, held in zip(expected, band, strict=True))
                total = sum(held == code for held in band)
                assert window.locator(f".band-{int(code)} h3").text_content()[2:].endswith(f"{found} of {total}")
        field.fill("")
        page.drawn()
        assert window.locator(".find output").text_content() == ""
        assert [option.get_attribute("value") for option in window.locator("datalist option").all()][:2] == [
            "language: de", "language: en",
        ]  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(1000, 540), (700, 900), (360, 640)])
def test_texts_fit_their_page(browser: Browser, tmp_path: Path, width: int, height: int) -> None:
    found = searched(20, 60, labels=([i % 2 for i in range(20)], [i % 2 for i in range(60)]))
    session = Session(found).set(rule="RankBand", drop_closest=0.1, keep_within=0.5, by="anchor")
    file = save_html(session, tmp_path / "page.html")
    with opened(browser, found, file, viewport={"width": width, "height": height}) as page:
        tile = page.page.locator(".band-2 .tile").first.bounding_box()
        assert tile is not None and (width < 1000 or tile["y"] + tile["height"] <= height), "in view, as pictures are"
        page.page.locator(".switch input").check(force=True)
        page.until("document.querySelector('.cost table').checkVisibility()")
        beyond = page.page.evaluate(
            "[...document.querySelectorAll('.cltools-explorer *')].filter((each) => each.checkVisibility() && "
            "!each.closest('.presets, .histogram') && each.getBoundingClientRect().right > innerWidth + 1)"
            ".map((each) => each.className || each.tagName)"
        )
        assert beyond == []


def test_anchors_are_listed_and_sorted(browser: Browser, search: Snapshot, tmp_path: Path) -> None:
    session = Session(search).set(
        rule="CosineBand", above=0.0, below=0.5, by="anchor", positive_rule="NearestKeys", k=2
    )
    table = session.anchors().set_index("anchor")
    with shown(browser, session, tmp_path) as page:
        window = page.page
        window.locator(".anchor-name").click()
        window.locator("dialog .list p").nth(39).wait_for()
        for order, expected in (
            ("left out", table[["hard", "easy", "other"]].sum(axis=1)),
            ("suspected", table["hard"]),
            ("pushed away", table["potential"]),
        ):
            window.locator("dialog select").select_option(label=order)
            listed = [int(each.split()[-1]) for each in window.locator("dialog .link").all_text_contents()]
            assert sorted(listed) == table.index.tolist()
            numbers = expected.loc[listed].tolist()
            assert numbers == sorted(numbers, reverse=True) and numbers[0] > numbers[-1], order
            first = window.locator("dialog .list p").first.locator("span").text_content() or ""
            assert first.startswith(f"{numbers[0]} ("), (order, first)
        window.locator("dialog input").fill("of guitar")
        asked = [i for i, text in enumerate(search.texts[300:]) if "of guitar" in text]
        assert window.locator("dialog .list p").count() == len(asked) > 0
        window.locator("dialog .link").first.click()
        assert page.state.anchor - 700 in asked and window.locator("dialog").is_hidden()
        assert window.locator("dialog option").last.evaluate("option => option.hidden"), "which needs classes"
        page.agrees()


def test_anchors_are_chosen_while_they_are_counted(browser: Browser, tmp_path: Path) -> None:
    session = Session(searched(2900, 9000, n=2900)).set(rule="RankBand", by="anchor")
    with shown(browser, session, tmp_path) as page:
        window = page.page
        window.locator(".anchor-name").click()
        link = window.locator("dialog .link").nth(4)
        link.wait_for(timeout=20_000)
        assert " of 2,900 anchors; counting goes on" in (window.locator("dialog p").first.text_content() or "")
        name = link.text_content() or ""
        box = link.bounding_box()
        assert box is not None
        window.mouse.move(box["x"] + 5, box["y"] + 5)
        window.mouse.down()
        window.wait_for_timeout(1500)
        window.mouse.up()
        assert f"query {page.state.anchor}" == name


def test_a_list_by_what_only_classes_tell_goes_with_them(browser: Browser, tmp_path: Path) -> None:
    found = searched(20, 60, labels=([i % 2 for i in range(20)], [i % 2 for i in range(60)]))
    with shown(browser, Session(found).set(rule="RankBand", by="anchor", truth=True), tmp_path) as page:
        window = page.page
        window.locator(".anchor-name").click()
        window.locator("dialog .list p").nth(19).wait_for()
        window.locator("dialog select").select_option(label="false negatives")
        window.keyboard.press("Escape")
        window.locator(".switch input").uncheck(force=True)
        window.locator(".anchor-name").click()
        assert window.locator("dialog select").input_value() == "0"


def test_classes_of_queries_and_passages_are_counted(browser: Browser, tmp_path: Path) -> None:
    topics = np.arange(90) % 3
    draws = np.random.default_rng(0)
    corpus = draws.normal(size=(3, 8))[topics] + draws.normal(size=(90, 8))
    found = snapshot_of_embeddings(corpus[:9], corpus[:9], corpus, labels=(topics[:9], topics))
    session = Session(found).set(rule="RankBand", drop_closest=0.1, keep_within=0.6, by="anchor", truth=True)
    table = session.anchors()
    with shown(browser, session, tmp_path) as page:
        page.until("document.querySelector('.cost p').textContent.includes('all 9 anchors')")
        assert "For this query, " in (page.page.locator(".truth-words").text_content() or "")
        page.page.locator(".anchor-name").click()
        page.page.locator("dialog select").select_option(label="false negatives")
        first = page.page.locator("dialog .list span").first.text_content() or ""
        assert first.startswith(f"{table['false'].max()} (")
        assert {each.text_content() for each in page.page.locator(".bands .tile").all()} <= {*map(str, range(90))}


def test_of_many_pictures_some_are_drawn_and_said(browser: Browser, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("cltools.snapshot.snapshot.PIXELS", 64 * 30)
    pictures = np.random.default_rng(0).integers(0, 255, (100, 3, 8, 8), dtype=np.uint8)
    found = snapshot_of_embeddings(np.random.default_rng(1).normal(size=(100, 8)), images=pictures)
    assert found.pictured is not None
    drawn = {*found.pictured.tolist()}
    with shown(browser, Session(found), tmp_path) as page:
        assert "100 images, of which a draw of 30 has a picture" in (page.page.locator(".foot").text_content() or "")
        page.page.locator(".band-2 .link").click()
        for tile in page.page.locator("dialog .tile").all():
            place = int(tile.get_attribute("data-place") or -1)
            painted = tile.evaluate("tile => tile.style.backgroundImage !== ''")
            assert painted == (place in drawn) and tile.text_content() == ("" if painted else str(place))


def test_a_group_is_told_by_its_ids(browser: Browser, search: Snapshot, tmp_path: Path) -> None:
    with shown(browser, Session(search), tmp_path) as page:
        circle(page)
        ids = page.page.locator("dialog textarea").input_value()
        assert len(ids.split(", ")) == 300 and {*map(int, ids.split(", "))} == {*range(300)}


def circle(page: Opened) -> None:
    """Draw a line around the whole map."""
    page.page.get_by_role("button", name="Choose a group").click()
    box = page.page.locator(".map canvas").bounding_box()
    assert box is not None
    x, y, width, height = (box[side] for side in ("x", "y", "width", "height"))
    mouse = page.page.mouse
    mouse.move(x + 2, y + 2)
    mouse.down()
    for across, down in ((1, 0), (1, 1), (0, 1)):
        mouse.move(x + 2 + across * (width - 4), y + 2 + down * (height - 4), steps=4)
    mouse.up()
