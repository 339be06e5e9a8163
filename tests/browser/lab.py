"""Driving JupyterLab: open a notebook, run it, and read an explorer from the page."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nbformat
from playwright.sync_api import Locator, Page, Route

LOCAL = {"127.0.0.1", "localhost"}
WAIT = 120.0  # seconds; it ends a hang and measures nothing


class Lab:
    """A page with JupyterLab.

    Attributes:
        page: Playwright's.
        beyond: addresses beyond this machine that were asked for.
        failures: errors that the page raised.
        expected: part of an error that is no failure of ours.
    """

    def __init__(self, page: Page, address: str, folder: Path) -> None:
        self.page, self.address, self.folder = page, address, folder
        self.beyond: list[str] = []
        self.failures: list[str] = []
        self.expected: str | None = None
        page.route("**/*", self._only_local)
        page.add_init_script(path=Path(__file__).parent / "page.js")
        page.on("pageerror", lambda error: self.failures.append(str(error)))

    def _only_local(self, route: Route) -> None:
        address = urlparse(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in LOCAL:
            self.beyond.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    def open(self, *cells: str, name: str = "test.ipynb") -> None:
        """Open a new notebook with these code cells, its kernel started."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        self.page.goto(f"{self.address}/lab/tree/{name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=1000 * WAIT)
        self.page.evaluate("document.querySelectorAll('.Toastify__close-button').forEach(b => b.click())")
        self.until("window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'")

    def command(self, name: str, **arguments: Any) -> None:
        """Run one of JupyterLab's commands, without waiting for it."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def run_all(self) -> None:
        """Run all cells and wait for the last."""
        self.command("notebook:run-all-cells")
        self.until("[...window.jupyterapp.shell.currentWidget.content.widgets].every(c => c.model.executionCount)")
        self.idle()

    def run(self, index: int) -> None:
        """Run one cell again, without waiting for it."""
        self.page.evaluate(
            """i => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              notebook.activeCellIndex = i;
              notebook.deselectAll();
              window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def rerun(self, index: int) -> None:
        """Run one cell again; what it showed before is gone from the page when this returns."""
        count = f"window.jupyterapp.shell.currentWidget.content.widgets[{index}].model.executionCount"
        before = self.page.evaluate(f"() => {count} ?? 0")
        self.page.evaluate(
            "() => document.querySelectorAll('.cltools-explorer').forEach(root => { root.dataset.former = true })"
        )
        self.run(index)
        self.until(f"{count} > {before}")
        self.idle()
        self.until("!document.querySelector('.cltools-explorer[data-former]')")

    def idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.until("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")

    def ask(self, code: str) -> str:
        """What code prints, run in the kernel beside the notebook."""
        found: str = self.page.evaluate(
            """async code => {
              const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
              const future = kernel.requestExecute({ code, store_history: false });
              let text = '';
              future.onIOPub = ({ content }) => { text += content.text ?? content.evalue ?? ''; };
              await future.done;
              return text;
            }""",
            code,
        )
        return found.strip()

    def scroll_to(self, index: int) -> None:
        """Bring a cell to the top of the window."""
        self.until(f"window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length > {index}")
        self.page.evaluate(
            """async i => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              await notebook.scrollToItem(i, 'start');
              const top = () => notebook.widgets[i].node.getBoundingClientRect().top;
              for (let last = NaN, still = 0; still < 5; last = top()) {
                await new Promise(requestAnimationFrame);
                still = top() === last ? still + 1 : 0;
              }
            }""",
            index,
        )

    def until(self, condition: str, seconds: float = WAIT) -> None:
        """Wait for a JavaScript expression to hold."""
        self.page.wait_for_function(f"() => {condition}", timeout=1000 * seconds)

    def cells(self) -> list[Any]:
        """Ids and texts of the notebook's cells, and which is selected."""
        found: list[Any] = self.page.evaluate(
            """() => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              const cells = notebook.widgets.map(c => [c.model.id, c.model.sharedModel.getSource(), c.model.type]);
              return [notebook.activeCellIndex, notebook.mode, cells];
            }"""
        )
        return found

    def shut_down(self) -> None:
        """Stop this window's kernel."""
        self.page.evaluate("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown()")

    def check(self) -> None:
        """Assert that nothing left this machine and that the page raised no error, and forget what was noted."""
        beyond, failures = (
            self.beyond[:],
            [each for each in self.failures if not (self.expected and self.expected in each)],
        )
        self.beyond.clear()
        self.failures.clear()
        assert beyond == [], f"a request left the machine: {beyond}"
        assert failures == [], f"the page raised errors: {failures}"


