"""Our views beside those of most contrastive code: torchvision's transforms, image by image, in a DataLoader.

Both sides use the same training step with the same settings; only the views are computed differently.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils.benchmark import timer
from torch.utils.data import DataLoader, Dataset

from benchmarks.measuring import USUAL, AsRun, Run, markdown
from benchmarks.steps import random_images
from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.presets import laptop, preset
from cltools.provenance import usable_processors
from cltools.training import step
from cltools.training.fit import fast_convolutions
from cltools.training.inputs import drawn_view
from cltools.training.state import new_train_state
from cltools.views import ViewSettings

KIND = "bench against dataloader"
TRIED = 2
"""Epochs from which the number of workers is chosen."""


def against(
    presets: tuple[str, ...] = ("cifar10-simclr", "cifar10-potential"),
    full: bool = False,
    images: int = 10_000,
    run: AsRun = USUAL,
) -> dict[str, Any]:
    """Time our training beside torchvision's transforms in a DataLoader, on random pixels of 32×32.

    Args:
        presets: Which presets.
        full: The preset as it is, not its laptop setting.
        images: How many images; at least two batches.
        run: How to measure; a round is an epoch of each side.
    """
    run.check(presets=presets)
    image_set = random_images(images, 32)
    experiments = {name: preset(name) if full else laptop(preset(name)) for name in presets}
    for name, experiment in experiments.items():
        if images < 2 * experiment.training.batch:
            raise CltoolsError(
                f"{images} images are not two batches of {experiment.training.batch}, as {name} has them."
            )
    with fast_convolutions():  # as training does, for both sides
        rows = {name: compare(experiment, image_set, run) for name, experiment in experiments.items()}
    return run.record(KIND, images="random", count=images, rows=rows)


def compare(experiment: Experiment, images: ImageSet, run: Run) -> dict[str, Any]:
    """Return trained views per second of both sides, timed alternately, the other with its best number of workers."""
    usable = usable_processors()
    swept = {}
    for workers in sorted({0, 1, usable // 2, usable}):
        theirs = Side(experiment, images, run.where, workers)
        swept[workers] = statistics.median(theirs.rate() for _ in range(TRIED))
        del theirs  # its workers with it
    best = max(swept, key=swept.__getitem__)
    sides = Side(experiment, images, run.where), Side(experiment, images, run.where, best)
    pairs = [[side.rate() for side in sides] for _ in range(run.rounds)]
    our_rate, their_rate = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    by_workers = {str(count): found for count, found in swept.items()}
    return {
        "ours": our_rate,
        "dataloader": their_rate,
        "ratio": our_rate / their_rate,
        "workers": best,
        "views/s by workers": by_workers,
    }


class Side:
    """A training state with our views, or with those of a DataLoader whose workers persist, idle, between epochs."""

    def __init__(
        self, experiment: Experiment, images: ImageSet, device: torch.device, workers: int | None = None
    ) -> None:
        self.experiment, self.images = experiment, images.to(device)
        self.state = new_train_state(experiment, images, device)
        self.loader = None if workers is None else loader(images, experiment, workers)

    def rate(self) -> float:
        """Return trained views per second over an epoch without its first step, in which workers start."""
        epoch, training = self.epoch(), self.experiment.training
        next(epoch)
        began, steps = timer(), sum(1 for _ in epoch)
        return steps * training.batch * training.anchors_per_image / (timer() - began)

    def epoch(self) -> Iterator[object]:
        """Run every training step over the images, without the work of `fit` between steps and after an epoch."""
        images, state, size = self.images, self.state, self.experiment.training.batch
        order = torch.randperm(len(images), generator=state.order_rng)
        ours = ((index,) for index in torch.split(order[: len(images) // size * size], size))
        for index, *views in self.loader or ours:
            rows, given = index.to(state.device), iter([view.to(state.device) for view in views])
            batch = step.Batch(images.images[rows], images.ids[rows], images.labels[rows])
            made = (lambda *_, given=given, **__: next(given)) if views else drawn_view
            with mock.patch.object(step, "drawn_view", made):
                yield step.train_step(state, batch, self.experiment, progress=1.0, labelled=True)


def loader(images: ImageSet, experiment: Experiment, workers: int) -> "DataLoader[tuple[Any, Tensor, Tensor]]":
    """Yield batches of indices and two views in random order, by persistent workers that prefetch batches."""
    ahead: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 4} if workers else {}
    dataset = TwoViews(images, transforms(experiment.views, images.images.shape[-1]))
    ahead |= {"num_workers": workers, "pin_memory": torch.cuda.is_available()}
    return DataLoader(dataset, experiment.training.batch, shuffle=True, drop_last=True, **ahead)


class TwoViews(Dataset[tuple[Any, Tensor, Tensor]]):
    """A data set of two views of each image, drawn on access, and its index."""

    def __init__(self, images: ImageSet, transform: Callable[[Any], Tensor]) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images.images.cpu()]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, Tensor, Tensor]:
        return index, self.transform(self.images[index]), self.transform(self.images[index])


def transforms(settings: ViewSettings, side: int) -> Callable[[Any], Tensor]:
    """Return torchvision's transforms for these settings: a PIL image → float [3, side, side] in [0, 1].

    torchvision has transforms for PIL images and for tensors. In data/results/bench-against.json this one is the
    fastest on one core, or equally fast (`ms a view by transforms`).
    """
    from torchvision.transforms import transforms as t

    amounts = settings.brightness, settings.contrast, settings.saturation, settings.hue
    kernel = 2 * min(math.ceil(3 * settings.blur_sigma[1]), side - 1) + 1
    steps: list[tuple[object, Any]] = [
        (settings.crop_scale != (1.0, 1.0), t.RandomResizedCrop(side, settings.crop_scale, settings.crop_ratio)),
        (settings.flip, t.RandomHorizontalFlip(settings.flip)),
        (settings.rotation, t.RandomRotation(settings.rotation, interpolation=t.InterpolationMode.BILINEAR)),
        (settings.jitter, t.RandomApply([t.ColorJitter(*amounts)], p=settings.jitter)),
        (settings.gray, t.RandomGrayscale(settings.gray)),
        (settings.blur, t.RandomApply([t.GaussianBlur(kernel, settings.blur_sigma)], p=settings.blur)),
    ]
    composed: Callable[[Any], Tensor] = t.Compose([*(made for wanted, made in steps if wanted), t.ToTensor()])
    return composed


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `against` as lines of a table, one row per preset."""
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
