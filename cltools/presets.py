"""Named experiments, `<images>-<method>`: one table of what the images ask for × one table of what a method is.

The CIFAR and TinyImageNet settings follow the recipe of MoCo's CIFAR demo as re-run for these data sets: ResNet-18
with a 3×3 stem, batch 256, SGD 0.06 with warm-up and cosine, τ = 0.2, a symmetric loss. The embedded images use the
tiny encoder on a CPU.
"""

from dataclasses import dataclass, replace

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import unknown
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, BandNegatives, NegativeRule, OracleNegatives, PositiveRule, RandomNegatives
from cltools.views import ViewSettings


@dataclass(frozen=True)
class ImagePreset:
    """What a set of images asks for, whatever the method."""

    data: DataSettings
    views: ViewSettings
    encoder: EncoderSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    band: tuple[float, float]
    """Rank shares of the keys between which `potential` keeps negatives; the lower one grows with 1/classes."""


@dataclass(frozen=True)
class MethodPreset:
    """What a method is, whatever the images."""

    mode: str
    positives: PositiveRule
    negatives: NegativeRule


AUGMENTED_ONLY = PositiveRule(weighting="none")
METHODS = {
    "simclr": MethodPreset("simclr", AUGMENTED_ONLY, AllNegatives()),
    "moco": MethodPreset("moco", AUGMENTED_ONLY, AllNegatives()),
    "potential": MethodPreset("moco", PositiveRule(), BandNegatives()),
    "oracle": MethodPreset("moco", AUGMENTED_ONLY, OracleNegatives()),
}

TINY = EncoderSettings(backbone="tiny", hidden=128, projection=64, bn_group=None)
_SMALL = TrainingSettings(
    epochs=30, batch=128, queue_size=512, learning_rate=0.12, warmup_epochs=1.0, checkpoint_every=5
)
_RECIPE = TrainingSettings()
_RECIPE_VIEWS = ViewSettings(blur=0.5)
_RECIPE_ENCODER = EncoderSettings(hidden=2048)

IMAGES = {
    "digits": ImagePreset(
        data=DataSettings("digits"),
        views=ViewSettings(crop_scale=(0.5, 1.0), flip=0.0, jitter=0.8, gray=0.0, rotation=15.0),
        encoder=TINY,
        training=_SMALL,
        evaluation=EvaluationSettings(every=5),
        band=(0.05, 0.5),
    ),
    "shapes": ImagePreset(
        data=DataSettings("shapes"),
        views=ViewSettings(),
        encoder=TINY,
        training=replace(_SMALL, batch=256, queue_size=1024),
        evaluation=EvaluationSettings(every=5),
        band=(0.1, 0.5),
    ),
    "cifar10": ImagePreset(
        data=DataSettings("cifar10"),
        views=_RECIPE_VIEWS,
        encoder=_RECIPE_ENCODER,
        training=_RECIPE,
        evaluation=EvaluationSettings(),
        band=(0.05, 0.5),
    ),
    "cifar100": ImagePreset(
        data=DataSettings("cifar100"),
        views=_RECIPE_VIEWS,
        encoder=_RECIPE_ENCODER,
        training=_RECIPE,
        evaluation=EvaluationSettings(),
        band=(0.01, 0.5),
    ),
    "tinyimagenet": ImagePreset(
        data=DataSettings("tinyimagenet"),
        views=_RECIPE_VIEWS,
        encoder=replace(_RECIPE_ENCODER, max_pool=True),
        training=replace(_RECIPE, queue_size=16384, momentum=0.996),
        evaluation=EvaluationSettings(),
        band=(0.005, 0.5),
    ),
}


def preset_names() -> list[str]:
    """Every preset, images first."""
    return [f"{images}-{method}" for images in IMAGES for method in METHODS]


def preset(name: str) -> Experiment:
    """The experiment of that name, e.g. `preset("cifar10-potential")`.

    Raises:
        ValueError: no such preset; the message names the nearest.
    """
    if name not in preset_names():
        raise unknown("preset", name, preset_names())
    images_name, _, method_name = name.partition("-")
    images, method = IMAGES[images_name], METHODS[method_name]
    in_batch = method.mode == "simclr"
    return Experiment(
        data=images.data,
        views=images.views,
        encoder=replace(images.encoder, bn_group=None) if in_batch else images.encoder,
        positives=method.positives,
        negatives=fitted(method.negatives, images.band),
        loss=LossSettings(temperature=0.2),
        training=replace(images.training, mode="simclr" if in_batch else "moco"),
        evaluation=images.evaluation,
    )


def fitted(rule: NegativeRule, band: tuple[float, float]) -> NegativeRule:
    """The rule with what a set of images asks for: its band, or as many keys by chance as that band keeps."""
    lower, upper = band
    if isinstance(rule, BandNegatives):
        return replace(rule, lower=lower, upper=upper)
    return replace(rule, share=upper - lower) if isinstance(rule, RandomNegatives) else rule


def laptop(experiment: Experiment) -> Experiment:
    """The same method at the CPU setting: tiny encoder, batch 256, K = 2,048, 10,000 images, 20 epochs."""
    return replace(
        experiment,
        data=replace(experiment.data, limit=10_000),
        views=replace(experiment.views, blur=0.0),
        encoder=TINY,
        training=replace(experiment.training, batch=256, queue_size=2048, epochs=20, warmup_epochs=1.0, momentum=0.99),
        evaluation=replace(experiment.evaluation, every=5, test_limit=3000),
    )
