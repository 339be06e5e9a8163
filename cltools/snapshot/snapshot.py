"""The snapshot itself: plain arrays of a moment, in one `.npz` without pickle, checked when it is read.

Legend: E epochs, M maps, N keys, B anchors, P pairs, T pictures, d embedding.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy import ndarray
from torch import Tensor

from cltools.config import Experiment
from cltools.errors import CltoolsError
from cltools.files import replacing
from cltools.mining import Similarities
from cltools.mining.rules import State

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
OPTIONAL = {name for name in ARRAYS if name in ("thresholds", "pictured") or name.startswith("query_")}
ABOUT = ("epochs", "map_names", "classes", "tile", "command", "commit")


@dataclass(frozen=True)
class Queries:
    """Anchors that are no keys themselves, such as the queries of a search in a corpus of another length.

    Attributes:
        positives: z', unit vectors [E, B, d].
        ids: of the anchors [B].
        labels: [B], -1 unknown.
        own: places of an anchor and of a key that is its own, and so never its negative [P, 2], in the anchors' order.
    """

    positives: Float32[ndarray, "E B d"]
    ids: Int64[ndarray, " B"]
    labels: Int64[ndarray, " B"]
    own: Int64[ndarray, "P 2"]


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
        sprite: thumbnails as WebP (`cltools.snapshot.sprite`); empty where there are none.
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
    anchors: Float32[ndarray, "E B d"]
    keys: Float32[ndarray, "E N d"]
    maps: Float32[ndarray, "M E N 2"]
    map_names: tuple[str, ...]
    kept: Float32[ndarray, "M E N"]
    trustworthiness: Float32[ndarray, "M E"]
    ids: Int64[ndarray, " N"]
    labels: Int64[ndarray, " N"]
    classes: tuple[str, ...]
    sprite: bytes
    tile: tuple[int, int]
    command: str = ""
    commit: str = ""
    thresholds: Float32[ndarray, "E N"] | None = None
    pictured: Int64[ndarray, " T"] | None = None
    queries: Queries | None = None
    texts: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        asked = "" if self.queries is None else f"{len(self.anchor_ids):,} queries and "
        return f"Snapshot of {self.experiment.data.name}: {asked}{len(self):,} {self.noun}s, epochs {self.epochs}"

    @property
    def anchor_ids(self) -> Int64[ndarray, " B"]:
        """Ids of the anchors."""
        return self.ids if self.queries is None else self.queries.ids

    @property
    def anchor_labels(self) -> Int64[ndarray, " B"]:
        """Labels of the anchors."""
        return self.labels if self.queries is None else self.queries.labels

    @property
    def mapped(self) -> Float32[ndarray, "E N d"]:
        """The vectors that maps show."""
        return self.anchors if self.queries is None else self.keys

    @property
    def labelled(self) -> bool:
        """Whether the class of every anchor and key is known."""
        return bool((self.labels >= 0).all() and (self.anchor_labels >= 0).all())

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
        return Similarities(
            anchor_keys=(z @ keys.T).float(),
            positive_keys=(positive @ keys.T).float(),
            anchor_positive=(z * positive).sum(1).float(),
            own=self._own(places),
            same_class=labels[:, None] == torch.from_numpy(self.labels) if self.labelled else None,
            vectors=(z.float(), keys.float()),
            ids=(torch.from_numpy(self.anchor_ids)[places], torch.from_numpy(self.ids)),
        )

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

    def _held(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors, positives and keys of an epoch as float16 holds them, as unit vectors in float64."""
        if epoch not in self._epochs_held:
            positives = self.keys if self.queries is None else self.queries.positives
            given = (each[epoch].astype(np.float16) for each in (self.anchors, positives, self.keys))
            z, positive, keys = (torch.from_numpy(_unit(each)).double() for each in given)
            self._epochs_held[epoch] = z, positive, keys
        return self._epochs_held[epoch]

    @cached_property
    def _epochs_held(self) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        return {}

    def save(self, path: str | Path) -> None:
        """Write one `.npz`, embeddings in float16; the file is replaced whole."""
        path = Path(path)
        about = {"format": FORMAT, "version": VERSION, "experiment": self.experiment.to_json()}
        about |= {name: getattr(self, name) for name in (*ABOUT, "texts", "metadata")}
        held = vars(self) | {"sprite": np.frombuffer(self.sprite, np.uint8)}
        if self.queries is not None:
            held |= {f"query_{name}": array for name, array in vars(self.queries).items()}
        arrays: dict[str, Any] = {
            name: held[name].astype(kind) for name, (kind, _) in ARRAYS.items() if held.get(name) is not None
        }
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
        about, arrays = _read(path)
        try:
            experiment = Experiment.from_json(about["experiment"])
        except ValueError as error:
            raise CltoolsError(f"{path} cannot be read: {error} data/convert.py converts those of 0.1.") from error
        known: dict[str, Any] = {name: arrays.get(name) for name in ARRAYS if not name.startswith("query_")}
        known |= {name: tuple(value) if isinstance(value := about[name], list) else value for name in ABOUT}
        known |= {name: _unit(arrays[name]) for name in ("anchors", "keys")}
        known |= {"kept": arrays["kept"].astype(np.float32), "sprite": arrays["sprite"].tobytes()}
        if "query_ids" in arrays:
            arrays["query_positives"] = _unit(arrays["query_positives"])
            known["queries"] = Queries(*(arrays[f"query_{each.name}"] for each in fields(Queries)))
        known["metadata"] = {name: tuple(column) for name, column in about.get("metadata", {}).items()}
        found = cls(experiment=experiment, texts=tuple(about.get("texts", ())), **known)
        if faults := [what for what, wrong in _faults(found).items() if wrong]:
            raise CltoolsError(f"{path} is damaged: {'; '.join(faults)}.")
        return found


