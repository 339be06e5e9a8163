"""The site, made as `make docs` makes it, in Chromium: from the disk, without a network, in all sizes and themes."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from alone import Opened, edge
from playwright.sync_api import Browser, Locator, Page
from test_page_access_in_browser import AXE, RULES

import cltools
from cltools.config import Experiment
from cltools.explorer.session import Session
from cltools.mining import Band
from cltools.snapshot import Snapshot

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
RAW = """() => {
  const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    if (parentElement.closest("pre, code, script, math, noscript")) continue;
    if (/[$]\\S[^$]*[$]|\\\\[a-z]+|\\]\\(|^#+ |<[a-z]+>/m.test(data)) found.push(data);
  }
  return found;
}"""
UNLOADED = (
    "() => [...document.images].filter(i => i.loading !== 'lazy' && (!i.complete || !i.naturalWidth)).map(i => i.src)"
)
UNLIKE = """([theme, known]) => {
  document.documentElement.dataset.theme = theme;
  for (const moving of document.getAnimations()) moving.finish();
  const grounds = new Map([[null, ""]]), seen = new Set(known);
  const ground = (node) => {
    if (!grounds.has(node)) {
      const { backgroundColor, backgroundImage, opacity } = getComputedStyle(node);
      const own = [backgroundColor, backgroundImage, opacity].join(" ");
      const below = ground(node.parentElement);
      grounds.set(node, own === "rgba(0, 0, 0, 0) none 1" ? below : `${below}/${own}`);
    }
    return grounds.get(node);
  };
  globalThis.unlike = [...document.querySelectorAll("body *")].filter((node) => {
    if (![...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim())) return false;
    const { color, fontSize, fontWeight } = getComputedStyle(node);
    const look = [node.localName, node.getAttribute("class"), color, fontSize, fontWeight, ground(node)].join();
    return !seen.has(look) && node.checkVisibility() && seen.add(look);
  });
  return [...seen];
}"""
"""Finds texts that look like no text before, on any page: the contrast of equal ones need not be measured again."""
PLAIN = """() => {
  for (const code of document.querySelectorAll("pre, .sig-param")) code.textContent = code.textContent;
}"""
"""Leaves out the colours of code, which are half of all elements."""
UNREACHED = """() => [...document.querySelectorAll("article *")]
  .filter((node) => node.scrollWidth > node.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(node).overflowX))
  .filter((node) => node.checkVisibility() && node.tabIndex < 0 && !node.querySelector("a, button, input, [tabindex]"))
  .map((node) => node.outerHTML.slice(0, 200))"""
"""What scrolls sideways, but not by keyboard."""
OF_THEME = {("label-content-name-mismatch", ".search-button-field")}
"""What axe finds in the theme's own parts."""
THEME = ("[PST]:",)
"""How the theme's own messages begin."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, from what the tests of the notebooks have executed."""
    folder = tmp_path_factory.mktemp("made") / "site"
    sphinx = ["-m", "sphinx", "-q", "-c", "docs", "-d", f"{folder}.doctrees", "--fail-on-warning", ".", str(folder)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "docs"), str(ROOT / "notebooks")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, *sphinx], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return folder


class Window:
    """A window without a network.

    Attributes:
        page: Playwright's.
        complaints: its errors, warnings, and addresses that it could not load or should not ask for.
    """

    def __init__(self, browser: Browser, width: int, height: int, scheme: str = "light", touch: bool = False) -> None:
        size: Any = {"width": width, "height": height}
        theme: Any = scheme
        hand = {"has_touch": touch, "is_mobile": touch}
        self.context = browser.new_context(viewport=size, color_scheme=theme, offline=True, **hand)
        self.context.set_default_timeout(15_000)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._asked)

    def _heard(self, said: Any) -> None:
        if said.type in ("error", "warning") and not said.text.startswith(THEME):
            self.complaints.append(said.text)

    def _failed(self, asked: Any) -> None:
        if not asked.url.startswith("blob:"):  # a picture that was not drawn yet when the next page was opened
            self.complaints.append(asked.url)

    def _asked(self, asked: Any) -> None:
        if not asked.url.startswith(("file:", "data:", "blob:")):
            self.complaints.append(asked.url)

    def answer_all(self) -> None:
        """Unfold what questions hide."""
        for button in self.page.locator("form.cl-ask button[type=button]").all():
            if button.is_visible():
                button.click()


