"""The images of an experiment: to train on, to choose by, to report on."""

from cltools.config import Experiment
from cltools.datasets import ImageSet, load_images, split_holdout


def training_images(experiment: Experiment, images: ImageSet | None = None) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on (`images`, if given, in place of the experiment's), and those held out as split "val"."""
    data = experiment.data
    train = images if images is not None else _load(experiment, "train", data.limit)
    if data.holdout > 0:
        return split_holdout(train, data.holdout, experiment.seed)
    return train, None


def evaluation_images(experiment: Experiment) -> ImageSet:
    """The test images; `evaluation.test_limit` of them at most."""
    return limited(experiment, _load(experiment, "test", None))


def limited(experiment: Experiment, images: ImageSet) -> ImageSet:
    """`evaluation.test_limit` of the images at most, the same for every seed of the experiment."""
    limit = experiment.evaluation.test_limit
    return images if limit is None or limit >= len(images) else images.subset(limit, seed=0)


def labelled(images: ImageSet) -> bool:
    """Whether the class of every image is known."""
    return bool((images.labels >= 0).all())


def _load(experiment: Experiment, split: str, limit: int | None) -> ImageSet:
    data = experiment.data
    return load_images(data.name, split, root=data.root, download=data.download, limit=limit, size=data.size)
