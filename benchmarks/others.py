"""What other libraries compute in a training step: views by torchvision and kornia, losses by lightly and pml.

Each library is a side of the comparison, and may offer several ways to compute the same thing, of which the fastest is
compared. Libraries are imported where they are used, because some take seconds.

Legend: A anchors, K keys, d embedding, B images, H and W height and width.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset

from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.mining import AllNegatives, AugmentedView
from cltools.provenance import usable_processors
from cltools.training.inputs import Views
from cltools.views import ViewSettings, pixels

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Called with unit vectors, anchors [A, d], positives [A, d] and keys [K, d]; returns the mean loss."""
Batches = DataLoader[tuple[Any, Tensor, Tensor]]


@dataclass(frozen=True)
class Theirs:
    """The parts of a step that a library computes; what is None is computed by this package."""

    loader: Batches | None = None
    """Yields indices of images and two views of each."""
    views: Views | None = None
    loss: Loss | None = None
    keeps_keys: bool = False
    """Whether the loss keeps the keys itself, so that the queue stays empty."""


Ways = Mapping[str, Callable[[], Theirs]]
"""Ways to compute the same thing, by the setting in which they differ; a way is made only when it is timed."""


def sides(experiment: Experiment, images: ImageSet) -> dict[str, Ways]:
    """Return the libraries that can compute a part of this experiment's step, each with its ways."""
    libraries = {
        "torchvision, DataLoader": dataloader,
        "kornia": kornia,
        "lightly": lightly,
        "pytorch-metric-learning": metric_learning,
    }
    return {name: ways for name, library in libraries.items() if (ways := library(experiment, images))}


# views