@pytest.fixture
def window(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Window]:
    given = getattr(request, "param", {"width": 1280, "height": 800})
    found = Window(browser, **given)
    yield found
    found.context.close()


def pages(site: Path) -> list[Path]:
    return sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)


sizes = pytest.mark.parametrize(
    "window", [{"width": 1280, "height": 800}, {"width": 360, "height": 640}], indirect=True, ids=["desktop", "phone"]
)


def faults(page: Page, part: str, rules: list[str], *without: str) -> set[tuple[str, ...]]:
    """What axe finds in a part of the page, by rule and element, besides what it finds in the theme's own."""
    given = {"resultTypes": ["violations"], "preload": False, "runOnly": rules}
    given["rules"] = {rule: {"enabled": False} for rule in without}
    violations = page.evaluate(f"given => axe.run({part}, given).then((found) => found.violations)", given)
    return {(each["id"], *map(str, node["target"])) for each in violations for node in each["nodes"]} - OF_THEME


@sizes
def test_every_page_opens_from_the_disk_and_axe_finds_nothing(site: Path, window: Window) -> None:
    every, axe = pages(site), AXE.read_text(encoding="utf-8")
    wide = window.page.evaluate("innerWidth > 600")
    known: list[str] = []
    assert len(every) > 30 and site / "index.html" in every
    for path in every:
        window.page.goto(path.as_uri())
        window.answer_all()
        name = str(path.relative_to(site))
        assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        for chart in window.page.locator(".cl-plot").all():
            chart.scroll_into_view_if_needed()
        window.page.wait_for_function("document.querySelectorAll('.cl-plot:not(.js-plotly-plot)').length === 0")
        if path.name not in ("genindex.html", "search.html", "py-modindex.html"):
            assert window.page.evaluate(RAW) == [], name
            assert window.page.evaluate(UNLOADED) == [], name
        for root in window.page.locator(".cltools-explorer[data-explorer]").all():
            root.scroll_into_view_if_needed()
            window.page.wait_for_function("root => root.explorer", arg=root.element_handle())
        assert window.complaints == [], name
        assert window.page.evaluate(UNREACHED) == [], name
        if not wide:
            continue
        window.page.evaluate(axe)
        for theme in ("light", "dark"):
            before, known = known, window.page.evaluate(UNLIKE, [theme, known])
            if len(known) > len(before):
                assert faults(window.page, "{ include: unlike }", ["color-contrast"]) == set(), (name, theme)
        window.page.evaluate(PLAIN)
        assert faults(window.page, "document", RULES, "color-contrast") == set(), name


