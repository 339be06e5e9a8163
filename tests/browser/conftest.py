"""JupyterLab in a real browser: one server and one Chromium for all tests here, and nothing beyond this machine.

Chromium is the system's where there is one, else Playwright's own. Where there is neither the tests are skipped, unless
CLTOOLS_BROWSER=required says that they must run.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alone import Opened, opened, save_page
from lab import Lab
from playwright.sync_api import Browser, Error, Playwright, sync_playwright
from snapshots import made

from cltools.explorer.standalone import page_of
from cltools.explorer.state import first_state
from cltools.snapshot import Snapshot, load_snapshot

FLAGS = ["--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS += ["--disable-background-networking"]
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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
