"""What goes to the page: numbers as bytes, words as text, nothing that the page would have to compute from state."""

from typing import Any

import numpy as np

from cltools.config import to_plain
from cltools.explorer import sentence
from cltools.explorer.colours import BAND_NAMES, BANDS, GLYPHS, GREY, SIDE_COLOURS, SLOT_OF_BAND, SLOT_OF_DIFFERENCE
from cltools.explorer.edges import Edges
from cltools.explorer.judgement import Judgement
from cltools.explorer.session import Session
from cltools.explorer.view import LEGIBLE, SIDES, Picture, groups, histogram, painting
from cltools.mining import Band
from cltools.snapshot import Snapshot
from cltools.snapshot.sprite import sprite_columns


def fixed(snapshot: Snapshot) -> dict[str, Any]:
    """What never changes: pictures, ids, classes, and how bands look."""
    return {
        "sprite": snapshot.sprite,
        "tile": snapshot.tile,
        "columns": sprite_columns(len(snapshot)),
        "ids": snapshot.ids.tolist(),
        "labels": snapshot.labels.tolist(),
        "classes": snapshot.classes,
        "bands": [_entry(BANDS[band], BAND_NAMES[band], GLYPHS[SLOT_OF_BAND[band]]) for band in Band],
        "frozen": sentence.FROZEN,
    }


def view(session: Session, drawn: list[Picture], *, answered: int = 0, error: str = "") -> dict[str, Any]:
    """All that is shown in a state.

    Args:
        session: whose state.
        drawn: what the figures show.
        answered: number of the last request that is heeded.
        error: what a person is to be told.
    """
    state, j, census = session.state, session.judgement, session.counted
    h, edges = histogram(j), j.edges
    told = SIDES if len(session.snapshots) == 2 else (state.active,)  # with two maps, cards are shown on either
    text = session.words(census)
    if state.scope == "all" and census is None:
        text = f"Counting over all anchors: {100 * session.counting().share:.0f} %."
    return {
        "answered": answered,
        "sentence": text,
        "error": error,
        "anchor": session.place,
        "truth": state.truth,
        "controls": [vars(control) for control in session.controls],
        "active": state.active,
        "sides": {name: _side(session.judged(name)) for name in told},
        "bins": {"edges": h.edges.tolist(), "counts": h.counts.astype(np.int32).tobytes()},
        "edges": None if edges is None else _edges(edges),
        "groups": [vars(group) for group in groups(j)],
        "legend": _legend(session),
        "lines": _lines(drawn),
        "state": state.to_json(),
        "python": session.python(),
        "rules": {"positives": to_plain(state.side.positives), "negatives": to_plain(state.side.negatives)},
    }


def _side(j: Judgement) -> dict[str, Any]:
    floats = {"score": j.score, "cosine": j.cosine, "force": j.force}
    numbers = {name: values.astype(np.float32).tobytes() for name, values in floats.items()}
    return {"band": j.band.tobytes(), **numbers, "scoreName": j.score_name}


def _edges(edges: Edges) -> dict[str, Any]:
    scores = {"closest": edges.closest_score, "beyond": edges.beyond_score}
    told = {name: score if np.isfinite(score) else None for name, score in scores.items()}
    return {"unit": edges.unit, "scores": told}


def _legend(session: Session) -> list[dict[str, str]]:
    """What the colours on the map mean; of a scale only its ends."""
    shown, colour = painting(session, session.state.active), session.state.colour
    entries = list(zip(shown.colours, shown.names, strict=True))
    if colour == "band":
        present = {*np.unique(shown.codes).tolist()}
        return [_entry(c, n, GLYPHS[SLOT_OF_BAND[Band(i)]]) for i, (c, n) in enumerate(entries) if i in present and i]
    if colour == "difference":
        return [_entry(c, n, GLYPHS[SLOT_OF_DIFFERENCE[i]]) for i, (c, n) in enumerate(entries)]
    if colour == "class":
        return [_entry(c, n) for c, n in entries[: LEGIBLE + 1]]
    return [_entry(c, n) for c, n in (entries[0], entries[len(entries) // 2], entries[-1])]


def _lines(drawn: list[Picture]) -> list[dict[str, str]]:
    """What the curves are; those of two figures together."""
    found = {}
    for picture in drawn:
        for line, colour, glyph in zip(picture.lines, (GREY, *SIDE_COLOURS), ("┈", "─", "─"), strict=True):
            if line is not None:
                found[line.name] = _entry(colour, line.name, glyph)
    return list(found.values())


def _entry(colour: str, name: str, glyph: str = "●") -> dict[str, str]:
    return {"colour": colour, "name": name, "glyph": glyph}
