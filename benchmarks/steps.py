"""The time of a training step by its parts, on random pixels of 32×32.

Legend: B images of the batch, A anchors (2B with both views).
"""

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import USUAL, AsRun, Run, Work, markdown, peak_mebibytes
from benchmarks.vectors import CLASSES, Contrast
from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.presets import laptop, preset
from cltools.queue import Queue
from cltools.training.fit import fast_convolutions
from cltools.training.state import new_train_state
from cltools.training.step import Batch, Replay, precision, train_step
from cltools.views import augment

KIND = "bench"
PARTS = ("views", "encoder", "selection", "loss", "optimiser")
COLUMNS = ("views/s", "step ms", *(f"{part} ms" for part in PARTS), "rest ms", "added MiB")


def steps(
    presets: tuple[str, ...] = ("cifar10-simclr", "cifar10-moco", "cifar10-potential"),
    full: bool = False,
    queue_sizes: tuple[int, ...] = (),
    compile: bool = False,
    cuda_graph: bool = False,
    run: AsRun = USUAL,
) -> dict[str, Any]:
    """Time a training step of some presets by its parts, on random pixels of 32×32.

    Args:
        presets: Which presets.
        full: The preset as it is, not its laptop setting.
        queue_sizes: Also with queues of these many keys, where there is a queue.
        compile: With the encoder's passes compiled by torch.compile; compiling counts in no figure.
        cuda_graph: With the step recorded as a CUDA graph; its parts are still timed one by one.
        run: How to measure.
    """
    run.check(presets=presets)
    rows: list[dict[str, Any]] = []
    if cuda_graph and run.where.type != "cuda":
        raise CltoolsError("--cuda-graph records a GPU's work, and this would be measured on the CPU; leave it out.")
    for name, experiment in [(name, preset(name) if full else laptop(preset(name))) for name in presets]:
        for size in (experiment.training.queue_size, *(queue_sizes if experiment.training.mode == "moco" else ())):
            training = replace(experiment.training, queue_size=size, compile=compile, cuda_graph=cuda_graph)
            rows.append({"preset": name, **measure(replace(experiment, training=training), run)})
    return run.record(KIND, rows=rows)


def measure(experiment: Experiment, run: Run) -> dict[str, Any]:
    """Return queue size, trained views per second, milliseconds of a step and its parts, and MiB that a step adds."""
    training = experiment.training
    if training.compile:
        torch.compiler.reset()  # torch compiles a limited number of encoders, and runs further ones uncompiled
    with fast_convolutions():  # as training does
        workplace = Workplace(experiment, run.where)
        times = run.medians({"step": workplace.step, **workplace.parts()})
        added = peak_mebibytes(
            workplace.plain_step, run.where
        )  # a replayed step allocates nothing: it has kept its memory
    parts = [times[part] for part in PARTS]
    rate = training.anchors_per_image * training.batch / times["step"] * 1000
    figures = (rate, times["step"], *parts, times["step"] - sum(parts), added)
    return {
        "queue_size": training.queue_size if training.mode == "moco" else None,
        **dict(zip(COLUMNS, figures, strict=True)),
    }


def random_images(count: int, side: int, device: torch.device | str = "cpu") -> ImageSet:
    """Return random pixels uint8 [count, 3, side, side] in ten classes."""
    generator = torch.Generator(device).manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=device, generator=generator)
    ids = torch.arange(count, device=device)
    return ImageSet(pixels, ids % CLASSES, ids, tuple(map(str, range(CLASSES))), "random", "train")


def fill(queue: Queue, keys: Tensor) -> None:
    """Fill a queue with these keys, as of images that are in no batch."""
    index = torch.arange(len(keys), device=keys.device)
    queue.enqueue(keys, -1 - index, index % CLASSES)


class Workplace:
    """A training state with a full queue: the training step, and its parts as functions to time on its shapes.

    The parts make the same calls as the step. The remaining work (stacking views, counting bands, the queue) is
    reported as the rest.
    """

    def __init__(self, experiment: Experiment, device: torch.device, side: int = 32) -> None:
        training = replace(experiment.training, device=str(device))
        self.experiment = replace(experiment, training=training)
        images = random_images(training.batch, side, device)
        self.batch = Batch(images.images, images.ids, images.labels)
        self.state = new_train_state(self.experiment, images, device)
        memory = self.state.memory
        keys = None if memory is None else training.queue_size
        self.contrast = Contrast(
            (training.anchors_per_image * training.batch, keys, experiment.encoder.projection), experiment, device
        )
        if memory is not None:
            fill(memory.queue, self.contrast.keys)
        pixels = self.batch.images.repeat(training.anchors_per_image, 1, 1, 1)
        self.stacked = augment(pixels, experiment.views, generator=self.state.view_rng)  # [A, 3, H, W]

    def parts(self) -> dict[str, Work]:
        """Return the parts by name, in the order of the step."""
        select = lambda: self.contrast.chosen(self.contrast.compared())  # noqa: E731
        works = (self.views, self.encoder, select, self.contrast.loss, self.state.optimizer.step)
        return dict(zip(PARTS, works, strict=True))

    def step(self) -> None:
        """Run the training step with rules at full strength, as a recorded graph if requested."""
        if self.experiment.training.cuda_graph:
            self.replay.step(self.batch, self.experiment.training.learning_rate, 1.0)
        else:
            self.plain_step()

    def plain_step(self) -> None:
        """Run the same step, not recorded."""
        train_step(self.state, self.batch, self.experiment, progress=1.0, labelled=True)

    @cached_property
    def replay(self) -> Replay:
        """The step as a CUDA graph."""
        return Replay(self.state, self.experiment, labelled=True)

    def views(self) -> None:
        """Compute both views of the batch."""
        for _ in range(2):
            augment(self.batch.images, self.experiment.views, generator=self.state.view_rng)

    def encoder(self) -> None:
        """Run forward and backward of the anchors, and update and forward of the momentum copy, if there is one."""
        state, training = self.state, self.experiment.training
        with precision(self.experiment, state.device):
            if state.memory is not None:
                state.memory.copy.update(state.encoder, training.momentum)
            z = F.normalize(state.forward(self.stacked, views=training.anchors_per_image).float(), dim=1)
            if state.memory is not None:
                state.memory.copy.keys(self.stacked, training.anchors_per_image, generator=state.view_rng)
        state.optimizer.zero_grad(set_to_none=True)
        z.backward(self.contrast.positive)  # type: ignore[no-untyped-call]


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `steps` as lines of a table, one row per setting."""
    rows = []
    for row in record["rows"]:
        figures = (f"{row[c]:,.0f}" if abs(row[c]) >= 100 else f"{row[c]:.1f}" for c in COLUMNS)
        keys = f"{row['queue_size']:,}" if row["queue_size"] else ""
        groups = f", statistics over {row['bn_group']}" if row.get("bn_group") else ""  # in an older record
        rows.append([f"`{row['preset']}`{groups}", keys, *figures])
    caption = (
        "Milliseconds of a training step and of its parts; pictures of 32×32. Each part is waited for: on a GPU parts "
        "may take longer together than the step, and the rest is then below zero. `added MiB`: the most that a step "
        "holds at once beyond what is held between steps."
    )
    return markdown(caption, ["preset", "K", *(column.removesuffix(" ms") for column in COLUMNS)], rows)
