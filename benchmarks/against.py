"""Our training step beside the same step with parts of other libraries, each at its best setting, in the same rounds.

A side replaces one part of the step: the views (torchvision's transforms in a DataLoader, kornia's of a batch) or the
loss (lightly's, pytorch-metric-learning's). Everything else is ours on all sides. Ours also counts bands, as training
does; a step with another loss counts nothing.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.benchmark import timer
from tqdm.auto import tqdm

from benchmarks.measuring import USUAL, AsRun, Run, markdown
from benchmarks.others import Theirs, Ways, sides
from benchmarks.steps import fill, random_images
from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.presets import laptop, preset
from cltools.training.fit import fast_convolutions
from cltools.training.inputs import RECIPE, Parts
from cltools.training.state import new_train_state
from cltools.training.step import Batch, StepResult, _compared, enqueue, train_step

KIND = "bench against others"
EARLIER = "bench against dataloader"
"""Kind of the records from when torchvision's transforms were the only other side."""
TRIAL = 8.0
"""Seconds of an epoch from which the best setting of a side is chosen."""


def against(
    presets: tuple[str, ...] = ("cifar10-simclr", "cifar10-moco", "cifar10-potential"),
    full: bool = False,
    queue_sizes: tuple[int, ...] = (4096,),
    images: int = 10_000,
    run: AsRun = USUAL,
) -> dict[str, Any]:
    """Time our training beside other libraries' views and losses in the same step, on random pixels of 32×32.

    Args:
        presets: Which presets.
        full: The preset as it is, not its laptop setting.
        queue_sizes: Also with queues of these many keys, where there is a queue.
        images: How many images; at least two batches.
        run: How to measure; a round is an epoch of each side.
    """
    run.check(presets=presets)
    experiments = [(name, each) for name in presets for each in varied(name, full, queue_sizes)]
    for name, experiment in experiments:
        if images < 2 * experiment.training.batch:
            raise CltoolsError(
                f"{images} images are not two batches of {experiment.training.batch}, as {name} has them."
            )
    image_set = random_images(images, 32)
    with fast_convolutions():  # as training does, for all sides
        rows = [{"preset": name, **compare(experiment, image_set, run)} for name, experiment in experiments]
    return run.record(KIND, images="random", count=images, rows=rows)


def varied(name: str, full: bool, queue_sizes: tuple[int, ...]) -> list[Experiment]:
    """Return a preset with its own queue and with each of these."""
    experiment = preset(name) if full else laptop(preset(name))
    training = experiment.training
    sizes = dict.fromkeys((training.queue_size, *queue_sizes)) if training.mode == "moco" else (training.queue_size,)
    return [replace(experiment, training=replace(training, queue_size=size)) for size in sizes]


def compare(experiment: Experiment, images: ImageSet, run: Run) -> dict[str, Any]:
    """Return trained views per second of all sides, timed in turn, each other one by its fastest way."""
    libraries = sides(experiment, images)
    tried = {name: trial(experiment, images, run, name, ways) for name, ways in libraries.items()}
    best = {name: max(rates, key=rates.__getitem__) for name, rates in tried.items()}
    compared = {"ours": Side(experiment, images, run.where)}
    compared |= {name: Side(experiment, images, run.where, libraries[name][way]()) for name, way in best.items()}
    rounds = tqdm(range(run.rounds), desc="rounds", leave=False)
    taken = [{name: side.rate() for name, side in compared.items()} for _ in rounds]
    ours, *theirs = (median(rates[name] for rates in taken) for name in compared)
    rows = {
        name: {"views/s": rate, "ratio": ours / rate, "best": best[name], "tried": tried[name]}
        for name, rate in zip(libraries, theirs, strict=True)
    }
    queue = experiment.training.queue_size if experiment.training.mode == "moco" else None
    return {"queue_size": queue, "ours": ours, "sides": rows}


def trial(experiment: Experiment, images: ImageSet, run: Run, name: str, ways: Ways) -> dict[str, float]:
    """Return views per second of each way, each alone, from a part of an epoch."""
    return {
        way: Side(experiment, images, run.where, made()).rate(TRIAL)
        for way, made in tqdm(ways.items(), desc=f"trying {name}", leave=False)
    }


