"""The explorer as a still picture, for pages and viewers without widgets: sentence, histogram, pictures."""

import io
import textwrap
import warnings
from typing import TYPE_CHECKING

import numpy as np

from cltools.explorer.session import Session
from cltools.mining import Band
from cltools.snapshot.sprite import tiles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By code of `Band`: OWN, EASY, POTENTIAL, HARD, MINED, OTHER, SOFTENED. Told apart with any colour vision.
BANDS = ("#888888", "#7b8390", "#0a62c4", "#cf5500", "#00875f", "#a8337f", "#3f86d8")
NAMES = ("own image", "too easy", "pushed away", "suspected", "mined", "left out", "pushed less")
BINS = 48
SHOWN = 12
"""Pictures of a band, evenly spaced from far to near."""
ORDER = (Band.OTHER, Band.EASY, Band.POTENTIAL, Band.SOFTENED, Band.HARD, Band.MINED)


def draw(session: Session) -> "Figure":
    """Histogram and pictures of a session's state, under its sentence."""
    from matplotlib.figure import Figure

    j = session.judgement
    far_to_near = j.order[::-1]
    bands = {band: places for band in ORDER if len(places := far_to_near[j.band[far_to_near] == band])}
    figure = Figure(figsize=(9.6, 5.2), dpi=80, facecolor="white", layout="constrained")
    figure.suptitle(textwrap.fill(session.sentence, 150), fontsize=9, x=0.01, ha="left", parse_math=False)
    axes = figure.subplots(1, 2 if session.snapshots[0].sprite else 1, squeeze=False)[0]
    for axis, drawn in zip(axes, (_histogram, _pictures), strict=False):
        drawn(axis, session, bands)
    return figure


def png(session: Session) -> bytes:
    """The same as a file; letters that no font here has are boxes, without a warning for each."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        draw(session).savefig(file, format="png")
    return file.getvalue()


def _histogram(axis: "Axes", session: Session, bands: dict[Band, np.ndarray]) -> None:
    j = session.judgement
    scores = [j.score[places] for places in bands.values()] or [np.zeros(1)]
    every = np.concatenate(scores)
    bins = np.linspace(every.min(), max(every.max(), every.min() + 1e-6), BINS + 1)
    axis.hist(scores, bins.tolist(), stacked=True, color=[BANDS[b] for b in bands], label=[NAMES[b] for b in bands])
    axis.set(xlabel="closeness, as the rule ranks keys", ylabel="keys")
    axis.legend(fontsize=7, framealpha=0.9, edgecolor="none")


def _pictures(axis: "Axes", session: Session, bands: dict[Band, np.ndarray]) -> None:
    """Some pictures of each band, evenly spaced."""
    snapshot = session.snapshots[0]
    rows = {"the anchor": np.array([session.place + (0 if snapshot.queries is None else len(snapshot))])}
    rows |= {f"{NAMES[band]}: {len(places):,}": places for band, places in bands.items()}
    known = np.arange(len(snapshot)) if snapshot.pictured is None else snapshot.pictured
    tile_of = dict(zip(known.tolist(), tiles_of(snapshot.sprite, len(known), snapshot.tile), strict=True))
    (height, width), gap = snapshot.tile, 1 + snapshot.tile[0] // 4
    sheet = np.full((len(rows) * (height + gap), SHOWN * width, 3), 255, np.uint8)
    for row, places in enumerate(rows.values()):
        some = places[np.linspace(0, len(places) - 1, min(SHOWN, len(places))).round().astype(int)].tolist()
        for column, place in enumerate(some):
            y, x = row * (height + gap), column * width
            sheet[y : y + height, x : x + width] = tile_of.get(place, 255)
    axis.imshow(sheet)
    axis.set_yticks([row * (height + gap) + height / 2 for row in range(len(rows))], list(rows), fontsize=8)
    axis.tick_params(length=0, labelbottom=False)
    axis.spines[:].set_visible(False)
