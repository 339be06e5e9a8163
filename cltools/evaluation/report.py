"""The numbers a run is reported by: protocols by name, each of which predicts a class for every test image."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from torch import Tensor

from cltools.config import EvaluationSettings
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError, unknown
from cltools.evaluation.embed import Embedder, accuracy, confusion, confusion_csv, embed, known_of, named, per_class
from cltools.evaluation.features import knn_predict, probe_predict, uniformity
from cltools.evaluation.trained import FinetuneRecipe, LinearRecipe, finetune_predict, linear_predict
from cltools.views import ViewSettings

PROTOCOLS = ("knn200", "knn10", "probe", "linear", "finetune1", "finetune10")
"""Both kNN votes and the probe look at features alone; the linear evaluation and fine-tuning train under crops."""


@dataclass(frozen=True)
class Recipes:
    """How the protocols that train do so."""

    linear: LinearRecipe = field(default_factory=LinearRecipe)
    finetune1: FinetuneRecipe = field(default_factory=lambda: FinetuneRecipe(share=0.01, epochs=60))
    finetune10: FinetuneRecipe = field(default_factory=lambda: FinetuneRecipe(share=0.1, epochs=30))

    def like(self, views: ViewSettings, seed: int) -> "Recipes":
        """The same with a seed, and mirrored only as often as these views: a mirrored 3 is no 3."""
        return Recipes(*(replace(r, seed=seed, views=replace(r.views, flip=views.flip)) for r in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What each protocol predicted, and what there was to predict.

    Attributes:
        predicted: of each protocol, int64 [Q].
        labels: int64 [Q].
        classes: names of all classes.
        uniformity: of the test images' features (t = 2).
        train_images: how many.
        linear_epochs: of the linear evaluation, where it was run.
    """

    predicted: dict[str, Tensor]
    labels: Tensor
    classes: tuple[str, ...]
    uniformity: float
    train_images: int
    linear_epochs: int | None = None

    def report(self) -> dict[str, Any]:
        """The report of `evaluate`."""
        top = {protocol: accuracy(predicted, self.labels) for protocol, predicted in self.predicted.items()}
        about = {"uniformity": self.uniformity, "train_images": self.train_images, "test_images": len(self.labels)}
        shortened = {"linear_epochs": self.linear_epochs} if "linear" in self.predicted else {}
        return top | about | shortened | {"per_class": {name: self._by_class(name) for name in self.predicted}}

    def confusion_csv(self, protocol: str) -> str:
        """How often each class was taken for which by a protocol that was run, as CSV."""
        return confusion_csv(self.confusion(protocol), self.classes, protocol)

    def confusion(self, protocol: str) -> Tensor:
        """How often each class was taken for which by a protocol, int64 [C, C], true classes as rows."""
        return confusion(self.predicted[protocol], self.labels, len(self.classes))

    def _by_class(self, protocol: str) -> dict[str, float | None]:
        shares = per_class(self.confusion(protocol)).tolist()
        return {n: None if math.isnan(s) else s for n, s in zip(named(self.classes), shares, strict=True)}


def evaluate(
    encoder: Embedder,
    train: ImageSet,
    test: ImageSet,
    settings: EvaluationSettings | None = None,
    protocols: Iterable[str] | None = None,
    *,
    recipes: Recipes | None = None,
) -> dict[str, Any]:
    """What an encoder's features know of the test images' classes, from all training images and their labels.

    The protocols, each a figure of its own: "knn200", "knn10" (arXiv:1805.01978, see `knn_accuracy`); "probe", a
    logistic regression (`linear_probe`); "linear", the recipe's linear evaluation (arXiv:1911.05722, `fit_linear`);
    "finetune1", "finetune10", the backbone trained on too, with 1 % or 10 % of the labels (arXiv:2002.05709,
    `finetune`). Nothing is chosen by labels: recipes are fixed, and the last epoch is what counts.

    Args:
        encoder: as in `embed`; left as it was found.
        train: the bank.
        test: the queries.
        settings: None for the defaults.
        protocols: None for both kNN protocols and, where the settings ask for it, the probe.
        recipes: of "linear" and fine-tuning; None for the published ones, whose views flip.

    Returns:
        For each protocol: accuracy in percent. "uniformity": of the test images' features (t = 2). "train_images",
        "test_images": how many, those of unknown class left out. "linear_epochs": with "linear", those it had.
        "per_class": for each protocol, percent by class name, None for a class without test image.

    Raises:
        ValueError: a set has no labels, which it names, or no images; an unknown protocol, or none; an encoder that a
            protocol cannot use.
        FloatingPointError: the training of a protocol diverged.
    """
    return predict(encoder, train, test, settings or EvaluationSettings(), protocols, recipes or Recipes()).report()


def predict(
    encoder: Embedder, train: ImageSet, test: ImageSet, settings: EvaluationSettings,
    protocols: Iterable[str] | None, recipes: Recipes, told: Callable[[Predictions], object] | None = None,
) -> Predictions:  # fmt: skip
    """The predictions that `evaluate` reports on; `told` is called with what there is after each protocol."""
    asked = check_protocols(protocols, settings)
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
    epochs = recipes.linear.epochs if "linear" in asked else None
    found = Predictions({}, test.labels.cpu(), classes, uniformity(queries), len(train), epochs)
    for protocol in asked:
        found.predicted[protocol] = known[protocol]().cpu()
        if told is not None:
            told(found)
    return found


def check_protocols(protocols: Iterable[str] | None, settings: EvaluationSettings) -> tuple[str, ...]:
    """The protocols asked for, each once; None asks for those of the settings."""
    if protocols is None:
        return ("knn200", "knn10", "probe") if settings.probe else ("knn200", "knn10")
    asked = tuple(dict.fromkeys((protocols,) if isinstance(protocols, str) else protocols))
    for protocol in asked:
        if protocol not in PROTOCOLS:
            raise unknown("protocol", protocol, PROTOCOLS)
    if not asked:
        raise CltoolsError(f"No protocol was asked for; known: {', '.join(PROTOCOLS)}.")
    return asked


def limited(images: ImageSet, settings: EvaluationSettings) -> ImageSet:
    """`test_limit` of the images at most, the same for every seed of an experiment."""
    return images if settings.test_limit is None else images.subset(settings.test_limit, seed=0)
