"""Driving JupyterLab: open a notebook, run it, and read an explorer from the page."""

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import nbformat
from playwright.sync_api import Locator, Page, Route

LOCAL = {"127.0.0.1", "localhost"}
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"
BUSY = "import pathlib, time\nwhile pathlib.Path('busy').exists(): time.sleep(0.05)"
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
        self._busy: int | None = None
        page.route("**/*", self._only_local)
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
        """Run one cell again to its end; what it showed before is gone from the page when this returns."""
        self.page.evaluate(
            """async i => {
              document.querySelectorAll('.cltools-explorer').forEach(root => { root.dataset.former = true });
              const notebook = window.jupyterapp.shell.currentWidget.content;
              notebook.activeCellIndex = i;
              notebook.deselectAll();
              await window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )
        self.idle()
        self.until(f"{CELLS}[{index}].model.executionCount")
        self.until(f"!{CELLS}[{index}].node.querySelector('[data-former]')")

    def occupy(self, index: int) -> None:
        """Run a cell whose text is `BUSY`, and wait until it runs; `free` ends it."""
        (self.folder / "busy").touch()
        self._busy = index
        self.run(index)
        self.until(f"{KERNEL}.status === 'busy' && {CELLS}[{index}].model.executionCount === null")

    def free(self) -> None:
        """End what `occupy` began."""
        (self.folder / "busy").unlink(missing_ok=True)
        if self._busy is not None:
            self.until(f"{CELLS}[{self._busy}].model.executionCount !== null")
            self._busy = None
        self.idle()

    @property
    def occupied(self) -> bool:
        """Whether the cell of `occupy` runs; a kernel may answer widgets meanwhile, and then says that it is idle."""
        return bool(self.page.evaluate(f"{CELLS}[{self._busy}].model.executionCount === null"))

    def restart(self) -> None:
        """Restart the kernel, and wait until it can run."""
        self.page.evaluate(f"{KERNEL}.restart()")
        self.idle()

    def keep_widgets(self, keep: bool) -> None:
        """Say whether the notebook's file keeps what widgets are made of."""
        name = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"
        if self.page.evaluate(f"window.jupyterapp.commands.isToggled('{name}')") != keep:
            self.command(name)
            self.until(f"window.jupyterapp.commands.isToggled('{name}') === {str(keep).lower()}")

    def save(self) -> str:
        """Save the notebook; its text."""
        self.command("docmanager:save")
        self.until("!window.jupyterapp.shell.currentWidget.context.model.dirty")
        name = self.page.evaluate("window.jupyterapp.shell.currentWidget.context.path")
        return (self.folder / name).read_text(encoding="utf-8")

    def idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.until(f"{KERNEL}.status === 'idle'")

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


TOLD = """root => {
  const page = root.explorer, scene = page.scene();
  const ids = nodes => [...nodes].map(tile => Number(/^\\S+ (\\d+)/.exec(tile.getAttribute('aria-label'))[1]));
  return {
    state: JSON.stringify(page.state()),
    bands: [scene.a, scene.b].map(side => side && [...side.judgement.band]),
    groups: [...root.querySelectorAll('.bands > .band')].map(node => ({
      code: Number(/-(\\d)/.exec(node.className)[1]),
      title: node.querySelector('h3').textContent,
      ids: ids(node.querySelectorAll('.tile')),
    })),
    sentence: root.querySelector('.sentence').textContent,
    anchor: root.querySelector('.anchor-name').textContent,
    unknown: scene.shown.unknown,
  };
}"""


class Shown:
    """An explorer on the page, as a person and as the page's own code see it."""

    def __init__(self, lab: Lab, index: int = 0, *, patience: float = WAIT) -> None:
        self.lab, self.page = lab, lab.page
        self.root = lab.page.locator(".cltools-explorer").nth(index)
        self.root.locator(".sentence:not(:empty)").wait_for(state="attached", timeout=1000 * patience)

    @property
    def state(self) -> str:
        """The state's line of JSON, as the page has it."""
        found: str = self.root.evaluate("root => JSON.stringify(root.explorer.state())")
        return found

    @property
    def told(self) -> dict[str, Any]:
        """What it shows, once that is drawn."""
        self.drawn()
        found: dict[str, Any] = self.root.evaluate(TOLD)
        return found

    def drawn(self) -> None:
        """Wait until what was asked is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def edge(self, name: str, side: str = "A") -> Locator:
        """A handle on the histogram."""
        return self.root.locator(f".histogram[data-side={side}] .edge.{name}")

    def drag(self, name: str, by: float, side: str = "A") -> None:
        """Take an edge by the pointer and put it so many pixels to the right."""
        box = self.edge(name, side).bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + 30
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + by, y, steps=4)
        self.page.mouse.up()

    def preset(self, name: str) -> None:
        """Choose a preset."""
        self.root.locator(f"[data-preset={name}]").click()

    def truth(self) -> Locator:
        """The switch of the true classes."""
        return self.root.locator(".switch input")

    def button(self, name: str) -> Locator:
        """A button by its name."""
        return self.root.get_by_role("button", name=name)
