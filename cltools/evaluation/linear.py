"""The recipe's linear evaluation: a linear layer trained by SGD on a frozen backbone, under crops and flips.

It is what published tables of this lineage report. Beside it stands the fast probe (`probe.py`), which is solved, not
trained, and sees no augmentation: it is cheaper and has no schedule to tune, and its figures are no substitute.

Source: the linear classification of MoCo (arXiv:1911.05722, section 4.1): learning rate 30, no weight decay, ×0.1 at
60 and 80 of 100 epochs, batch 256; with Nesterov momentum as in the published code of the paper's laboratory. That
code prints the best epoch on the test images beside the last; here the last alone is reported, since the best is
chosen by the test labels.

Legend: N training images, Q test images, B images of a batch, D features, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from tqdm.auto import tqdm

from cltools.datasets import ImageSet
from cltools.encoders.backbones import eval_mode, home
from cltools.errors import SEED, Settings
from cltools.evaluation.batches import CROP_AND_FLIP, Batches, LabelledViews, half
from cltools.evaluation.checks import known_of
from cltools.evaluation.embed import Embedder, embed, reader
from cltools.mining.handed_in import as_usual
from cltools.views import ViewSettings

AHEAD = {"cuda": 2**21}
"""Pixels that the encoder reads at once, and where: a GPU has done a small batch before the next is asked for.
Elsewhere, and where a batch has more, it reads one batch at a time."""


@dataclass(frozen=True)
class LinearRecipe(Settings):
    """How the linear layer is trained; fewer epochs keep the schedule's shape, and are to be told with the figure."""

    epochs: Annotated[int, "a whole number of at least 1"] = 100
    """Passes over the training images."""
    batch: Annotated[int, "a whole number of at least 1"] = 256
    """Images a step; the smaller last batch counts too."""
    learning_rate: Annotated[float, "at least 0 and finite"] = 30.0
    """At the start. Features are not normalised, and small."""
    momentum: Annotated[float, "at least 0 and finite"] = 0.9
    """Momentum of SGD, Nesterov's."""
    milestones: Annotated[tuple[float, ...], "shares of training, from 0 to 1"] = (0.6, 0.8)
    """Shares of training after which the learning rate falls."""
    decay: Annotated[float, "at least 0 and finite"] = 0.1
    """What it is multiplied by there."""
    views: ViewSettings = CROP_AND_FLIP
    """Augmentation of the training images; test images are shown as they are."""
    seed: Annotated[int, SEED] = 0
    """Seed of the first weights, the order and the views."""

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= share * self.epochs for share in self.milestones)
        return float(self.learning_rate * self.decay**passed)


@dataclass(frozen=True)
class LinearHead:
    """A linear layer on raw features: weight [C, D], bias [C], and the label of each of these classes, ascending."""

    weight: Tensor
    bias: Tensor
    classes: Tensor

    def logits(self, features: Float[Tensor, "Q D"]) -> Float[Tensor, "Q C"]:
        """Scores of each class, for features on the layer's device."""
        with torch.autocast(features.device.type, enabled=False):
            return linear(features.float(), self.weight, self.bias)

    def predicted(self, features: Float[Tensor, "Q D"]) -> Int[Tensor, " Q"]:
        """The label of the class that scores highest."""
        return self.classes[self.logits(features).argmax(1)]

    def step(self, optimizer: torch.optim.Optimizer, features: Float[Tensor, "B D"], labels: Int[Tensor, " B"]) -> None:
        """One step on the cross-entropy of a batch, of the layer and of what else the optimizer holds.

        Here labels are places among the layer's classes.
        """
        loss = cross_entropy(self.logits(features), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @classmethod
    @as_usual()
    def new(cls, classes: int, dim: int, seed: int, device: torch.device) -> "LinearHead":
        """First weights from N(0, 0.01²) and biases 0, as MoCo's; trainable, of the labels 0 to C−1."""
        draws = torch.Generator().manual_seed(seed)
        weight, bias = 0.01 * torch.randn(classes, dim, generator=draws), torch.zeros(classes, device=device)
        return cls(weight.to(device).requires_grad_(), bias.requires_grad_(), torch.arange(classes, device=device))

    @classmethod
    def of(cls, train: ImageSet, dim: int, seed: int, device: torch.device) -> tuple["LinearHead", ImageSet]:
        """A new layer for the classes that occur among the images, and these with their places there for labels."""
        classes, places = torch.unique(train.labels, return_inverse=True)
        head = replace(cls.new(len(classes), dim, seed, device), classes=classes.to(device))
        return head, replace(train, labels=places)

    def finished(self, what: str) -> "LinearHead":
        """The layer without gradient, or the error of a training that diverged."""
        head = replace(self, weight=self.weight.detach(), bias=self.bias.detach())
        if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
            raise FloatingPointError(f"The weights of {what} are NaN or infinite: lower its learning rate.")
        return head


def linear_predict(
    encoder: Embedder, train: ImageSet, test: ImageSet, recipe: LinearRecipe | None = None
) -> Int[Tensor, " Q"]:
    """Classes that a linear layer trained by the recipe (`fit_linear`) predicts for the test images, unaugmented.

    Raises:
        ValueError: training images without labels; no images.
        FloatingPointError: the training diverged.
    """
    head = fit_linear(encoder, train, recipe)
    return head.predicted(embed(encoder, test, device=head.weight.device))


@as_usual()
def fit_linear(encoder: Embedder, train: ImageSet, recipe: LinearRecipe | None = None) -> LinearHead:
    """Train a linear layer on the frozen encoder's raw features; what the last step leaves.

    The encoder runs in evaluation mode without gradient and is left as it was found, buffers and flags included. The
    images lie on its device, and no step waits for it. On CUDA the encoder's passes are bfloat16. A CPU run repeats
    bit for bit.

    Args:
        encoder: as in `embed`.
        train: images of unknown class are left out.
        recipe: None for the published one.

    Raises:
        ValueError: training images without labels; no images.
        FloatingPointError: the training diverged.
    """
    recipe = recipe or LinearRecipe()
    train = known_of(train)
    place = home(encoder, train.images.device)
    head, train = LinearHead.of(train, embed(encoder, train.images[:1]).shape[1], recipe.seed, place)
    optimizer = torch.optim.SGD([head.weight, head.bias], momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    views = LabelledViews(train.to(place), recipe.views, batch=recipe.batch, seed=recipe.seed, drop_last=False)
    read = reader(encoder)
    with eval_mode(encoder), torch.enable_grad(), torch.autocast(place.type, enabled=False):
        for epoch in tqdm(range(recipe.epochs), desc="linear evaluation", unit="epoch", leave=False):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch)
            for features, labels in _read_ahead(read, views.epoch(), place):
                head.step(optimizer, features, labels)
    return head.finished("the linear evaluation")


def _read_ahead(read: Callable[[Tensor], Tensor], batches: Batches, place: torch.device) -> Batches:
    """Features of each batch with its labels, the encoder reading several at once, as it does not change."""
    for first in batches:
        height, width = first[0].shape[2:]
        more = AHEAD.get(place.type, 0) // (len(first[0]) * height * width) - 1
        pixels, labels = zip(first, *islice(batches, max(more, 0)), strict=True)
        with torch.no_grad(), half(place):
            features = read(torch.cat(pixels))
        yield from zip(torch.split(features, [len(part) for part in labels]), labels, strict=True)
