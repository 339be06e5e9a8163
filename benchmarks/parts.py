"""A learner at work on random pixels with a full queue: the step of training, and its parts on the same objects.

Legend: B images of the batch, A anchors (2B with both views), K keys, d embedding.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measuring import Work
from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.losses import info_nce
from cltools.mining import Selection, Similarities, select, similarities, terms
from cltools.mining.rules import reads_now
from cltools.training.learner import make_learner
from cltools.training.replay import Replay
from cltools.training.step import Batch, precision, train_step
from cltools.views import augment

CLASSES = 10
ELSEWHERE = 10**6
"""Ids of the images that the queue's keys come from: none of the batch."""


def random_images(count: int, side: int, device: torch.device | str = "cpu") -> ImageSet:
    """Random pixels in ten classes."""
    generator = torch.Generator(device).manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, device=device, generator=generator)
    ids = torch.arange(count, device=device)
    return ImageSet(pixels, ids % CLASSES, ids, tuple(map(str, range(CLASSES))), "random", "train")


class Workplace:
    """What a step of an experiment needs, and each part of the step as work to be timed.

    `views`, `encoder`, `selection`, `loss` and `optimiser` are made of the calls that the step makes, on what it makes
    them on; what they leave over of it (stacking views, counting bands, the queue) is the rest.
    """

    def __init__(self, experiment: Experiment, device: torch.device, side: int = 32) -> None:
        settings = replace(experiment.training, device=str(device))
        self.experiment, self.device = replace(experiment, training=settings), device
        images = random_images(settings.batch, side, device)
        self.learner = make_learner(self.experiment, images, None, device)
        self.batch = Batch(images.images, images.ids, images.labels)
        self.generator = torch.Generator(device).manual_seed(1)
        if self.learner.memory is not None:
            queue = self.learner.memory.queue
            for part in torch.split(self._unit(settings.queue_size), settings.batch):
                ids = images.ids[: len(part)]
                queue.enqueue(part, ids + ELSEWHERE, ids % CLASSES)
        self.anchors = settings.views * settings.batch
        self.gradient = self._unit(self.anchors) / self.anchors

    def _unit(self, rows: int) -> Tensor:
        dim = self.experiment.encoder.projection
        return F.normalize(torch.randn(rows, dim, device=self.device, generator=self.generator), dim=1)

    def held(self) -> Iterator[Tensor]:
        """What training holds between steps: weights, gradients, optimiser, momentum copy, queue, and one batch."""
        learner, memory, batch = self.learner, self.learner.memory, self.batch
        for module in [learner.encoder, *([memory.copy] if memory is not None else [])]:
            yield from module.buffers()
            for parameter in module.parameters():
                yield from (tensor for tensor in (parameter, parameter.grad) if tensor is not None)
        for state in learner.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))
        if memory is not None:
            yield from (memory.queue.keys, memory.queue.ids, memory.queue.labels)
        yield from (batch.images, batch.ids, batch.labels)

    def forget(self) -> None:
        """Drop what parts prepared once, which training does not hold."""
        for name in ("stacked", "vectors", "selected"):
            self.__dict__.pop(name, None)

    @property
    def dtype(self) -> torch.dtype:
        """Of the encoder's products: what a product becomes within its passes."""
        one = torch.ones(1, 1, device=self.device)
        with precision(self.experiment, self.device):
            return (one @ one).dtype

    def parts(self) -> dict[str, Work]:
        """The parts by name, in the order of the step."""
        return {
            "views": self.views,
            "encoder": self.encoder,
            "selection": self.selection,
            "loss": self.loss,
            "optimiser": self.learner.optimizer.step,
        }

    def step(self) -> None:
        """The step of training, rules at full strength; recorded, where that is asked for."""
        if self.experiment.training.cuda_graph:
            self.replay.step(self.batch, self.experiment.training.learning_rate, 1.0)
        else:
            self.plain_step()

    def plain_step(self) -> None:
        """The same, not recorded."""
        train_step(self.learner, self.batch, self.experiment, progress=1.0, labelled=True)

    @cached_property
    def replay(self) -> Replay:
        """The step as a CUDA graph."""
        return Replay(self.learner, self.experiment, labelled=True)

    def views(self) -> None:
        """Both views of the batch."""
        for _ in range(2):
            augment(self.batch.images, self.experiment.views, generator=self.learner.draws)

    @cached_property
    def stacked(self) -> Tensor:
        """Views of the anchors, float32 [A, 3, H, W]."""
        images = self.batch.images.repeat(self.experiment.training.views, 1, 1, 1)
        return augment(images, self.experiment.views, generator=self.generator)

    def encoder(self) -> None:
        """Forward and backward of the anchors; of the momentum copy, where there is one, its move and its forward."""
        learner, views = self.learner, self.experiment.training.views
        with precision(self.experiment, self.device):
            if learner.memory is not None:
                learner.memory.copy.update(learner.encoder, self.experiment.training.momentum)
            z = F.normalize(learner.forward(self.stacked, views=views).float(), dim=1)
            if learner.memory is not None:
                F.normalize(learner.memory.copy.keys(self.stacked, views, generator=learner.draws).float(), dim=1)
        learner.optimizer.zero_grad(set_to_none=True)
        z.backward(self.gradient)  # type: ignore[no-untyped-call]

    @cached_property
    def vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors [A, d] with gradient, their positives, and the keys [K, d]."""
        z = self._unit(self.anchors)
        near = F.normalize(z + 0.5 * self._unit(self.anchors), dim=1)
        memory = self.learner.memory
        return z.requires_grad_(), near, z if memory is None else memory.queue.keys.clone()

    def compared(self) -> Similarities:
        """What the rules read."""
        ids = self.batch.ids.repeat(self.experiment.training.views)
        key_ids = ids if self.learner.memory is None else self.learner.memory.queue.ids
        positives, negatives = self.experiment.positives, self.experiment.negatives
        return similarities(
            *self.vectors,
            ids[:, None] == key_ids,
            same_class=ids[:, None] % CLASSES == key_ids % CLASSES,
            reads=reads_now(positives, negatives),
            check=False,
        )

    def chosen(self, s: Similarities) -> Selection:
        """What the rules choose, at full strength."""
        rules = self.experiment.positives.at(1.0), self.experiment.negatives.at(1.0)
        return select(s, *rules, temperature=self.experiment.loss.temperature, generator=self.generator)

    def selection(self) -> None:
        """The products and the choice."""
        self.chosen(self.compared())

    @cached_property
    def selected(self) -> tuple[Similarities, Selection]:
        """Similarities whose graph stays, and what was chosen of them."""
        s = self.compared()
        return s, self.chosen(s)

    def loss(self) -> None:
        """Loss of a selection made before, forward, and backward to the anchors."""
        settings = self.experiment.loss
        value = info_nce(**terms(*self.selected), temperature=settings.temperature, form=settings.form)
        torch.autograd.grad(value, self.vectors[0], retain_graph=True)
