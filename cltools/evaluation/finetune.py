"""Fine-tuning with few labels: the whole backbone and a new linear layer, trained on 1 % or 10 % of the labels.

Source: SimCLR, arXiv:2002.05709, section 4.4 and appendix B.5: Nesterov momentum 0.9, learning rate 0.05·batch/256
without warm-up, no weight decay or other regularisation, crop and flip alone, 60 epochs for 1 % and 30 for 10 %.

Differs, for small sets: batches of 64 instead of 4096, more than 1 % of CIFAR-10 is, which keeps the number of steps of
the same kind (ImageNet 188 and 938; CIFAR-10 420 and 2,340); at least 200 steps where epochs are shorter still; a
cosine to 0, since appendix B.5 names no decay and the last step is reported; batch norm over whole batches.

Legend: N training images, M labelled ones among them, Q test images, C classes.
"""

import copy
import math
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Annotated, Any

import torch
from jaxtyping import Int, Int64
from torch import Tensor, nn
from tqdm.auto import tqdm

from cltools.datasets import ImageSet
from cltools.encoders import Encoder
from cltools.encoders.backbones import home
from cltools.errors import SEED, CltoolsError, Settings
from cltools.evaluation.batches import CROP_AND_FLIP, LabelledViews, half
from cltools.evaluation.checks import known_of
from cltools.evaluation.embed import Embedder, HasFeatures, bare, embed
from cltools.evaluation.linear import LinearHead
from cltools.mining.handed_in import as_labels, as_usual, seeded
from cltools.views import ViewSettings


@dataclass(frozen=True)
class FinetuneRecipe(Settings):
    """How encoder and linear layer are trained on few labels."""

    share: Annotated[float, "above 0 and at most 1"] = 0.01
    """Share of the training images whose labels are used."""
    epochs: Annotated[int, "a whole number of at least 1"] = 60
    """Passes over them."""
    least_steps: Annotated[int, "a whole number of at least 0"] = 200
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


@as_usual()
def few_labels(labels: Any, share: float, seed: int) -> Int64[Tensor, " M"]:
    """Positions of a class-balanced share of the images, ascending, on the CPU.

    Each class gives share·N/C images, rounded, but at least one, and no more than it has. So with few images the share
    can be above the one asked for (one image a class), and with unlike classes below. With one seed a smaller share is
    part of a larger one.

    Args:
        labels: of all training images [N], each known; see `as_labels`.
        share: above 0, at most 1.
        seed: of the draw.
    """
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


@as_usual()
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
        raise CltoolsError(
            f"{type(encoder).__name__} cannot be fine-tuned: a module with a method `features`, images [B, 3, H, W] to "
            "vectors [B, D], is needed. Leave finetune1 and finetune10 out, or give such a module."
        )
    tuned = copy.deepcopy(encoder).requires_grad_(True)
    tuned.zero_grad(set_to_none=True)
    if isinstance(tuned, Encoder):
        tuned.stacking.group = None  # batch statistics of whole batches
    place = home(tuned)
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
