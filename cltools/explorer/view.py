"""The view model: plain arrays and words for every panel of a session. No widget, no figure.

Legend: N images of the snapshot, R ranks of a curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Int8, Int64
from numpy import ndarray

from cltools.explorer import colours
from cltools.explorer.census import Census
from cltools.explorer.judgement import Judgement, difference
from cltools.explorer.session import Session
from cltools.explorer.state import Name
from cltools.mining import Band

SHOWN = 12
"""Pictures of a group."""
BINS = 48
SIDES: tuple[Name, Name] = ("A", "B")
GROUPS = (Band.MINED, Band.HARD, Band.SOFTENED, Band.POTENTIAL, Band.EASY, Band.OTHER)
DOUBT = 0.2
"""Below this share of kept neighbours a point's place on the map says little."""
LEGIBLE = 10
"""Classes that colours can tell apart."""


@dataclass(frozen=True)
class Group:
    """A band: places of the pictures shown, the closest first (of EASY the farthest), and how many keys it has."""

    band: Band
    places: tuple[int, ...]
    total: int


@dataclass(frozen=True)
class Histogram:
    """How many keys of each band have a score in each bin: counts [bins, 7] between edges [bins + 1]."""

    edges: Float32[ndarray, " bins_plus_1"]
    counts: Int64[ndarray, "bins 7"]


@dataclass(frozen=True)
class Curve:
    """Share of the force that the closest keys hold, against how many they are: all kept, and under the rules."""

    ranks: Int64[ndarray, " R"]
    plain: Float32[ndarray, " R"]
    rules: Float32[ndarray, " R"]


@dataclass(frozen=True)
class Painting:
    """How points are drawn: a symbol's slot and a colour's code each, and the colours of the codes."""

    slots: Int8[ndarray, " N"]
    codes: Int8[ndarray, " N"]
    colours: tuple[str, ...]
    names: tuple[str, ...]


def groups(j: Judgement) -> tuple[Group, ...]:
    """The pictures of each band that is not empty."""
    found, band_of = [], j.band[j.order]
    for band in GROUPS:
        places = j.order[band_of == band]
        if len(places):
            shown = places[::-1][:SHOWN] if band == Band.EASY else places[:SHOWN]
            found.append(Group(band, tuple(shown.tolist()), len(places)))
    return tuple(found)


def histogram(j: Judgement) -> Histogram:
    """Scores of all keys but the own one, by band."""
    others = j.band != Band.OWN
    score, band = j.score[others], j.band[others]
    low, high = (float(score.min()), float(score.max())) if len(score) else (0.0, 1.0)
    width = max(high - low, 1e-6)
    place = np.minimum(((score - low) * (BINS / width)).astype(np.int64), BINS - 1)
    counts = np.bincount(place * len(Band) + band, minlength=BINS * len(Band)).reshape(BINS, len(Band))
    return Histogram(np.linspace(low, low + width, BINS + 1, dtype=np.float32), counts)


def curve(j: Judgement) -> Curve:
    """The force that the closest hold, at ranks evenly spread on a log axis."""
    ranks = np.unique(np.round(np.geomspace(1, len(j.order), 60)).astype(np.int64))
    plain, rules = (np.cumsum(force[j.order], dtype=np.float64)[ranks - 1] for force in (j.plain_force, j.force))
    return Curve(ranks, plain.astype(np.float32), rules.astype(np.float32))


_BAND_SLOTS = np.array(colours.SLOT_OF_BAND, np.int8)
_DIFFERENCE_SLOTS = np.array(colours.SLOT_OF_DIFFERENCE, np.int8)


def by_band(j: Judgement) -> Painting:
    """Colour tells the band."""
    return Painting(_BAND_SLOTS[j.band], j.band, colours.BANDS, colours.BAND_NAMES)


def by_level(j: Judgement, values: ndarray, together: ndarray, low: str, high: str) -> Painting:
    """Colour tells a number, from little to much; symbols still tell the band.

    Args:
        j: of the points.
        values: one a point [N].
        together: all values that share the scale, those of another map too.
        low: what the least is called.
        high: what the most is called.
    """
    least, most = (float(together.min()), float(together.max())) if len(together) else (0.0, 1.0)
    levels = len(colours.LEVELS)
    share = np.clip((values - least) / max(most - least, 1e-12), 0, 1)
    codes = np.minimum((share * levels).astype(np.int8), levels - 1)
    steps = np.linspace(least, most, levels + 1).tolist()
    first, *between, last = (f"{a:.3g} to {b:.3g}" for a, b in pairwise(steps))
    return Painting(_BAND_SLOTS[j.band], codes, colours.LEVELS, (f"{low}: {first}", *between, f"{high}: {last}"))


def by_similarity(j: Judgement, both: Sequence[Judgement]) -> Painting:
    """Colour tells the score by which the rule ranks; `both` are all judgements that are shown."""
    together = np.concatenate([each.score[each.band != Band.OWN] for each in both])
    return by_level(j, j.score, together, f"{j.score_name}, lowest", "highest")


def by_force(j: Judgement, both: Sequence[Judgement]) -> Painting:
    """Colour tells the share of the force, in powers of ten."""
    together = np.concatenate([each.force[each.band != Band.OWN] for each in both])
    values, together = (np.log10(np.maximum(force, np.float32(1e-8))) for force in (j.force, together))
    return by_level(j, values, together, "log10 of the share of force, least", "most")