class Shown:
    """An explorer on the page, as a person and as the page's own code see it."""

    def __init__(self, lab: Lab, index: int = 0) -> None:
        self.lab, self.page = lab, lab.page
        self.root = lab.page.locator(".cltools-explorer").nth(index)
        self.root.locator(".cl-sentence:not(:empty)").wait_for(state="attached", timeout=1000 * WAIT)
        drawn = "root => root.querySelector('.js-plotly-plot')?._fullData?.some(trace => trace.customdata?.length)"
        while not self.root.evaluate(drawn):
            self.page.wait_for_timeout(50)

    @property
    def sentence(self) -> str:
        """The words."""
        return self.root.locator(".cl-sentence").inner_text()

    @property
    def state(self) -> str:
        """The state's line of JSON."""
        return self.root.locator("textarea").input_value()

    def plots(self) -> list[dict[str, Any]]:
        """For each map: which image each point is by symbol, and where its axes put things on the page."""
        found: list[dict[str, Any]] = self.root.evaluate(
            """root => [...root.querySelectorAll('.js-plotly-plot')].map(plot => ({
              slots: plot._fullData.slice(0, 5).map(trace => [...(trace.customdata ?? [])]),
              codes: plot._fullData.slice(0, 5).map(trace => trace.visible ? [...trace.marker.color] : []),
            }))"""
        )
        return found

    def pixel(self, place: int) -> tuple[float, float]:
        """Where an image's point is in the window."""
        found = self.root.evaluate(
            """(root, place) => {
              const plot = root.querySelector('.js-plotly-plot');
              const box = plot.getBoundingClientRect();
              const { xaxis, yaxis } = plot._fullLayout;
              for (const trace of plot._fullData.slice(0, 5)) {
                const i = [...(trace.customdata ?? [])].indexOf(place);
                if (i < 0) continue;
                return [box.x + xaxis._offset + xaxis.l2p(trace.x[i]), box.y + yaxis._offset + yaxis.l2p(trace.y[i])];
              }
            }""",
            place,
        )
        return found[0], found[1]

    def control(self, name: str) -> Locator:
        """A control by its name."""
        return self.root.locator(f"[data-control='{name}']")

    def edge(self, name: str) -> Locator:
        """A handle on the histogram."""
        return self.root.locator(f"[data-edge={name}]")

    def card(self) -> dict[str, Any] | None:
        """What the card shows, if it shows."""
        card = self.root.locator(".cl-card")
        if not card.is_visible():
            return None
        return {"place": int(card.get_attribute("data-place") or -1), "text": card.inner_text()}

    def groups(self) -> dict[int, tuple[str, list[int]]]:
        """Heading and pictures of each band."""
        read = """nodes => nodes.map(n => [Number(n.dataset.band), n.querySelector('.cl-head').textContent,
          [...n.querySelectorAll('.cl-tile')].map(t => Number(t.dataset.place))])"""
        found = self.root.locator("[data-band].cl-group").evaluate_all(read)
        return {band: (head, places) for band, head, places in found}

    def settled(self, act: Callable[[], Any]) -> None:
        """Act, and wait until the kernel has answered what was asked and the maps show it."""
        act()
        self.page.wait_for_timeout(60)
        self.lab.until("document.querySelectorAll('.cl-waiting:not([hidden])').length === 0")
        last, quiet, began = "", 0, time.monotonic()
        while quiet < 3 and time.monotonic() - began < WAIT:
            now = json.dumps([self.sentence, self.state, self.plots()])
            quiet = quiet + 1 if now == last else 0
            last = now
            self.page.wait_for_timeout(80)
