"""The numbers a run is reported by."""

from torch import nn

from cltools.config import EvaluationSettings
from cltools.datasets import ImageSet
from cltools.evaluation.checks import check_labels
from cltools.evaluation.embed import HasFeatures, embed
from cltools.evaluation.geometry import uniformity
from cltools.evaluation.knn import knn_accuracy
from cltools.evaluation.probe import linear_probe


def evaluate(
    encoder: nn.Module | HasFeatures, train: ImageSet, test: ImageSet, settings: EvaluationSettings | None = None
) -> dict[str, float]:
    """What an encoder's features know of the test images' classes, with all training images, unaugmented, as bank.

    Args:
        encoder: as in `embed`; left as it was found.
        train: the bank.
        test: the queries.
        settings: None for the defaults.

    Returns:
        "knn200", "knn10" and, where asked for, "probe": accuracy in percent. "uniformity": of the test images'
        features (t = 2). "train_images", "test_images": how many.

    Raises:
        ValueError: a set has no labels, which it names, or no images.
    """
    settings = settings or EvaluationSettings()
    test = limited(test, settings)
    for images in (train, test):  # before the minutes that embedding may take
        check_labels(images.images, images.labels, f"{images.split} images of {images.name!r}")
    bank, queries = embed(encoder, train), embed(encoder, test)
    sides = (bank, train.labels, queries, test.labels)
    result = {
        "knn200": knn_accuracy(*sides, protocol="knn200"),
        "knn10": knn_accuracy(*sides, protocol="knn10"),
    }
    if settings.probe:
        result["probe"] = linear_probe(*sides, l2=settings.probe_l2)
    result["uniformity"] = uniformity(queries)
    return result | {"train_images": len(train), "test_images": len(test)}


def limited(images: ImageSet, settings: EvaluationSettings) -> ImageSet:
    """`test_limit` of the images at most, the same for every seed of an experiment."""
    limit = settings.test_limit
    return images if limit is None or limit >= len(images) else images.subset(limit, seed=0)