def by_class(
    j: Judgement, both: Sequence[Judgement], labels: Int64[ndarray, " N"], classes: tuple[str, ...], anchor: int
) -> Painting:
    """Colour tells the class; above ten only the anchor's and those most frequent among the suspected are told."""
    told = list(range(len(classes)))
    if len(classes) > LEGIBLE:
        suspected = np.concatenate([labels[each.band == Band.HARD] for each in both])
        counts = np.bincount(suspected, minlength=len(classes))
        frequent = [label for label in (-counts).argsort(kind="stable") if counts[label] and label != labels[anchor]]
        told = [labels[anchor], *frequent[: LEGIBLE - 1]]
    code_of = np.zeros(len(classes), np.int8)  # 0 is every class that is not told
    code_of[told] = range(1, len(told) + 1)
    names = ("other classes", *(classes[label] for label in told))
    return Painting(_BAND_SLOTS[j.band], code_of[labels], (colours.OTHER_CLASS, *colours.CLASSES)[: len(names)], names)


def by_difference(a: Judgement, b: Judgement) -> Painting:
    """Colour tells which of two choices keeps a key."""
    codes = difference(a, b)
    return Painting(_DIFFERENCE_SLOTS[codes], codes, colours.DIFFERENCE, colours.DIFFERENCE_NAMES)


# what a snapshot's figure shows


@dataclass(frozen=True)
class Line:
    """A curve against rank."""

    name: str
    x: ndarray
    y: ndarray


Lines = tuple[Line, Line | None, Line | None]
"""What to compare with, dotted; side A; side B."""


@dataclass(frozen=True)
class Picture:
    """A snapshot's map with the curve under it.

    Attributes:
        place: of the points [N, 2].
        frame: lowest and highest place [2, 2]; an epoch's own, as aligning maps over epochs shrinks the later ones.
        painting: how points are drawn.
        anchor: place of the anchor among the images.
        doubtful: places of points to be marked.
        lines: the curves under it.
        measure: what the curves measure, in percent of it.
        against: what their other axis counts.
    """

    place: Float32[ndarray, "N 2"]
    frame: Float32[ndarray, "2 2"]
    painting: Painting
    anchor: int
    doubtful: Int64[ndarray, " D"]
    lines: Lines
    measure: str
    against: str


def frame(place: Float32[ndarray, "N 2"]) -> Float32[ndarray, "2 2"]:
    """Lowest and highest place, with a margin."""
    low, high = place.min(0), place.max(0)
    margin = 0.05 * np.maximum(high - low, 1e-3)
    return np.stack([low - margin, high + margin])


def force_lines(a: Judgement | None, b: Judgement | None, *, compared: bool) -> Lines:
    """The share of the force that the closest hold under the choices shown on one map; `compared` names the sides."""
    curves = [None if j is None else curve(j) for j in (a, b)]
    plain = next(c for c in curves if c is not None)
    line_a, line_b = (
        None if c is None else Line(f"negatives of {name}" if compared else "the kept", c.ranks, 100 * c.rules)
        for name, c in zip(SIDES, curves, strict=True)
    )
    return Line("all keys, if all were kept", plain.ranks, 100 * plain.plain), line_a, line_b


def rank_lines(census: Census) -> Lines:
    """P(same class | rank) of all anchors, beside the base rate, and the outline of its 95 % interval."""
    middle = np.array([(a + 1 + b) / 2 for a, b in pairwise(census.ranks)])
    value, low, high = 100 * np.array([(share.value, share.low, share.high) for share in census.by_rank]).T
    base = np.full(len(middle), 100 * census.base_rate.value)
    around = Line("its 95 % interval", np.append(middle, middle[::-1]), np.append(low, high[::-1]))
    return Line("base rate", middle, base), Line("same class at this rank", middle, value), around


# which picture each figure shows in a state: where colouring, sides and snapshots come together


def pictures(session: Session) -> list[Picture]:
    """A picture for each snapshot; its curves tell P(same class | rank) once all anchors are counted."""
    if len(session.snapshots) == 2:
        return [_picture(session, name, (name,)) for name in SIDES]
    return [_picture(session, session.state.active, SIDES if session.state.b is not None else ("A",))]


def _picture(session: Session, name: Name, sides: tuple[Name, ...]) -> Picture:
    state, snapshot, census = session.state, session.snapshot(name), session.counted
    chart, epoch = session.chart(name), snapshot.epochs.index(state.of(name).epoch)
    if census is not None and name == state.active and state.truth:
        lines, measure, against = rank_lines(census), "% of its class", "rank of the key"
    else:
        a, b = (session.judged(each) if each in sides else None for each in SIDES)
        lines, measure = force_lines(a, b, compared=state.b is not None), "% of the force"
        against = "the closest … keys"
    place, painted = snapshot.maps[chart, epoch], painting(session, name)
    doubtful = np.flatnonzero((snapshot.kept[chart, epoch] < DOUBT) & state.doubtful)
    return Picture(place, frame(place), painted, session.place, doubtful, lines, measure, against)


def painting(session: Session, name: Name) -> Painting:
    """How the points of a side's map are drawn; two maps that are shown share one scale and one legend."""
    state, snapshot, j = session.state, session.snapshot(name), session.judged(name)
    both = [session.judged(each) for each in SIDES] if len(session.snapshots) == 2 else [j]
    if state.colour == "difference":
        return by_difference(session.judged("A"), session.judged("B"))
    if state.colour == "class":
        return by_class(j, both, snapshot.labels, snapshot.classes, session.place)
    if state.colour == "similarity":
        return by_similarity(j, both)
    return by_force(j, both) if state.colour == "gradient" else by_band(j)
