"""Every file that is read, for the fuzzing job: a whole one, how it is altered, how it is read, what is written of it.

A reader raises an error of ours, or gives something that is written and read again as the same.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import fuzz_mutations as mutations
import numpy as np
import torch
from fuzz_mutations import Altered
from snapshots import made
from test_training_checkpoint import POTENTIAL, made as made_images, training

from cltools import read_embeddings, snapshot_of_embeddings
from cltools.config import Experiment
from cltools.datasets import load_images
from cltools.explorer import standalone
from cltools.explorer.session import Session
from cltools.explorer.standalone import page_of
from cltools.explorer.state import EDGES, OF_SIDE, OF_STATE, State
from cltools.files import write_text
from cltools.presets import preset
from cltools.reports.table import table
from cltools.snapshot import Snapshot
from cltools.training import History, Run, fit
from cltools.training.record import read_run_record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "data" / "results"


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        make: writes a whole one into an empty folder, with what stands beside it; the number tells which of several.
        file: its name in that folder.
        alter: the whole file's content made a hostile one.
        read: what the folder holds then; uses it as a person would, and returns what must come back.
        write: that into another folder; None for what is only shown.
        sealed: whether altered bytes that are read must give what was there before.
        special: whether something else may stand in the file's place, such as a pipe.
        share: how often it is drawn, beside the others.
    """

    make: Callable[[Path, int], None]
    file: str
    alter: Callable[[bytes, Random], Altered]
    read: Callable[[Path], Any]
    write: Callable[[Any, Path], None] | None = None
    sealed: bool = False
    special: bool = False
    share: int = 1


VARIANTS = 3
"""Whole files of a format, of which one is drawn."""


def told(value: Any) -> Any:
    """A value as nested lists and numbers that can be compared."""
    if isinstance(value, torch.Tensor):
        return told(value.numpy())
    if isinstance(value, np.ndarray):
        return [str(value.dtype), [*value.shape], value.tolist()]
    if is_dataclass(value):
        return {"class": type(value).__name__} | {f.name: told(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): told(each) for key, each in value.items()}
    return [*map(told, value)] if isinstance(value, list | tuple) else value


