"""A page that stands alone, opened in a window, and what it shows compared with what `select` chooses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
from playwright.sync_api import Browser, Locator, Page, Route

from cltools.explorer.judgement import Judgement, difference
from cltools.explorer.session import Session
from cltools.explorer.state import State
from cltools.mining import Band
from cltools.snapshot import Snapshot

TOLD = """(at) => {
  const root = document.querySelector(at);
  const page = root.explorer ?? cltools.page;
  const ids = (nodes) => [...nodes].map((tile) => Number(/^\\S+ (\\d+)/.exec(tile.getAttribute("aria-label"))[1]));
  const scene = page.scene();
  const groups = [...root.querySelectorAll(".bands > .band")].map((node) => ({
    name: [...node.classList][1],
    title: node.querySelector("h3").textContent,
    ids: ids(node.querySelectorAll(".tile")),
  }));
  const borders = [...root.querySelectorAll(".histogram:not([hidden]) .flag:not([hidden]) figure")].map((each) => ({
    edge: each.closest(".flag").classList[1],
    caption: each.querySelector("figcaption").textContent,
    ids: ids(each.querySelectorAll(".tile:not(.none)")),
  }));
  return {
    state: JSON.stringify(page.state()),
    bands: [scene.a, scene.b].map((side) => side && [...side.judgement.band]),
    groups, borders,
    sentence: root.querySelector(".sentence").textContent,
    anchor: root.querySelector(".anchor-name").textContent,
  };
}"""


COUNTED = "/^Over all/.test(document.querySelector('.cost p').textContent)"


class Opened:
    """A page in a window of its own.

    Attributes:
        page: Playwright's.
        failures: errors that it raised, and addresses beyond the file that it asked for.
        root: selector of the explorer.
    """

    root = ".cltools-explorer"

    def __init__(self, page: Page, snapshots: tuple[Snapshot, ...], file: Path) -> None:
        self.page, self.snapshot, self.file = page, snapshots[0], file
        self.failures: list[str] = []
        self._session = self.session_of(snapshots)
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        page.on("console", lambda said: self.failures.append(said.text) if said.type == "error" else None)
        page.route("**/*", self._only_the_file)
        self.open()

    @staticmethod
    def session_of(snapshots: Sequence[Snapshot]) -> Session:
        """A session of one snapshot, or of two side by side."""
        return Session(snapshots[0], None, *snapshots[1:])

    def _only_the_file(self, route: Route) -> None:
        if urlparse(route.request.url).scheme in ("file", "data", "blob"):
            route.continue_()
        else:
            self.failures.append(route.request.url)
            route.abort()

    def open(self, address: str = "") -> None:
        """Open it, at a state's address."""
        self.page.goto("about:blank")
        self.page.goto(self.file.as_uri() + address)
        self.page.wait_for_selector(".sentence:not(:empty)")

    @property
    def state(self) -> State:
        """The state that the page tells."""
        return State.from_json(self.page.evaluate("JSON.stringify(cltools.page.state())"))

    def set(self, state: State) -> None:
        """Go to a state."""
        self.page.evaluate("line => cltools.page.set(JSON.parse(line))", state.to_json())

    def drawn(self) -> None:
        """Wait until what was asked is drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def settle(self) -> None:
        """Wait until the address tells the state, 500 ms after the last change."""
        self.until("decodeURIComponent(location.hash.slice(1)) === JSON.stringify(cltools.page.state())")

    def until(self, expression: str) -> None:
        """Wait until the page says so; its policy forbids Playwright's way."""
        for _ in range(200):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(expression)

    def agrees(self) -> dict[str, Any]:
        """What the page shows, once it is found to be what `select` chooses."""
        self.drawn()
        told: dict[str, Any] = self.page.evaluate(TOLD, self.root)
        state = State.from_json(told["state"])
        self._session.restore(state.to_json())
        sides = [self._session.judged("A"), *([self._session.judged("B")] if state.b else [])]
        for judged, bands in zip(sides, told["bands"], strict=False):
            assert np.array_equal(judged.band, bands), told["state"]
        shown = sides[-1] if state.active == "B" else sides[0]
        codes = difference(*sides) if state.b else shown.band
        place = {identity: at for at, identity in enumerate(self.snapshot.ids.tolist())}
        for group in told["groups"]:
            code = int(group["name"][-1])
            assert group["title"].endswith(f" {int((codes == code).sum()):,}"), (group, told["state"])
            scores = [float(shown.score[place[each]]) for each in group["ids"]]
            assert all(codes[place[each]] == code for each in group["ids"]), (group, told["state"])
            assert scores == sorted(scores), "from far to near, as on the axis"
        if not state.b:
            for border in told["borders"]:
                self._border(shown, border, place)
        assert f" {int((shown.band == Band.POTENTIAL).sum()):,} of " in told["sentence"]
        assert told["anchor"].split(" of ")[0] == f"{self.snapshot.anchor_noun} {state.anchor}"
        if not state.b:
            assert (" the weight " in told["sentence"]) == (" the weight " in self._session.sentence)
        return told

    @staticmethod
    def _border(shown: Judgement, border: dict[str, Any], place: dict[int, int]) -> None:
        """The picture beside an edge is the last one that is kept, or the first one left out."""
        closest, kept = border["edge"] == "closest", border["caption"] == "last kept"
        code = Band.POTENTIAL if kept else Band.HARD if closest else Band.EASY
        scores = shown.score[shown.band == code]
        found = [float(shown.score[place[each]]) for each in border["ids"]]
        assert found == ([] if not len(scores) else [float(scores.max() if closest == kept else scores.min())])


def save_page(path: Path, page: str) -> Path:
    path.write_text(page, encoding="utf-8")
    return path


def edge(page: Page, name: str, side: str = "A") -> Locator:
    return page.locator(f".histogram[data-side={side}] .edge.{name}")


@contextmanager
def opened(browser: Browser, snapshots: Snapshot | tuple[Snapshot, ...], file: Path, **how: Any) -> Iterator[Opened]:
    context = browser.new_context(**{"viewport": {"width": 1000, "height": 640}, **how})
    context.set_offline(True)
    context.set_default_timeout(5000)
    given = snapshots if isinstance(snapshots, tuple) else (snapshots,)
    found = Opened(context.new_page(), given, file)
    yield found
    context.close()
    assert found.failures == []
