"""The explorer without a kernel: as one HTML file that needs no network, and as a still image.

The page computes with the engine, which tests compare with `select`. It holds the snapshot in float16, and Python
computes from the same rounded numbers.
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
from cltools.explorer.judgement import chosen_in_batches, one_thread
from cltools.explorer.session import Session
from cltools.explorer.state import Side, State
from cltools.files import write_text
from cltools.mining import Band, NegativeRule, PositiveRule, RankBand
from cltools.mining.rules import rule_classes
from cltools.snapshot import Snapshot, in_unit_square, sprite_columns, tiles_of

HERE = Path(__file__).parent / "front"
HELP = (HERE / "help.json").read_text(encoding="utf-8")
"""The page's help texts, except those of the rules' settings."""
LARGE = 12_000_000
"""Bytes of a page above which a warning suggests a sample."""
UNKNOWN = 255
"""In the page's data, the percentage of kept neighbours of a point for which it was not computed."""
RECORDED = 9_000_000
"""Number of pairs of anchors and keys up to which a page stores the choices of the user's rules for every anchor."""
PARTS = ("pictures", "map", "push", "cost")
Epochs = Literal["present", "all"]


@cache
def page_script() -> str:
    """Return the page's script, which starts the page."""
    return bundle(HERE / "standalone.js", "cltools") + "cltools.page = cltools.start(globalThis);\n"


Encode = Callable[[np.ndarray], Any]
"""A function that returns the representation of an array in a page's data."""


def page_data(snapshot: Snapshot, encode: Encode, epochs: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the page's data of a snapshot, with the epochs at these indices; None for all."""
    run, queries = snapshot.experiment, snapshot.queries
    rules = rule_classes(NegativeRule) | rule_classes(PositiveRule)
    middle, noun = run.negatives.at(1.0), snapshot.noun
    folder = Path(run.data.name)
    name = folder.name if folder.is_absolute() else run.data.name  # a path may tell more than it should
    words = HELP if noun == "image" else HELP.replace("an image", f"a {noun}").replace("image", noun)
    return {
        "title": name,
        "run": f"{name}, {type(run.negatives).__name__} with {type(run.positives).__name__}",
        "noun": noun,
        "anchorNoun": snapshot.anchor_noun,
        **{name: getattr(snapshot, name).tolist() for name in ("ids", "labels")},
        "anchorIds": None if queries is None else queries.ids.tolist(),
        "anchorLabels": None if queries is None else queries.labels.tolist(),
        "own": None if queries is None else encode(queries.own.astype("<i4")),
        "metadata": {name: list(column) for name, column in snapshot.metadata.items()},
        "form": run.loss.form,
        **{name: list(getattr(snapshot, name)) for name in ("texts", "classes", "tile")},
        "tiles": snapshot.tiles,
        "columns": sprite_columns(snapshot.tiles),
        "pictured": None if snapshot.pictured is None else snapshot.pictured.tolist(),
        "sprite": encode(np.frombuffer(snapshot.sprite, np.uint8)),
        "middle": to_plain(middle) if isinstance(middle, RankBand) else None,
        "help": json.loads(words) | {name: words_of(rules[name]) for name in sorted(rules)},
        **epoch_data(snapshot, encode, range(len(snapshot.epochs)) if epochs is None else epochs),
    }


def epoch_data(snapshot: Snapshot, encode: Encode, epochs: Sequence[int]) -> dict[str, Any]:
    """Return the page's data of some of a snapshot's epochs."""
    learned, queries = snapshot.thresholds, snapshot.queries
    percent = np.nan_to_num(100 * snapshot.kept, nan=UNKNOWN)
    return {
        "epochs": [snapshot.epochs[i] for i in epochs],
        "dim": snapshot.anchors.shape[2],
        "anchors": [encode(snapshot.anchors[i].astype("<f2")) for i in epochs],
        "keys": [encode(snapshot.keys[i].astype("<f2")) for i in epochs],
        "positives": queries and [encode(queries.positives[i].astype("<f2")) for i in epochs],
        "thresholds": None if learned is None else [encode(learned[i].astype("<f4")) for i in epochs],
        "mapNames": list(snapshot.map_names),
        "maps": [[encode(xy[i].astype("<f4")) for i in epochs] for xy in in_unit_square(snapshot.maps)],
        "kept": [[encode(np.rint(kept[i]).astype(np.uint8)) for i in epochs] for kept in percent],
    }


def page_of(
    snapshots: Sequence[Snapshot], state: State, *, epochs: Epochs = "present", show: Iterable[str] = PARTS,
    words: str = "", picture: bytes = b"",
) -> str:  # fmt: skip
    """Return the page as text.

    Args:
        snapshots: one, or two that are shown side by side.
        state: the initial state.
        epochs: "present" for only the epochs that are shown, or "all".
        show: the parts that are shown.
        words: the sentence for viewers without scripts.
        picture: the still image for them, a PNG.
    """
    sides = (state.a, state.of("B"))
    shown = [{side.epoch for side in sides}] if len(snapshots) == 1 else [{side.epoch} for side in sides]
    contents = []
    for each, seen in zip(snapshots, shown, strict=True):
        index = [i for i, epoch in enumerate(each.epochs) if epochs == "all" or epoch in seen]
        contents.append(page_data(each, base64_of, index))
    data = {"snapshots": contents, **as_shown(snapshots, state, show)}
    still = f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(f"{contents[0]['title']}: which samples would this one be pushed away from?"),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        words=html.escape(words),
        picture=still,
        data=json.dumps(data).replace("<", "\\u003c"),
        script=page_script(),
    )


