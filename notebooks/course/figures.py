"""The committed figure of each notebook: `python -m course.figures` writes them all.

Each uses embedded images only, and shows the same as the notebook's own cells.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from cltools import Snapshot, load_images, load_snapshot, snapshot_of_embeddings
from cltools.explorer import standalone
from cltools.explorer.session import Session
from course import grids, plots, run_plots
from course.band_plots import draw_by_closeness, draw_purity_by_rank
from course.plots import LOOK, Picture, draw_purity, panels
from course.record_plots import draw_gains
from course.results import comparison, recorded_runs

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "figures"
MINING = ("mined-soft", "mined-hard", "mined-soft-hard", "myow", "snclr", "sce", "fnc-attract", "nnclr", "potential")
"""Arms that mine positives, with all kinds of negatives except the oracle's."""


def gradients_of_negatives() -> Picture:
    """01: the force of one negative, and the share of the push by rank."""
    return plots.forces(load_snapshot("shapes-moco").similarities())


def mined_positives() -> Picture:
    """03: the purity of mined positives, and the gains of training with them."""
    with rc_context(LOOK):
        figure, (left, right) = panels(9.2, 3.6, 2)
        draw_purity(left, load_snapshot("shapes-moco"), plots.KS)
        late = comparison("shapes", "late")
        draw_gains(right, comparison("shapes"), MINING, "knn200", against="moco", later=late)
        right.set_title("Gains of training with them\n● after a short start   ○ after a long one")
    return Picture(figure, "Left: purity of the k closest keys by epoch. Right: arms that mine positives against moco.")


def the_explorer() -> Picture:
    """00: the explorer as a still image."""
    session = Session(load_snapshot("digits-potential"))
    return Picture(standalone.draw(session), session.sentence)


def bands_and_false_negatives() -> Picture:
    """02: P(same class) by rank, and the negatives that are dropped with the closest keys."""
    snapshot = load_snapshot("shapes-moco")
    with rc_context(LOOK):
        figure, (left, right) = panels(9.2, 3.4, 2)
        draw_purity_by_rank(left, snapshot)
        draw_by_closeness(right, snapshot.similarities())
    return Picture(figure, "Left: P(same class) by rank. Right: false against true negatives dropped, beside chance.")


def train_and_compare() -> Picture:
    """04: gains of bands over their edges, against moco and against random controls."""
    records = comparison("digits", "grid")
    with rc_context(LOOK):
        figure, axes = panels(9.2, 3.2, 2)
        description = grids.draw_gains(axes, records)
    return Picture(figure, description)


def runs_apart() -> Picture:
    """05: six recorded runs, by epoch, method, seed and protocol."""
    return run_plots.runs_apart(recorded_runs("digits"))


def images_of_ones_own() -> Picture:
    """06: the same images by their pixels, as an array made elsewhere, and by a trained encoder."""
    trained = load_snapshot("shapes-moco")
    images = load_images("shapes")
    small = adaptive_avg_pool2d(images.images.float(), 8).flatten(1)[torch.from_numpy(trained.ids)]
    pixels = snapshot_of_embeddings(small - small.mean(0), labels=trained.labels, classes=trained.classes)
    with rc_context(LOOK):
        figure, (left, right) = panels(9.2, 3.4, 2)
        draw_purity_by_rank(left, pixels)
        draw_purity_by_rank(right, replace(trained, **_last(trained)))
        left.set_title("By their pixels, an array made elsewhere")
        right.set_title("By a trained encoder")
    return Picture(figure, "P(same class) by rank: left for pixels, right for a trained encoder.")


def _last(snapshot: Snapshot) -> dict[str, Any]:
    """Return the fields of a snapshot reduced to its last epoch."""
    stacks = {name: getattr(snapshot, name)[-1:] for name in ("anchors", "keys")}
    maps = {name: getattr(snapshot, name)[:, -1:] for name in ("maps", "kept", "trustworthiness")}
    return {**stacks, **maps, "epochs": snapshot.epochs[-1:]}


PICTURES: dict[str, Callable[[], Picture]] = {
    "00": the_explorer,
    "01": gradients_of_negatives,
    "02": bands_and_false_negatives,
    "03": mined_positives,
    "04": train_and_compare,
    "05": runs_apart,
    "06": images_of_ones_own,
}


def small(png: bytes) -> bytes:
    """Return the same image with 256 colours, at a third of the size."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).quantize(256, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write(folder: Path = FOLDER) -> list[Path]:
    """Draw every figure into a folder; existing ones are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in PICTURES.items():
        path = folder / f"{name}.png"
        path.write_bytes(small(draw().png()))
        paths.append(path)
    return paths


if __name__ == "__main__":
    print(*write(), sep="\n")
