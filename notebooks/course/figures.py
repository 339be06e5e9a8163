"""The committed figure of each notebook: `python -m course.figures` draws them all in Chromium.

Each uses embedded images only, and shows the same as the notebook's own cells. Two charts stand side by side.
"""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from plotly.offline import get_plotlyjs
from torch.nn.functional import adaptive_avg_pool2d

from cltools import Snapshot, load_images, load_snapshot, snapshot_of_embeddings
from cltools.explorer.session import Session
from cltools.explorer.standalone import draw
from course import grids, plots, record_plots, run_plots
from course.band_plots import by_closeness, purity_by_rank
from course.charts import Chart
from course.results import comparison, recorded_runs

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "figures"
WIDTH, SHARPNESS = 880, 1.5
"""Pixels of a figure's width, and the drawn pixels for each, for high-density screens."""
MINING = ("mined-soft", "mined-hard", "mined-soft-hard", "myow", "snclr", "sce", "fnc-attract", "nnclr", "potential")
"""Arms that mine positives, with all kinds of negatives except the oracle's."""


def the_explorer() -> bytes:
    """00: the explorer as a still image."""
    buffer = io.BytesIO()
    draw(Session(load_snapshot("digits-potential"))).savefig(buffer, format="png", dpi=96 * SHARPNESS)
    return buffer.getvalue()


def gradients_of_negatives() -> list[Chart]:
    """01: the force of one negative, and the share of the push by rank."""
    return [plots.forces(load_snapshot("shapes-moco").similarities())]


def bands_and_false_negatives() -> list[Chart]:
    """02: P(same class) by rank, and the negatives that are dropped with the closest keys."""
    snapshot = load_snapshot("shapes-moco")
    return [purity_by_rank(snapshot), by_closeness(snapshot.similarities())]


def mined_positives() -> list[Chart]:
    """03: the purity of mined positives, and the gains of training with them."""
    gains = record_plots.gains(comparison("shapes"), MINING, later=comparison("shapes", "late"))
    return [plots.purity(load_snapshot("shapes-moco")), gains]


def train_and_compare() -> list[Chart]:
    """04: gains of bands over their edges, against moco and against random controls."""
    return [grids.of_records(comparison("digits", "grid"))]


def runs_apart() -> list[Chart]:
    """05: six recorded runs, by epoch, method, seed and protocol."""
    return [run_plots.runs_apart(recorded_runs("digits"))]


def images_of_ones_own() -> list[Chart]:
    """06: the same images by their pixels, as an array made elsewhere, and by a trained encoder."""
    trained = load_snapshot("shapes-moco")
    images = load_images("shapes")
    small = adaptive_avg_pool2d(images.images.float(), 8).flatten(1)[torch.from_numpy(trained.ids)]
    pixels = snapshot_of_embeddings(small - small.mean(0), labels=trained.labels, classes=trained.classes)
    charts = [purity_by_rank(pixels), purity_by_rank(replace(trained, **_last(trained)))]
    for chart, encoder in zip(charts, ("pixels, an array", "a trained encoder"), strict=True):
        chart.figure.update_annotations(text=f"Keys of the anchor's class, %, by {encoder}")
    return charts


def _last(snapshot: Snapshot) -> dict[str, Any]:
    """Return the fields of a snapshot reduced to its last epoch."""
    stacks = {name: getattr(snapshot, name)[-1:] for name in ("anchors", "keys")}
    maps = {name: getattr(snapshot, name)[:, -1:] for name in ("maps", "kept", "trustworthiness")}
    return {**stacks, **maps, "epochs": snapshot.epochs[-1:]}


FIGURES: dict[str, Callable[[], list[Chart]]] = {
    "01": gradients_of_negatives,
    "02": bands_and_false_negatives,
    "03": mined_positives,
    "04": train_and_compare,
    "05": runs_apart,
    "06": images_of_ones_own,
}
"""Of every notebook but 00, whose figure is the explorer as a still image."""


def page_of(charts: Sequence[Chart]) -> str:
    """Return a page with charts side by side, in the grey that is legible on light and on dark."""
    boxes = "".join(f'<div style="flex:1;min-width:0" id="c{index}"></div>' for index in range(len(charts)))
    calls = "".join(f"Plotly.newPlot('c{index}', {json.dumps(chart.plain)});" for index, chart in enumerate(charts))
    styles = "body{margin:0}#all{display:flex;gap:16px;font-family:sans-serif}"
    return f'<style>{styles}</style><div id="all">{boxes}</div><script>{get_plotlyjs()}\n{calls}</script>'


def small(png: bytes) -> bytes:
    """Return the same image with 256 colours, at a third of the size."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).quantize(256, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write(folder: Path = FOLDER) -> list[Path]:
    """Draw every figure into a folder; existing ones are replaced. It needs Chromium and Playwright."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    images = {"00": the_explorer()}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(device_scale_factor=SHARPNESS, viewport={"width": WIDTH, "height": 600})
        for name, charts in FIGURES.items():
            page.set_content(page_of(charts()))
            images[name] = page.locator("#all").screenshot(omit_background=True)
        browser.close()
    paths = {name: folder / f"{name}.png" for name in sorted(images)}
    for name, path in paths.items():
        path.write_bytes(small(images[name]))
    return [*paths.values()]


if __name__ == "__main__":
    print(*write(), sep="\n")
