"""Latency of the explorer's page: an edge is dragged in Chromium by real pointer events, timed by the page's clock."""

import math
import shutil
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from benchmarks.measuring import USUAL, AsRun, markdown
from cltools.errors import CltoolsError
from cltools.explorer.standalone import page_of
from cltools.explorer.state import first_state
from cltools.files import write_text
from cltools.presets import preset
from cltools.snapshot import Snapshot
from cltools.snapshot.snapshot import as_sprite

KIND = "bench page"
SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-gl=swiftshader", "--enable-unsafe-swiftshader"]
VIEWPORT = {"width": 1280, "height": 860}
TILE = 24
CLOCK = """
window.taken = { compute: [], draw: [], step: [], frame: [] };
(() => {
  const clock = () => performance.now();
  const ask = window.requestAnimationFrame.bind(window);
  let [began, computed, last] = [0, 0, 0];
  addEventListener("pointermove", () => { began = clock(); }, true);
  addEventListener("pointermove", () => { taken.compute.push(clock() - began); computed += clock() - began; });
  window.requestAnimationFrame = (draw) => ask((at) => {
    const before = clock();
    draw(at);
    taken.draw.push(clock() - before);
    taken.step.push(clock() - before + computed);
    computed = 0;
  });
  const frame = (at) => {
    if (last) taken.frame.push(at - last);
    last = at;
    ask(frame);
  };
  ask(frame);
})();
"""
"""Script that runs before the page: it times the listeners, the drawing, and the intervals between frames."""


def random_snapshot(count: int, dim: int = 128, groups: int = 10, seed: int = 0) -> Snapshot:
    """Make a snapshot of this number of points in a few groups, with random images."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % groups
    centres = generator.normal(size=(groups, dim))

    def unit(vectors: ndarray) -> ndarray:
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)

    anchors, keys = (unit(centres[labels] + 0.9 * generator.normal(size=(1, count, dim))) for _ in range(2))
    spots = generator.normal(size=(groups, 2))[labels] * 3 + generator.normal(size=(count, 2))
    return Snapshot(
        experiment=preset("shapes-potential"),
        epochs=(30,),
        anchors=anchors,
        keys=keys,
        maps=np.broadcast_to(spots, (1, 1, count, 2)).astype(np.float32),
        map_names=("PCA",),
        kept=generator.uniform(size=(1, 1, count)).astype(np.float32),
        trustworthiness=np.full((1, 1), 0.9, np.float32),
        ids=np.arange(count),
        labels=labels,
        classes=tuple(f"class {i}" for i in range(groups)),
        sprite=as_sprite(generator.integers(0, 256, (count, 3, TILE, TILE), dtype=np.uint8)),
        tile=(TILE, TILE),
    )


def dragged(browser: Any, page: Path, ratio: int, seconds: float) -> dict[str, list[float]]:
    """Return the times in milliseconds that the page measures while its right edge is dragged to and fro."""
    context = browser.new_context(viewport=VIEWPORT, device_scale_factor=ratio)
    window = context.new_page()
    window.add_init_script(CLOCK)
    window.goto(page.as_uri())
    window.wait_for_selector(".sentence:not(:empty)")
    window.wait_for_timeout(500)
    bars, edge = (window.locator(name).first.bounding_box() for name in (".bars", ".edge.closest"))
    x, y, width = edge["x"] + edge["width"] / 2, edge["y"] + 30, bars["width"]
    window.mouse.move(x, y)
    window.mouse.down()
    window.mouse.move(x - 10, y)
    window.evaluate("for (const list of Object.values(taken)) list.length = 0")
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        window.mouse.move(x - 10 - width * 0.3 * (1 - math.cos(math.pi * passed)), y)
    taken: dict[str, list[float]] = window.evaluate("taken")
    window.mouse.up()
    context.close()
    return taken


def page(
    sizes: tuple[int, ...] = (1500, 20000), ratios: tuple[int, ...] = (1, 2), seconds: float = 2.0, run: AsRun = USUAL
) -> dict[str, Any]:
    """Drag an edge of the explorer's page in Chromium, and report the time of a step and of a frame.

    Args:
        sizes: Points of the snapshots.
        ratios: Device pixels a pixel of the page.
        seconds: How long each drag lasts; there are as many as rounds.
        run: How it is measured, and where the figures go.
    """
    run.check(sizes=sizes, ratios=ratios)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        raise CltoolsError('page drives a browser: pip install "cltools-ssl[dev]", and install Chromium.') from None
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path = next(filter(None, map(shutil.which, SYSTEM)), None)
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for size in sizes:
            snapshot, file = random_snapshot(size), Path(folder) / f"{size}.html"
            write_text(file, page_of([snapshot], first_state(snapshot)))
            for ratio in ratios:
                rounds = [dragged(browser, file, ratio, seconds) for _ in range(run.rounds)]
                taken = {name: [*chain.from_iterable(each[name] for each in rounds)] for name in rounds[0]}
                rows.append(
                    {"points": size, "ratio": ratio, **{name: _quantiles(each) for name, each in taken.items()}}
                )
        browser.close()
    return run.record(KIND, rows=rows, seconds=seconds)


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `page` as lines of a table."""
    names = ("compute", "draw", "step", "frame")
    rows = [
        [f"{row['points']:,}", str(row["ratio"]), *(f"{row[n]['median']:.1f} / {row[n]['p95']:.1f}" for n in names)]
        for row in record["rows"]
    ]
    caption = (
        f"An edge dragged for {record['seconds']:g} seconds by pointer events in Chromium without a GPU, full layout: "
        "milliseconds by the page's clock, median / 95th percentile; a step is compute and draw."
    )
    return markdown(caption, ["points", "device pixels a pixel", *names[:3], "between frames"], rows, words=0)


def _quantiles(milliseconds: list[float]) -> dict[str, float]:
    return {"median": float(np.median(milliseconds)), "p95": float(np.percentile(milliseconds, 95))}
