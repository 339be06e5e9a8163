"""The static twin: the same state as a matplotlib figure, for pages and viewers without live widgets.

Legend: N images of the snapshot.
"""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from cltools.explorer.colours import ANCHOR, BAND_NAMES, BANDS, GREY
from cltools.explorer.session import Session
from cltools.explorer.view import LEGIBLE, SHOWN, Histogram, Picture, groups, histogram, pictures
from cltools.mining import Band
from cltools.snapshot.sprite import tiles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "D", "^", "*", "x", "v")
AREAS = (4, 12, 22, 50, 14, 22)


def draw(session: Session) -> "Figure":
    """Maps, histogram and pictures of a session's state, under its sentence."""
    from matplotlib.figure import Figure

    j, sentence = session.judgement, session.sentence  # which counts all anchors, where it tells about them
    edges = [] if j.edges is None else [j.edges.closest_score, j.edges.beyond_score]
    shown = pictures(session)
    figure = Figure(figsize=(4.6 * len(shown) + 5.2, 5.4), dpi=80, facecolor="white", layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[4.6 * len(shown), 5.2])
    maps, side = halves
    figure.suptitle(textwrap.fill(sentence, 150), fontsize=9, x=0.01, ha="left")
    for axis, picture in zip(maps.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _map(axis, picture)
    top, bottom = side.subfigures(2, 1, height_ratios=[2, 3])
    _histogram(top.subplots(), histogram(j), edges, j.score_name)
    snapshot = session.snapshots[0]
    tiles = tiles_of(snapshot.sprite, len(snapshot), snapshot.tile)
    found = [(each.places, f"{BAND_NAMES[each.band]}: {each.total:,}", BANDS[each.band]) for each in groups(j)]
    strips = [((session.place,), "the anchor", ANCHOR), *found]
    for axis, strip in zip(bottom.subplots(len(strips), 1, squeeze=False)[:, 0], strips, strict=True):
        _strip(axis, tiles, *strip)
    return figure


def _map(axis: "Axes", picture: Picture) -> None:
    from matplotlib.colors import ListedColormap

    painting, colours = picture.painting, picture.painting.colours
    x, y = picture.place.T
    for slot, (marker, area) in enumerate(zip(MARKERS, AREAS, strict=True)):
        at = painting.slots == slot
        axis.scatter(
            x[at], y[at], s=area, c=painting.codes[at], cmap=ListedColormap(list(colours)), marker=marker,
            vmin=-0.5, vmax=len(colours) - 0.5, linewidths=0.8 if marker == "x" else 0,
        )  # fmt: skip
    axis.scatter(x[picture.doubtful], y[picture.doubtful], s=50, marker="s", facecolors="none", edgecolors=GREY)
    axis.scatter(x[picture.anchor], y[picture.anchor], s=180, facecolors="none", edgecolors=ANCHOR, linewidths=2)
    shown = sorted({*painting.codes.tolist()}) if len(colours) <= LEGIBLE + 1 else [0, len(colours) - 1]
    for code in shown:
        axis.plot([], [], "o", markersize=4, color=colours[code], label=painting.names[code])
    axis.legend(fontsize=6, frameon=False, loc="best")
    axis.set(xticks=[], yticks=[], xlim=picture.frame[:, 0], ylim=picture.frame[:, 1])


def _histogram(axis: "Axes", h: Histogram, edges: list[float], score_name: str) -> None:
    """Stacked on a square-root axis: each part from the root of what lies under it to the root of what it adds."""
    left, width = h.edges[:-1], np.diff(h.edges)
    under = np.zeros(len(left))
    for band in Band:
        count = h.counts[:, band]
        if count.any():
            heights = np.sqrt(under + count) - np.sqrt(under)
            axis.bar(left, heights, width, np.sqrt(under), align="edge", color=BANDS[band], label=BAND_NAMES[band])
        under += count
    for edge in edges:
        if np.isfinite(edge):
            axis.axvline(edge, color="black", linestyle="--", linewidth=1)
    axis.set(xlabel=score_name, ylabel="keys (root scale)")
    ticks = [tick for tick in (0, 1, 10, 100, 1000, 10000) if tick <= max(1, under.max())]
    axis.set_yticks(np.sqrt(ticks), labels=[f"{tick:,}" for tick in ticks])
    axis.legend(fontsize=7, framealpha=0.9, edgecolor="none")  # an edge's line may pass behind it


def _strip(axis: "Axes", tiles: np.ndarray, places: tuple[int, ...], name: str, colour: str) -> None:
    height, width = tiles.shape[1:3]
    strip = np.full((height, SHOWN * (width + 1), 3), 255, np.uint8)
    for i, place in enumerate(places):
        strip[:, i * (width + 1) : i * (width + 1) + width] = tiles[place]
    axis.imshow(strip)
    axis.set_axis_off()
    axis.set_title(name, fontsize=8, loc="left", color=colour)
