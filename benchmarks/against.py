"""This package's training beside a conventional pipeline at its best setting, in the same run."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.conventional import FORMS, Conventional, Form, Library, TwoViews, loader
from benchmarks.measuring import wait_for
from benchmarks.parts import random_images
from benchmarks.steps import StepBenchFlags
from cltools.config import Experiment
from cltools.datasets import ImageSet, load_images
from cltools.presets import laptop, preset
from cltools.provenance import check_record, only, provenance, usable_processors, write_record
from cltools.training.fit import fast_convolutions
from cltools.training.learner import make_learner, resolve_device
from cltools.training.step import batches, train_step

KIND = "bench against dataloader"
ENTRIES = ("commit", "hardware", "versions", "rows")
Turn = Callable[[], float]
"""An epoch; the trained views a second over it."""
EPOCHS = 5
"""Of each side, in turn; the median counts."""
TRIED = 2
"""Turns by which a setting is chosen."""
PICTURES = 10_000
"""Of either side, unless asked otherwise."""
SAMPLE = 200
"""Pictures on which the transforms are compared."""


def bench_against(flags: StepBenchFlags) -> None:
    """Measure both sides of each preset, print every setting tried, write JSON if asked."""
    device = resolve_device(flags.device)
    experiments = {name: preset(name) if flags.full else laptop(preset(name)) for name in flags.presets}
    count = flags.images or PICTURES
    images = random_images(count, 32) if flags.data is None else load_images(flags.data, limit=count)
    for name, experiment in experiments.items():
        if len(images) < 2 * experiment.training.batch:
            raise ValueError(
                f"bench: {name} has batches of {experiment.training.batch}, and {len(images)} images are not two; "
                "ask for more with --images."
            )
    rows, counts = {}, worker_counts(usable_processors())
    for name, experiment in experiments.items():
        settings = replace(experiment.training, device=str(device))
        rows[name] = compare(replace(experiment, training=settings), images, device, flags.repeats or EPOCHS, counts)
        print(shown(name, rows[name]), flush=True)
    if flags.out is not None:
        record = {"kind": KIND, **provenance(device), "images": images.name, "count": len(images), "rows": rows}
        write_record(flags.out, record)


def worker_counts(usable: int) -> tuple[int, ...]:
    """Numbers of workers to try: 0, the powers of two below the number of usable processors, and that number."""
    return (0, *(2**i for i in range(usable.bit_length()) if 2**i < usable), usable)


def compare(
    experiment: Experiment, images: ImageSet, device: torch.device, repeats: int, counts: Sequence[int]
) -> dict[str, Any]:
    """Trained views a second of both sides, taken in turn, the other with the best of these numbers of workers."""
    with fast_convolutions():  # as training does, for both sides
        (library, form), milliseconds = fastest_transforms(experiment, images)
        pictures = TwoViews(images, experiment.views, library, form)
        swept = sweep(
            counts,
            lambda workers: conventional_turns(experiment, images, pictures, workers, device),
        )
        workers = max(swept, key=swept.__getitem__)
        with conventional_turns(experiment, images, pictures, workers, device) as theirs:
            rates = in_turn({"ours": our_turns(experiment, images, device), "dataloader": theirs}, repeats)
    return {
        "ours": rates["ours"],
        "dataloader": rates["dataloader"],
        "ratio": rates["ours"] / rates["dataloader"],
        "workers": workers,
        "transforms": f"{library} {form}",
        "views/s by workers": {str(count): rate for count, rate in swept.items()},
        "ms a view by transforms": milliseconds,
    }


def fastest_transforms(experiment: Experiment, images: ImageSet) -> tuple[tuple[Library, Form], dict[str, float]]:
    """The fastest of torchvision's transforms on one core, and the milliseconds a view of each."""
    sample = images.subset(min(SAMPLE, len(images)), seed=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        taken = {}
        for library, form in FORMS:
            pictures = TwoViews(sample, experiment.views, library, form)
            taken[library, form] = min(_seconds(pictures) for _ in range(TRIED)) / (2 * len(sample)) * 1000
    finally:
        torch.set_num_threads(threads)
    return min(taken, key=taken.__getitem__), {" ".join(made): value for made, value in taken.items()}


def _seconds(pictures: TwoViews) -> float:
    began = time.perf_counter()
    for i in range(len(pictures)):
        pictures[i]
    return time.perf_counter() - began


def sweep(counts: Sequence[int], opened: Callable[[int], AbstractContextManager[Turn]]) -> dict[int, float]:
    """Trained views a second with each number of workers: the median of some turns."""
    rates = {}
    for workers in counts:
        with opened(workers) as turn:
            rates[workers] = statistics.median(turn() for _ in range(TRIED))
    return rates


def in_turn(turns: Mapping[str, Turn], repeats: int) -> dict[str, float]:
    """Median rate of each side, one turn each a round, so that what else the machine does meets both alike."""
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            rates[name].append(turn())
    return {name: statistics.median(found) for name, found in rates.items()}


@contextmanager
def conventional_turns(
    experiment: Experiment, images: ImageSet, pictures: TwoViews, workers: int, device: torch.device
) -> Iterator[Turn]:
    """Turns of the conventional pipeline; its workers stay between turns, idle, and end with the block."""
    plain = Conventional(experiment, images, device)
    source = loader(pictures, experiment.training.batch, workers, device)

    def epoch() -> Iterator[None]:
        for view1, view2 in source:
            plain.step(view1, view2)
            yield

    try:
        yield lambda: rate(epoch(), _trained(experiment), device)
    finally:
        del source  # its workers with it


def our_turns(experiment: Experiment, images: ImageSet, device: torch.device) -> Turn:
    """Turns of this package's training, rules at full strength against a full queue.

    A turn is an epoch of a new order on images that lie on the device, each batch taken out of them and given to
    `train_step`: views, encoder and momentum copy, selection and its counts, loss, update, queue. What `fit` does
    beside that is left out: learning rate and seed of each step, the sums for the history, the progress bar; after an
    epoch the check of the weights, kNN and the checkpoint.
    """
    learner = make_learner(experiment, images, None, device)
    there, size = images.to(device), experiment.training.batch

    def epoch() -> Iterator[None]:
        order = torch.randperm(len(there), generator=learner.shuffler).to(device)
        for batch in batches(there.images, there.ids, there.labels, size, order):
            train_step(learner, batch, experiment, progress=1.0, labelled=True)
            yield

    while learner.memory is not None and len(learner.memory.queue) < experiment.training.queue_size:
        next(epoch())
    return lambda: rate(epoch(), _trained(experiment), device)


def rate(epoch: Iterator[None], trained: int, device: torch.device) -> float:
    """Trained views a second over an epoch's steps, the first left out: workers begin with it.

    An epoch ends with nothing prepared for the next, so no side's work falls into the other's turn or goes uncounted.

    Raises:
        ValueError: fewer than two steps.
    """
    next(epoch, None)
    wait_for(device)
    began = time.perf_counter()
    steps = sum(1 for _ in epoch)
    wait_for(device)
    if not steps:
        raise ValueError("bench: an epoch is a single batch, of which no rate can be told; ask for more with --images.")
    return steps * trained / (time.perf_counter() - began)


def _trained(experiment: Experiment) -> int:
    """Views of a step that are anchors."""
    return experiment.training.batch * experiment.training.views


def shown(name: str, row: dict[str, Any]) -> str:
    """Both sides, the ratio, and every setting tried."""
    lines = [
        f"{name}: {row['ours']:,.0f} trained views/s, dataloader {row['dataloader']:,.0f} "
        f"with {row['workers']} workers and {row['transforms']}: {row['ratio']:.2f} times",
        *(f"  {workers} workers: {found:,.0f} views/s" for workers, found in row["views/s by workers"].items()),
        *(f"  transforms {made}: {taken:.3f} ms a view" for made, taken in row["ms a view by transforms"].items()),
    ]
    return "\n".join(lines)


def against_table(paths: Sequence[Path], records: Sequence[dict[str, Any]]) -> str:
    """A record of `bench --against dataloader` as a table.

    Raises:
        ValueError: a damaged record, or several.
    """
    record = only(records)
    check_record(paths[0], record, KIND, (*ENTRIES, "images", "count"))
    lines = [
        "Trained views a second, both sides in turn; the DataLoader with the fastest of torchvision's transforms and "
        f"the best number of workers. {record['count']:,} pictures ({record['images']}). Commit "
        f"{record['commit'] or 'unknown'}, {record['hardware']['device']}, {record['hardware']['threads']} threads.",
        "",
        "| preset | here | DataLoader | ratio | workers | transforms | tried: workers, views/s |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name, row in record["rows"].items():
        tried = ", ".join(f"{workers}: {found:,.0f}" for workers, found in row["views/s by workers"].items())
        figures = f"{row['ours']:,.0f} | {row['dataloader']:,.0f} | {row['ratio']:.2f}"
        lines.append(f"| `{name}` | {figures} | {row['workers']} | {row['transforms']} | {tried} |")
    return "\n".join(lines)
