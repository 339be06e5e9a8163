"""Further maps of a snapshot: by UMAP where somebody asks for one, or of one's own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from tqdm.auto import tqdm

from cltools.errors import CltoolsError, check_number
from cltools.snapshot.maps import MIN_DIST, NEIGHBOURS, judged, umap_over_epochs
from cltools.snapshot.snapshot import Snapshot


def with_map(snapshot: Snapshot, name: str, places: Float[ndarray, "*E N 2"]) -> Snapshot:
    """The snapshot with one more map, which an explorer shows first; it replaces one of the same name.

    Args:
        snapshot: of N rows at E epochs.
        name: of the map.
        places: [E, N, 2], or [N, 2] where E is 1; finite.

    Raises:
        ValueError: places that do not fit.
    """
    given = np.asarray(places, np.float32).reshape(-1, *np.shape(places)[-2:])
    wanted = (len(snapshot.epochs), len(snapshot), 2)
    if given.shape != wanted:
        raise CltoolsError(f"Places are {[*np.shape(places)]}; give {[*wanted]}: a place for each row at each epoch.")
    if not np.isfinite(given).all():
        raise CltoolsError("Places must be finite numbers; some are not.")
    kept, trust = judged(snapshot.mapped, given[None])
    others = [i for i, each in enumerate(snapshot.map_names) if each != name]
    held: dict[str, Any] = {"maps": given[None], "kept": kept, "trustworthiness": trust}
    held = {each: np.concatenate([array, getattr(snapshot, each)[others]]) for each, array in held.items()}
    return replace(snapshot, map_names=(name, *(snapshot.map_names[i] for i in others)), **held)


def with_umap(
    snapshot: Snapshot, seeds: Sequence[int] | int = (0,), *, neighbours: int = NEIGHBOURS, min_dist: float = MIN_DIST
) -> Snapshot:
    """The snapshot with maps by UMAP (arXiv:1802.03426), each epoch's started from the one before; with a progress bar.

    A map is kept on disk: asked for again, it is read from there.

    Args:
        snapshot: of any rows.
        seeds: one or several, a map each; where maps of several seeds differ, trust none.
        neighbours: to how many nearest rows, by cosine, a row is held; more show the whole, fewer the detail.
        min_dist: how close points may lie.

    Raises:
        ModuleNotFoundError: umap-learn is not installed.
        ValueError: fewer than 2 neighbours, a distance beyond 0 to 1, or a seed that is no whole number to a billion.
    """
    seeds = [check_number("A seed", each, "a whole number from 0 to a billion") for each in np.atleast_1d(seeds)]
    neighbours = check_number("neighbours", neighbours, "a whole number of at least 2")
    min_dist = check_number("min_dist", min_dist, "a number between 0 and 1")
    settings = "" if neighbours == NEIGHBOURS else f", {neighbours} neighbours"
    settings += "" if min_dist == MIN_DIST else f", min_dist {min_dist:g}"
    for seed in reversed(seeds):  # the first is to stand first
        places = umap_over_epochs(snapshot.mapped, seed, neighbours, min_dist)
        bar = tqdm(places, f"UMAP, seed {seed}", len(snapshot.epochs), unit="map", leave=False)
        snapshot = with_map(snapshot, f"UMAP, seed {seed}{settings}", np.stack([*bar]))
    return snapshot