def alike(first: Any, second: Any, near: float = 0.0) -> bool:
    """Whether what `told` gave is the same; numbers may be so far apart, and nan is nan."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(alike(first[key], second[key], near) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(alike(a, b, near) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and isinstance(second, float):
        return first == second or (first != first and second != second) or abs(first - second) <= near
    return type(first) is type(second) and bool(first == second)


# snapshots and states


def make_snapshot(folder: Path, which: int) -> None:
    if which == 0:
        found = made(24, dim=4)
    elif which == 1:
        found = made(24, dim=4, learned=True, method="glofnd")
    else:
        vectors = np.random.default_rng(0).normal(size=(3, 24, 4))
        found = snapshot_of_embeddings(
            vectors[0, :9],
            vectors[1, :9],
            vectors[2],
            labels=(["a", "b", "a"] * 3, ["b", "a"] * 12),
            texts=([f"question {i}" for i in range(9)], [f"answer {i}" for i in range(24)]),
            metadata={"year": [*range(24)], "place": ["here", "there"] * 12},
            name="search",
        )
    found.save(folder / "s.npz")


def read_snapshot(folder: Path) -> Snapshot:
    """A snapshot, which an explorer can show and write as a page."""
    found = Snapshot.load(folder / "s.npz")
    session = Session(found)
    if found.labelled:
        session.set(truth=True)
    page = page_of(session.snapshots, session.state, epochs="all", words=session.sentence)
    json.loads(page.split('id="cltools-data">')[1].split("</script>")[0], parse_constant=_refuse)
    write_text(folder / "page.html", page)
    standalone.draw(session).savefig(folder / "still.png")
    session.csv()
    return found


def _refuse(name: str) -> None:
    raise AssertionError(f"A browser reads no {name}.")


def make_state(folder: Path, which: int) -> None:
    session = _session()
    before = session.state
    session.set(rule=("RankBand", "MarginBand", "HardnessWeighted")[which], compare=which == 1)
    (folder / "state.json").write_text(session.state.to_json(), encoding="utf-8")
    session.restore(before)


@cache
def _snapshot() -> Snapshot:
    return made(24, dim=4)


def _session() -> Session:
    return Session(_snapshot())


def read_state(folder: Path) -> State:
    session = _session().restore((folder / "state.json").read_text(encoding="utf-8", errors="replace"))
    assert session.sentence
    return session.state


def write_state(state: State, folder: Path) -> None:
    (folder / "state.json").write_text(state.to_json(), encoding="utf-8")


def make_controls(folder: Path, which: int) -> None:
    session = _session()
    names = [*OF_STATE, *OF_SIDE, *EDGES, "rule", "positive_rule", "compare", "negatives.by", "positives.k", "k"]
    moved = {name: getattr(session.state, name, 1) for name in names[which::VARIANTS]}
    (folder / "moves.json").write_text(json.dumps(moved), encoding="utf-8")


def read_controls(folder: Path) -> State:
    session = _session()
    moved = json.loads((folder / "moves.json").read_text(encoding="utf-8"))
    name, value = next(iter(moved.items()))
    session.set({name: value})
    assert session.sentence
    return session.state


def controls_altered(content: bytes, rng: Random) -> Altered:
    """One control and a value for it."""
    name, value = rng.choice([*json.loads(content)]), mutations.nasty(rng)
    value = mutations.nested(900) if value == mutations.DEEP else value
    return json.dumps({name: value}).encode(), f"{name} = {str(value)[:40]}"


def write_controls(state: State, folder: Path) -> None:
    (folder / "moves.json").write_text(json.dumps({"anchor": state.anchor}), encoding="utf-8")


# embeddings


VECTORS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
LABELS = ["cat", "dog", "bird"] * 4


def make_npy(folder: Path, _: int) -> None:
    np.save(folder / "z.npy", VECTORS)


def make_npz(folder: Path, which: int) -> None:
    labels = (np.arange(12) % 3, np.array(LABELS), np.arange(12) % 2 == 0)[which]
    np.savez_compressed(folder / "z.npz", z=VECTORS, y=labels)


def make_parquet(folder: Path, which: int) -> None:
    import pandas as pd

    numbers = {f"z{i}": VECTORS[:, i] for i in range(4)}
    columns = ({"z": [*VECTORS]}, numbers, {"z": VECTORS.tolist()})[which]
    pd.DataFrame({"y": LABELS, **columns}).to_parquet(folder / "z.parquet")


def reader_of(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        labels = None if name.endswith(".npy") else "y"
        vectors, labels = read_embeddings(folder / name, labels=labels)[:2]
        snapshot_of_embeddings(vectors, labels=labels)
        return vectors, None if labels is None else [*map(str, labels)]

    return read


def write_npz(found: Any, folder: Path) -> None:
    vectors, labels = found
    np.savez(folder / "z.npz", z=vectors, y=np.array(labels))


# runs


def make_run(folder: Path, which: int) -> None:
    """A run's folder; trained once, as only its files are of interest."""
    for path in _trained(str(folder.parent)).iterdir():
        shutil.copy(path, folder)


@cache
def _trained(root: str) -> Path:
    out = Path(root) / "trained"
    if not out.exists():
        fit(training(POTENTIAL, epochs=2), images=made_images(), out=out)
    return out


TIMES = ("seconds", "views_per_second")


def read_run(folder: Path) -> Any:
    run = Run.load(folder)
    memory = None if run.memory is None else told([run.memory.copy.state_dict(), run.memory.queue.state_dict()])
    rows = [{k: float(v) for k, v in row.items() if k not in TIMES} for row in run.history.rows]
    return [told({**run.encoder.state_dict()}), memory, rows, run.experiment.to_json()]


def read_resumed(folder: Path) -> Any:
    """A finished run, gone on with: its checkpoint is read, and nothing is trained."""
    run = fit(training(POTENTIAL, epochs=2), images=made_images(), out=folder, resume=True)
    return [told({**run.encoder.state_dict()}), len(run.history.rows)]


def read_history(folder: Path) -> Any:
    return History.load(folder / "history.csv")


def write_history(found: Any, folder: Path) -> None:
    found.save(folder / "history.csv")


def make_config(folder: Path, which: int) -> None:
    name = ("shapes-potential", "cifar10-moco", "digits-sce")[which]
    (folder / "config.json").write_text(preset(name).to_json(), encoding="utf-8")


def read_config(folder: Path) -> Experiment:
    return Experiment.from_json((folder / "config.json").read_text(encoding="utf-8", errors="replace"))


def write_config(found: Experiment, folder: Path) -> None:
    (folder / "config.json").write_text(found.to_json(), encoding="utf-8")


# records