class Links(HTMLParser):
    """The links and the places of a page.

    Attributes:
        ids: what an address can name after its `#`.
        links: their addresses, and the classes of what holds them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, set[str]]] = []
        self._within: list[set[str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag in ("nav", "article", "footer"):
            self._within.append({tag, *given.get("class", "").split()})
        if address := given.get("href") or given.get("src"):
            self.links.append((address, {*given.get("class", "").split()}.union(*self._within)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("nav", "article", "footer") and self._within:
            self._within.pop()


@pytest.fixture(scope="module")
def links(site: Path) -> dict[Path, Links]:
    return {path: Links(path) for path in pages(site)}


def leading(links: dict[Path, Links], path: Path, *within: str) -> set[Path]:
    """The pages that the links of a page lead to, of those that have these classes or stand in such elements."""
    found = (path.parent / unquote(urlsplit(link).path) for link, kinds in links[path].links if kinds >= {*within})
    return {Path(os.path.normpath(each)) for each in found} & {*links}


def test_every_link_leads_to_a_file_and_to_a_place_in_it(links: dict[Path, Links]) -> None:
    dead = []
    for path, page in links.items():
        for link in {link for link, _ in page.links}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            file = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            there = file.exists() and (not parts.fragment or unquote(parts.fragment) in links[file].ids)
            if not there or file.suffix in (".md", ".ipynb"):  # which have pages of their own
                dead.append((path.name, link))
    assert dead == []


def test_start_pages_and_notebooks_lead_to_each_other(site: Path, links: dict[Path, Links]) -> None:
    course = [site / "notebooks" / f"{name}.html" for name in NOTEBOOKS]
    starts = [site / name for name in ("README.html", "docs/start.html")]
    references = sorted((site / "docs" / "api").glob("*.html"))
    assert len(references) > 3
    entry, contents = site / "index.html", site / "docs" / "index.html"
    for path in (entry, contents, *starts, *course, *references):
        assert leading(links, path, "nav", "bd-links") >= {*course, *references, *starts} - {path}, path.name
        assert path == entry or entry in leading(links, path, "navbar-brand"), path.name
    assert leading(links, entry, "article") >= {course[0], contents, site / "docs" / "start.html"}
    assert leading(links, site / "README.html", "article") >= {*course}
    for path, following in pairwise(course):
        assert following in leading(links, path, "article") & leading(links, path, "right-next"), path.name
        assert path in leading(links, following, "left-prev"), following.name


def test_no_page_names_a_folder_of_this_machine(site: Path) -> None:
    for path in pages(site):
        text = path.read_text(encoding="utf-8")
        assert str(Path.home()) not in text and tempfile.gettempdir() + "/" not in re.sub(
            r"<pre>.*?</pre>", "", text, flags=re.S
        )
    for script in (site / "_static" / "snapshots").glob("*.js"):
        assert f'"{tempfile.gettempdir()}/' not in script.read_text(encoding="utf-8")


def test_pages_are_small_and_so_is_the_whole(site: Path) -> None:
    assert {path.name: path.stat().st_size for path in pages(site) if path.stat().st_size > 3e6} == {}
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6


@sizes
def test_the_first_screen_is_an_explorer(site: Path, window: Window) -> None:
    window.page.goto((site / "index.html").as_uri())
    window.page.wait_for_selector(".cltools-explorer .sentence:not(:empty)")
    size = window.page.viewport_size
    assert size is not None
    for shown in (".question", ".sentence", ".edge.closest", ".edge.beyond"):
        box = window.page.locator(f".cltools-explorer {shown}").first.bounding_box()
        assert box is not None and box["y"] >= 0 and box["y"] + min(box["height"], 60) <= size["height"], shown
    assert window.page.evaluate("typeof Plotly") == "undefined" and window.complaints == []


def slid(window: Window, handle: Locator, by: float) -> None:
    """Drag by a finger."""
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 50
    touch = window.context.new_cdp_session(window.page)
    for kind, part in (("touchStart", 0), *(("touchMove", i / 8) for i in range(1, 9)), ("touchEnd", None)):
        points = [] if part is None else [{"x": x + part * by, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.parametrize("window", [{"width": 360, "height": 640, "touch": True}], indirect=True, ids=["finger"])
def test_from_the_entry_to_what_the_edges_cost(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "index.html").as_uri())
    sentence, hint = page.locator(".cltools-explorer .sentence"), page.locator(".cltools-explorer .hint")
    page.wait_for_selector(".cltools-explorer .sentence:not(:empty)")
    inside = "node => { const { bottom, right } = node.getBoundingClientRect(); return [bottom, right]; }"

    def shown(part: Locator, screens: int = 1) -> bool:
        bottom, right = part.evaluate(inside)
        return bool(bottom <= screens * 640 and right <= 360)

    assert shown(hint) and shown(sentence)
    before = sentence.inner_text()
    slid(window, edge(page, "closest"), -30)
    page.wait_for_selector(".cltools-explorer [aria-label=Undo][aria-disabled=false]")  # the finger is lifted
    assert page.evaluate("scrollY") == 0, "the page stays under the finger"
    assert hint.count() == 0
    dropped = re.search(r"It leaves out ▲ ([\d,]+) so close they may show the same thing", sentence.inner_text())
    assert dropped is not None and dropped[0] not in before
    page.locator(".cltools-explorer .switch").tap()
    truth = page.locator(".cltools-explorer .truth-words")
    page.wait_for_selector(".truth-words:not(:empty)")
    assert shown(truth, screens=2)
    told = truth.inner_text()
    assert f"The right edge leaves out ▲ {dropped[1]}, " in told and "The left edge leaves out ● " in told
    assert len(re.findall(r" of the push: [\d,]+ false negatives?; its cost is [\d,]+ of other classes", told)) == 2
    chance = page.get_by_role("radio", name="As many by chance")
    chance.tap()
    page.wait_for_function("document.querySelector('.sentence').innerText.includes(' by chance. ')")
    assert shown(chance), "the name of what was chosen is in view"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth && scrollX === 0")
    links = page.locator("a.cl-go")
    boxes = [box for each in links.all() if (box := each.bounding_box())]
    assert len(boxes) == 4 and all(box["height"] >= 44 for box in boxes)
    for one, two in combinations(boxes, 2):
        assert one["y"] + one["height"] <= two["y"] or one["x"] + one["width"] <= two["x"], "none covers another"
    links.first.tap()
    page.wait_for_url("**/notebooks/00_start_here.html")
    assert window.complaints == []


def held(site: Path, name: str) -> Snapshot:
    """A snapshot as its script holds it."""
    text = (site / "_static" / "snapshots" / f"{name}.js").read_text(encoding="utf-8")
    data = json.loads(text.partition(" = ")[2].rstrip(";\n"))
    epochs, count, dim = len(data["epochs"]), len(data["ids"]), data["dim"]

    def array(texts: list[str], dtype: str, *shape: int) -> np.ndarray:
        return np.stack([np.frombuffer(base64.b64decode(text), dtype).reshape(shape) for text in texts])

    maps = np.stack([array(of, "<f4", count, 2) for of in data["maps"]])
    anchors, keys = (array(data[side], "<f2", count, dim).astype(np.float32) for side in ("anchors", "keys"))
    learned = data["thresholds"] and array(data["thresholds"], "<f4", count).astype(np.float32)
    nothing = np.zeros((len(maps), epochs, count), np.float32)
    return Snapshot(
        Experiment(), tuple(data["epochs"]), anchors, keys, maps, tuple(data["mapNames"]), nothing, nothing[:, :, 0],
        np.array(data["ids"]), np.array(data["labels"]), tuple(data["classes"]), base64.b64decode(data["sprite"]),
        tuple(data["tile"]), thresholds=learned, pictured=data["pictured"] and np.array(data["pictured"]),
    )  # fmt: skip


class Shown(Opened):
    """An explorer of a page of the site."""

    def __init__(self, page: Page, snapshots: list[Snapshot], root: str) -> None:
        self.page, self.snapshot, self.root = page, snapshots[0], root
        self._session = self.session_of(snapshots)

    def session(self, state: str) -> Session:
        """The explorer's session at a state."""
        self._session.restore(state)
        return self._session


