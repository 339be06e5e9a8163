"""The class `Snapshot`: plain arrays that are saved as one `.npz` without pickle, and checked when loaded.

Legend: E epochs, M maps, N keys or images, B anchors, P pairs, T pictures of a sprite, d embedding, H height, W width.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from cltools.config import Experiment
from cltools.errors import CltoolsError, printable
from cltools.files import parsed, reading, replacing
from cltools.mining import Similarities, State, same_class
from cltools.snapshot.reading import AnyPath, load_arrays, path_of

FORMAT, VERSION = "cltools snapshot", 1
ARRAYS = {
    "anchors": (np.float16, "ebd"), "keys": (np.float16, "end"), "maps": (np.float32, "men2"),
    "kept": (np.float16, "men"), "trustworthiness": (np.float32, "me"), "ids": (np.int64, "n"),
    "labels": (np.int64, "n"), "sprite": (np.uint8, "s"), "thresholds": (np.float32, "en"), "pictured": (np.int64, "t"),
    "query_positives": (np.float16, "ebd"), "query_ids": (np.int64, "b"), "query_labels": (np.int64, "b"),
    "query_own": (np.int64, "p2"),
}  # fmt: skip
"""Type and axes of each array in the file; equal letters mean equal lengths."""
TOLERANCE, FARTHEST, LARGEST_ID = 2e-2, 1e30, 2**53
"""Tolerance of squared lengths in float16; limit of coordinates on maps; bound of integers exact in JavaScript."""
ABOUT = ("epochs", "map_names", "classes", "tile", "command", "commit", "texts", "metadata")
REMEDY = "Take it again, or convert one of 0.1 by data/convert.py; read_embeddings reads other embeddings."


@dataclass(frozen=True)
class Queries:
    """Anchors that are not keys themselves, such as the queries of a search in a corpus.

    Attributes:
        positives: z', unit vectors [E, B, d].
        ids: ids of the anchors [B].
        labels: labels of the anchors [B], -1 for unknown.
        own: index pairs of an anchor and a key of its own, which is never its negative [P, 2], sorted by anchor.
    """

    positives: Float32[np.ndarray, "E B d"]
    ids: Int64[np.ndarray, " B"]
    labels: Int64[np.ndarray, " B"]
    own: Int64[np.ndarray, "P 2"]


@dataclass(frozen=True)
class Snapshot:
    """A run's embeddings of some images at some epochs; or external embeddings of anchors and a corpus.

    Every image has a query z and a key z'. The keys form the queue; an anchor's positive is its own key, which is
    marked `own`. With `queries`, the anchors are other objects than the keys.

    Attributes:
        experiment: the run's experiment; an explorer starts with its rules and temperature.
        epochs: the E epochs after which the embeddings were taken, ascending.
        anchors: z, unit vectors [E, B, d]; B is N unless there are queries.
        keys: z' [E, N, d].
        maps: positions of the images, or of the keys if there are queries [M, E, N, 2].
        map_names: names of the maps.
        kept: share of each point's 15 true neighbours, by cosine, that are among its 15 on the map [M, E, N]; NaN for
            points that were not evaluated because there are too many.
        trustworthiness: trustworthiness of each map, for the same 15 [M, E] (`cltools.snapshot.maps.judged`).
        ids: ids of the images or keys [N].
        labels: labels of the images or keys [N], -1 for unknown.
        classes: names of the classes.
        sprite: thumbnails as WebP (`as_sprite`); empty if there are none.
        tile: height and width of a thumbnail.
        command: the command line that took the snapshot; "from Python" if it was taken without one.
        commit: commit of the code that took it (`cltools.provenance.commit`).
        thresholds: thresholds of the images, if the run's rule has learned them (`LearnedThreshold`) [E, N].
        pictured: indices of the keys or queries that the thumbnails show [T], queries counted from N on; None for all.
        queries: the queries; None if each image is both anchor and key.
        texts: texts of the keys, followed by those of the queries; may be empty.
        metadata: further columns about the keys, N texts for each name.

    Example:
        >>> import torch
        >>> from cltools import load_snapshot
        >>> snapshot = load_snapshot("shapes-moco")
        >>> s = snapshot.similarities(torch.arange(10))  # of ten anchors, with all keys, at the last epoch
        >>> s.anchor_keys.shape, s.own.sum()
        (torch.Size([10, 1500]), tensor(10))
    """

    experiment: Experiment
    epochs: tuple[int, ...]
    anchors: Float32[np.ndarray, "E B d"]
    keys: Float32[np.ndarray, "E N d"]
    maps: Float32[np.ndarray, "M E N 2"]
    map_names: tuple[str, ...]
    kept: Float32[np.ndarray, "M E N"]
    trustworthiness: Float32[np.ndarray, "M E"]
    ids: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    classes: tuple[str, ...]
    sprite: bytes
    tile: tuple[int, int]
    command: str = ""
    commit: str = ""
    thresholds: Float32[np.ndarray, "E N"] | None = None
    pictured: Int64[np.ndarray, " T"] | None = None
    queries: Queries | None = None
    texts: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the snapshot can be shown.

        Raises:
            ValueError: arrays, names or numbers contradict each other, or vectors are not of length 1.
        """
        if fault := next((what for what, wrong in _faults(self) if wrong), None):
            raise CltoolsError(f"This snapshot cannot be shown: {fault}.")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        queries = "" if self.queries is None else f"{len(self.anchor_ids):,} queries and "
        name = printable(self.experiment.data.name, lines=False)
        return f"Snapshot of {name}: {queries}{len(self):,} {self.noun}s, epochs {self.epochs}"

    @property
    def anchor_ids(self) -> Int64[np.ndarray, " B"]:
        """Ids of the anchors."""
        return self.ids if self.queries is None else self.queries.ids

    @property
    def anchor_labels(self) -> Int64[np.ndarray, " B"]:
        """Labels of the anchors."""
        return self.labels if self.queries is None else self.queries.labels

    @property
    def mapped(self) -> Float32[np.ndarray, "E N d"]:
        """The vectors that maps show."""
        return self.anchors if self.queries is None else self.keys

    @property
    def labelled(self) -> bool:
        """Whether the classes of some anchors and of some keys are known."""
        return bool((self.labels >= 0).any() and (self.anchor_labels >= 0).any())

    @property
    def tiles(self) -> int:
        """The number of pictures in the sprite."""
        return 0 if not self.sprite else len(self) if self.pictured is None else len(self.pictured)

    @property
    def noun(self) -> str:
        """The noun for a key."""
        return "image" if self.sprite else "text" if self.texts else "row"

    @property
    def anchor_noun(self) -> str:
        """The noun for an anchor."""
        return self.noun if self.queries is None else "query"

    def of_same_images(self, other: "Snapshot") -> bool:
        """Return whether another snapshot is of the same set of images, with equal ids, labels and classes."""
        named = self.experiment.data.name == other.experiment.data.name and self.classes == other.classes
        names = ("ids", "labels", "anchor_ids", "anchor_labels")
        return named and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    def similarities(self, rows: Tensor | None = None, *, epoch: int = -1) -> Similarities:
        """Return the similarities of these anchors (all by default), with the snapshot's keys as the queue.

        Embeddings are rounded to float16, as in a file and on the explorer's page, and normalised again. Cosines are
        summed in float64, so that after rounding to float32 they agree with those on the page, do not depend on the
        number of anchors, and are equal for equal keys.

        Args:
            rows: int64, indices of the anchors.
            epoch: index into `epochs`, not the number of an epoch.
        """
        index = torch.arange(len(self.anchor_ids)) if rows is None else rows
        anchors, positives, keys = self._rounded(epoch)
        z, positive = anchors[index], positives[index]
        labels = torch.from_numpy(self.anchor_labels)[index]
        same = same_class(labels, torch.from_numpy(self.labels)) if self.labelled else None
        known = None if bool((labels >= 0).all()) else (labels >= 0)[:, None].expand(-1, len(self))
        ids = torch.from_numpy(self.anchor_ids)[index], torch.from_numpy(self.ids)
        cosines = (z @ keys.T).float(), (positive @ keys.T).float(), (z * positive).sum(1).float()
        return Similarities(*cosines, self._own(index), same, (z.float(), keys.float()), ids, known)

    def _own(self, index: Tensor) -> Tensor:
        """Return the mask of each anchor's own keys."""
        if self.queries is None:
            return index[:, None] == torch.arange(len(self))
        anchor, key = torch.from_numpy(self.queries.own).T
        row, pair = (index[:, None] == anchor).nonzero(as_tuple=True)
        own = torch.zeros(len(index), len(self), dtype=torch.bool)
        own[row, key[pair]] = True
        return own

    def rule_state(self, epoch: int = -1) -> State | None:
        """Return what the run's rule had learned by that epoch, for `select(state=…)`; None if it does not learn."""
        if self.thresholds is None:
            return None
        ids, order = torch.from_numpy(self.ids).sort()
        return {"ids": ids, "threshold": torch.from_numpy(self.thresholds[epoch])[order]}

    def _rounded(self, epoch: int) -> tuple[Tensor, ...]:
        """Return an epoch's anchors, positives and keys, rounded to float16, as unit vectors in float64."""
        cache: dict[int, tuple[Tensor, ...]] = vars(self).setdefault("_rounded_epochs", {})
        if epoch not in cache:
            positives = self.keys if self.queries is None else self.queries.positives
            given = (each[epoch].astype(np.float16) for each in (self.anchors, positives, self.keys))
            cache[epoch] = tuple(torch.from_numpy(_unit(each)).double() for each in given)
        return cache[epoch]

    def arrays(self) -> dict[str, Any]:
        """Return all arrays by their names in the file; None for those that are absent."""
        values = vars(self) | {"sprite": np.frombuffer(self.sprite, np.uint8)}
        if self.queries is not None:
            values |= {f"query_{name}": array for name, array in vars(self.queries).items()}
        return {name: values.get(name) for name in ARRAYS}

    def save(self, path: str | Path) -> None:
        """Write one `.npz`, with embeddings in float16; the file is replaced atomically."""
        path = Path(path)
        about = {"format": FORMAT, "version": VERSION, "experiment": self.experiment.to_json()}
        about |= {name: getattr(self, name) for name in ABOUT}
        present = {name: array for name, array in self.arrays().items() if array is not None}
        arrays: dict[str, Any] = {name: array.astype(ARRAYS[name][0]) for name, array in present.items()}
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: AnyPath) -> "Snapshot":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, foreign, has another format version, or its rule is not defined.
        """
        path = path_of(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; give a snapshot (.npz), or take one with take_snapshot.")
        with reading(f"{path} cannot be read as a snapshot", REMEDY):
            arrays = load_arrays(path)
            described = isinstance(arrays, dict) and "about" in arrays
            about: Any = parsed(arrays.pop("about").tobytes(), "its description") if described else None
            stated = [about.get("format"), about.get("version")] if isinstance(about, dict) else None
            if repr(stated) != repr([FORMAT, VERSION]):
                raise CltoolsError(f"no description in it says {FORMAT!r}, version {VERSION}")
            about = {"texts": [], "metadata": {}} | about  # the first files lack them
            known: dict[str, Any] = {name: arrays.get(name) for name in ARRAYS if not name.startswith("query_")}
            known |= {name: _frozen(about[name]) for name in ABOUT}
            known |= {"experiment": Experiment.from_json(str(about["experiment"]))}
            known |= {"sprite": arrays.get("sprite", np.empty(0, np.uint8)).tobytes()}
            queries: dict[str, Any] = {each.name: arrays.get(f"query_{each.name}") for each in fields(Queries)}
            if any(each is not None for each in queries.values()):
                known["queries"] = SimpleNamespace(**queries)
            loaded = cls.__new__(cls)  # checked before vectors are normalised: the file may hold anything
            vars(loaded).update(known)
            loaded.__post_init__()
        vars(loaded).update(anchors=_unit(loaded.anchors), keys=_unit(loaded.keys), kept=loaded.kept.astype(np.float32))
        if loaded.queries is not None:
            vars(loaded)["queries"] = Queries(**queries | {"positives": _unit(loaded.queries.positives)})
        return loaded


def _faults(s: Snapshot) -> Iterator[tuple[str, bool]]:
    """Yield possible faults and whether they are present; each check assumes that all earlier ones passed."""
    lengths, arrays, queries = {"2": 2, "e": len(s.epochs), "m": len(s.map_names)}, s.arrays(), s.queries
    for name, (kind, axes) in ARRAYS.items():
        array, axes = arrays[name], axes if queries else axes.replace("b", "n")
        if array is None and (name in ("thresholds", "pictured") or (name.startswith("query_") and not queries)):
            continue
        able = (kind, np.float32) if kind is np.float16 else (kind,)  # float16 in files only
        other = array is None or array.dtype not in able or array.ndim != len(axes)
        yield f"its array {name} is not {np.dtype(kind)} [{', '.join(axes)}]", other
        for axis, length in zip(axes, np.shape(array), strict=True):
            wrong = lengths.setdefault(axis, length) != length or (length == 0 and axis in "emnbd")
            yield f"the lengths of its arrays contradict each other at {name}", wrong
    rows = len(s) + len(s.anchor_ids) * (queries is not None)
    vectors = [s.anchors, s.keys] + ([] if queries is None else [queries.positives])
    yield "some of its vectors are not finite, or not of length 1", not all(map(_of_length_1, vectors))
    yield "some of its positions on maps are not finite", not (np.abs(s.maps) <= FARTHEST).all()
    yield "its shares of neighbours are not between 0 and 1", bool(((s.kept < 0) | (s.kept > 1)).any())
    yield "its trustworthiness is not between 0 and 1", not ((s.trustworthiness >= 0) & (s.trustworthiness <= 1)).all()
    yield "its thresholds are not finite", s.thresholds is not None and not np.isfinite(s.thresholds).all()
    for ids, labels in ((s.ids, s.labels), (s.anchor_ids, s.anchor_labels)):
        yield "ids occur in it twice", len(np.unique(ids)) < len(ids)
        yield "ids reach 2**53", bool(np.abs(ids.astype(np.float64)).max() >= LARGEST_ID)
        yield "labels exceed its number of classes", not ((labels >= -1) & (labels < len(s.classes))).all()
    whole = all(type(each) is int and 0 <= each < LARGEST_ID for each in (*s.epochs, *s.tile)) and len(s.tile) == 2
    yield "its epochs or its tile's height and width are not whole numbers", not whole
    yield "its epochs are not ascending", any(a >= b for a, b in pairwise(s.epochs))
    for name, texts in (("classes", s.classes), ("map_names", s.map_names), ("metadata", (*s.metadata,))):
        yield f"its {name} are not distinct texts", not _are_texts(texts, len({*map(str, texts)}))
    columns = s.metadata.values() if isinstance(s.metadata, Mapping) else [()]
    known = [(s.texts, rows if s.texts else 0), ((s.command, s.commit), 2), *((each, len(s)) for each in columns)]
    yield "its texts or metadata have another length, or are not texts", not all(_are_texts(*each) for each in known)
    shown = np.arange(s.tiles) if s.pictured is None else s.pictured
    yield "it has pictures of rows that it does not hold", not ((shown >= 0) & (shown < rows)).all()
    yield "its pictures have another size", bool(s.sprite) and not fits(s.sprite, s.tiles, s.tile)
    own = np.empty((0, 2)) if queries is None else queries.own
    valid = (own >= 0) & (own < (len(s.anchor_ids), len(s)))
    yield "its own keys include some that it does not hold", not valid.all()


def _are_texts(given: Any, count: int) -> bool:
    return isinstance(given, tuple) and len(given) == count and all(isinstance(each, str) for each in given)


def _frozen(value: Any) -> Any:
    """Convert JSON lists to tuples, also within objects."""
    if isinstance(value, dict):
        return {name: _frozen(each) for name, each in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _of_length_1(vectors: np.ndarray) -> bool:
    """Return whether all vectors have length 1 up to float16 precision; vectors that are not finite do not."""
    squares = np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64)
    return bool((np.abs(squares - 1) <= TOLERANCE).all())


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Normalise vectors after rounding to float16; computed in float64, as on the explorer's page."""
    exact = vectors.astype(np.float64)
    length = np.sqrt((exact * exact).sum(-1, keepdims=True))
    return np.asarray(exact / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


# sprites: thumbnails in one image, a grid of tiles in rows


def sprite_columns(count: int) -> int:
    """Return the number of tiles per row of a sprite of `count` tiles."""
    return math.ceil(math.sqrt(count))


LARGEST_TILE = 64
"""Pixels of a thumbnail's longer side; larger images are shrunk, because WebP is limited to 16,383 pixels."""


def thumbnail_size(images: UInt8[np.ndarray, "N 3 H W"]) -> tuple[int, int]:
    """Return height and width of the images' thumbnails."""
    height, width = images.shape[2:]
    scale = min(1, LARGEST_TILE / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def thumbnails(images: UInt8[np.ndarray, "N 3 H W"]) -> UInt8[np.ndarray, "N 3 h w"]:
    """Return the images, shrunk if they are larger than a thumbnail."""
    size = thumbnail_size(images)
    if size == images.shape[2:]:
        return images
    parts = torch.split(torch.from_numpy(images), 500)  # limits the memory of the float32 copies
    return torch.cat([interpolate(part.float(), size, mode="area").round().byte() for part in parts]).numpy()


PIXELS = 24_000_000
"""Maximum pixels of a sprite, which a browser holds unpacked: 23,437 tiles of 32 × 32."""


def drawn_pictures(count: int, tile: tuple[int, int]) -> Int64[np.ndarray, " T"] | None:
    """Return the indices of the pictures that a sprite shows: a random draw if all exceed `PIXELS`, else None for all.

    Args:
        count: number of pictures.
        tile: height and width of a thumbnail.
    """
    most = PIXELS // (tile[0] * tile[1])
    return None if count <= most else np.sort(np.random.default_rng(0).permutation(count)[:most])


def as_sprite(images: UInt8[np.ndarray, "N 3 H W"]) -> bytes:
    """Return the images as one WebP image, with √N tiles per row."""
    from PIL import Image
    from torchvision.utils import make_grid

    grid = make_grid(torch.from_numpy(images), nrow=sprite_columns(len(images)), padding=0)
    file = io.BytesIO()
    # method 0 is the fastest and needs the least memory; files are hardly larger
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(file, "WEBP", quality=80, method=0)
    return file.getvalue()


def fits(sprite: bytes, count: int, size: tuple[int, int]) -> bool:
    """Return whether a sprite's header says that it is a complete WebP with the size of so many tiles."""
    columns = sprite_columns(count)
    rows = math.ceil(count / max(columns, 1))
    width, height = (int.from_bytes(sprite[at : at + 2], "little") for at in (26, 28))
    whole = int.from_bytes(sprite[4:8], "little") + 8 == len(sprite)
    return whole and sprite[8:16] == b"WEBPVP8 " and (height, width) == (rows * size[0], columns * size[1])


def tiles_of(sprite: bytes, count: int, size: tuple[int, int]) -> UInt8[np.ndarray, "N H W 3"]:
    """Return the first `count` tiles of a sprite whose tiles have this height and width."""
    from PIL import Image

    height, width = size
    with reading("The pictures of a snapshot are damaged", "Take it again."), Image.open(io.BytesIO(sprite)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, height, width, 3)[:count]