def dataloader(experiment: Experiment, images: ImageSet) -> Ways:
    """Torchvision's transforms, image by image, with several numbers of workers."""
    usable = usable_processors()

    def way(workers: int) -> Callable[[], Theirs]:
        return lambda: Theirs(loader=loader(images, experiment, workers))

    counts = sorted({0, 1, usable // 2, usable})
    return {f"{count} worker{'s' * (count != 1)}": way(count) for count in counts}


def loader(images: ImageSet, experiment: Experiment, workers: int) -> Batches:
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

    torchvision has transforms for PIL images and for tensors. In an earlier record of this comparison, those for PIL
    images were faster on one core.
    """
    from torchvision.transforms import transforms as t

    amounts = settings.brightness, settings.contrast, settings.saturation, settings.hue
    steps: list[tuple[object, Any]] = [
        (settings.crop_scale != (1.0, 1.0), t.RandomResizedCrop(side, settings.crop_scale, settings.crop_ratio)),
        (settings.flip, t.RandomHorizontalFlip(settings.flip)),
        (settings.rotation, t.RandomRotation(settings.rotation, interpolation=t.InterpolationMode.BILINEAR)),
        (settings.jitter, t.RandomApply([t.ColorJitter(*amounts)], p=settings.jitter)),
        (settings.gray, t.RandomGrayscale(settings.gray)),
        (
            settings.blur,
            t.RandomApply([t.GaussianBlur(blur_width(settings, side), settings.blur_sigma)], p=settings.blur),
        ),
    ]
    composed: Callable[[Any], Tensor] = t.Compose([*(made for wanted, made in steps if wanted), t.ToTensor()])
    return composed


def blur_width(settings: ViewSettings, side: int) -> int:
    """Return the number of pixels of a blur's kernel, truncated as ours is."""
    return 2 * min(math.ceil(3 * settings.blur_sigma[1]), side - 1) + 1


def kornia(experiment: Experiment, images: ImageSet) -> Ways:
    """Kornia's augmentations of a batch: two ways to crop, in parts that fit a cache, and both views in one call."""
    settings, side = experiment.views, images.images.shape[-1]

    def way(cropping: str, part: int | None = None, *, both: bool = False) -> Callable[[], Theirs]:
        return lambda: Theirs(views=BatchViews(kornia_transforms(settings, side, cropping), part, both=both))

    return {
        "slice": way("slice"),
        "resample": way("resample"),
        "resample, 64 images at a time": way("resample", 64),
        "resample, both views at once": way("resample", both=True),
    }


def kornia_transforms(settings: ViewSettings, side: int, cropping: str) -> torch.nn.Sequential:
    """Return kornia's transforms for these settings, float [B, 3, side, side] in [0, 1] → views; each image draws.

    `ColorJitter` computes what torchvision's computes; kornia's `ColorJiggle` adds brightness instead.
    """
    from kornia import augmentation as k

    amounts = settings.brightness, settings.contrast, settings.saturation, settings.hue
    area: Any = settings.crop_scale, settings.crop_ratio
    exact: Any = {"align_corners": False, "cropping_mode": cropping}
    width = blur_width(settings, side)
    steps: list[tuple[object, Any]] = [
        (settings.crop_scale != (1.0, 1.0), k.RandomResizedCrop((side, side), *area, **exact)),
        (settings.flip, k.RandomHorizontalFlip(p=settings.flip)),
        (settings.rotation, k.RandomRotation(settings.rotation, p=1.0)),
        (settings.jitter, k.ColorJitter(*amounts, p=settings.jitter)),
        (settings.gray, k.RandomGrayscale(p=settings.gray)),
        (settings.blur, k.RandomGaussianBlur((width, width), settings.blur_sigma, p=settings.blur)),
    ]
    return torch.nn.Sequential(*(made for wanted, made in steps if wanted))


class BatchViews:
    """Views by a module that augments batches, in the form that `fit(views=…)` takes.

    The module draws from torch's default generator.
    """

    def __init__(self, module: torch.nn.Module, part: int | None = None, *, both: bool = False) -> None:
        """Take a module, float [B, 3, H, W] in [0, 1] → the same.

        Args:
            module: the augmentations.
            part: number of images that pass through the module together; None for all.
            both: whether the call for an image's first view also makes its second.
        """
        self.module, self.part, self.both = module, part, both
        self.source: Tensor | None = None
        self.second: Tensor | None = None

    def __call__(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return one view of each image."""
        view = self.second if images is self.source else None
        self.second = None
        if view is not None:
            return view
        x = pixels(images)
        if self.both:
            self.source = images
            view, self.second = self.augmented(torch.cat([x, x])).chunk(2)
            return view
        if self.part is None:
            return self.augmented(x)
        return torch.cat([self.augmented(each) for each in torch.split(x, self.part)])

    def augmented(self, x: Tensor) -> Tensor:
        """Return what the module makes of these images."""
        views: Tensor = self.module(x)
        return views


# losses: each is the mean over anchors of InfoNCE over every key, as ours is for `simclr` and `moco`


def plain(experiment: Experiment) -> bool:
    """Return whether an experiment's loss is InfoNCE over every key, with the augmented view as the only positive."""
    rules = experiment.positives, experiment.negatives
    return rules == (AugmentedView(), AllNegatives()) and experiment.loss.form != "decoupled"


def lightly(experiment: Experiment, images: ImageSet) -> Ways:
    """Lightly's NT-Xent loss, among the batch or with its memory bank; nothing if rules choose samples."""
    if not plain(experiment):
        return {}
    temperature, keys = experiment.loss.temperature, experiment.training.queue_size
    if experiment.training.mode == "simclr":
        return {"NTXentLoss": lambda: Theirs(loss=lightly_in_batch(temperature))}
    bank = keys, experiment.encoder.projection
    return {"NTXentLoss, memory bank": lambda: Theirs(loss=lightly_with_bank(temperature, bank), keeps_keys=True)}


def lightly_in_batch(temperature: float) -> Loss:
    """Return lightly's loss of two views, which are the halves of the anchors."""
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature)
    return lambda z, positive, keys: loss(*z.chunk(2))


def lightly_with_bank(temperature: float, size: tuple[int, int]) -> Loss:
    """Return lightly's loss with a memory bank of (K, d), full of random vectors, that takes the positives."""
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature, memory_bank_size=size)
    return lambda z, positive, keys: loss(z, positive)


PARTS = {"NTXentLoss": 4, "SupConLoss": 128}
"""Anchors at a time, of those tried the fastest: NTXentLoss compares each positive pair with every negative pair, which
takes memory and time that grow with the square of the anchors."""


def metric_learning(experiment: Experiment, images: ImageSet) -> Ways:
    """Two losses of pytorch-metric-learning, which for one positive per anchor are the same formula.

    With a queue, positives and keys are passed as `ref_emb`, or CrossBatchMemory keeps them. The latter enqueues a
    batch before it is compared, so that its K keys include the batch's own.
    """
    if not plain(experiment):
        return {}
    temperature, training = experiment.loss.temperature, experiment.training

    def way(loss: Callable[..., Loss], *settings: Any, keeps_keys: bool = False) -> Callable[[], Theirs]:
        return lambda: Theirs(loss=loss(*settings, temperature), keeps_keys=keeps_keys)

    if training.mode == "simclr":
        return {name: way(metric_in_batch, name) for name in PARTS}
    bank = training.queue_size, experiment.encoder.projection
    ways = {f"{name}, {part} anchors at a time": way(metric_with_keys, name) for name, part in PARTS.items()}
    return ways | {"CrossBatchMemory": way(metric_with_memory, bank, keeps_keys=True)}


def metric_in_batch(name: str, temperature: float) -> Loss:
    """Return a loss of pytorch-metric-learning of two views, which are the halves of the anchors."""
    from pytorch_metric_learning import losses

    loss = losses.SelfSupervisedLoss(getattr(losses, name)(temperature))
    return lambda z, positive, keys: loss(*z.chunk(2))


def metric_with_keys(name: str, temperature: float) -> Loss:
    """Return a loss of pytorch-metric-learning of anchors against keys, some anchors at a time (`PARTS`)."""
    from pytorch_metric_learning import losses

    loss, part = getattr(losses, name)(temperature), PARTS[name]
    known: dict[tuple[int, int], tuple[Tensor, ...]] = {}

    def pairs(anchors: int, keys: int, device: torch.device) -> tuple[Tensor, ...]:
        """Return the indices of all pairs, which do not change from step to step."""
        if (anchors, keys) not in known:
            own, every = torch.arange(anchors, device=device), torch.arange(anchors, anchors + keys, device=device)
            known[anchors, keys] = own, own, own.repeat_interleave(keys), every.repeat(anchors)
        return known[anchors, keys]

    def mean(z: Tensor, positive: Tensor, keys: Tensor) -> Tensor:
        parts = zip(torch.split(z, part), torch.split(positive, part), strict=True)
        values = [
            loss(each, indices_tuple=pairs(len(each), len(keys), z.device), ref_emb=torch.cat([its, keys])) * len(each)
            for each, its in parts
        ]
        return torch.stack(values).sum() / len(z)

    return mean


def metric_with_memory(size: tuple[int, int], temperature: float) -> Loss:
    """Return pytorch-metric-learning's loss with a full memory of (K, d), which takes the positives."""
    from pytorch_metric_learning import losses

    keys, dim = size
    memory = losses.CrossBatchMemory(losses.SupConLoss(temperature), dim, keys)
    memory.embedding_memory = normalize(torch.randn(size), dim=1)
    memory.label_memory = -1 - torch.arange(keys)
    memory.has_been_filled = True
    numbers = itertools.count()

    def mean(z: Tensor, positive: Tensor, keys: Tensor) -> Tensor:
        labels = torch.arange(len(z), device=z.device) + next(numbers) * len(z)  # no two steps share a label
        enqueued = torch.arange(2 * len(z), device=z.device) >= len(z)
        return memory(torch.cat([z, positive]), labels.repeat(2), enqueue_mask=enqueued)  # type: ignore[no-any-return]

    return mean
