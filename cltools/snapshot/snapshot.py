"""The snapshot itself: plain arrays of a moment, in one `.npz` without pickle, checked when it is read.

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
from cltools.errors import CltoolsError, shown
from cltools.files import parsed, reading, replacing
from cltools.mining import Similarities, State, same_class
from cltools.snapshot.reading import load_arrays

FORMAT, VERSION = "cltools snapshot", 1
ARRAYS = {
    "anchors": (np.float16, "ebd"),
    "keys": (np.float16, "end"),
    "maps": (np.float32, "men2"),
    "kept": (np.float16, "men"),
    "trustworthiness": (np.float32, "me"),
    "ids": (np.int64, "n"),
    "labels": (np.int64, "n"),
    "sprite": (np.uint8, "s"),
    "thresholds": (np.float32, "en"),
    "pictured": (np.int64, "t"),
    "query_positives": (np.float16, "ebd"),
    "query_ids": (np.int64, "b"),
    "query_labels": (np.int64, "b"),
    "query_own": (np.int64, "p2"),
}
"""Type and axes of each array in the file; equal letters are equal lengths."""
TOLERANCE, FARTHEST, LARGEST_ID = 2e-2, 1e30, 2**53
"""How far a squared length may be from 1 after float16; of places on a map; and from where on a page loses count."""
ABOUT = ("epochs", "map_names", "classes", "tile", "command", "commit")
TOLD = ("texts", "metadata")
ELSE = "Take it anew, or convert one of 0.1 by data/convert.py; read_embeddings reads other embeddings."


@dataclass(frozen=True)
class Queries:
    """Anchors that are no keys themselves, such as the queries of a search in a corpus of another length.

    Attributes:
        positives: z', unit vectors [E, B, d].
        ids: of the anchors [B].
        labels: [B], -1 unknown.
        own: places of an anchor and of a key that is its own, and so never its negative [P, 2], in the anchors' order.
    """

    positives: Float32[np.ndarray, "E B d"]
    ids: Int64[np.ndarray, " B"]
    labels: Int64[np.ndarray, " B"]
    own: Int64[np.ndarray, "P 2"]


@dataclass(frozen=True)
class Snapshot:
    """A run's embeddings of some images at some epochs; or any embeddings, of anchors and of a corpus.

    Every image has a query z and a key z'; the queue is the keys, an anchor's positive is its own key, and that
    key is `own`. With `queries` the anchors are other things than the keys.

    Attributes:
        experiment: of the run; its rules and temperature are where an explorer starts.
        epochs: E epochs of training after which the embeddings were taken, ascending.
        anchors: z, unit vectors [E, B, d]; B is N unless there are queries.
        keys: z' [E, N, d].
        maps: places of the images, or of the keys where there are queries [M, E, N, 2].
        map_names: of the maps.
        kept: share of each point's 15 true neighbours, by cosine, among its 15 on the map [M, E, N]; NaN where there
            are so many points that only some were judged.
        trustworthiness: of each map by the same 15 [M, E] (`cltools.snapshot.maps.judged`).
        ids: of the images, or of the keys [N].
        labels: [N], -1 unknown.
        classes: their names.
        sprite: thumbnails as WebP (`as_sprite`); empty where there are none.
        tile: height and width of a thumbnail.
        command: the command line that took it; "from Python" where it was none of ours.
        commit: of the code that took it (`cltools.provenance.commit`).
        thresholds: of each image, where the run's rule has learned them (`LearnedThreshold`) [E, N].
        pictured: places of what the thumbnails show [T], queries counted on from N; None for all.
        queries: None where each image is anchor and key at once.
        texts: of the keys, and after them of the queries; empty where there are none.
        metadata: what else is known of the keys, N texts for each name.
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
        """Refuse what nobody could show.

        Raises:
            ValueError: arrays, names or numbers that contradict each other, or vectors that are not of length 1.
        """
        if fault := _fault(self):
            raise CltoolsError(f"This is no snapshot that can be shown: {fault}.")

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        asked = "" if self.queries is None else f"{len(self.anchor_ids):,} queries and "
        return f"Snapshot of {self.experiment.data.name}: {asked}{len(self):,} {self.noun}s, epochs {self.epochs}"

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
        """Whether classes are known, of some anchors and some keys; one that is not known is of no class."""
        return bool((self.labels >= 0).any() and (self.anchor_labels >= 0).any())

    @property
    def tiles(self) -> int:
        """How many pictures the sprite holds."""
        return 0 if not self.sprite else len(self) if self.pictured is None else len(self.pictured)

    @property
    def noun(self) -> str:
        """What a key is called."""
        return "image" if self.sprite else "text" if self.texts else "row"

    @property
    def anchor_noun(self) -> str:
        """What an anchor is called."""
        return self.noun if self.queries is None else "query"

    def of_same_images(self, other: "Snapshot") -> bool:
        """Whether two snapshots are of one set of images, with equal ids, labels and classes."""
        named = self.experiment.data.name == other.experiment.data.name and self.classes == other.classes
        names = ("ids", "labels", "anchor_ids", "anchor_labels")
        return named and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in names)

    def similarities(self, rows: Tensor | None = None, *, epoch: int = -1) -> Similarities:
        """What rules read of these anchors (all by default), with the snapshot's keys as queue.

        Embeddings count as a file and the explorer's page hold them, in float16, made unit vectors again. Cosines are
        summed in float64: rounded to float32 they are the same here and on the page, for one anchor and for many, and
        of two equal keys.

        Args:
            rows: int64, places of the anchors.
            epoch: place in `epochs`, not its number.
        """
        places = torch.arange(len(self.anchor_ids)) if rows is None else rows
        anchors, positives, keys = self._held(epoch)
        z, positive = anchors[places], positives[places]
        labels = torch.from_numpy(self.anchor_labels)[places]
        same = same_class(labels, torch.from_numpy(self.labels)) if self.labelled else None
        known = None if bool((labels >= 0).all()) else (labels >= 0)[:, None].expand(-1, len(self))
        ids = torch.from_numpy(self.anchor_ids)[places], torch.from_numpy(self.ids)
        cosines = (z @ keys.T).float(), (positive @ keys.T).float(), (z * positive).sum(1).float()
        return Similarities(*cosines, self._own(places), same, (z.float(), keys.float()), ids, known)

    def _own(self, places: Tensor) -> Tensor:
        """Which keys are an anchor's own."""
        if self.queries is None:
            return places[:, None] == torch.arange(len(self))
        anchor, key = torch.from_numpy(self.queries.own).T
        row, pair = (places[:, None] == anchor).nonzero(as_tuple=True)
        own = torch.zeros(len(places), len(self), dtype=torch.bool)
        own[row, key[pair]] = True
        return own

    def rule_state(self, epoch: int = -1) -> State | None:
        """What the run's rule had learned by then, for `select(state=…)`; None of a rule that does not learn."""
        if self.thresholds is None:
            return None
        ids, order = torch.from_numpy(self.ids).sort()
        return {"ids": ids, "threshold": torch.from_numpy(self.thresholds[epoch])[order]}

    def _held(self, epoch: int) -> tuple[Tensor, ...]:
        """Anchors, positives and keys of an epoch as float16 holds them, as unit vectors in float64."""
        held: dict[int, tuple[Tensor, ...]] = vars(self).setdefault("_epochs_held", {})
        if epoch not in held:
            positives = self.keys if self.queries is None else self.queries.positives
            given = (each[epoch].astype(np.float16) for each in (self.anchors, positives, self.keys))
            held[epoch] = tuple(torch.from_numpy(_unit(each)).double() for each in given)
        return held[epoch]

    def arrays(self) -> dict[str, Any]:
        """All arrays, by their names in the file; None for those that it does not have."""
        held = vars(self) | {"sprite": np.frombuffer(self.sprite, np.uint8)}
        if self.queries is not None:
            held |= {f"query_{name}": array for name, array in vars(self.queries).items()}
        return {name: held.get(name) for name in ARRAYS}

    def save(self, path: str | Path) -> None:
        """Write one `.npz`, embeddings in float16; the file is replaced whole."""
        path = Path(path)
        about = {"format": FORMAT, "version": VERSION, "experiment": self.experiment.to_json()}
        about |= {name: getattr(self, name) for name in (*ABOUT, *TOLD)}
        held = {name: array for name, array in self.arrays().items() if array is not None}
        arrays: dict[str, Any] = {name: array.astype(ARRAYS[name][0]) for name, array in held.items()}
        with replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Snapshot":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is damaged, foreign, of a newer format, or of a rule that is not defined here.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is no file; give a snapshot (.npz), or take one with take_snapshot.")
        with reading(f"{path} cannot be read as a snapshot", ELSE):
            arrays = load_arrays(path)
            described = isinstance(arrays, dict) and "about" in arrays
            about = parsed(arrays.pop("about").tobytes(), "its description") if described else None
            if not isinstance(about, dict) or (about.get("format"), about.get("version")) != (FORMAT, VERSION):
                raise CltoolsError(f"no description in it says {FORMAT!r}, version {VERSION}")
            if missing := [name for name in ("experiment", *ABOUT) if not isinstance(about.get(name), str | list)]:
                raise CltoolsError(f"its description lacks {', '.join(missing)}")
            if more := sorted(arrays.keys() - ARRAYS.keys()):
                raise CltoolsError(f"it holds {', '.join(map(shown, more))}, which is nothing of ours")
            known: dict[str, Any] = {name: arrays.get(name) for name in ARRAYS if not name.startswith("query_")}
            known |= {"metadata": {}} | {name: _frozen(about[name]) for name in (*ABOUT, *TOLD) if name in about}
            known |= {"experiment": Experiment.from_json(str(about["experiment"]))}
            known |= {"sprite": arrays.get("sprite", np.empty(0, np.uint8)).tobytes()}
            asked: dict[str, Any] = {each.name: arrays.get(f"query_{each.name}") for each in fields(Queries)}
            if any(each is not None for each in asked.values()):
                known["queries"] = SimpleNamespace(**asked)
            found = cls.__new__(cls)  # looked at before vectors are made of length 1: anything may stand in a file
            vars(found).update(known)
            if fault := _fault(found):
                raise CltoolsError(fault)
        vars(found).update(anchors=_unit(found.anchors), keys=_unit(found.keys), kept=found.kept.astype(np.float32))
        if found.queries is not None:
            vars(found)["queries"] = Queries(**asked | {"positives": _unit(found.queries.positives)})
        return found


