"""The whole book, made as `make book` makes it, in Chromium: from the disk, without a network, wide and narrow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from executed import ROOT, executed
from playwright.sync_api import Browser, Page

from book.building import build
from cltools.lab import notebooks

pytestmark = pytest.mark.browser

SIZES = {"desktop": (1280, 720), "phone": (390, 844)}
RAW_FORMULA = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    if (/[$]|\\\\[a-z]+/.test(data) && !parentElement.closest('pre, code, script')) found.push(data);
  }
  return found;
}"""
UNLOADED = "() => [...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).map(i => i.alt)"
BROKEN = """() => [...document.querySelectorAll('a[href^="#"]')].map(a => decodeURIComponent(a.hash.slice(1)))
  .filter(id => !document.getElementById(id))"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book of the course, from what the tests of the notebooks have executed."""
    folder = tmp_path_factory.mktemp("made") / "book"
    build(folder, [*notebooks().values()], ROOT / "README.md", executed)
    return folder


@pytest.fixture(params=SIZES)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[tuple[Page, list[str]]]:
    """A window without a network, and what it complained of."""
    width, height = SIZES[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    window, complaints = context.new_page(), list[str]()
    window.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    window.on("pageerror", lambda error: complaints.append(str(error)))
    window.on("requestfailed", lambda asked: complaints.append(asked.url))
    local = ("file:", "data:", "blob:")
    window.on("request", lambda asked: None if asked.url.startswith(local) else complaints.append(asked.url))
    yield window, complaints
    context.close()


def test_every_page_reads_from_the_disk(book: Path, page: tuple[Page, list[str]]) -> None:
    window, complaints = page
    addresses = sorted(path.name for path in book.glob("*.html"))
    assert addresses == sorted(["index.html", *(f"{path.stem}.html" for path in notebooks().values())])
    for address in addresses:
        window.goto((book / address).as_uri())
        assert complaints == [], address
        assert window.evaluate(RAW_FORMULA) == [], address
        assert window.evaluate(UNLOADED) == [], address
        assert window.evaluate(BROKEN) == [], address
        assert window.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), address
        if address != "index.html":
            assert window.locator("figure img").count() >= 2, address
            explorers = window.locator("figcaption >> text=A still picture")
            assert explorers.count() >= 1, f"{address}: every notebook has one"


def test_a_reader_pages_from_the_first_to_the_last(book: Path, page: tuple[Page, list[str]]) -> None:
    window, complaints = page
    window.goto((book / "index.html").as_uri())
    titles = [window.title()]
    while (onward := window.locator("a[rel=next]")).count():
        onward.click()
        window.wait_for_load_state()
        titles.append(window.title())
    assert len(set(titles)) == len(titles) == len(notebooks()) + 1
    window.click("header >> text=The course")
    assert window.title() == titles[0] and complaints == []
