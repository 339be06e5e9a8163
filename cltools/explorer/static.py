"""The explorer as a still picture, for pages and viewers without widgets: sentence, histogram with edges, pictures."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from cltools.explorer.colours import ANCHOR, BANDS, NAMES
from cltools.explorer.session import Session
from cltools.mining import Band
from cltools.snapshot.sprite import tiles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 48
SHOWN = 12
"""Pictures of a band, evenly spaced from far to near."""
ORDER = (Band.OTHER, Band.EASY, Band.POTENTIAL, Band.SOFTENED, Band.HARD, Band.MINED)


def draw(session: Session) -> "Figure":
    """Histogram and pictures of a session's state, under its sentence."""
    from matplotlib.figure import Figure

    j, snapshot = session.judgement, session.snapshots[0]
    tiles = tiles_of(snapshot.sprite, len(snapshot), snapshot.tile)
    far_to_near = j.order[::-1]
    bands = {band: far_to_near[j.band[far_to_near] == band] for band in ORDER}
    strips: list[Any] = [(np.array([session.place]), "the anchor", ANCHOR)]
    strips += [(at, f"{NAMES[band]}: {len(at):,}", BANDS[band]) for band, at in bands.items() if len(at)]
    figure = Figure(figsize=(9.6, 5.2), dpi=80, facecolor="white", layout="constrained")
    figure.suptitle(textwrap.fill(session.sentence, 150), fontsize=9, x=0.01, ha="left")
    halves: Any = figure.subfigures(1, 2)
    left, right = halves
    _histogram(left.subplots(), session, {band: j.score[at] for band, at in bands.items() if len(at)})
    for axis, (places, name, colour) in zip(right.subplots(len(strips), 1, squeeze=False)[:, 0], strips, strict=True):
        _strip(axis, tiles[_evenly(places)], name, colour)
    return figure


def _histogram(axis: "Axes", session: Session, scores: dict[Band, np.ndarray]) -> None:
    j = session.judgement
    every = np.concatenate(list(scores.values()) or [np.zeros(1, np.float32)])
    bins = np.linspace(every.min(), max(every.max(), every.min() + 1e-6), BINS + 1)
    colours, labels = [BANDS[band] for band in scores], [NAMES[band] for band in scores]
    axis.hist(list(scores.values()), bins.tolist(), stacked=True, color=colours, label=labels)
    for edge in [] if j.edges is None else [j.edges.closest_score, j.edges.beyond_score]:
        if np.isfinite(edge):
            axis.axvline(edge, color="black", linestyle="--", linewidth=1)
    axis.set(xlabel=j.score_name, ylabel="keys")
    axis.legend(fontsize=7, framealpha=0.9, edgecolor="none")  # an edge's line may pass behind it


def _evenly(places: np.ndarray) -> np.ndarray:
    return np.asarray(places[np.linspace(0, len(places) - 1, min(SHOWN, len(places))).round().astype(int)])


def _strip(axis: "Axes", tiles: np.ndarray, name: str, colour: str) -> None:
    height, width = tiles.shape[1:3]
    strip = np.full((height, SHOWN * (width + 1), 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        strip[:, i * (width + 1) : i * (width + 1) + width] = tile
    axis.imshow(strip)
    axis.set_axis_off()
    axis.set_title(name, fontsize=8, loc="left", color=colour)
