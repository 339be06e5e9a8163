"""Labelled images in batches of random views, for protocols that train by labels; all on the images' device.

Legend: N images, B images of a batch.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from cltools.datasets import ImageSet
from cltools.views import ViewSettings, augment

CROP_AND_FLIP = ViewSettings(crop_scale=(0.08, 1.0), flip=0.5, jitter=0.0, gray=0.0)
"""What both recipes train on: a crop of 8 to 100 % of the area, resized back, and a flip (torchvision's defaults)."""

Batches = Iterator[tuple[Tensor, Tensor]]
"""Pixels or features of some images, and their labels."""


class LabelledViews:
    """Epochs of batches of views with their labels; the seed decides order and views."""

    def __init__(self, images: ImageSet, views: ViewSettings, *, batch: int, seed: int, drop_last: bool) -> None:
        """The images are not copied; with `drop_last` a smaller last batch is dropped."""
        device = images.images.device
        self.images, self.views, self.batch = images, views, min(batch, len(images))
        self.steps = len(images) // self.batch if drop_last else -(-len(images) // self.batch)
        self.order = torch.Generator().manual_seed(2 * seed)
        self.draws = torch.Generator(device).manual_seed(2 * seed + 1)

    def epoch(self) -> Batches:
        """Views float32 [B, 3, H, W] in [0, 1] and labels int64 [B], each image at most once."""
        pixels, labels = self.images.images, self.images.labels
        order = torch.randperm(len(labels), generator=self.order).to(labels.device)
        for index in torch.split(order, self.batch)[: self.steps]:
            yield augment(pixels[index], self.views, generator=self.draws), labels[index]


def half(device: torch.device) -> torch.autocast:
    """bfloat16 for an encoder's passes on CUDA, as in training; float32 elsewhere, whatever is around it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
