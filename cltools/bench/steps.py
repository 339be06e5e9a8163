"""Where the time of a training step goes, on random pixels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn import functional as F

from cltools.bench.measuring import median_milliseconds
from cltools.config import Experiment
from cltools.contrast import contrastive_loss
from cltools.datasets import ImageSet
from cltools.presets import laptop, preset
from cltools.records import provenance, write_record
from cltools.training.learner import make_learner, resolve_device
from cltools.training.step import Batch, train_step
from cltools.views import augment


@dataclass(frozen=True)
class StepBenchFlags:
    """Time a training step of some presets by its parts, on random pixels of 32×32."""

    presets: tuple[str, ...] = ("cifar10-simclr", "cifar10-moco", "cifar10-potential")
    """Which presets."""
    full: bool = False
    """The preset as it is, not its laptop setting."""
    queue_size: int | None = None
    """Keys in the queue; None for the preset's."""
    device: str = "auto"
    """Where."""
    repeats: int = 20
    """Timed steps; the median is reported."""
    out: Path | None = None
    """Also write the figures as JSON."""

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if not self.presets:
            raise ValueError("bench: presets is empty; name at least one.")
        if self.queue_size is not None and self.queue_size < 1:
            raise ValueError(f"bench: queue_size is {self.queue_size}; it must be at least 1.")
        if self.repeats < 1:
            raise ValueError(f"bench: repeats is {self.repeats}; it must be at least 1.")


def bench_steps(flags: StepBenchFlags) -> None:
    """Measure, print a table, write JSON if asked."""
    device = resolve_device(flags.device)
    experiments = {name: _experiment(preset(name), flags) for name in flags.presets}
    rows = {name: measure(experiment, device, flags.repeats) for name, experiment in experiments.items()}
    columns = list(next(iter(rows.values())))
    print("  ".join([f"{'preset':20s}", *(f"{c:>14s}" for c in columns)]))
    for name, row in rows.items():
        print("  ".join([f"{name:20s}", *(f"{row[c]:14.2f}" for c in columns)]))
    if flags.out is not None:
        write_record(flags.out, {"kind": "bench", **provenance(device), "rows": rows})


def _experiment(experiment: Experiment, flags: StepBenchFlags) -> Experiment:
    experiment = experiment if flags.full else laptop(experiment)
    if flags.queue_size is None:
        return experiment
    return replace(experiment, training=replace(experiment.training, queue_size=flags.queue_size))


def measure(experiment: Experiment, device: torch.device, repeats: int) -> dict[str, float]:
    """Milliseconds of a step and of its parts, and trained views a second, with a full queue."""
    experiment = replace(experiment, training=replace(experiment.training, device=str(device)))
    settings, generator = experiment.training, torch.Generator(device).manual_seed(0)
    pixels = torch.randint(0, 256, (settings.batch, 3, 32, 32), dtype=torch.uint8, device=device, generator=generator)
    ids = torch.arange(settings.batch, device=device)
    images = ImageSet(pixels, ids % 10, ids, tuple(map(str, range(10))), "random", "train")
    learner = make_learner(experiment, images, None, device)
    batch = Batch(pixels, ids, ids % 10)
    if learner.memory is not None:
        queue = learner.memory.queue
        keys = torch.randn(settings.queue_size, experiment.encoder.projection, device=device, generator=generator)
        for part in torch.split(F.normalize(keys, dim=1), settings.batch):
            queue.enqueue(part, ids[: len(part)] + 10**6, ids[: len(part)] % 10)
    anchors = 2 * settings.batch if settings.symmetric or learner.memory is None else settings.batch
    z = F.normalize(torch.randn(anchors, experiment.encoder.projection, device=device, generator=generator), dim=1)
    n = F.normalize(
        torch.randn(settings.keys, experiment.encoder.projection, device=device, generator=generator), dim=1
    )
    rules = experiment.positives.at(1.0), experiment.negatives.at(1.0)
    anchor_ids, key_ids = torch.arange(anchors, device=device), torch.arange(settings.keys, device=device) + 10**6

    def selection_and_loss() -> None:
        losses = contrastive_loss(
            z.clone().requires_grad_(),
            z,
            n,
            *rules,
            experiment.loss,
            ids=(anchor_ids, key_ids),
            labels=(anchor_ids % 10, key_ids % 10),
            generator=generator,
        )
        losses.mean().backward()  # type: ignore[no-untyped-call]

    parts: dict[str, Callable[[], object]] = {
        "step": lambda: train_step(learner, batch, experiment, progress=1.0, labelled=True),
        "views": lambda: augment(pixels, experiment.views, generator=generator),
        "mining+loss": selection_and_loss,
        "product": lambda: z @ n.T,
    }
    times = median_milliseconds(parts, device, repeats)
    return {
        "step ms": times["step"],
        "views ms": 2 * times["views"],
        "mining+loss ms": times["mining+loss"],
        "of step %": 100 * times["mining+loss"] / times["step"],
        "product ms": times["product"],
        "views/s": anchors / times["step"] * 1000,
    }
