"""The explorer where no kernel answers: as one HTML file that needs no network, and as a still picture.

The page computes what it shows, by the engine that the tests hold to `select`; it holds the snapshot in float16, the
numbers from which Python computes too.
"""

import base64
import html
import io
import json
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal, get_args

import numpy as np
import torch

from cltools.config import to_plain, words_of
from cltools.errors import unknown
from cltools.explorer.front.bundle import bundle
from cltools.explorer.judgement import chosen_in_turns, one_thread
from cltools.explorer.session import Session
from cltools.explorer.state import Side, State
from cltools.files import write_text
from cltools.mining import Band, NegativeRule, PositiveRule, RankBand
from cltools.mining.rules import rule_classes
from cltools.snapshot import Snapshot, in_unit_square, sprite_columns, tiles_of

HERE = Path(__file__).parent / "front"
HELP = (HERE / "help.json").read_text(encoding="utf-8")
"""What is shown and what controls do beside the settings of rules, in the page's words."""
LARGE = 12_000_000
"""Bytes of a page above which a sample is proposed."""
UNKNOWN = 255
"""In the page's data, in place of the percentage of neighbours that a map keeps of a point that was not judged."""
RECORDED = 9_000_000
"""Pairs of an anchor and a key up to which a page holds what rules of one's own choose for every anchor."""
PARTS = ("pictures", "map", "push", "cost")
Epochs = Literal["present", "all"]


@cache
def page_script() -> str:
    """The page's script; it starts itself."""
    return bundle(HERE / "standalone.js", "cltools") + "cltools.page = cltools.start(globalThis);\n"


Coded = Callable[[np.ndarray], Any]
"""What stands for an array in a page's data."""


def page_data(snapshot: Snapshot, coded: Coded, epochs: Sequence[int] | None = None) -> dict[str, Any]:
    """A snapshot as the page reads it, with some of its epochs, by their places; None for all."""
    run, queries = snapshot.experiment, snapshot.queries
    rules = rule_classes(NegativeRule) | rule_classes(PositiveRule)
    middle, noun = run.negatives.at(1.0), snapshot.noun
    words = HELP if noun == "image" else HELP.replace("an image", f"a {noun}").replace("image", noun)
    return {
        "title": run.data.name,
        "run": f"{run.data.name}, {type(run.negatives).__name__} with {type(run.positives).__name__}",
        "noun": noun,
        "anchorNoun": snapshot.anchor_noun,
        "ids": snapshot.ids.tolist(),
        "labels": snapshot.labels.tolist(),
        "anchorIds": None if queries is None else queries.ids.tolist(),
        "anchorLabels": None if queries is None else queries.labels.tolist(),
        "own": None if queries is None else coded(queries.own.astype("<i4")),
        "texts": list(snapshot.texts),
        "metadata": {name: list(column) for name, column in snapshot.metadata.items()},
        "classes": list(snapshot.classes),
        "form": run.loss.form,
        "tile": list(snapshot.tile),
        "tiles": snapshot.tiles,
        "columns": sprite_columns(snapshot.tiles),
        "pictured": None if snapshot.pictured is None else snapshot.pictured.tolist(),
        "sprite": coded(np.frombuffer(snapshot.sprite, np.uint8)),
        "middle": to_plain(middle) if isinstance(middle, RankBand) else None,
        "help": json.loads(words) | {name: words_of(rules[name]) for name in sorted(rules)},
        **epoch_data(snapshot, coded, range(len(snapshot.epochs)) if epochs is None else epochs),
    }


def epoch_data(snapshot: Snapshot, coded: Coded, epochs: Sequence[int]) -> dict[str, Any]:
    """What the page reads of a snapshot's epochs."""
    learned, queries = snapshot.thresholds, snapshot.queries
    known = np.nan_to_num(100 * snapshot.kept, nan=UNKNOWN)
    return {
        "epochs": [snapshot.epochs[i] for i in epochs],
        "dim": snapshot.anchors.shape[2],
        "anchors": [coded(snapshot.anchors[i].astype("<f2")) for i in epochs],
        "keys": [coded(snapshot.keys[i].astype("<f2")) for i in epochs],
        "positives": queries and [coded(queries.positives[i].astype("<f2")) for i in epochs],
        "thresholds": None if learned is None else [coded(learned[i].astype("<f4")) for i in epochs],
        "mapNames": list(snapshot.map_names),
        "maps": [[coded(places[i].astype("<f4")) for i in epochs] for places in in_unit_square(snapshot.maps)],
        "kept": [[coded(np.rint(kept[i]).astype(np.uint8)) for i in epochs] for kept in known],
    }