def _faults(s: Snapshot) -> dict[str, bool]:
    """What may be wrong with a snapshot whose arrays have the right types and lengths, and whether it is."""
    every, rows = [s.anchors, s.keys, s.maps], len(s) + len(s.anchor_ids) * (s.queries is not None)
    every += [] if s.queries is None else [s.queries.positives]
    labels = np.concatenate([s.labels, s.anchor_labels])
    return {
        "some of its numbers are not finite": not all(np.isfinite(each).all() for each in every),
        "some of its vectors have no direction": not all(np.square(each).sum(-1).all() for each in (s.anchors, s.keys)),
        "ids stand in it twice": any(len(np.unique(ids)) < len(ids) for ids in (s.ids, s.anchor_ids)),
        "labels lie beyond its classes": bool((labels >= len(s.classes)).any()),
        "its epochs do not ascend": any(a >= b for a, b in pairwise(s.epochs)),
        "its texts are of another number": len(s.texts) not in (0, rows),
        "its metadata are of another number": any(len(column) != len(s) for column in s.metadata.values()),
        "it has pictures of what it does not hold": s.pictured is not None and bool((s.pictured >= rows).any()),
        "it calls keys an anchor's own that it does not hold": s.queries is not None
        and bool(((s.queries.own < 0) | (s.queries.own >= (len(s.anchor_ids), len(s)))).any()),
    }


def _unit(vectors: ndarray) -> ndarray:
    """Length 1 again, after float16; in float64 up to the end, as the explorer's page does."""
    exact = vectors.astype(np.float64)
    length = np.sqrt((exact * exact).sum(-1, keepdims=True))
    return np.asarray(exact / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """The description and the arrays of a file, of the right types and lengths."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give a snapshot (.npz), or take one with take_snapshot.")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
        about = json.loads(found.pop("about").tobytes())
        known = about["format"] == FORMAT
    except Exception as error:  # zipfile, zlib and numpy's reader of headers raise kinds of their own
        raise CltoolsError(f"{path} cannot be read as a snapshot: it is damaged or foreign ({error}).") from error
    if not known or about.get("version") != VERSION:
        raise CltoolsError(
            f"{path} has snapshot format {about.get('version')}; this version reads format {VERSION}. "
            "Read it with the version that wrote it, or take the snapshot anew."
        )
    if missing := [name for name in ("experiment", *ABOUT) if name not in about]:
        raise CltoolsError(f"{path} is damaged: its description lacks {', '.join(missing)}.")
    lengths = {"2": 2, "e": len(about["epochs"]), "m": len(about["map_names"])}
    queries = {name for name in ARRAYS if name.startswith("query_") and "query_ids" in found}
    for name, (kind, axes) in ARRAYS.items():
        array, axes = found.get(name), axes if queries else axes.replace("b", "n")
        if array is None and name in OPTIONAL - queries:
            continue
        if array is None or array.dtype != kind or array.ndim != len(axes):
            raise CltoolsError(f"{path} is damaged: its array {name} is not {np.dtype(kind)} [{', '.join(axes)}].")
        for axis, length in zip(axes, array.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise CltoolsError(f"{path} is damaged: the lengths of its arrays contradict each other at {name}.")
    return about, found
