"""Two-dimensional maps of embeddings that keep points in their place from epoch to epoch, and how far to trust them.

A snapshot has one by PCA; further ones are by UMAP where somebody asks for them, or of one's own. Those by UMAP are
kept on disk by what they were made from, so that none is made twice. The folder is `cltools.files.cache_folder`; it may
be deleted at any time. Whatever is wrong with it, a map is only made again.

Legend: E epochs, N points, d embedding, k neighbours.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64
from tqdm.auto import tqdm

from cltools.errors import SEED, CltoolsError, check_number
from cltools.files import cache_folder, replacing
from cltools.snapshot.snapshot import Snapshot

NEIGHBOURS, MIN_DIST = 15, 0.1
WARM_ROUNDS = 100
"""Rounds of UMAP's optimiser from the map of the epoch before; its own 500 would stir points that are in place."""
Points = Float32[np.ndarray, "N d"]
Places = Float32[np.ndarray, "N 2"]
Rows = Int64[np.ndarray, " M"] | None
"""Places of some of the points; None for all."""
JUDGED = 2000
"""Points above which the trustworthiness is that of as many drawn ones: its matrices would take gigabytes."""
ALL_JUDGED = 20_000
"""Points above which neighbours are looked up for as many drawn ones only: the time grows with their square."""

# What umap says whenever it is imported without TensorFlow, and given a seed and exact neighbours; all are meant.
EXPECTED = r"Tensorflow not installed|n_jobs value .* overridden to 1|precomputed_knn\[2\]"


def nearest(points: Points, k: int, rows: Rows = None) -> tuple[Int64[np.ndarray, "M k"], Float[np.ndarray, "M k"]]:
    """Each point's k nearest others, and how far: by Euclidean distance, which orders unit vectors as cosines do.

    Args:
        points: all.
        k: below N.
        rows: of which points.
    """
    from sklearn.neighbors import NearestNeighbors

    rows = np.arange(len(points)) if rows is None else rows
    distance, found = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points[rows])
    itself = found == rows[:, None]
    itself[~itself.any(1), -1] = True  # among equal points it may be none of the nearest
    return found[~itself].reshape(len(rows), -1), distance[~itself].reshape(len(rows), -1)


def pca(points: Points) -> Places:
    """The first two principal components, signs fixed so that the largest weight of each is above 0."""
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(1)[:, None], axis=1))
    return np.asarray(centred @ axes.T, dtype=np.float32)


def need_umap() -> None:
    """Raise ModuleNotFoundError where umap-learn is not installed."""
    if find_spec("umap") is None:
        raise ModuleNotFoundError('A map by UMAP needs umap-learn: pip install "cltools-ssl[notebooks]".', name="umap")


def content_key(*parts: Any) -> str:
    """A name that is equal for equal parts; arrays are equal by type, shape and bytes."""
    digest = sha256()
    for part in parts:
        array = isinstance(part, np.ndarray)
        digest.update(f"{part.dtype.str} {part.shape} ".encode() + part.tobytes() if array else f"{part!r} ".encode())
    return digest.hexdigest()


def cached(key: str, make: Callable[[], Places]) -> Places:
    """The map of this key: as it was kept, else made and kept, where the folder allows it."""
    try:
        path = cache_folder() / f"{key}.npz"
    except RuntimeError:
        return make()
    with suppress(Exception), path.open("rb") as kept, np.load(kept, allow_pickle=False) as arrays:  # with checksums
        return arrays["place"]  # type: ignore[no-any-return]
    place = make()
    with suppress(OSError), replacing(path) as part, part.open("wb") as file:
        np.savez(file, place=place)
    return place


def umap(points: Points, start: Places, seed: int, rounds: int | None, neighbours: int, min_dist: float) -> Places:
    """UMAP (arXiv:1802.03426) of unit vectors by their exact nearest neighbours, from a given start.

    A map that was made before is read from the disk.

    Args:
        points: unit vectors.
        start: places; umap scales them to its own range.
        seed: one seed gives one map.
        rounds: of the optimiser; None for umap's own number.
        neighbours: of each point that the map shall keep.
        min_dist: how close points may lie.

    Raises:
        ModuleNotFoundError: umap-learn is not installed.
    """
    need_umap()
    asked = points, start, seed, rounds, neighbours, min_dist
    return cached(content_key("umap", version("umap-learn"), *asked), lambda: _fitted(*asked))


def _fitted(points: Points, start: Places, seed: int, rounds: int | None, neighbours: int, min_dist: float) -> Places:
    """What umap makes of these; importing and compiling it takes seconds."""
    k = min(neighbours, len(points) - 1)
    index, distance = nearest(points, k - 1)
    itself = np.arange(len(points))[:, None]  # umap counts a point among its neighbours, as the first
    known = np.hstack([itself, index]), np.hstack([0 * itself, distance**2 / 2]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=EXPECTED)
        from umap import UMAP

        asked = {"min_dist": min_dist, "init": start, "n_epochs": rounds, "random_state": seed}
        fit = UMAP(k, metric="cosine", precomputed_knn=known, **asked)
        return np.asarray(fit.fit_transform(points), dtype=np.float32)


