"""The figures that are reported for a run. Each protocol, by name, predicts a class for every test image."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cltools.config import EvaluationSettings
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError, foreign, shown, unknown
from cltools.evaluation.embed import Embedder, accuracy, confusion, confusion_csv, embed, known_of, named
from cltools.evaluation.features import knn_predict, probe_predict, uniformity
from cltools.evaluation.trained import FinetuneRecipe, LinearRecipe, finetune_predict, linear_predict
from cltools.views import ViewSettings

PROTOCOLS = ("knn200", "knn10", "probe", "linear", "finetune1", "finetune10")
"""The kNN protocols and the probe use fixed features; the linear evaluation and fine-tuning train on random crops."""
LARGEST = 2000
"""Maximum number of classes of a confusion matrix that is written: its file then has about 8 MB."""


@dataclass(frozen=True)
class Recipes:
    """Settings of the protocols that train."""

    linear: LinearRecipe = field(default_factory=LinearRecipe)
    finetune1: FinetuneRecipe = field(default_factory=lambda: FinetuneRecipe(share=0.01, epochs=60))
    finetune10: FinetuneRecipe = field(default_factory=lambda: FinetuneRecipe(share=0.1, epochs=30))

    def like(self, views: ViewSettings, seed: int) -> "Recipes":
        """Return the recipes with this seed and with these views' flip probability: a mirrored 3 is not a 3."""
        return Recipes(*(replace(r, seed=seed, views=replace(r.views, flip=views.flip)) for r in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of each protocol, and the true labels.

    Attributes:
        predicted: predicted labels by protocol, int64 [Q] each.
        labels: true labels, int64 [Q].
        classes: names of all classes.
        uniformity: uniformity of the test images' features (t = 2).
        train_images: number of training images.
        linear_epochs: epochs of the linear evaluation, if it was run.
    """

    predicted: dict[str, Tensor]
    labels: Tensor
    classes: tuple[str, ...]
    uniformity: float
    train_images: int
    linear_epochs: int | None = None

    def report(self) -> dict[str, Any]:
        """Return the report of `evaluate`."""
        top = {protocol: accuracy(predicted, self.labels) for protocol, predicted in self.predicted.items()}
        about = {"uniformity": self.uniformity, "train_images": self.train_images, "test_images": len(self.labels)}
        shortened = {"linear_epochs": self.linear_epochs} if "linear" in self.predicted else {}
        return top | about | shortened | {"per_class": {name: self._by_class(name) for name in self.predicted}}

    def confusion_csv(self, protocol: str) -> str:
        """Return the confusion matrix of a protocol as CSV; above 2,000 classes, a sentence that there is none."""
        if (classes := len(self.classes)) > LARGEST:
            return f"No confusion matrix is written for more than {LARGEST:,} classes; here are {classes:,}.\n"
        return confusion_csv(self.confusion(protocol), self.classes, protocol)

    def confusion(self, protocol: str) -> Tensor:
        """Return the confusion matrix of a protocol, int64 [C, C], with true classes as rows."""
        return confusion(self.predicted[protocol], self.labels, len(self.classes))

    def _by_class(self, protocol: str) -> dict[str, float | None]:
        """Return `per_class`, counted without the matrix, which does not fit into memory if there are many classes."""
        right = self.labels[self.predicted[protocol] == self.labels]
        hits, sizes = (torch.bincount(each, minlength=len(self.classes)).tolist() for each in (right, self.labels))
        by_name = zip(named(self.classes), hits, sizes, strict=True)
        return {name: 100 * hit / size if size else None for name, hit, size in by_name}


def evaluate(
    encoder: Embedder, train: ImageSet, test: ImageSet, settings: EvaluationSettings | None = None,
    protocols: Iterable[str] | None = None, *, recipes: Recipes | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate how well an encoder's features predict the test images' classes from the labelled training images.

    The protocols: "knn200", "knn10" (arXiv:1805.01978, see `knn_accuracy`); "probe", a logistic regression
    (`linear_probe`); "linear", the recipe's linear evaluation (arXiv:1911.05722, `fit_linear`); "finetune1",
    "finetune10", in which the backbone is trained too, with 1 % or 10 % of the labels (arXiv:2002.05709, `finetune`).
    Nothing is selected by labels: recipes are fixed, and the last epoch is reported.

    Args:
        encoder: as in `embed`; it is not changed.
        train: the bank.
        test: the queries.
        settings: None for the defaults.
        protocols: None for both kNN protocols and, unless the settings leave it out, the probe.
        recipes: recipes of "linear" and fine-tuning; None for the published ones, whose views flip.

    Returns:
        For each protocol, the accuracy in percent. "uniformity": that of the test images' features (t = 2).
        "train_images", "test_images": their numbers without images of unknown class. "linear_epochs": epochs of
        "linear", if it was run. "per_class": by protocol and class name, percent; None for a class without test image.

    Raises:
        ValueError: a set, which is named, has no labels or no images; a protocol is unknown, or there is none; a
            protocol cannot use the encoder; or the sets number their classes differently.
        FloatingPointError: the training of a protocol diverged.

    Example:
        >>> import torch
        >>> from cltools import evaluate, load_images
        >>> train, test = load_images("digits", "train"), load_images("digits", "test")
        >>> report = evaluate(torch.nn.Flatten(), train, test, protocols=["knn10"])  # of pixels, without any encoder
        >>> report["test_images"], 95 < report["knn10"] < 100, len(report["per_class"]["knn10"])
        (500, True, 10)
    """
    return predict(encoder, train, test, settings or EvaluationSettings(), protocols, recipes or Recipes()).report()


def predict(
    encoder: Embedder, train: ImageSet, test: ImageSet, settings: EvaluationSettings,
    protocols: Iterable[str] | None, recipes: Recipes, callback: Callable[[Predictions], object] | None = None,
) -> Predictions:  # fmt: skip
    """Return the predictions that `evaluate` reports; `callback` is called with those so far after each protocol."""
    for given, kind in ((train, ImageSet), (test, ImageSet), (settings, EvaluationSettings), (recipes, Recipes)):
        if not isinstance(given, kind):
            raise foreign(given, f"An object of the class {kind.__name__}")
    selected = check_protocols(protocols, settings)
    if other := [pair for pair in zip(train.classes, test.classes, strict=False) if len({*pair}) > 1]:
        wrong = f"Train and test number their classes differently: {' and '.join(map(shown, other[0]))} have one number"
        raise CltoolsError(f"{wrong}. Load both as splits of one folder, or renumber the labels of one.")
    train, test = known_of(train), known_of(limited(test, settings))
    queries = embed(encoder, test)
    bank = cache(lambda: embed(encoder, train))  # not needed by every protocol
    known: dict[str, Callable[[], Tensor]] = {
        "knn200": lambda: knn_predict(bank(), train.labels, queries, protocol="knn200"),
        "knn10": lambda: knn_predict(bank(), train.labels, queries, protocol="knn10"),
        "probe": lambda: probe_predict(bank(), train.labels, queries, l2=settings.probe_l2),
        "linear": lambda: linear_predict(encoder, train, test, recipes.linear),
        "finetune1": lambda: finetune_predict(encoder, train, test, recipes.finetune1),
        "finetune10": lambda: finetune_predict(encoder, train, test, recipes.finetune10),
    }
    classes = max(train.classes, test.classes, key=len)
    epochs = recipes.linear.epochs if "linear" in selected else None
    predictions = Predictions({}, test.labels.cpu(), classes, uniformity(queries), len(train), epochs)
    for protocol in selected:
        predictions.predicted[protocol] = known[protocol]().cpu()
        if callback is not None:
            callback(predictions)
    return predictions


def check_protocols(protocols: Iterable[str] | None, settings: EvaluationSettings) -> tuple[str, ...]:
    """Return the requested protocols without repetitions; None requests those of the settings."""
    if protocols is None:
        return ("knn200", "knn10", "probe") if settings.probe else ("knn200", "knn10")
    if not isinstance(protocols, Iterable):
        raise foreign(protocols, "A list of protocols, such as ['knn10'],")
    selected = tuple(dict.fromkeys((protocols,) if isinstance(protocols, str) else protocols))
    for protocol in selected:
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
    if not selected:
        raise CltoolsError(f"No protocol was asked for; known: {', '.join(PROTOCOLS)}.")
    return selected


def limited(images: ImageSet, settings: EvaluationSettings) -> ImageSet:
    """Return at most `test_limit` of the images, the same ones for every seed of an experiment."""
    return images if settings.test_limit is None else images.subset(settings.test_limit, seed=0)
