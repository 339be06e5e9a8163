"""The pipeline that most contrastive code has: torchvision's transforms, picture by picture, in a DataLoader's workers.

Views are drawn as `ViewSettings` says, the encoder, batch, optimiser and precision are the preset's, the loss is plain
InfoNCE by cross-entropy, as SimCLR's and MoCo's public code writes it. It selects and counts nothing.

Source: SimCLR (arXiv:2002.05709), MoCo (arXiv:1911.05722).
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.training.learner import make_learner
from cltools.training.step import precision
from cltools.views import ViewSettings

Library = Literal["v1", "v2"]
Form = Literal["pil", "tensor"]
FORMS: tuple[tuple[Library, Form], ...] = (("v1", "pil"), ("v2", "pil"), ("v1", "tensor"), ("v2", "tensor"))
"""torchvision's two libraries of transforms, on pictures of two forms: uint8 either way."""
PREFETCH = 4
"""Batches that each worker prepares in advance."""


def transforms(settings: ViewSettings, side: int, library: Library, form: Form) -> Callable[[Any], Tensor]:
    """Transforms of torchvision for these settings: a picture → float [3, side, side] in [0, 1]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision.transforms import InterpolationMode, transforms as v1, v2

    made: Any = v1 if library == "v1" else v2
    steps: list[Any] = []
    if settings.crop_scale != (1.0, 1.0):
        steps.append(made.RandomResizedCrop(side, settings.crop_scale, settings.crop_ratio, antialias=True))
    if settings.flip > 0:
        steps.append(made.RandomHorizontalFlip(settings.flip))
    if settings.rotation > 0:
        steps.append(made.RandomRotation(settings.rotation, interpolation=InterpolationMode.BILINEAR))
    if settings.jitter > 0:
        amounts = settings.brightness, settings.contrast, settings.saturation, settings.hue
        steps.append(made.RandomApply([made.ColorJitter(*amounts)], p=settings.jitter))
    if settings.gray > 0:
        steps.append(made.RandomGrayscale(settings.gray))
    if settings.blur > 0:
        kernel = 2 * min(math.ceil(3 * settings.blur_sigma[1]), side - 1) + 1
        steps.append(made.RandomApply([made.GaussianBlur(kernel, settings.blur_sigma)], p=settings.blur))
    if library == "v1":
        steps.append(v1.ToTensor() if form == "pil" else v1.ConvertImageDtype(torch.float32))
    else:
        steps += [v2.PILToTensor()] if form == "pil" else []
        steps.append(v2.ToDtype(torch.float32, scale=True))
    composed: Callable[[Any], Tensor] = made.Compose(steps)
    return composed


class TwoViews(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each picture, drawn when it is asked for."""

    def __init__(self, images: ImageSet, settings: ViewSettings, library: Library, form: Form) -> None:
        from PIL import Image

        self.pictures: list[Any] = list(images.images.cpu())
        if form == "pil":
            self.pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in self.pictures]
        self.transform = transforms(settings, images.images.shape[-1], library, form)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.pictures[index]), self.transform(self.pictures[index])


def one_thread(worker: int) -> None:
    """Workers share the cores with each other and with the step."""
    torch.set_num_threads(1)


def loader(pictures: TwoViews, batch: int, workers: int, device: torch.device) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Batches of two views in random order, by workers that stay and work ahead."""
    ahead: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": PREFETCH} if workers else {}
    order = torch.Generator().manual_seed(0)
    return DataLoader(
        pictures, batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=device.type == "cuda",
        worker_init_fn=one_thread, generator=order, **ahead,
    )  # fmt: skip


class Conventional:
    """Encoder, momentum copy, optimiser and queue as plain code has them, and a step on two given views."""

    def __init__(self, experiment: Experiment, images: ImageSet, device: torch.device) -> None:
        self.experiment, self.device = experiment, device
        learner = make_learner(experiment, images, None, device)
        self.encoder, self.optimizer, self.memory, self.draws = (
            learner.encoder, learner.optimizer, learner.memory, learner.draws,
        )  # fmt: skip
        if self.memory is not None:
            size, dim = experiment.training.queue_size, experiment.encoder.projection
            self.queue = F.normalize(torch.randn(size, dim, device=device, generator=self.draws), dim=1)
            self.pointer = 0

    def step(self, view1: Tensor, view2: Tensor) -> Tensor:
        """Update by a batch of two views [B, 3, H, W]; the loss."""
        view1, view2 = (view.to(self.device, non_blocking=True) for view in (view1, view2))
        loss = self._in_batch(view1, view2) if self.memory is None else self._against_queue(view1, view2)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _in_batch(self, view1: Tensor, view2: Tensor) -> Tensor:
        """NT-Xent: of the 2B − 1 others, the other view is the class to be found."""
        with precision(self.experiment, self.device):
            z = F.normalize(self.encoder(torch.cat([view1, view2]), views=2).float(), dim=1)
        logits = (z @ z.T / self.experiment.loss.temperature).fill_diagonal_(-torch.inf)
        other = torch.arange(len(z), device=self.device).roll(len(view1))
        return F.cross_entropy(logits, other)

    def _against_queue(self, view1: Tensor, view2: Tensor) -> Tensor:
        """MoCo: the key is class 0 among the queue's; both views are anchors where the preset is symmetric."""
        settings, memory = self.experiment.training, self.memory
        assert memory is not None
        memory.copy.update(self.encoder, settings.momentum)
        views = settings.views
        query, other = torch.cat([view1, view2][:views]), torch.cat([view2, view1][:views])
        with precision(self.experiment, self.device):
            z = F.normalize(self.encoder(query, views=views).float(), dim=1)
            k = F.normalize(memory.copy.keys(other, views, generator=self.draws).float(), dim=1)
        logits = torch.cat([(z * k).sum(1, keepdim=True), z @ self.queue.T], dim=1) / self.experiment.loss.temperature
        loss = F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.int64, device=self.device))
        self._enqueue(k[: len(view1)])
        return loss

    def _enqueue(self, keys: Tensor) -> None:
        """The newest keys over the oldest, in a new queue, because the graph still reads the old one."""
        place = (self.pointer + torch.arange(len(keys), device=self.device)) % len(self.queue)
        self.queue = self.queue.index_copy(0, place, keys)
        self.pointer = (self.pointer + len(keys)) % len(self.queue)
