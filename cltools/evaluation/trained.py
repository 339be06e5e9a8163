"""Protocols that train by labels: the recipe's linear evaluation, and fine-tuning with few labels.

**The linear evaluation** is a linear layer trained by SGD on a frozen backbone, under crops and flips. It is what
published tables of this lineage report. Beside it stands the fast probe (`fit_probe`), which is solved, not trained,
and sees no augmentation: it is cheaper and has no schedule to tune, and its figures are no substitute.

Source: the linear classification of MoCo (arXiv:1911.05722, section 4.1): learning rate 30, no weight decay, ×0.1 at
60 and 80 of 100 epochs, batch 256; with Nesterov momentum as in the published code of the paper's laboratory. That
code prints the best epoch on the test images beside the last; here the last alone is reported, since the best is
chosen by the test labels.

**Fine-tuning** trains the whole backbone and a new linear layer, on 1 % or 10 % of the labels.

Source: SimCLR, arXiv:2002.05709, section 4.4 and appendix B.5: Nesterov momentum 0.9, learning rate 0.05·batch/256
without warm-up, no weight decay or other regularisation, crop and flip alone, 60 epochs for 1 % and 30 for 10 %.

Differs, for small sets: batches of 64 instead of 4096, more than 1 % of CIFAR-10 is, which keeps the number of steps of
the same kind (ImageNet 188 and 938; CIFAR-10 420 and 2,340); at least 200 steps where epochs are shorter still; a
cosine to 0, since appendix B.5 names no decay and the last step is reported; batch norm over whole batches.

Legend: N training images, M labelled ones among them, Q test images, B images of a batch, D features, C classes.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from tqdm.auto import tqdm

from cltools.datasets import ImageSet
from cltools.encoders import Encoder, device_of, eval_mode
from cltools.errors import SEED, CltoolsError, Settings, check_number
from cltools.evaluation.embed import Embedder, HasFeatures, bare, embed, known_of, reader
from cltools.mining.handed_in import as_labels, seeded, torch_defaults
from cltools.views import ViewSettings, augment

CROP_AND_FLIP = ViewSettings(crop_scale=(0.08, 1.0), flip=0.5, jitter=0.0, gray=0.0)
"""What both recipes train on: a crop of 8 to 100 % of the area, resized back, and a flip (torchvision's defaults)."""


@dataclass(frozen=True)
class LinearRecipe(Settings):
    """How the linear layer is trained; fewer epochs keep the schedule's shape, and are to be told with the figure."""

    epochs: Annotated[int, "a whole number from 1 to a billion"] = 100
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
class FinetuneRecipe(Settings):
    """How encoder and linear layer are trained on few labels."""

    share: Annotated[float, "above 0 and at most 1"] = 0.01
    """Share of the training images whose labels are used."""
    epochs: Annotated[int, "a whole number from 1 to a billion"] = 60
    """Passes over them."""
    least_steps: Annotated[int, "a whole number from 0 to a billion"] = 200
    """Steps at least, however few images there are."""
    batch: Annotated[int, "a whole number of at least 2"] = 64
    """Images a step; a smaller last batch is dropped, fewer images are one batch."""
    learning_rate: Annotated[float, "at least 0 and finite"] = 0.05
    """At batch 256; scaled with the batch."""
    momentum: Annotated[float, "at least 0 and finite"] = 0.9
    """Momentum of SGD, Nesterov's."""
    views: ViewSettings = CROP_AND_FLIP
    """Augmentation of the labelled images; test images are shown as they are."""
    seed: Annotated[int, SEED] = 0
    """Seed of the images drawn, the first weights, the order and the views."""

    def steps(self, an_epoch: int) -> int:
        """Steps of the whole training, where an epoch has so many."""
        return max(self.epochs * an_epoch, self.least_steps)

    def rate(self, step: int, steps: int, batch: int) -> float:
        """The learning rate of a step: a cosine from 0.05·batch/256 to 0."""
        return self.learning_rate * batch / 256 * 0.5 * (1 + math.cos(math.pi * step / steps))


class LabelledViews:
    """Epochs of batches of views with their labels; the seed decides order and views."""

    def __init__(self, images: ImageSet, views: ViewSettings, *, batch: int, seed: int, drop_last: bool) -> None:
        """The images are not copied; with `drop_last` a smaller last batch is dropped."""
        device = images.images.device
        self.images, self.views, self.batch = images, views, min(batch, len(images))
        self.steps = len(images) // self.batch if drop_last else -(-len(images) // self.batch)
        self.order = torch.Generator().manual_seed(2 * seed)
        self.draws = torch.Generator(device).manual_seed(2 * seed + 1)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Views float32 [B, 3, H, W] in [0, 1] and labels int64 [B], each image at most once."""
        pixels, labels = self.images.images, self.images.labels
        order = torch.randperm(len(labels), generator=self.order).to(labels.device)
        for index in torch.split(order, self.batch)[: self.steps]:
            yield augment(pixels[index], self.views, generator=self.draws), labels[index]


def half(device: torch.device) -> torch.autocast:
    """bfloat16 for an encoder's passes on CUDA, as in training; float32 elsewhere, whatever is around it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


@dataclass(frozen=True)
class LinearHead:
    """A linear layer on raw features: weight [C, D], bias [C], and the label of each of these classes, ascending."""

    weight: Tensor
    bias: Tensor
    classes: Tensor

    def logits(self, features: Float[Tensor, "Q D"]) -> Float[Tensor, "Q C"]:
        """Scores of each class, for features on the layer's device."""
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.linear(features.float(), self.weight, self.bias)

    def predicted(self, features: Float[Tensor, "Q D"]) -> Int[Tensor, " Q"]:
        """The label of the class that scores highest."""
        return self.classes[self.logits(features).argmax(1)]

    def step(self, optimizer: torch.optim.Optimizer, features: Float[Tensor, "B D"], labels: Int[Tensor, " B"]) -> None:
        """One step on the cross-entropy of a batch, of the layer and of what else the optimizer holds.

        Here labels are places among the layer's classes.
        """
        loss = nn.functional.cross_entropy(self.logits(features), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @classmethod
    def of(cls, train: ImageSet, dim: int, seed: int, device: torch.device) -> tuple["LinearHead", ImageSet]:
        """A new layer for the classes that occur among the images, and these with their places there for labels.

        First weights are from N(0, 0.01²) and biases 0, as MoCo's; both can be trained.
        """
        classes, places = torch.unique(train.labels, return_inverse=True)
        draws = seeded(seed)
        weight = (0.01 * torch.randn(len(classes), dim, generator=draws)).to(device).requires_grad_()
        bias = torch.zeros(len(classes), device=device).requires_grad_()
        return cls(weight, bias, classes.to(device)), replace(train, labels=places)

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


@torch_defaults()
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
    place = device_of(encoder, train.images.device)
    head, train = LinearHead.of(train, embed(encoder, train.images[:1]).shape[1], recipe.seed, place)
    optimizer = torch.optim.SGD([head.weight, head.bias], momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    views = LabelledViews(train.to(place), recipe.views, batch=recipe.batch, seed=recipe.seed, drop_last=False)
    read = reader(encoder)
    with eval_mode(encoder), torch.enable_grad(), torch.autocast(place.type, enabled=False):
        for epoch in tqdm(range(recipe.epochs), desc="linear evaluation", unit="epoch", leave=False):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch)
            for pixels, labels in views.epoch():
                with torch.no_grad(), half(place):
                    features = read(pixels)
                head.step(optimizer, features, labels)
    return head.finished("the linear evaluation")


@torch_defaults()
def few_labels(labels: Any, share: float, seed: int) -> Int64[Tensor, " M"]:
    """Positions of a class-balanced share of the images, ascending, on the CPU.

    Each class gives share·N/C images, rounded, but at least one, and no more than it has. So with few images the share
    can be above the one asked for (one image a class), and with unlike classes below. With one seed a smaller share is
    part of a larger one.

    Args:
        labels: of all training images [N], each known; see `as_labels`.
        share: above 0, at most 1.
        seed: of the draw.

    Raises:
        ValueError: another share, or labels that are no classes.
    """
    share = check_number("The share of labels", share, "above 0 and at most 1")
    labels = as_labels("labels", labels)[0].cpu()
    present = torch.unique(labels)
    each = max(1, math.floor(share * len(labels) / len(present) + 0.5))
    order = torch.randperm(len(labels), generator=seeded(seed))
    drawn = [order[labels[order] == label][:each] for label in present]
    return torch.cat(drawn).sort().values


def finetune_predict(
    encoder: Embedder, train: ImageSet, test: ImageSet, recipe: FinetuneRecipe | None = None
) -> Int[Tensor, " Q"]:
    """Classes that a fine-tuned copy of the encoder (`finetune`) predicts for the test images, unaugmented.

    Raises:
        ValueError: training images without labels; no images; an encoder that cannot be trained.
        FloatingPointError: the training diverged.
    """
    tuned, head = finetune(encoder, train, recipe)
    return head.predicted(embed(tuned, test))


@torch_defaults()
def finetune(encoder: Embedder, train: ImageSet, recipe: FinetuneRecipe | None = None) -> tuple[nn.Module, LinearHead]:
    """Train a copy of the encoder and a new linear layer on the labels that `few_labels` draws.

    The encoder itself is left as it was found. All its parameters are trained, those someone froze too. On CUDA its
    passes are bfloat16. A CPU run repeats bit for bit.

    Args:
        encoder: a module whose `features` are [B, D].
        train: of known class; only the drawn images are looked at.
        recipe: None for 1 % of the labels.

    Returns:
        The copy, in evaluation mode, and the layer on its features.

    Raises:
        ValueError: training images without labels, or fewer than two drawn; an encoder that cannot be trained.
        FloatingPointError: the training diverged.
    """
    recipe = recipe or FinetuneRecipe()
    encoder, train = bare(encoder), known_of(train)
    drawn = train.select(few_labels(train.labels, recipe.share, recipe.seed).to(train.images.device))
    if len(drawn) < 2:
        raise CltoolsError(f"{recipe.share:.0%} of {train.name!r} is one image; batch statistics need two at least.")
    if not isinstance(encoder, nn.Module) or not isinstance(encoder, HasFeatures):
        raise CltoolsError(f"{type(encoder).__name__} cannot be fine-tuned: give a module with a method `features`.")
    tuned = copy.deepcopy(encoder).requires_grad_(True)
    tuned.zero_grad(set_to_none=True)
    if isinstance(tuned, Encoder):
        tuned.stacking.group = None  # batch statistics of whole batches
    place = device_of(tuned)
    head, drawn = LinearHead.of(drawn, embed(tuned, drawn.images[:1]).shape[1], recipe.seed, place)
    views = LabelledViews(drawn.to(place), recipe.views, batch=recipe.batch, seed=recipe.seed, drop_last=True)
    # Parameters that features do not pass through have no gradient and stay.
    parameters = [*tuned.parameters(), head.weight, head.bias]
    optimizer = torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    steps = recipe.steps(views.steps)
    bar = tqdm(range(steps), desc=f"fine-tuning on {len(drawn)} labels", unit="step", leave=False)
    batches = chain.from_iterable(each.epoch() for each in repeat(views))
    tuned.train()
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad(), torch.autocast(place.type, enabled=False):
        torch.manual_seed(recipe.seed)  # for what an own backbone draws: dropout
        for step, (pixels, labels) in zip(bar, batches, strict=False):
            optimizer.param_groups[0]["lr"] = recipe.rate(step, steps, views.batch)
            with half(place):
                features = tuned.features(pixels)
            head.step(optimizer, features, labels)
    return tuned.eval(), head.finished("the fine-tuning")
