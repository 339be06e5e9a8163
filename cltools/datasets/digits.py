"""Scikit-learn's handwritten digits: 1,797 pictures of 8×8 that come with the library, so no network is needed."""

import torch
from torch.nn.functional import interpolate

from cltools.datasets.image_set import ImageSet

TEST = 500


def load_digits(split: str) -> ImageSet:
    """Digits enlarged to 16×16 and repeated in three channels; 1,297 for training and 500 to test, stratified.

    Images of the same writer fall in both splits, so the test measures new pictures, not new hands.
    """
    from sklearn import datasets

    source = datasets.load_digits()
    labels = torch.from_numpy(source.target).long()
    ink = torch.from_numpy(source.images).float()[:, None] / 16
    large = interpolate(ink, (16, 16), mode="bilinear", align_corners=False)
    images = (large * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous()
    classes = tuple(str(digit) for digit in range(10))
    everything = ImageSet(images, labels, torch.arange(len(labels)), classes, "digits", split)
    # Every 3.594th picture of the list sorted by class: stratified, and fixed without any random generator.
    by_class = torch.argsort(labels, stable=True)
    test = torch.zeros(len(labels), dtype=torch.bool)
    test[by_class[(torch.arange(TEST) * len(labels) + len(labels) // 2) // TEST]] = True
    return everything.select(test if split == "test" else ~test)