class Side:
    """A training state with a full queue, whose step is ours except for the parts that another library computes.

    The workers of a DataLoader persist, idle, between epochs.
    """

    def __init__(
        self, experiment: Experiment, images: ImageSet, device: torch.device, theirs: Theirs | None = None
    ) -> None:
        self.experiment, self.images, self.theirs = experiment, images.to(device), theirs or Theirs()
        self.given = given = deque[Tensor]()  # by a DataLoader; the views refer to no side, whose workers end with it
        views = (lambda images, *, generator: given.popleft()) if self.theirs.loader else self.theirs.views
        self.state = new_train_state(experiment, images, device, parts=Parts(views=views) if views else RECIPE)
        if self.state.memory is not None and not self.theirs.keeps_keys:
            queue = self.state.memory.queue
            generator = torch.Generator(device).manual_seed(0)
            keys = torch.randn(queue.size, queue.dim, device=device, generator=generator)
            fill(queue, normalize(keys, dim=1))

    def rate(self, seconds: float = math.inf) -> float:
        """Return trained views per second over an epoch, or its first seconds, without its first step.

        In the first step workers start.
        """
        epoch, training = self.epoch(), self.experiment.training
        next(epoch)
        began, steps = timer(), 0
        for _ in epoch:
            steps += 1
            if (passed := timer() - began) > seconds:
                break
        return steps * training.batch * training.anchors_per_image / passed

    def epoch(self) -> Iterator[StepResult]:
        """Run every training step over the images, without the work of `fit` between steps and after an epoch."""
        images, state, size = self.images, self.state, self.experiment.training.batch
        order = torch.randperm(len(images), generator=state.order_rng)
        ours = ((index,) for index in torch.split(order[: len(images) // size * size], size))
        for index, *views in self.theirs.loader or ours:
            rows = index.to(state.device)
            self.given.extend(view.to(state.device) for view in views)
            yield self.step(Batch(images.images[rows], images.ids[rows], images.labels[rows]))

    def step(self, batch: Batch) -> StepResult:
        """Run `train_step`, or the same with another loss in place of similarities, selection, loss and counting."""
        state, loss = self.state, self.theirs.loss
        if loss is None:
            return train_step(state, batch, self.experiment, progress=1.0, labelled=True)
        vectors, *_, new_keys = _compared(state, batch, self.experiment)
        value = loss(*vectors)
        state.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        enqueue(state, batch, None if self.theirs.keeps_keys else new_keys)
        return StepResult(value.detach(), torch.empty(0), len(vectors[0]))


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `against` as lines of a table, one row per preset, number of keys and other side."""
    if record["kind"] == EARLIER:
        return earlier_table(record)
    rows = []
    for row in record["rows"]:
        keys = f"{row['queue_size']:,}" if row["queue_size"] else ""
        for name, side in row["sides"].items():
            tried = "; ".join(f"{way}: {rate:,.0f}" for way, rate in side["tried"].items())
            figures = f"{row['ours']:,.0f}", f"{side['views/s']:,.0f}", f"{side['ratio']:.2f}"
            rows.append([f"`{row['preset']}`", name, side["best"], tried, keys, *figures])
    caption = (
        "Trained views per second of the same step, ours and with one part by another library, all sides in turn; a "
        "ratio below 1 means that the other side is faster. Each other side is measured by the fastest of the ways "
        f"tried. Steps with our loss also count bands. {record['count']:,} pictures ({record['images']})."
    )
    heads = ["preset", "other side", "way", "tried: views/s", "K", "ours", "theirs", "ours / theirs"]
    return markdown(caption, heads, rows, words=4)


def earlier_table(record: dict[str, Any]) -> list[str]:
    """Return an earlier record, of torchvision's transforms alone, as lines of a table."""
    rows = []
    for name, row in record["rows"].items():
        tried = ", ".join(f"{workers}: {found:,.0f}" for workers, found in row["views/s by workers"].items())
        figures = f"{row['ours']:,.0f}", f"{row['dataloader']:,.0f}", f"{row['ratio']:.2f}", str(row["workers"])
        rows.append([f"`{name}`", tried, *figures])
    caption = (
        "Trained views per second, both sides in turn; torchvision's transforms in a DataLoader with the best number "
        f"of workers. {record['count']:,} pictures ({record['images']})."
    )
    return markdown(caption, ["preset", "tried: workers, views/s", "here", "DataLoader", "ratio", "workers"], rows, 2)