def make_run_record(folder: Path, which: int) -> None:
    name = ("run-digits-moco-0.json", "run-digits-potential-1.json", "run-cifar10-moco-0.json")[which]
    shutil.copy(RESULTS / name, folder / "record.json")


def read_record_of_run(folder: Path) -> Any:
    table([folder / "record.json"], references=True)
    return read_run_record(folder)


def write_run_record(found: Any, folder: Path) -> None:
    (folder / "record.json").write_text(json.dumps(found.to_plain()), encoding="utf-8")


def make_comparison(folder: Path, which: int) -> None:
    name = ("compare-shapes-0.json", "late-shapes-0.json", "short-digits-0.json")[which]
    shutil.copy(RESULTS / name, folder / "compare.json")


def read_comparison(folder: Path) -> Any:
    return table([folder / "compare.json"])


# pictures


def make_pictures(folder: Path, which: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(which)
    ending = ("png", "jpg", "webp")[which]
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}.{ending}")
    shutil.copy(folder / "train" / "cat" / f"0.{ending}", folder / "train" / "cat" / "2.png")


def read_pictures(folder: Path) -> Any:
    found = load_images(folder, "train")
    load_images(folder, "test")
    return [found.images, found.labels, [*found.classes]]


FORMATS: dict[str, Format] = {
    "snapshot": Format(
        make_snapshot, "s.npz", mutations.npz_altered, read_snapshot, lambda s, to: s.save(to / "s.npz"), share=5
    ),
    "state": Format(make_state, "state.json", mutations.json_altered, read_state, write_state, share=2),
    "controls": Format(make_controls, "moves.json", controls_altered, read_controls, None, share=2),
    "embeddings.npy": Format(make_npy, "z.npy", mutations.npy_altered, reader_of("z.npy")),
    "embeddings.npz": Format(make_npz, "z.npz", mutations.npz_altered, reader_of("z.npz"), write_npz),
    "embeddings.parquet": Format(make_parquet, "z.parquet", mutations.parquet_altered, reader_of("z.parquet")),
    "config": Format(make_config, "config.json", mutations.json_altered, read_config, write_config, share=2),
    "record of a run": Format(
        make_run_record, "record.json", mutations.json_altered, read_record_of_run, write_run_record, share=3
    ),
    "comparison": Format(make_comparison, "compare.json", mutations.json_altered, read_comparison, share=3),
    "history": Format(make_run, "history.csv", mutations.csv_altered, read_history, write_history),
    "run: history": Format(make_run, "history.csv", mutations.csv_altered, read_run),
    "run: config": Format(make_run, "config.json", mutations.json_altered, read_run),
    "run: record": Format(make_run, "record.json", mutations.json_altered, read_run),
    "run: weights": Format(make_run, "encoder.safetensors", mutations.safetensors_altered, read_run, sealed=True),
    "run: checkpoint": Format(make_run, "checkpoint.pt", mutations.torch_altered, read_run, sealed=True),
    "resumed": Format(make_run, "checkpoint.pt", mutations.torch_altered, read_resumed, sealed=True),
    "pictures": Format(make_pictures, "train/cat/2.png", mutations.png_altered, read_pictures, special=True),
}
"""By name; every kind of file that is read from a person's disk."""
UNREAD = set() if find_spec("pyarrow") else {"embeddings.parquet"}
"""Formats that nothing here reads; another is drawn, so that the other cases of a seed are the same everywhere."""


# what the job must find, for its own test


def make_text(folder: Path, which: int) -> None:
    (folder / "a.txt").write_text("whole", encoding="utf-8")


def spoilt(reads: Callable[[], Any]) -> Format:
    """A format whose reader goes wrong as soon as the file is not whole."""

    def read(folder: Path) -> Any:
        text = (folder / "a.txt").read_text(encoding="utf-8")
        return text if text == "whole" else reads()

    return Format(make_text, "a.txt", lambda content, rng: (b"other", "other"), read, sealed=True)


def _refused() -> Any:
    return Experiment.from_json("{")


FAULTS = {
    "foreign error": spoilt(lambda: {}["key"]),
    "hang": spoilt(lambda: time.sleep(1000)),
    "memory": spoilt(lambda: (bytearray(600 << 20), _refused())),
    "end": spoilt(lambda: os._exit(3)),
    "other": spoilt(lambda: ["other"]),
    "none": spoilt(_refused),
}
"""Formats that are only read where they are asked for."""
