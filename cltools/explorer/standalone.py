"""The explorer as one HTML file that needs no kernel and no network: `Explorer.save_html`, `cltools explore`.

The page computes what it shows, by the engine that the tests hold to `select`; it holds the snapshot in float16, the
numbers from which Python computes too.
"""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from cltools.config import to_plain
from cltools.errors import CltoolsError
from cltools.explorer.front.bundle import bundle
from cltools.explorer.state import State
from cltools.files import write_text
from cltools.mining import RankBand
from cltools.snapshot import Snapshot
from cltools.snapshot.sprite import sprite_columns

HERE = Path(__file__).parent / "front"
LARGE = 12_000_000
"""Bytes of a page above which a sample is proposed."""


@cache
def page_script() -> str:
    """The page's script; it starts itself."""
    return bundle(HERE / "standalone.js", "cltools") + "cltools.start(globalThis);\n"


def page_data(snapshot: Snapshot, epochs: Sequence[int]) -> dict[str, Any]:
    """A snapshot as the page reads it, with these places among its epochs."""
    low = snapshot.maps.min(2, keepdims=True)
    maps = (snapshot.maps - low) / np.maximum((snapshot.maps - low).max((2, 3), keepdims=True), 1e-9)
    maps += (1 - maps.max(2, keepdims=True)) / 2  # in the middle of the longer side
    maps[..., 1] = 1 - maps[..., 1]  # a page's y grows downwards
    middle = snapshot.experiment.negatives.at(1.0)
    return {
        "title": snapshot.experiment.data.name,
        "noun": "image",
        "epochs": [snapshot.epochs[i] for i in epochs],
        "dim": snapshot.anchors.shape[2],
        "ids": snapshot.ids.tolist(),
        "labels": snapshot.labels.tolist(),
        "classes": list(snapshot.classes),
        "mapNames": list(snapshot.map_names),
        "form": snapshot.experiment.loss.form,
        "tile": list(snapshot.tile),
        "columns": sprite_columns(len(snapshot)),
        "sprite": "data:image/webp;base64," + base64.b64encode(snapshot.sprite).decode(),
        "anchors": [_coded(snapshot.anchors[i].astype("<f2")) for i in epochs],
        "keys": [_coded(snapshot.keys[i].astype("<f2")) for i in epochs],
        "maps": [[_coded(places[i].astype("<f4")) for i in epochs] for places in maps],
        "kept": [[_coded(np.rint(100 * kept[i]).astype(np.uint8)) for i in epochs] for kept in snapshot.kept],
        "middle": to_plain(middle) if isinstance(middle, RankBand) else None,
    }


def page_of(
    snapshots: Sequence[Snapshot],
    state: State,
    *,
    epochs: Literal["present", "all"] = "present",
    show: Iterable[str] = ("pictures", "map", "push", "cost"),
    words: str = "",
    picture: bytes = b"",
) -> str:
    """The page as text.

    Args:
        snapshots: one, or two that are shown side by side.
        state: where it starts.
        epochs: whether only the epoch that is shown goes along.
        show: which parts.
        words: the sentence for viewers that run no scripts.
        picture: the still picture for them, a PNG.
    """
    sides = (state.a, state.of("B"))
    places = [
        [*range(len(each.epochs))] if epochs == "all" else [each.epochs.index(side.epoch)]
        for each, side in zip(snapshots, sides, strict=False)
    ]
    held = [page_data(each, at) for each, at in zip(snapshots, places, strict=True)]
    data = json.dumps({"snapshots": held, "state": to_plain(state), "show": list(show)}).replace("<", "\\u003c")
    still = f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">' if picture else ""
    title = html.escape(f"{snapshots[0].experiment.data.name}: which samples would this one be pushed away from?")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<style>\nbody { margin: 0; background: #ffffff; }\n"
        "@media (prefers-color-scheme: dark) { body { background: #14171c; } }\n"
        f"{(HERE / 'page.css').read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f'<main id="cltools-explorer" class="cltools-explorer"><noscript><p>{html.escape(words)}</p>{still}</noscript>'
        f'</main>\n<script type="application/json" id="cltools-data">{data}</script>\n'
        f'<script id="cltools-code">\n{page_script()}</script>\n</body>\n</html>\n'
    )


def save_page(path: str | Path, page: str) -> Path:
    """Write a page, replaced whole.

    Raises:
        ValueError: it is larger than 12 MB.
    """
    size = len(page.encode())
    if size > LARGE:
        raise CltoolsError(
            f"The page would take {size / 1e6:.0f} MB. Take a snapshot of fewer images, such as take_snapshot(…, n=2000), "
            "or save the present epoch alone."
        )
    write_text(Path(path), page)
    return Path(path)


def _coded(array: ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
