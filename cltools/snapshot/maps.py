"""Two-dimensional maps of embeddings, aligned from epoch to epoch, and measures of their quality.

A snapshot has one map by PCA; maps by UMAP, or the user's own, can be added. Maps by UMAP are cached on disk by a hash
of their inputs, in `cltools.files.cache_folder`. The folder may be deleted at any time; if a cached map cannot be read,
it is computed again.

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
"""Rounds of UMAP's optimiser when it starts from the previous epoch's map; its default, 500, would move points more."""
Points = Float32[np.ndarray, "N d"]
XY = Float32[np.ndarray, "N 2"]
Rows = Int64[np.ndarray, " M"]
"""Indices of some or all of the points."""
ALL_JUDGED, JUDGED = 20_000, 2000
"""Number of points above which a map is judged by some of them, and how many are drawn: the time is quadratic."""

# Expected warnings of umap: without TensorFlow, with a seed, and with precomputed neighbours.
EXPECTED = r"Tensorflow not installed|n_jobs value .* overridden to 1|precomputed_knn\[2\]"


def nearest(points: Points, k: int, rows: Rows) -> tuple[Int64[np.ndarray, "M k"], Float[np.ndarray, "M k"]]:
    """Return each point's k nearest neighbours and their Euclidean distances, which order unit vectors by cosine.

    Args:
        points: all points.
        k: number of neighbours, below N.
        rows: points whose neighbours are returned.
    """
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points[rows])
    itself = index == rows[:, None]
    itself[~itself.any(1), -1] = True  # with many equal points, it may not be among the nearest
    return index[~itself].reshape(len(rows), -1), distance[~itself].reshape(len(rows), -1)


def pca(points: Points) -> XY:
    """Return the first two principal components, with signs such that the largest weight of each is positive."""
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(1)[:, None], axis=1))
    return np.asarray(centred @ axes.T, dtype=np.float32)


def need_umap() -> None:
    """Raise ModuleNotFoundError if umap-learn is not installed."""
    if find_spec("umap") is None:
        raise ModuleNotFoundError('A map by UMAP needs umap-learn: pip install "cltools-ssl[notebooks]".', name="umap")


def content_key(*parts: Any) -> str:
    """Return a hash of the parts; arrays are hashed by dtype, shape and bytes."""
    digest = sha256()
    for part in parts:
        array = isinstance(part, np.ndarray)
        digest.update(f"{part.dtype.str} {part.shape} ".encode() + part.tobytes() if array else f"{part!r} ".encode())
    return digest.hexdigest()


def cached(key: str, make: Callable[[], XY]) -> XY:
    """Return the map of this key from the cache; else compute it and cache it, if the folder is writable."""
    try:
        path = cache_folder() / f"{key}.npz"
    except RuntimeError:
        return make()
    with suppress(Exception), path.open("rb") as entry, np.load(entry, allow_pickle=False) as arrays:  # with checksums
        return arrays["place"]  # type: ignore[no-any-return]
    positions = make()
    with suppress(OSError), replacing(path) as part, part.open("wb") as file:
        np.savez(file, place=positions)
    return positions


def umap(points: Points, start: XY, seed: int, rounds: int | None, neighbours: int, min_dist: float) -> XY:
    """Return a map by UMAP (arXiv:1802.03426) of unit vectors, from exact nearest neighbours and a given start.

    A map that was computed before is read from the cache.

    Args:
        points: unit vectors.
        start: initial positions; umap scales them to its own range.
        seed: the seed, which determines the map.
        rounds: rounds of the optimiser; None for umap's default.
        neighbours: neighbours of each point that the map aims to preserve.
        min_dist: minimum distance of points on the map.

    Raises:
        ModuleNotFoundError: umap-learn is not installed.
    """
    need_umap()
    inputs = points, start, seed, rounds, neighbours, min_dist
    return cached(content_key("umap", version("umap-learn"), *inputs), lambda: _fitted(*inputs))


def _fitted(points: Points, start: XY, seed: int, rounds: int | None, neighbours: int, min_dist: float) -> XY:
    """Run umap; importing and compiling it takes seconds."""
    k = min(neighbours, len(points) - 1)
    itself = np.arange(len(points))[:, None]  # umap expects a point as its own first neighbour
    index, distance = nearest(points, k - 1, itself[:, 0])
    known = np.hstack([itself, index]), np.hstack([0 * itself, distance**2 / 2]).astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=EXPECTED)
        from umap import UMAP

        settings = {"min_dist": min_dist, "init": start, "n_epochs": rounds, "random_state": seed}
        return np.asarray(UMAP(k, metric="cosine", precomputed_knn=known, **settings).fit_transform(points), np.float32)


def aligned(points: XY, reference: XY) -> XY:
    """Return the points rotated, mirrored, scaled and shifted to fit the reference by least squares.

    The scale is one factor (Schönemann and Carroll, Psychometrika 35, 1970). These transformations do not change what a
    map shows, because its position, rotation and size carry no meaning.
    """
    centre, target = points.mean(0), reference.mean(0)
    a, b = (points - centre).astype(np.float64), (reference - target).astype(np.float64)
    u, singular, v = np.linalg.svd(a.T @ b)
    scale = singular.sum() / max(float((a**2).sum()), np.finfo(np.float64).tiny)
    return np.asarray(scale * a @ (u @ v) + target, dtype=np.float32)


def pca_over_epochs(embeddings: Float32[np.ndarray, "E N d"]) -> Float32[np.ndarray, "E N 2"]:
    """Return a map per epoch by PCA, each aligned with the one before."""
    return np.stack([*accumulate(map(pca, embeddings), lambda before, positions: aligned(positions, before))])


def in_unit_square(maps: Float32[np.ndarray, "M E N 2"]) -> Float32[np.ndarray, "M E N 2"]:
    """Return maps as a page draws them: scaled to the unit square, centred in it, with y growing downwards."""
    low = maps.min(2, keepdims=True)
    positions = (maps - low) / np.maximum((maps - low).max((2, 3), keepdims=True), 1e-9)
    positions += (1 - positions.max(2, keepdims=True)) / 2
    positions[..., 1] = 1 - positions[..., 1]
    return np.asarray(positions, np.float32)


def umap_over_epochs(
    embeddings: Float32[np.ndarray, "E N d"], seed: int, neighbours: int = NEIGHBOURS, min_dist: float = MIN_DIST
) -> Iterator[Float32[np.ndarray, "N 2"]]:
    """Yield a map per epoch by UMAP, each started from and aligned with the one before; the first starts from PCA."""
    before: np.ndarray | None = None
    for points in embeddings:
        start, rounds = (pca(points), None) if before is None else (before, WARM_ROUNDS)
        positions = umap(points, start, seed, rounds, neighbours, min_dist)
        yield (before := positions if before is None else aligned(positions, before))


def judged(embeddings: Float32[np.ndarray, "E N d"], maps: Float32[np.ndarray, "M E N 2"]) -> dict[str, Any]:
    """Return maps and their quality, as fields of a snapshot.

    `kept` [M, E, N] is the share of a point's nearest neighbours, by cosine, that are among its nearest on the map; NaN
    for points that are not judged. `trustworthiness` [M, E] is 1 if no neighbour on the map is far away in the
    embedding, and penalises those that are by their rank. Both use `NEIGHBOURS`, or fewer if there are too few points:
    trustworthiness is defined for less than half of them.
    """
    count = embeddings.shape[1]
    rows = np.random.default_rng(0).permutation(count)[:JUDGED] if count > ALL_JUDGED else np.arange(count)
    kept, trust = np.full(maps.shape[:3], np.nan, np.float32), np.empty(maps.shape[:2], np.float32)
    for one, epoch in np.ndindex(trust.shape):
        true, shown = (nearest(x, min(NEIGHBOURS, count - 1), rows)[0] for x in (embeddings[epoch], maps[one, epoch]))
        kept[one, epoch, rows] = (true[:, :, None] == shown[:, None, :]).any(2).mean(1)
        trust[one, epoch] = trustworthiness(embeddings[epoch], shown[:, : (count - 1) // 2], rows)
    return {"maps": maps, "kept": kept, "trustworthiness": trust}


def trustworthiness(points: Points, shown: Int64[np.ndarray, "M k"], rows: Rows) -> float:
    """Return the trustworthiness of a map, from 0 to 1, in memory proportional to N.

    Venna and Kaski, ICANN 2001. The rank of a neighbour is 1 + the number of points whose cosine is larger: points at
    equal cosine share the best of their ranks, where scikit-learn's `trustworthiness` orders them arbitrarily.

    Args:
        points: all points.
        shown: the k nearest of each row on the map, with k < N / 2.
        rows: points that are judged; the ranks are those among all points.
    """
    (count, k), excess = shown.shape, 0
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    for part in np.array_split(np.arange(count), -(-count * len(points) // 2**22)):  # 16 MiB of float32
        cosine = unit[rows[part]] @ unit.T
        cosine[np.arange(len(part)), rows[part]] = -np.inf  # no point is its own neighbour
        for row, near in zip(cosine, shown[part], strict=True):
            excess += sum(max(0, np.count_nonzero(row > each) + 1 - k) for each in row[near])
    return float(1 - excess * 2 / (count * k * (2 * len(points) - 3 * k - 1)))


def with_map(snapshot: Snapshot, name: str, places: Float[np.ndarray, "*E N 2"]) -> Snapshot:
    """Return the snapshot with an additional map, which an explorer shows first; it replaces one of the same name.

    Args:
        snapshot: a snapshot of N rows at E epochs.
        name: name of the map.
        places: positions of the rows on the map, finite: [E, N, 2], or [N, 2] if E is 1.

    Raises:
        ValueError: the positions do not fit.

    Example:
        >>> import numpy as np
        >>> from cltools import snapshot_of_embeddings, with_map
        >>> snapshot = snapshot_of_embeddings(np.random.default_rng(0).normal(size=(40, 8)))
        >>> with_map(snapshot, "grid", np.indices((5, 8), float).reshape(2, 40).T).map_names
        ('grid', 'PCA')
    """
    given = np.asarray(places, np.float32).reshape(-1, *np.shape(places)[-2:])
    wanted = (len(snapshot.epochs), len(snapshot), 2)
    if given.shape != wanted:
        raise CltoolsError(f"places are {[*np.shape(places)]}; give {[*wanted]}: a position for each row and epoch.")
    if not np.isfinite(given).all():
        raise CltoolsError("places must be finite numbers; some are not.")
    others = [i for i, each in enumerate(snapshot.map_names) if each != name]
    new = judged(snapshot.mapped, given[None])
    new = {each: np.concatenate([array, getattr(snapshot, each)[others]]) for each, array in new.items()}
    return replace(snapshot, map_names=(name, *(snapshot.map_names[i] for i in others)), **new)


def with_umap(
    snapshot: Snapshot, seeds: Sequence[int] | int = (0,), *, neighbours: int = NEIGHBOURS, min_dist: float = MIN_DIST
) -> Snapshot:
    """Return the snapshot with maps by UMAP (arXiv:1802.03426), each epoch's started from that of the epoch before.

    Maps are cached on disk. A progress bar is shown.

    Args:
        snapshot: any snapshot.
        seeds: one or several seeds, with a map for each; features that differ between seeds should not be trusted.
        neighbours: number of nearest rows, by cosine, that a row is kept close to; more show the global structure,
            fewer the local one.
        min_dist: minimum distance of points on the map.

    Raises:
        ModuleNotFoundError: umap-learn is not installed.
        ValueError: there are fewer than 2 neighbours, the distance is not in 0 to 1, or a seed is invalid.

    Example:
        >>> import numpy as np
        >>> from cltools import snapshot_of_embeddings, with_umap
        >>> snapshot = snapshot_of_embeddings(np.random.default_rng(0).normal(size=(40, 8)))
        >>> with_umap(snapshot, seeds=(0, 1)).map_names
        ('UMAP, seed 0', 'UMAP, seed 1', 'PCA')
    """
    seeds = [check_number("A seed", seed, SEED) for seed in np.atleast_1d(seeds)]
    neighbours = check_number("neighbours", neighbours, "a whole number of at least 2")
    min_dist = check_number("min_dist", min_dist, "a number between 0 and 1")
    settings = "" if neighbours == NEIGHBOURS else f", {neighbours} neighbours"
    settings += "" if min_dist == MIN_DIST else f", min_dist {min_dist:g}"
    for seed in reversed(seeds):  # so that the first seed's map comes first
        maps = umap_over_epochs(snapshot.mapped, seed, neighbours, min_dist)
        bar = tqdm(maps, f"UMAP, seed {seed}", len(snapshot.epochs), unit="map", leave=False)
        snapshot = with_map(snapshot, f"UMAP, seed {seed}{settings}", np.stack([*bar]))
    return snapshot
