"""JupyterLab in a real browser: one server and one Chromium for all tests here, and nothing beyond this machine.

Chromium is the system's where there is one, else Playwright's own. Where there is neither the tests are skipped, unless
CLTOOLS_BROWSER=required says that they must run.

With `-n 2` two processes share the tests: those that need the server stay together, and those that need the site, so
that each is started or made once. While one measures times, the other waits.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alone import Opened, opened, save_page
from lab import Lab
from playwright.sync_api import Browser, Error, Playwright, sync_playwright
from snapshots import made
from xdist.scheduler import LoadScopeScheduling

from cltools.explorer.standalone import page_of
from cltools.explorer.state import first_state
from cltools.snapshot import Snapshot, load_snapshot

FLAGS = ["--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--disable-background-networking"]
HERE = Path(__file__).parent
TURN, ROOM = (os.open(path, os.O_RDONLY) for path in (__file__, HERE))
"""Files that processes lock: each takes its turn, and is then in the room beside others or alone."""
TOGETHER = {
    "test_charts_in_jupyterlab": "server",
    "test_explorer_in_jupyterlab": "server",
    "test_explorer_while_training": "server",
    "test_site_in_browser": "site",
}
"""What the tests of a file share."""
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Together(LoadScopeScheduling):
    """Tests that need one JupyterLab or one site go to one process, each of the others to the one that is free."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(Path(nodeid.partition("::")[0]).stem, nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    _enter(fcntl.LOCK_SH)
    yield
    fcntl.flock(ROOM, fcntl.LOCK_UN)


def _enter(how: int) -> None:
    fcntl.flock(ROOM, fcntl.LOCK_UN)
    fcntl.flock(TURN, fcntl.LOCK_EX)  # kept by one that waits to be alone, so that none goes ahead of it
    fcntl.flock(ROOM, how)
    fcntl.flock(TURN, fcntl.LOCK_UN)


@pytest.fixture
def undisturbed() -> Callable[[], AbstractContextManager[None]]:
    """What times are measured in: meanwhile no other process runs a test of this folder."""

    @contextmanager
    def waiting() -> Iterator[None]:
        _enter(fcntl.LOCK_EX)
        yield
        _enter(fcntl.LOCK_SH)

    return waiting


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or a loud skip."""
    with sync_playwright() as playwright:
        found = _launch(playwright)
        if found is None:
            message = "no Chromium: install it (apt install chromium), or run: python -m playwright install chromium"
            if os.environ.get("CLTOOLS_BROWSER") == "required":
                pytest.fail(message)
            pytest.skip(f"THE BROWSER TESTS DID NOT RUN: {message}")
        yield found
        found.close()


def _launch(playwright: Playwright) -> Browser | None:
    path = next(filter(None, map(shutil.which, SYSTEM)), None)
    try:
        return playwright.chromium.launch(executable_path=path, args=FLAGS)
    except Error:
        return None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab as `make lab` starts it, in a folder of its own; its address and that folder."""
    folder = tmp_path_factory.mktemp("notebooks")
    homes = {f"JUPYTER_{name}_DIR": str(tmp_path_factory.mktemp(name)) for name in ("CONFIG", "DATA", "RUNTIME")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": "",
        "LabApp.expose_app_in_browser": True,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    log = folder.parent / "lab.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *arguments],
            env={**os.environ, **homes},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                assert process.poll() is None, log.read_text(encoding="utf-8")
                try:
                    urllib.request.urlopen(f"{address}/lab", timeout=1)
                    break
                except OSError:
                    time.sleep(0.5)
            yield address, folder
        finally:
            process.terminate()
            process.wait(timeout=30)


@contextmanager
def window(browser: Browser, server: tuple[str, Path]) -> Iterator[Lab]:
    """A window of 1280×720 on the server, whose requests beyond this machine are refused and noted."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    opened = Lab(context.new_page(), *server)
    yield opened
    opened.shut_down()
    context.close()


@pytest.fixture
def lab(browser: Browser, server: tuple[str, Path]) -> Iterator[Lab]:
    """A window of a test's own."""
    with window(browser, server) as opened:
        yield opened
    opened.check()


@pytest.fixture(scope="session")
def desk(browser: Browser, server: tuple[str, Path]) -> Iterator[Lab]:
    """A window that tests share, because to open JupyterLab and to import torch takes most of a test's time."""
    with window(browser, server) as opened:
        yield opened


@pytest.fixture(scope="session")
def digits() -> Snapshot:
    """The snapshot of the page that tests share."""
    return load_snapshot("digits-potential")


@pytest.fixture(scope="session")
def file(digits: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that stands alone, with every epoch."""
    path = tmp_path_factory.mktemp("page") / "digits.html"
    return save_page(path, page_of([digits], first_state(digits), epochs="all"))


@pytest.fixture
def page(browser: Browser, digits: Snapshot, file: Path) -> Iterator[Opened]:
    """That page in a window of its own."""
    with opened(browser, digits, file) as found:
        yield found


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    """1,500 points, which notebooks show."""
    return made(1500, dim=64, epochs=(1, 5))


@pytest.fixture(scope="session")
def points(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its file."""
    path = tmp_path_factory.mktemp("snapshots") / "points.npz"
    snapshot.save(path)
    return path