@pytest.mark.parametrize(
    "name", ["index.html", "index.html?projector", *(f"notebooks/{name}.html" for name in NOTEBOOKS)]
)
def test_edges_of_every_explorer_by_pointer_and_by_keyboard(site: Path, window: Window, name: str) -> None:
    page, rng = window.page, np.random.default_rng(0)
    page.goto(f"{site.as_uri()}/{name}")
    window.answer_all()
    roots = page.locator(".cltools-explorer[data-explorer]")
    assert roots.count() >= 1, "every notebook has one"
    for i in range(roots.count()):
        root = roots.nth(i)
        told = json.loads(root.get_attribute("data-explorer") or "")
        root.scroll_into_view_if_needed()
        page.wait_for_function("root => root.explorer", arg=root.element_handle())
        shown = Shown(page, [held(site, each) for each in told["snapshots"]], f"#{root.get_attribute('id')}")
        if not root.locator(".edge.beyond").first.is_visible():
            root.get_by_role("radio", name="Middle band").click()
        shown.agrees()
        for _ in range(10):
            for which in ("closest", "beyond"):
                handle = root.locator(f".histogram:not([hidden]) .edge.{which}").first
                bars, box = root.locator(".bars").first.bounding_box(), handle.bounding_box()
                assert bars is not None and box is not None
                x, y = box["x"] + box["width"] / 2, box["y"] + 30
                page.mouse.move(x, y)
                page.mouse.down()
                page.mouse.move(bars["x"] + 34 + rng.uniform() * (bars["width"] - 40), y, steps=2)
                page.mouse.up()
                shown.agrees()
                handle.press(str(rng.choice(["ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End"])))
                shown.agrees()
    assert window.complaints == []


