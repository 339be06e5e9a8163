"""What a run would compare now: views of training images with the keys it has.

Legend: n images, d embedding.
"""

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import normalize

from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.encoders import Encoder
from cltools.encoders.backbones import home
from cltools.evaluation import embed
from cltools.mining import Similarities, similarities
from cltools.training.learner import Memory
from cltools.views import augment

BATCH = 1000  # images augmented and embedded at once


@torch.no_grad()
def compared_now(
    experiment: Experiment,
    encoder: Encoder,
    memory: Memory | None,
    images: ImageSet,
    others: ImageSet | None = None,
    *,
    draws: torch.Generator,
) -> Similarities:
    """Cosines of a view of each image with the run's keys, the other view being its positive; as in a training step.

    Differs from a step: evaluation mode and float32; one view alone is an anchor, so that an anchor is an image; and
    without a queue (SimCLR) the keys are both views of other images, as anchors that are each other's keys would not be
    independent. After some dozens of steps alone, running statistics lag behind the batch statistics that the queue's
    keys were made with, and purity reads lower than it was while training.

    Args:
        experiment: whose views are drawn.
        encoder: makes z; left as it was found.
        memory: makes z' and holds the keys; left as it was found. None: the encoder makes both, and they are the keys.
        images: on any device; labels are compared only where those of all images and keys are known.
        others: without a queue, whose views are the keys.
        draws: of the views, on the encoder's device.
    """
    key_encoder = encoder if memory is None else memory.copy.encoder
    z, positive = two_views(experiment, encoder, key_encoder, images, draws)
    ids, labels = images.ids.to(z.device), images.labels.to(z.device)
    if memory is not None:
        keys, key_ids, key_labels = memory.queue.keys, memory.queue.ids, memory.queue.labels
    else:
        assert others is not None, "without a queue keys come from other images"
        keys = torch.cat(two_views(experiment, encoder, encoder, others, draws))
        key_ids, key_labels = others.ids.to(z.device).repeat(2), others.labels.to(z.device).repeat(2)
    known = bool((labels >= 0).all() & (key_labels >= 0).all())
    return similarities(
        z,
        positive,
        keys,
        ids[:, None] == key_ids,
        same_class=labels[:, None] == key_labels if known else None,
        check=False,
    )


def two_views(
    experiment: Experiment, encoder: Encoder, key_encoder: Encoder, images: ImageSet, draws: torch.Generator
) -> tuple[Float32[Tensor, "n d"], Float32[Tensor, "n d"]]:
    """Unit vectors of a view by one encoder, and of another view by the other."""
    device = home(encoder)
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for part in torch.split(images.images, BATCH):
        pixels = part.to(device)
        for made, by in zip(rows, (encoder, key_encoder), strict=True):
            view = augment(pixels, experiment.views, generator=draws)
            made.append(normalize(embed(by, view, projection=True), dim=1))
    return torch.cat(rows[0]), torch.cat(rows[1])