def page_of(
    snapshots: Sequence[Snapshot],
    state: State,
    *,
    epochs: Epochs = "present",
    show: Iterable[str] = PARTS,
    words: str = "",
    picture: bytes = b"",
) -> str:
    """The page as text.

    Args:
        snapshots: one, or two that are shown side by side.
        state: where it starts.
        epochs: whether only those that are shown go along.
        show: which parts.
        words: the sentence for viewers that run no scripts.
        picture: the still picture for them, a PNG.
    """
    sides = (state.a, state.of("B"))
    shown = [{side.epoch for side in sides}] if len(snapshots) == 1 else [{side.epoch} for side in sides]
    judged = zip((snapshots[0], snapshots[-1]), filter(None, (state.a, state.b)), strict=False)
    recorded = [recorded_of(each, side, state.anchor) for each, side in judged]
    held = []
    for each, seen in zip(snapshots, shown, strict=True):
        places = [i for i, epoch in enumerate(each.epochs) if epochs == "all" or epoch in seen]
        held.append(page_data(each, _coded, places))
    data = {"snapshots": held, "state": to_plain(state), "show": list(show), "recorded": recorded}
    still = f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"{snapshots[0].experiment.data.name}: which samples would this one be pushed away from?"),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        words=html.escape(words),
        picture=still,
        data=json.dumps(data).replace("<", "\\u003c"),
        script=page_script(),
    )


@one_thread()
def recorded_of(snapshot: Snapshot, side: Side, anchor: int) -> dict[str, Any] | None:
    """What rules choose that only Python knows: for each anchor, or of many images for one; None for built-in rules."""
    if all(type(rule).__module__.startswith("cltools.mining.") for rule in (side.positives, side.negatives)):
        return None
    ids = snapshot.anchor_ids
    every = len(ids) * len(snapshot) <= RECORDED
    rows = torch.from_numpy(np.flatnonzero(every | (ids == anchor)))
    found = [selection for _, selection in chosen_in_turns(snapshot, side, rows)]
    weight = torch.cat([each.negative_weight for each in found]).numpy()
    anchors = [each.anchor_weight for each in found if each.anchor_weight is not None]
    return {
        "places": rows.tolist(),
        "band": _coded(torch.cat([each.band for each in found]).numpy()),
        "weight": None if np.isin(weight, (0, 1)).all() else _coded(weight.astype("<f4")),
        "anchorWeight": torch.cat(anchors).tolist() if anchors else None,
    }


def parts(show: Iterable[str]) -> list[str]:
    """The parts as a list.

    Raises:
        ValueError: one that there is not.
    """
    show = list(show)
    if wrong := [part for part in show if part not in PARTS]:
        raise unknown("part", wrong[0], PARTS)
    return show


def save_html(session: Session, path: str | Path, epochs: Epochs = "present", show: Iterable[str] = PARTS) -> Path:
    """Write a session as one HTML file that needs neither kernel nor network, and on which every control answers.

    Viewers that run no scripts see its sentence and its still picture. A warning proposes a sample above 12 MB.

    Args:
        session: or an explorer.
        path: the file, replaced whole.
        epochs: "present" for those that are shown, "all" for every one of the snapshot.
        show: which of the parts "pictures", "map", "push" and "cost" stand beside the histogram.

    Raises:
        ValueError: `epochs` or a part of `show` is none of those there are.
    """
    if epochs not in get_args(Epochs):
        raise unknown("choice of epochs", epochs, get_args(Epochs))
    words, held = session.sentence, png(session)
    page = page_of(session.snapshots, session.state, epochs=epochs, show=parts(show), words=words, picture=held)
    write_text(Path(path), page)
    if (size := Path(path).stat().st_size) > LARGE:
        warnings.warn(f"A page of {size / 1e6:.0f} MB opens slowly; take fewer rows (n=…), or one epoch.", stacklevel=2)
    return Path(path)


def _coded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# the still picture

# By code of `Band`: OWN, EASY, POTENTIAL, HARD, MINED, OTHER, SOFTENED. Told apart with any colour vision.
BANDS = ("#888888", "#7b8390", "#0a62c4", "#cf5500", "#00875f", "#a8337f", "#3f86d8")
NAMES = ("own image", "too easy", "pushed away", "suspected", "mined", "left out", "pushed less")
BINS = 48
SHOWN = 12
"""Pictures of a band, evenly spaced from far to near."""
ORDER = (Band.OTHER, Band.EASY, Band.POTENTIAL, Band.SOFTENED, Band.HARD, Band.MINED)


def draw(session: Session) -> Any:
    """Histogram and pictures of a session's state, under its sentence; a `Figure` of matplotlib."""
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


def _histogram(axis: Any, session: Session, bands: dict[Band, np.ndarray]) -> None:
    j = session.judgement
    scores = [j.score[places] for places in bands.values()] or [np.zeros(1)]
    every = np.concatenate(scores)
    bins = np.linspace(every.min(), max(every.max(), every.min() + 1e-6), BINS + 1)
    axis.hist(scores, bins.tolist(), stacked=True, color=[BANDS[b] for b in bands], label=[NAMES[b] for b in bands])
    axis.set(xlabel="closeness, as the rule ranks keys", ylabel="keys")
    axis.legend(fontsize=7, framealpha=0.9, edgecolor="none")


def _pictures(axis: Any, session: Session, bands: dict[Band, np.ndarray]) -> None:
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