SOLUTIONS: dict[str, list[dict[str, Any]]] = {
    "00_start_here": [{"drop_closest": 0.0, "keep_within": 1.0}, {"drop_closest": 0.1}],
    "01_gradients_of_negatives": [{"temperature": 0.11}],
    "02_bands_and_false_negatives": [{"drop_closest": 0.17}],
    "03_mined_positives": [{"augmented_share": 0.68}],
    "04_train_and_compare": [{}, {}],
    "05_cifar_and_tinyimagenet": [{}],
    "06_your_own_images": [{"drop_closest": 4 / 128}],
}
"""How the explorer is set for each check of a page; what is empty is told by the check itself."""
EXPLORER = {"06_your_own_images": "#explorer-2"}
"""Which one a notebook calls `explorer`, where it is not the first."""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_exercises_are_checked_on_the_page(site: Path, window: Window, name: str) -> None:
    page = window.page
    page.goto(f"{site.as_uri()}/notebooks/{name}.html")
    window.answer_all()
    forms = page.locator("form.cl-check")
    assert forms.count() == len(SOLUTIONS[name])

    def said(form: Any) -> str:
        form.get_by_role("button", name="Check").click()
        status = form.locator("[role=status]")
        page.wait_for_function("node => !/^(Counting|$)/.test(node.textContent)", arg=status.element_handle())
        return str(status.inner_text())

    for i, changes in enumerate(SOLUTIONS[name]):
        form = forms.nth(i)
        check = json.loads(form.get_attribute("data-check") or "")
        if check["unit"]:
            assert said(form) == "Write a number, such as 40."
            form.locator("input").fill("0,5")
        assert said(form).startswith("Not yet: ")
        right = next(case for case in check["cases"] if case["right"])["where"]
        middle = {name: sum(ends) / 2 for name, ends in right.items() if None not in ends and "kept" not in ends}
        if {"edge", "within"} <= {*middle}:  # a cell of a map
            changes = {"drop_closest": max(0, middle["edge"] / 100), "keep_within": middle["within"] / 100}
        if check["measures"]:
            which = EXPLORER.get(name, "#explorer-1")
            assert form.locator("a").first.get_attribute("href") == which, "the notebook's `explorer`"
            root = page.locator(which)
            told = json.loads(root.get_attribute("data-explorer") or "")
            shown = Shown(page, [held(site, each) for each in told["snapshots"]], f"#{root.get_attribute('id')}")
            root.scroll_into_view_if_needed()
            page.wait_for_function("root => root.explorer", arg=root.element_handle())
            session = shown.session(root.evaluate("root => JSON.stringify(root.explorer.state())")).set(**changes)
            root.evaluate("(root, state) => root.explorer.set(state)", json.loads(session.state.to_json()))
            middle.setdefault("answer", int((session.judgement.band == Band.POTENTIAL).sum()))
        if check["unit"]:
            form.locator("input").fill(f"{middle['answer']:,}")
        assert said(form).startswith("Right. ")
        if check["measures"]:
            root.evaluate("root => root.explorer.set({...root.explorer.state(), truth: true})")
            form.locator("[role=status]:empty").wait_for(state="attached")  # it was said of another state
    assert window.complaints == []


def test_a_link_carries_the_state(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "index.html").as_uri())
    page.wait_for_selector(".cltools-explorer .sentence:not(:empty)")
    edge(page, "closest").press("PageDown")
    page.wait_for_function("location.hash.length > 1")
    address, sentence = page.url, page.locator(".sentence").inner_text()
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(".cltools-explorer .sentence:not(:empty)")
    page.wait_for_function("text => document.querySelector('.sentence').innerText === text", arg=sentence)
    page.goto("about:blank")
    page.goto((site / "index.html").as_uri() + "#explorer-1=nonsense")
    page.wait_for_selector(".cltools-explorer .sentence:not(:empty)")
    assert window.complaints == []


def test_an_answer_is_folded_until_it_is_asked_for(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "notebooks" / "02_bands_and_false_negatives.html").as_uri())
    form = page.locator("form.cl-ask").first
    reveal = page.locator(".cl-reveal").first
    assert form.is_visible() and not reveal.is_visible()
    assert not page.locator(".cltools-explorer").first.is_visible(), "what answers it stands between"
    form.get_by_role("button", name="Answer").click()
    assert "Write a number" in form.locator("[role=status]").inner_text() and not reveal.is_visible()
    form.locator("input").fill("30")
    form.get_by_role("button", name="Answer").click()
    assert reveal.is_visible() and reveal.inner_text().startswith("You said 30 %; it was ")
    page.reload()
    assert page.locator(".cl-reveal").first.is_visible(), "an answer is kept while the window is open"


