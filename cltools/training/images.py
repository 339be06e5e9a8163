"""The images of an experiment: to train on, to choose by, to report on."""

from dataclasses import dataclass

import numpy as np

from cltools.config import Experiment
from cltools.datasets import ImageSet, load_images, split_holdout


@dataclass(frozen=True)
class TrainedOn:
    """What a checkpoint remembers of the training images, to recognise them.

    Attributes:
        name: of the set.
        count: how many images.
        pixels: sum of all pixels.
        given: whether they were given to `fit(images=…)` in place of the experiment's.
    """

    name: str
    count: int
    pixels: int
    given: bool

    @classmethod
    def of(cls, images: ImageSet, *, given: bool) -> "TrainedOn":
        """What to remember of these images."""
        pixels = images.images.cpu().numpy().sum(dtype=np.int64)  # by torch it would take ten times as long
        return cls(images.name, len(images), int(pixels), given)

    def __str__(self) -> str:
        origin = "given by images=" if self.given else "the experiment's own"
        return f"{self.count:,} images of {self.name!r} ({origin}, pixel sum {self.pixels:,})"


def training_images(experiment: Experiment, images: ImageSet | None = None) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on (`images`, if given, in place of the experiment's), and those held out as split "val"."""
    data = experiment.data
    train = images if images is not None else _load(experiment, "train", data.limit)
    if data.holdout > 0:
        return split_holdout(train, data.holdout, experiment.seed)
    return train, None


def evaluation_images(experiment: Experiment) -> ImageSet:
    """The test images, all of them."""
    return _load(experiment, "test", None)


def labelled(images: ImageSet) -> bool:
    """Whether the class of every image is known."""
    return bool((images.labels >= 0).all())


def _load(experiment: Experiment, split: str, limit: int | None) -> ImageSet:
    data = experiment.data
    return load_images(data.name, split, root=data.root, download=data.download, limit=limit, size=data.size)