def _fault(s: Snapshot) -> str | None:
    """What is wrong with a snapshot, and with one that a file tells of."""
    return next((what for what, wrong in _faults(s) if wrong), None)


def _faults(s: Snapshot) -> Iterator[tuple[str, bool]]:
    """What may be wrong, and whether it is; what comes later may be asked where nothing before is."""
    lengths, arrays, queries = {"2": 2, "e": len(s.epochs), "m": len(s.map_names)}, s.arrays(), s.queries
    for name, (kind, axes) in ARRAYS.items():
        array, axes = arrays[name], axes if queries else axes.replace("b", "n")
        if array is None and (name in ("thresholds", "pictured") or (name.startswith("query_") and not queries)):
            continue
        able = (kind, np.float32) if kind is np.float16 else (kind,)  # halves in a file alone
        other = array is None or array.dtype not in able or array.ndim != len(axes)
        yield f"its array {name} is not {np.dtype(kind)} [{', '.join(axes)}]", other
        for axis, length in zip(axes, np.shape(array), strict=True):
            wrong = lengths.setdefault(axis, length) != length or (length == 0 and axis in "emnbd")
            yield f"the lengths of its arrays contradict each other at {name}", wrong
    rows = len(s) + len(s.anchor_ids) * (queries is not None)
    vectors = [s.anchors, s.keys] + ([] if queries is None else [queries.positives])
    yield "some of its vectors are not finite, or not of length 1", not all(map(_of_length_1, vectors))
    yield "some of its places on maps are not finite", not (np.abs(s.maps) <= FARTHEST).all()
    yield "its shares of neighbours lie outside of 0 to 1", bool(((s.kept < 0) | (s.kept > 1)).any())
    yield "its thresholds are not finite", s.thresholds is not None and not np.isfinite(s.thresholds).all()
    for ids, labels in ((s.ids, s.labels), (s.anchor_ids, s.anchor_labels)):
        yield "ids stand in it twice", len(np.unique(ids)) < len(ids)
        yield "ids reach 2**53", bool(np.abs(ids.astype(np.float64)).max() >= LARGEST_ID)
        yield "labels lie beyond its classes", not ((labels >= -1) & (labels < len(s.classes))).all()
    whole = all(type(each) is int and 0 <= each < LARGEST_ID for each in (*s.epochs, *s.tile)) and len(s.tile) == 2
    yield "its epochs do not ascend, or its tile is no height and width", not whole
    yield "its epochs do not ascend", any(a >= b for a, b in pairwise(s.epochs))
    for name, texts in (("classes", s.classes), ("map_names", s.map_names), ("metadata", (*s.metadata,))):
        yield f"its {name} are not different texts", not _are_texts(texts, len({*map(str, texts)}))
    columns = s.metadata.values() if isinstance(s.metadata, Mapping) else [()]
    known = [(s.texts, rows if s.texts else 0), ((s.command, s.commit), 2), *((each, len(s)) for each in columns)]
    yield "its texts or metadata are of another number, or no texts", not all(_are_texts(*each) for each in known)
    shown = np.arange(s.tiles) if s.pictured is None else s.pictured
    yield "it has pictures of what it does not hold", not ((shown >= 0) & (shown < rows)).all()
    yield "its pictures are of another size", bool(s.sprite) and not fits(s.sprite, s.tiles, s.tile)
    own = np.empty((0, 2)) if queries is None else queries.own
    held = (own >= 0) & (own < (len(s.anchor_ids), len(s)))
    yield "it calls keys an anchor's own that it does not hold", not held.all()