@pytest.mark.parametrize(
    ("written", "read"),
    [("1,294", "1,294"), ("12,345,678", "12,345,678"), ("2,5", "2.5"), ("0,125", "0.125"), ("30 %", "30")],
)
def test_a_comma_groups_thousands_or_is_a_decimal_one(site: Path, window: Window, written: str, read: str) -> None:
    page = window.page
    page.goto((site / "notebooks" / "02_bands_and_false_negatives.html").as_uri())
    form = page.locator("form.cl-ask").first
    form.locator("input").fill(written)
    form.get_by_role("button", name="Answer").click()
    assert page.locator(".cl-reveal").first.inner_text().startswith(f"You said {read} %; it was ")


def test_what_an_address_asks_for_is_kept_on_the_way(site: Path, window: Window) -> None:
    page = window.page
    entry = (site / "index.html").as_uri()
    page.goto(f"{entry}?ask&projector")
    page.locator("a.cl-go").first.click()
    page.wait_for_url("**/00_start_here.html?ask&projector")
    for way in (".right-next", ".left-prev"):
        page.locator(f"a{way}").click()
        page.wait_for_url(f"**/0{int(way == '.right-next')}_*.html?ask&projector")
        assert page.evaluate("document.documentElement.style.zoom") == "1.4"
        assert page.locator("form.cl-ask button[type=button]").filter(visible=True).count() == 0
    kept = page.locator("a[href]").evaluate_all(
        "(links) => links.filter((link) => !link.getAttribute('href').startsWith('#')).map((link) => link.href)"
    )
    for link in kept:
        own = link.startswith(site.as_uri()) and urlsplit(link).path.endswith(".html")
        assert (urlsplit(link).query == "ask&projector") == own, link
    assert sum("?ask" in link for link in kept) > 10 and not all("?ask" in link for link in kept)
    page.evaluate(
        "document.querySelector('article').insertAdjacentHTML('afterbegin', '<a id=late href=../index.html>x</a>')"
    )
    page.locator("#late").click()
    page.wait_for_url("**/index.html?ask&projector")
    page.goto((site / "search.html").as_uri() + "?q=RankBand&ask")
    page.locator("#search-results a[href*='html']").first.click()
    page.wait_for_function(
        "!location.pathname.endsWith('search.html') && new URLSearchParams(location.search).has('ask')"
    )
    page.wait_for_load_state()
    page.goto(entry)
    assert page.locator("a[href*='?ask']").count() == 0
    assert [each for each in window.complaints if "/snapshots/" not in each] == [], "besides loads that leaving ended"


def test_in_class_no_answer_is_shown_without_a_guess(site: Path, window: Window) -> None:
    page, address = window.page, (site / "notebooks" / "02_bands_and_false_negatives.html").as_uri()
    for class_ in ("the first", "the second"):
        page.goto("about:blank")
        page.goto(f"{address}?ask")
        assert not page.locator(".cl-reveal").first.is_visible(), f"{class_} class has not guessed yet"
        assert not page.locator("form.cl-ask button[type=button]").first.is_visible()
        page.locator("form.cl-ask input").first.fill("30")
        page.locator("form.cl-ask button[type=submit]").first.click()
        assert page.locator(".cl-reveal").first.is_visible()
    page.goto(address)
    assert page.locator("form.cl-ask button[type=button]").first.is_visible()


def test_a_link_to_a_folded_heading_unfolds_it(site: Path, window: Window) -> None:
    page = window.page
    address = (site / "notebooks" / "02_bands_and_false_negatives.html").as_uri()
    page.goto(address)
    hidden = page.locator("article section section[id] > h2").filter(visible=False).first
    name = hidden.evaluate("node => node.parentElement.id")
    page.goto("about:blank")
    page.goto(f"{address}#{name}")
    assert page.locator(f"section[id='{name}'] > h2").is_visible()
    for address_of_what_is_shown in (f"{address}#a-snapshot-is-one-encoder-applied-to-every-image", f"{address}#50%"):
        page.goto("about:blank")
        page.goto(address_of_what_is_shown)
        assert not page.locator(".cl-reveal").first.is_visible() and page.locator(".cl-sort, .cl-ask").count()


def test_an_address_leads_to_an_explorer_behind_a_question(site: Path, window: Window) -> None:
    page, address = window.page, (site / "notebooks" / "02_bands_and_false_negatives.html").as_uri()
    page.goto(address)
    told = json.loads(page.locator("#explorer-1").get_attribute("data-explorer") or "")
    state = told["state"] | {"anchor": held(site, told["snapshots"][0]).ids.tolist()[5]}
    page.evaluate("state => { location.hash = `explorer-1=${encodeURIComponent(JSON.stringify(state))}`; }", state)
    page.wait_for_function("document.querySelector('#explorer-1').explorer")
    assert page.locator("#explorer-1").is_visible()
    page.wait_for_function(f"document.querySelector('#explorer-1').explorer.state().anchor === {state['anchor']}")