def aligned(points: Places, reference: Places) -> Places:
    """The points rotated, mirrored, scaled by one factor and shifted, to lie as near the reference as that brings them.

    Least squares (Schönemann and Carroll, Psychometrika 35, 1970). A map means nothing by its place, turn or size.
    """
    centre, target = points.mean(0), reference.mean(0)
    a, b = (points - centre).astype(np.float64), (reference - target).astype(np.float64)
    u, singular, v = np.linalg.svd(a.T @ b)
    scale = singular.sum() / max(float((a**2).sum()), np.finfo(np.float64).tiny)
    return np.asarray(scale * a @ (u @ v) + target, dtype=np.float32)


def pca_over_epochs(embeddings: Float32[np.ndarray, "E N d"]) -> Float32[np.ndarray, "E N 2"]:
    """A map an epoch by PCA, each turned onto the one before."""
    return np.stack([*accumulate(map(pca, embeddings), lambda before, place: aligned(place, before))])


def in_unit_square(maps: Float32[np.ndarray, "M E N 2"]) -> Float32[np.ndarray, "M E N 2"]:
    """Maps as a page draws them: each in the unit square, in the middle of its shorter side, y growing downwards."""
    low = maps.min(2, keepdims=True)
    places = (maps - low) / np.maximum((maps - low).max((2, 3), keepdims=True), 1e-9)
    places += (1 - places.max(2, keepdims=True)) / 2
    places[..., 1] = 1 - places[..., 1]
    return np.asarray(places, np.float32)


def umap_over_epochs(
    embeddings: Float32[np.ndarray, "E N d"], seed: int, neighbours: int = NEIGHBOURS, min_dist: float = MIN_DIST
) -> Iterator[Float32[np.ndarray, "N 2"]]:
    """A map an epoch by UMAP, each started from the one before and turned onto it; the first starts from PCA."""
    before: np.ndarray | None = None
    for points in embeddings:
        start, rounds = (pca(points), None) if before is None else (before, WARM_ROUNDS)
        place = umap(points, start, seed, rounds, neighbours, min_dist)
        before = place if before is None else aligned(place, before)
        yield before


def judged(
    embeddings: Float32[np.ndarray, "E N d"], maps: Float32[np.ndarray, "M E N 2"]
) -> tuple[Float32[np.ndarray, "M E N"], Float32[np.ndarray, "M E"]]:
    """How far to trust maps: the share of each point's true neighbours that is kept, and the trustworthiness.

    Trustworthiness (Venna and Kaski, ICANN 2001) is 1 if no map neighbour is far in truth, and counts neighbours that
    are by their rank. Both by `NEIGHBOURS`; of fewer points by as many as there are, or as trustworthiness allows.
    """
    from sklearn.manifold import trustworthiness

    count = embeddings.shape[1]
    few = min(NEIGHBOURS, (count - 1) // 2)  # of half the points or more it has no value
    drawn = np.random.default_rng(0).permutation(count)[:JUDGED] if count > JUDGED else np.arange(count)
    rows = drawn if count > ALL_JUDGED else np.arange(count)
    kept, trust = np.full(maps.shape[:3], np.nan, np.float32), np.empty(maps.shape[:2], np.float32)
    for one, epoch in np.ndindex(trust.shape):
        points, place = embeddings[epoch], maps[one, epoch]
        kept[one, epoch, rows] = kept_neighbours(points, place, rows=rows)
        trust[one, epoch] = trustworthiness(points[drawn], place[drawn], n_neighbors=few, metric="cosine")
    return kept, trust


def kept_neighbours(points: Points, place: Places, k: int = NEIGHBOURS, rows: Rows = None) -> Float32[np.ndarray, " M"]:
    """Share of a point's k true neighbours (cosine) that are its k on the map; of all points or of `rows`."""
    k = min(k, len(points) - 1)
    true, shown = nearest(points, k, rows)[0], nearest(place, k, rows)[0]
    return np.asarray((true[:, :, None] == shown[:, None, :]).any(2).mean(1), dtype=np.float32)


def with_map(snapshot: Snapshot, name: str, places: Float[np.ndarray, "*E N 2"]) -> Snapshot:
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
        ValueError: fewer than 2 neighbours, a distance beyond 0 to 1, or what is no seed.
    """
    seeds = [check_number("A seed", seed, SEED) for seed in np.atleast_1d(seeds)]
    neighbours = check_number("neighbours", neighbours, "a whole number of at least 2")
    min_dist = check_number("min_dist", min_dist, "a number between 0 and 1")
    settings = "" if neighbours == NEIGHBOURS else f", {neighbours} neighbours"
    settings += "" if min_dist == MIN_DIST else f", min_dist {min_dist:g}"
    for seed in reversed(seeds):  # the first is to stand first
        places = umap_over_epochs(snapshot.mapped, seed, neighbours, min_dist)
        bar = tqdm(places, f"UMAP, seed {seed}", len(snapshot.epochs), unit="map", leave=False)
        snapshot = with_map(snapshot, f"UMAP, seed {seed}{settings}", np.stack([*bar]))
    return snapshot