def _are_texts(given: Any, count: int) -> bool:
    return isinstance(given, tuple) and len(given) == count and all(isinstance(each, str) for each in given)


def _frozen(value: Any) -> Any:
    """Lists of JSON as tuples, also those in an object."""
    if isinstance(value, dict):
        return {name: _frozen(each) for name, each in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _of_length_1(vectors: np.ndarray) -> bool:
    """Whether all are, as far as float16 tells; numbers that are not finite are of no length."""
    squares = np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64)
    return bool((np.abs(squares - 1) <= TOLERANCE).all())


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Length 1 again, after float16; in float64 up to the end, as the explorer's page does."""
    exact = vectors.astype(np.float64)
    length = np.sqrt((exact * exact).sum(-1, keepdims=True))
    return np.asarray(exact / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


# thumbnails as one picture, and back: a grid of tiles, row by row


def sprite_columns(count: int) -> int:
    """How many of `count` tiles stand in a row."""
    return math.ceil(math.sqrt(count))


LARGEST_TILE = 64
"""Pixels of a thumbnail's longer side; larger pictures are shrunk, as WebP ends at 16,383 pixels."""


def thumbnail_size(images: UInt8[np.ndarray, "N 3 H W"]) -> tuple[int, int]:
    """Height and width of the images' thumbnails."""
    height, width = images.shape[2:]
    scale = min(1, LARGEST_TILE / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def thumbnails(images: UInt8[np.ndarray, "N 3 H W"]) -> UInt8[np.ndarray, "N 3 h w"]:
    """The images, shrunk where they are larger than a thumbnail."""
    size = thumbnail_size(images)
    if size == images.shape[2:]:
        return images
    parts = torch.split(torch.from_numpy(images), 500)  # whose numbers of four bytes do not fill the memory
    return torch.cat([interpolate(part.float(), size, mode="area").round().byte() for part in parts]).numpy()


PIXELS = 24_000_000
"""Pixels of a sprite, which a browser holds unpacked: 23,437 tiles of 32 × 32."""


def pictured_places(count: int, tile: tuple[int, int]) -> Int64[np.ndarray, " T"] | None:
    """Which of so many pictures a sprite shows: a draw of them where they would take too much room, else None for all.

    Args:
        count: of pictures.
        tile: height and width of a thumbnail.
    """
    most = PIXELS // (tile[0] * tile[1])
    return None if count <= most else np.sort(np.random.default_rng(0).permutation(count)[:most])


def as_sprite(images: UInt8[np.ndarray, "N 3 H W"]) -> bytes:
    """The images as WebP, √N to a row."""
    from PIL import Image

    count, channels, height, width = images.shape
    columns = sprite_columns(count)
    rows = math.ceil(count / columns)
    grid = np.zeros((rows, height, columns, width, channels), np.uint8)
    for row in range(rows):
        tiles = images[row * columns : (row + 1) * columns].transpose(2, 0, 3, 1)
        grid[row, :, : tiles.shape[1]] = tiles
    file = io.BytesIO()
    # the quickest method, which holds least in memory too; files are hardly larger
    Image.fromarray(grid.reshape(rows * height, columns * width, channels)).save(file, "WEBP", quality=80, method=0)
    return file.getvalue()


def fits(sprite: bytes, count: int, size: tuple[int, int]) -> bool:
    """Whether a sprite says that it is WebP with room for so many tiles, and is whole; nothing is unpacked."""
    columns = sprite_columns(count)
    rows = math.ceil(count / max(columns, 1))
    width, height = (int.from_bytes(sprite[at : at + 2], "little") for at in (26, 28))
    whole = int.from_bytes(sprite[4:8], "little") + 8 == len(sprite)
    return whole and sprite[8:16] == b"WEBPVP8 " and (height, width) == (rows * size[0], columns * size[1])


def tiles_of(sprite: bytes, count: int, size: tuple[int, int]) -> UInt8[np.ndarray, "N H W 3"]:
    """The first `count` tiles of a sprite whose tiles have this height and width."""
    from PIL import Image

    height, width = size
    with reading("The pictures of a snapshot are damaged", "Take it anew."), Image.open(io.BytesIO(sprite)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    rows, columns = pixels.shape[0] // height, pixels.shape[1] // width
    grid = pixels.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(-1, height, width, 3)[:count]