def test_charts_without_scripts_are_images(site: Path, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "notebooks" / "02_bands_and_false_negatives.html").as_uri())
    assert page.locator(".cl-plot").count() >= 3
    for chart in page.locator(".cl-plot").all():
        chart.scroll_into_view_if_needed()
        box, image = chart.bounding_box(), chart.locator("img")
        image.evaluate("image => image.decode()")
        assert box is not None and box == image.bounding_box() and box["height"] > 200
    context.close()


def test_charts_that_are_out_of_view_are_printed(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "notebooks" / "02_bands_and_false_negatives.html").as_uri())
    window.answer_all()
    assert page.locator(".cl-plot img").count() >= 3, "not drawn yet"
    page.evaluate("document.documentElement.dataset.theme = 'dark'; dispatchEvent(new Event('beforeprint'))")
    assert page.locator("html").get_attribute("data-theme") == "light", "paper is white"
    page.wait_for_function("[...document.querySelectorAll('.cl-plot img')].every(image => image.naturalWidth)")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert window.complaints == []


def test_a_legend_is_switched_by_keyboard(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "notebooks" / "02_bands_and_false_negatives.html").as_uri())
    window.answer_all()
    chart = page.locator(".cl-plot").first
    chart.scroll_into_view_if_needed()
    legend = chart.get_by_role("group", name="Curves shown")
    name = legend.get_by_role("button", pressed=True).first.get_attribute("aria-label") or ""
    item, curves = legend.get_by_role("button", name=name, exact=True), chart.locator(".scatterlayer .trace")
    first = curves.count()
    item.focus()
    for key, pressed in (("Enter", "false"), ("Space", "true"), ("Enter", "false")):
        page.keyboard.press(key)
        legend.get_by_role("button", name=name, exact=True, pressed=pressed == "true").wait_for()
        assert item.evaluate("item => item === document.activeElement")
        assert (curves.count() < first) == (pressed == "false")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true", "the next one"
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_function("chart => chart.querySelector('.main-svg').clientWidth < 680", arg=chart.element_handle())
    assert item.get_attribute("aria-pressed") == "false" and item.get_attribute("tabindex") == "0"
    assert window.complaints == []


def test_tables_are_sorted_by_a_column(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "docs" / "results.html").as_uri())
    table = page.locator("article table", has=page.get_by_role("button", name="kNN-200", exact=True)).first
    for name, orders in {"kNN-200": ("descending", "ascending"), "arm": ("ascending", "descending")}.items():
        head = table.locator("th", has_text=name).first
        column = head.evaluate("node => node.cellIndex")
        mark = "node => getComputedStyle(node.querySelector('.cl-sort'), '::after').content.slice(1, 2)"
        assert head.evaluate(mark) == "↕", "one sees that it can be pressed"
        for order in orders:
            head.get_by_role("button", name=name, exact=True).click()
            assert head.get_attribute("aria-sort") == order and table.locator("[aria-sort]").count() == 1
            assert head.evaluate(mark) == {"ascending": "▲", "descending": "▼"}[order]
            cells = column_of(table, column)
            values = [float(re.split(r"[ ±]", cell)[0]) if name == "kNN-200" else cell for cell in cells if cell]
            assert values == sorted(values, reverse=order == "descending") and len({*values}) > 3


def column_of(table: Locator, column: int) -> list[str]:
    found = table.locator("tbody tr").evaluate_all(f"rows => rows.map(row => row.cells[{column}].textContent.trim())")
    return [str(each) for each in found]


TORN = """() => {
  const text = (cells) => JSON.stringify(cells.map((cell) => cell.textContent.trim()));
  const found = [];
  let pressed = 0;
  for (const table of document.querySelectorAll("article table:has(.cl-sort)")) {
    const body = table.tBodies[0], columns = table.tHead.rows[0].cells.length;
    const grid = [...body.rows].map(() => []);
    for (const [i, row] of [...body.rows].entries()) {
      for (const cell of row.cells) {
        let column = 0;
        while (grid[i][column]) column++;
        for (let below = i; below < i + cell.rowSpan; below++) grid[below][column] = cell;
      }
    }
    const before = grid.map(text).sort();
    for (const button of table.querySelectorAll(".cl-sort")) {
      for (const press of [1, 2]) {
        button.click();
        pressed++;
        const rows = [...body.rows].map((row) => [...row.cells]);
        const whole = rows.every((row) => row.length === columns && row.every((cell) => cell.rowSpan === 1));
        if (!whole || String(rows.map(text).sort()) !== String(before)) found.push([button.textContent, press]);
      }
    }
  }
  return [pressed, found];
}"""
"""How many heads were pressed, and those that have torn rows apart."""


