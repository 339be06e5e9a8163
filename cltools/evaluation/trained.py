"""Protocols that train with labels: linear evaluation, and fine-tuning with few labels.

**The linear evaluation** trains a linear layer by SGD on a frozen backbone, with crops and flips, as published results
of this line of work do. The faster probe (`fit_probe`) is solved rather than trained and sees no augmentation: it has
no schedule to tune, but its figures do not replace those of the linear evaluation.

Source: the linear classification of MoCo (arXiv:1911.05722, section 4.1): learning rate 30, no weight decay, ×0.1 at
60 and 80 of 100 epochs, batch 256; with Nesterov momentum as in the published code of the paper's laboratory. That
code also prints the best epoch on the test images. Only the last epoch is reported here, because choosing the best
uses the test labels.

**Fine-tuning** trains the whole backbone and a new linear layer, on 1 % or 10 % of the labels.

Source: SimCLR, arXiv:2002.05709, section 4.4 and appendix B.5: Nesterov momentum 0.9, learning rate 0.05·batch/256
without warm-up, no weight decay or other regularisation, crop and flip only, 60 epochs for 1 % and 30 for 10 %.

Differences, for small sets: batches of 64 instead of 4096, which exceeds 1 % of CIFAR-10, so that the number of steps
is of the same order (ImageNet 188 and 938; CIFAR-10 420 and 2,340); at least 200 steps in total; a cosine schedule to
0, because appendix B.5 names no decay and the last step is reported; and batch norm over whole batches.

Legend: N training images, M of them labelled, Q test images, B images of a batch, D features, C classes.
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
from cltools.evaluation.embed import Embedder, bare, embed, has_features, known_of, reader
from cltools.mining.handed_in import as_labels, seeded, torch_defaults
from cltools.views import ViewSettings, augment

CROP_AND_FLIP = ViewSettings(crop_scale=(0.08, 1.0), flip=0.5, jitter=0.0, gray=0.0)
"""Views of both recipes: a crop of 8 to 100 % of the area, resized back, and a flip (torchvision's defaults)."""


@dataclass(frozen=True)
class LinearRecipe(Settings):
    """Settings of the linear evaluation. The schedule scales with `epochs`; report these if they are not 100."""

    epochs: Annotated[int, "a whole number from 1 to a billion"] = 100
    """Passes over the training images."""
    batch: Annotated[int, "a whole number of at least 1"] = 256
    """Images per step; a smaller last batch is used too."""
    learning_rate: Annotated[float, "at least 0 and finite"] = 30.0
    """Initial learning rate; large, because features are not normalised and are small."""
    momentum: Annotated[float, "at least 0 and finite"] = 0.9
    """Nesterov momentum of SGD."""
    milestones: Annotated[tuple[float, ...], "shares of training, from 0 to 1"] = (0.6, 0.8)
    """Shares of training after which the learning rate decays."""
    decay: Annotated[float, "at least 0 and finite"] = 0.1
    """Factor of each decay."""
    views: ViewSettings = CROP_AND_FLIP
    """Augmentation of the training images; test images are not augmented."""
    seed: Annotated[int, SEED] = 0
    """Seed of the initial weights, the order and the views."""

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return float(self.learning_rate * self.decay ** sum(epoch >= share * self.epochs for share in self.milestones))


@dataclass(frozen=True)
class FinetuneRecipe(Settings):
    """Settings for training the encoder and a linear layer on few labels."""

    share: Annotated[float, "above 0 and at most 1"] = 0.01
    """Share of the training images whose labels are used."""
    epochs: Annotated[int, "a whole number from 1 to a billion"] = 60
    """Passes over these images."""
    least_steps: Annotated[int, "a whole number from 0 to a billion"] = 200
    """Minimum number of steps, however few images there are."""
    batch: Annotated[int, "a whole number of at least 2"] = 64
    """Images per step. A smaller last batch is dropped; if there are fewer images, they form one batch."""
    learning_rate: Annotated[float, "at least 0 and finite"] = 0.05
    """Learning rate at batch 256; it scales with the batch."""
    momentum: Annotated[float, "at least 0 and finite"] = 0.9
    """Nesterov momentum of SGD."""
    views: ViewSettings = CROP_AND_FLIP
    """Augmentation of the labelled images; test images are not augmented."""
    seed: Annotated[int, SEED] = 0
    """Seed of the images drawn, the initial weights, the order and the views."""

    def steps(self, per_epoch: int) -> int:
        """Return the number of steps of the whole training, given those per epoch."""
        return max(self.epochs * per_epoch, self.least_steps)

    def rate(self, step: int, steps: int, batch: int) -> float:
        """Return the learning rate of a step: a cosine from `learning_rate`·batch/256 to 0."""
        return self.learning_rate * batch / 256 * 0.5 * (1 + math.cos(math.pi * step / steps))


class LabelledViews:
    """Epochs of batches of views with their labels; the seed decides order and views."""

    def __init__(self, images: ImageSet, views: ViewSettings, *, batch: int, seed: int, drop_last: bool) -> None:
        """Create the batches without copying the images; with `drop_last` a smaller last batch is dropped."""
        device = images.images.device
        self.images, self.views, self.batch = images, views, min(batch, len(images))
        self.steps = len(images) // self.batch if drop_last else -(-len(images) // self.batch)
        self.order_rng = torch.Generator().manual_seed(2 * seed)
        self.view_rng = torch.Generator(device).manual_seed(2 * seed + 1)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield views float32 [B, 3, H, W] in [0, 1] and labels int64 [B], each image at most once."""
        pixels, labels = self.images.images, self.images.labels
        order = torch.randperm(len(labels), generator=self.order_rng).to(labels.device)
        for index in torch.split(order, self.batch)[: self.steps]:
            yield augment(pixels[index], self.views, generator=self.view_rng), labels[index]


def half(device: torch.device) -> torch.autocast:
    """Return an autocast context: bfloat16 on CUDA, as in training; float32 elsewhere, even inside another autocast."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


@dataclass(frozen=True)
class LinearHead:
    """A linear layer on raw features: weight [C, D], bias [C], and the label of each class [C], ascending."""

    weight: Tensor
    bias: Tensor
    classes: Tensor

    def logits(self, features: Float[Tensor, "Q D"]) -> Float[Tensor, "Q C"]:
        """Return the scores of each class, for features on the layer's device."""
        with torch.autocast(features.device.type, enabled=False):
            return nn.functional.linear(features.float(), self.weight, self.bias)

    def predicted(self, features: Float[Tensor, "Q D"]) -> Int[Tensor, " Q"]:
        """Return the label of the class that scores highest."""
        return self.classes[self.logits(features).argmax(1)]

    def step(self, optimizer: torch.optim.Optimizer, features: Float[Tensor, "B D"], labels: Int[Tensor, " B"]) -> None:
        """Take one optimizer step on the cross-entropy of a batch; labels are indices into the layer's classes."""
        loss = nn.functional.cross_entropy(self.logits(features), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @classmethod
    def of(cls, train: ImageSet, dim: int, seed: int, device: torch.device) -> tuple["LinearHead", ImageSet]:
        """Create a layer for the images' classes, and return it with the images relabelled by class index.

        As in MoCo, initial weights are drawn from N(0, 0.01²) and biases are 0; both are trainable.
        """
        classes, class_index = torch.unique(train.labels, return_inverse=True)
        weight = (0.01 * torch.randn(len(classes), dim, generator=seeded(seed))).to(device).requires_grad_()
        bias = torch.zeros(len(classes), device=device).requires_grad_()
        return cls(weight, bias, classes.to(device)), replace(train, labels=class_index)

    def finished(self, what: str) -> "LinearHead":
        """Return the layer without gradient; FloatingPointError if its training diverged."""
        head = replace(self, weight=self.weight.detach(), bias=self.bias.detach())
        if not (head.weight.isfinite().all() and head.bias.isfinite().all()):
            raise FloatingPointError(f"The weights of {what} are NaN or infinite: lower its learning rate.")
        return head


def linear_predict(
    encoder: Embedder, train: ImageSet, test: ImageSet, recipe: LinearRecipe | None = None
) -> Int[Tensor, " Q"]:
    """Return the classes that a linear layer trained by `fit_linear` predicts for the unaugmented test images.

    Raises:
        ValueError: the training images have no labels, or there are no images.
        FloatingPointError: the training diverged.
    """
    head = fit_linear(encoder, train, recipe)
    return head.predicted(embed(encoder, test, device=head.weight.device))


@torch_defaults()
def fit_linear(encoder: Embedder, train: ImageSet, recipe: LinearRecipe | None = None) -> LinearHead:
    """Train a linear layer on the frozen encoder's raw features, and return it after the last step.

    The encoder runs in evaluation mode without gradient and is not changed, buffers and flags included. The images are
    moved to its device, and no step waits for it. On CUDA the encoder runs in bfloat16. On a CPU the result is
    reproducible bit for bit.

    Args:
        encoder: as in `embed`.
        train: images of unknown class are left out.
        recipe: None for the published one.

    Raises:
        ValueError: the training images have no labels, or there are no images.
        FloatingPointError: the training diverged.
    """
    recipe = recipe or LinearRecipe()
    train = known_of(train)
    device = device_of(encoder, train.images.device)
    head, train = LinearHead.of(train, embed(encoder, train.images[:1]).shape[1], recipe.seed, device)
    optimizer = torch.optim.SGD([head.weight, head.bias], momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    views = LabelledViews(train.to(device), recipe.views, batch=recipe.batch, seed=recipe.seed, drop_last=False)
    read = reader(encoder)
    with eval_mode(encoder), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for epoch in tqdm(range(recipe.epochs), desc="linear evaluation", unit="epoch", leave=False):
            optimizer.param_groups[0]["lr"] = recipe.rate(epoch)
            for pixels, labels in views.epoch():
                with torch.no_grad(), half(device):
                    features = read(pixels)
                head.step(optimizer, features, labels)
    return head.finished("the linear evaluation")


@torch_defaults()
def few_labels(labels: Any, share: float, seed: int) -> Int64[Tensor, " M"]:
    """Return the ascending indices of a class-balanced share of the images, on the CPU.

    Each class contributes share·N/C images, rounded, but at least one and at most all it has. The resulting share can
    therefore exceed the requested one if there are few images (one per class), and fall short of it if classes differ
    in size. For one seed, the images of a smaller share are among those of a larger one.

    Args:
        labels: labels of all training images [N], all known; see `as_labels`.
        share: above 0, at most 1.
        seed: seed of the draw.

    Raises:
        ValueError: the share is out of range, or labels are invalid.
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
    """Return the classes that a fine-tuned copy of the encoder (`finetune`) predicts for the unaugmented test images.

    Raises:
        ValueError: the training images have no labels, there are no images, or the encoder cannot be trained.
        FloatingPointError: the training diverged.
    """
    tuned, head = finetune(encoder, train, recipe)
    return head.predicted(embed(tuned, test))


@torch_defaults()
def finetune(encoder: Embedder, train: ImageSet, recipe: FinetuneRecipe | None = None) -> tuple[nn.Module, LinearHead]:
    """Train a copy of the encoder and a new linear layer on the labels that `few_labels` draws.

    The encoder itself is not changed. All parameters of the copy are trained, even those that were frozen. On CUDA it
    runs in bfloat16. On a CPU the result is reproducible bit for bit.

    Args:
        encoder: a module whose method `features` returns [B, D].
        train: training images; those of unknown class are left out, and only the drawn ones are read.
        recipe: None for 1 % of the labels.

    Returns:
        The copy, in evaluation mode, and the layer on its features.

    Raises:
        ValueError: the training images have no labels, fewer than two are drawn, or the encoder cannot be trained.
        FloatingPointError: the training diverged.
    """
    recipe = recipe or FinetuneRecipe()
    encoder, train = bare(encoder), known_of(train)
    drawn = train.select(few_labels(train.labels, recipe.share, recipe.seed).to(train.images.device))
    if len(drawn) < 2:
        raise CltoolsError(f"{recipe.share:.0%} of {train.name!r} is one image; batch statistics need two at least.")
    if not has_features(encoder) or not isinstance(encoder, nn.Module):
        raise CltoolsError(f"{type(encoder).__name__} cannot be fine-tuned: give a module with a method `features`.")
    tuned = copy.deepcopy(encoder).requires_grad_(True)
    tuned.zero_grad(set_to_none=True)
    if isinstance(tuned, Encoder):
        tuned.stacking.group = None  # compute batch statistics over whole batches
    device = device_of(tuned)
    head, drawn = LinearHead.of(drawn, embed(tuned, drawn.images[:1]).shape[1], recipe.seed, device)
    views = LabelledViews(drawn.to(device), recipe.views, batch=recipe.batch, seed=recipe.seed, drop_last=True)
    # Parameters that `features` does not use have no gradient and do not change.
    parameters = [*tuned.parameters(), head.weight, head.bias]
    optimizer = torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    steps = recipe.steps(views.steps)
    bar = tqdm(range(steps), desc=f"fine-tuning on {len(drawn)} labels", unit="step", leave=False)
    batches = chain.from_iterable(each.epoch() for each in repeat(views))
    tuned.train()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        torch.manual_seed(recipe.seed)  # for draws of a user's backbone, such as dropout
        for step, (pixels, labels) in zip(bar, batches, strict=False):
            optimizer.param_groups[0]["lr"] = recipe.rate(step, steps, views.batch)
            with half(device):
                features = tuned.features(pixels)
            head.step(optimizer, features, labels)
    return tuned.eval(), head.finished("the fine-tuning")