def as_shown(snapshots: Sequence[Snapshot], state: State, show: Iterable[str]) -> dict[str, Any]:
    """Return a page's data of how snapshots are shown: the state, the parts, and the choices of the user's rules."""
    judged = zip((snapshots[0], snapshots[-1]), filter(None, (state.a, state.b)), strict=False)
    recorded = [recorded_of(each, side, state.anchor) for each, side in judged]
    return {"state": to_plain(state), "show": list(show), "recorded": recorded}


@one_thread()
def recorded_of(snapshot: Snapshot, side: Side, anchor: int) -> dict[str, Any] | None:
    """Return the choices of the user's rules for all anchors, or for one if there are many; None for built-in rules."""
    if all(type(rule).__module__.startswith("cltools.mining.") for rule in (side.positives, side.negatives)):
        return None
    ids = snapshot.anchor_ids
    every = len(ids) * len(snapshot) <= RECORDED
    rows = torch.from_numpy(np.flatnonzero(every | (ids == anchor)))
    selections = [selection for _, selection in chosen_in_batches(snapshot, side, rows)]
    weight = torch.cat([each.negative_weight for each in selections]).numpy()
    anchors = [each.anchor_weight for each in selections if each.anchor_weight is not None]
    return {
        "places": rows.tolist(),
        "band": base64_of(torch.cat([each.band for each in selections]).numpy()),
        "weight": None if np.isin(weight, (0, 1)).all() else base64_of(weight.astype("<f4")),
        "anchorWeight": torch.cat(anchors).tolist() if anchors else None,
    }


def parts(show: Iterable[str]) -> list[str]:
    """Return the parts as a list.

    Raises:
        ValueError: a part is unknown.
    """
    show = list(show)
    if wrong := [part for part in show if part not in PARTS]:
        raise unknown("part", wrong[0], PARTS)
    return show


def save_html(session: Session, path: str | Path, epochs: Epochs = "present", show: Iterable[str] = PARTS) -> Path:
    """Write a session as one HTML file that needs neither kernel nor network, and in which every control works.

    Viewers without scripts see its sentence and a still image. Above 12 MB a warning suggests taking a sample.

    Args:
        session: a session or an explorer.
        path: the file, which is replaced atomically.
        epochs: "present" for the epochs that are shown, "all" for all epochs of the snapshot.
        show: those of the parts "pictures", "map", "push" and "cost" that are shown beside the histogram.

    Raises:
        ValueError: `epochs` or a part of `show` is unknown.
    """
    if epochs not in get_args(Epochs):
        raise unknown("choice of epochs", epochs, get_args(Epochs))
    words, still = session.sentence, png(session)
    page = page_of(session.snapshots, session.state, epochs=epochs, show=parts(show), words=words, picture=still)
    write_text(Path(path), page)
    if (size := Path(path).stat().st_size) > LARGE:
        warnings.warn(f"A page of {size / 1e6:.0f} MB opens slowly; take fewer rows (n=…), or one epoch.", stacklevel=2)
    return Path(path)