def test_rows_of_every_table_stay_whole_by_whatever_column_they_are_sorted(site: Path, window: Window) -> None:
    total = 0
    for path in pages(site):
        if "<thead" not in path.read_text(encoding="utf-8"):
            continue
        window.page.goto(path.as_uri())
        pressed, torn = window.page.evaluate(TORN)
        assert torn == [], path.name
        total += pressed
    assert total > 300 and window.complaints == []


def test_a_table_of_groups_is_sorted_with_a_group_in_each_row(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "notebooks" / "04_train_and_compare.html").as_uri())
    window.answer_all()
    table = page.locator("article table:has(td):has(tbody [rowspan])").first.element_handle()
    page.evaluate("table => { table.id = 'grouped'; }", table)
    grouped = page.locator("#grouped")
    groups = grouped.locator("tbody th[rowspan]").all_inner_texts()
    head = grouped.get_by_role("columnheader", name="gain", exact=True)
    column = head.evaluate("node => node.cellIndex")
    head.get_by_role("button").click()
    gains = column_of(grouped, column)
    filled = [float(gain.split(" ")[0].replace("−", "-")) for gain in gains if gain]
    assert gains[0] and filled == sorted(filled, reverse=True) and len({*filled}) > 10 and "" in gains
    assert {*column_of(grouped, 0)} >= {*groups}


def test_numbers_are_sorted_by_size_and_other_units_come_last(site: Path, window: Window) -> None:
    page = window.page
    page.goto((site / "docs" / "speed.html").as_uri())
    costs, gains = (
        page.locator("article table", has=page.locator("th", has_text=name)).first for name in ("MiB at 512", "gain")
    )
    for head in (costs.locator("th", has_text="512 × 4,096"), gains.locator("th", has_text="goal")):
        table = costs if "512" in head.inner_text() else gains
        column = head.evaluate("node => node.cellIndex")
        for down in (True, False):
            head.get_by_role("button").click()
            cells = column_of(table, column)
            other = [cell.endswith(" ms") if table is costs else not cell.startswith("÷") for cell in cells]
            assert any(other) and other == sorted(other), "a row in another unit is not ranked among them"
            ranked = [float(cell.removeprefix("÷ ")) for cell, last in zip(cells, other, strict=True) if not last]
            assert ranked == sorted(ranked, reverse=down) and len({*ranked}) > 2
    divided = gains.locator("th", has_text="gain")
    divided.get_by_role("button").click()
    by = [float(cell.removeprefix("÷ ")) for cell in column_of(gains, divided.evaluate("node => node.cellIndex"))]
    assert by == sorted(by, reverse=True) and by[0] > 10 > by[1]


def test_wide_tables_are_tables_that_scroll_in_a_named_group(site: Path, window: Window) -> None:
    page = window.page
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto((site / "docs" / "results.html").as_uri())
    group = page.get_by_role("group", name="Table: shapes, three seeds")
    assert group.get_by_role("columnheader", name="kNN-200").count() == 1
    group.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("group => group.scrollLeft > 0", arg=group.element_handle())
    page.set_viewport_size({"width": 4000, "height": 640})
    group.wait_for(state="detached")  # all of it is seen


def test_tables_do_not_widen_a_phones_page_without_scripts(site: Path, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 640}, java_script_enabled=False)
    page = context.new_page()
    for name in ("docs/results", "docs/methods", "notebooks/04_train_and_compare"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.locator("article table").count() and page.evaluate(
            "document.documentElement.scrollWidth <= innerWidth"
        ), name
    context.close()


def test_the_search_finds_every_public_name(site: Path, window: Window) -> None:
    page = window.page
    for name in cltools.__all__:
        if name == "__version__":
            continue
        page.goto((site / "search.html").as_uri() + f"?q={name}")
        page.wait_for_selector(f"#search-results a[href$='#cltools.{name}']")
    assert window.complaints == []