def base64_of(array: np.ndarray) -> str:
    """Return the bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# the still image

# By code of `Band`: OWN, EASY, POTENTIAL, HARD, MINED, OTHER, SOFTENED. Distinguishable with any colour vision.
BANDS = ("#888888", "#7b8390", "#0a62c4", "#cf5500", "#00875f", "#a8337f", "#3f86d8")
NAMES = ("own image", "too easy", "pushed away", "suspected", "mined", "left out", "pushed less")
BINS = 48
SHOWN = 12
"""Maximum number of pictures per band, evenly spaced from far to near."""
ORDER = (Band.OTHER, Band.EASY, Band.POTENTIAL, Band.SOFTENED, Band.HARD, Band.MINED)


def draw(session: Session) -> Any:
    """Return a matplotlib `Figure` of a session: its sentence, histogram and pictures."""
    from matplotlib.figure import Figure

    j = session.judgement
    far_to_near = j.order[::-1]
    bands = {band: keys for band in ORDER if len(keys := far_to_near[j.band[far_to_near] == band])}
    figure = Figure(figsize=(9.6, 5.2), dpi=80, facecolor="white", layout="constrained")
    figure.suptitle(textwrap.fill(session.sentence, 150), fontsize=9, x=0.01, ha="left", parse_math=False)
    axes = figure.subplots(1, 2 if session.snapshots[0].sprite else 1, squeeze=False)[0]
    for axis, draw_part in zip(axes, (_histogram, _pictures), strict=False):
        draw_part(axis, session, bands)
    return figure


def png(session: Session) -> bytes:
    """Return the still image as a PNG; missing glyphs are drawn as boxes, without warnings."""
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        draw(session).savefig(file, format="png")
    return file.getvalue()


def _histogram(axis: Any, session: Session, bands: dict[Band, np.ndarray]) -> None:
    scores = [session.judgement.score[keys] for keys in bands.values()] or [np.zeros(1)]
    axis.hist(scores, BINS, stacked=True, color=[BANDS[b] for b in bands], label=[NAMES[b] for b in bands])
    axis.set(xlabel="closeness, as the rule ranks keys", ylabel="keys")
    axis.legend(fontsize=7, framealpha=0.9, edgecolor="none")


def _pictures(axis: Any, session: Session, bands: dict[Band, np.ndarray]) -> None:
    """Draw some pictures of each band, evenly spaced."""
    snapshot = session.snapshots[0]
    rows = {"the anchor": np.array([session.place + (0 if snapshot.queries is None else len(snapshot))])}
    rows |= {f"{NAMES[band]}: {len(keys):,}": keys for band, keys in bands.items()}
    known = np.arange(len(snapshot)) if snapshot.pictured is None else snapshot.pictured
    tile_of = dict(zip(known.tolist(), tiles_of(snapshot.sprite, len(known), snapshot.tile), strict=True))
    (height, width), gap = snapshot.tile, 1 + snapshot.tile[0] // 4
    sheet = np.full((len(rows) * (height + gap), SHOWN * width, 3), 255, np.uint8)
    for row, keys in enumerate(rows.values()):
        some = keys[np.linspace(0, len(keys) - 1, min(SHOWN, len(keys))).round().astype(int)].tolist()
        for column, key in enumerate(some):
            y, x = row * (height + gap), column * width
            sheet[y : y + height, x : x + width] = tile_of.get(key, 255)
    axis.imshow(sheet)
    axis.set_yticks([row * (height + gap) + height / 2 for row in range(len(rows))], list(rows), fontsize=8)
    axis.tick_params(length=0, labelbottom=False)
    axis.spines[:].set_visible(False)
