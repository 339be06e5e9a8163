"""Named experiments, `<images>-<method>`: a table of settings per image set × a table of settings per method.

The CIFAR and TinyImageNet settings follow the recipe of MoCo's CIFAR demo as re-run for these data sets: ResNet-18
with a 3×3 stem, batch 256, SGD 0.06 with warm-up and cosine, τ = 0.2, a symmetric loss. The built-in image sets use the
tiny encoder on a CPU.
"""

from dataclasses import dataclass, field, replace
from os import PathLike, fspath

from cltools import mining
from cltools.config import EvaluationSettings, Experiment, Mode, TrainingSettings
from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import CltoolsError, unknown
from cltools.losses import Form, LossSettings
from cltools.mining import AllNegatives, AugmentedView, NegativeRule, PositiveRule
from cltools.views import ViewSettings

TINY = EncoderSettings(backbone="tiny", hidden=128, projection=64, bn_group=None)
CPU = TrainingSettings(epochs=30, batch=128, queue_size=512, learning_rate=0.12, warmup_epochs=1.0, checkpoint_every=5)
LARGE_BATCH = replace(CPU, batch=256, queue_size=1024)
TURNED = ViewSettings(crop_scale=(0.5, 1.0), flip=0.0, jitter=0.8, gray=0.0, rotation=15.0)
"""Views of images whose meaning a horizontal flip would change, such as digits."""
SMALL = Experiment(encoder=TINY, training=CPU, evaluation=EvaluationSettings(every=5))
RECIPE = Experiment(views=ViewSettings(blur=0.5), encoder=EncoderSettings(hidden=2048))
POOLED = replace(RECIPE, encoder=replace(RECIPE.encoder, max_pool=True))
"""The recipe for 64×64 images."""
LONG_QUEUE = TrainingSettings(queue_size=16384, momentum=0.996)
OWN = "own"
"""Images of a user's folder; they are assumed to be photographs of about ten classes."""
PHOTOS = replace(POOLED, data=DataSettings(size=64), training=TrainingSettings(epochs=100, batch=128, queue_size=1024))


@dataclass(frozen=True)
class ImagePreset:
    """Settings of an image set, for all methods."""

    classes: int
    """Number of classes, assumed to be balanced: 1/classes of the keys are expected to be false negatives."""
    band: tuple[float, float]
    """Rank shares of the keys between which `potential` keeps negatives; the first grows with 1/classes."""
    settings: Experiment = RECIPE
    """All other settings, except the name of the images and the method's settings."""


@dataclass(frozen=True)
class MethodPreset:
    """Settings of a method, for all image sets; MoCo by default."""

    positives: PositiveRule = field(default_factory=AugmentedView)
    negatives: NegativeRule = field(default_factory=AllNegatives)
    mode: Mode = "moco"
    form: Form = "sep"


METHODS = {
    "simclr": MethodPreset(mode="simclr"),
    "moco": MethodPreset(),
    "potential": MethodPreset(mining.NearestKeys(min_weight="mean"), mining.RankBand()),
    "oracle": MethodPreset(negatives=mining.OracleNegatives()),
    "oracle-positives": MethodPreset(mining.OraclePositives()),
    "oracle-both": MethodPreset(mining.OraclePositives(), mining.OracleNegatives()),
    "supcon": MethodPreset(
        mining.OraclePositives(k=None, augmented_share=None, start=0.0, ramp=0.0), mode="simclr", form="out"
    ),
    "random": MethodPreset(negatives=mining.RandomNegatives()),
    "ring": MethodPreset(negatives=mining.RingNegatives(outer_from=1.0)),
    "hcl": MethodPreset(negatives=mining.HardnessWeighted()),
    "debiased": MethodPreset(negatives=mining.Debiased()),
    "fnc": MethodPreset(negatives=mining.CancelFalseNegatives()),
    "fnc-attract": MethodPreset(
        mining.NearestKeys(k=10, weighting="uniform", augmented_share=None, min_cosine=0.7, by="either"), form="out"
    ),
    "mochi": MethodPreset(negatives=mining.MixedNegatives()),
    "nnclr": MethodPreset(mining.NearestKeys(k=1, weighting="uniform", augmented_share=0.0)),
    "snclr": MethodPreset(mining.NearestKeys(temperature=1.0), form="out"),
    "myow": MethodPreset(mining.NearestKeys(weighting="uniform", pick=1)),
    "sce": MethodPreset(mining.EveryKey(temperature=0.05), form="out"),
    "next-nearest": MethodPreset(mining.NearestKeys(skip=5, min_weight="mean")),
    "decoupled": MethodPreset(form="decoupled"),
    "margin": MethodPreset(negatives=mining.MarginBand(relative=0.95)),
    "softened": MethodPreset(negatives=mining.SoftenedBand()),
    "glofnd": MethodPreset(negatives=mining.LearnedThreshold()),
    "difficult": MethodPreset(negatives=mining.DifficultAnchors()),
}

IMAGES = {
    "digits": ImagePreset(classes=10, band=(0.05, 0.5), settings=replace(SMALL, views=TURNED)),
    "shapes": ImagePreset(classes=5, band=(0.1, 0.5), settings=replace(SMALL, training=LARGE_BATCH)),
    "cifar10": ImagePreset(classes=10, band=(0.05, 0.5)),
    "cifar100": ImagePreset(classes=100, band=(0.01, 0.5)),
    "tinyimagenet": ImagePreset(classes=200, band=(0.005, 0.5), settings=replace(POOLED, training=LONG_QUEUE)),
    OWN: ImagePreset(classes=10, band=(0.05, 0.5), settings=PHOTOS),
}


def preset_names() -> list[str]:
    """Return the names of all presets that need no folder of images, sorted by image set.

    Example:
        >>> from cltools import preset_names
        >>> [name for name in preset_names() if name.startswith("digits")][:4]
        ['digits-simclr', 'digits-moco', 'digits-potential', 'digits-oracle']
    """
    return [f"{images}-{method}" for images in IMAGES if images != OWN for method in METHODS]


def preset(name: str, images: str | PathLike[str] | None = None) -> Experiment:
    """Return the experiment of that name, e.g. `preset("cifar10-potential")` or `preset("own-moco", "my/photographs")`.

    Args:
        name: IMAGES-METHOD.
        images: a folder to use instead of the images in the name; required for presets of `own`.

    Raises:
        ValueError: no such preset (similar ones are suggested), or one of `own` without a folder.

    Example:
        >>> from cltools import preset
        >>> experiment = preset("digits-potential")
        >>> experiment.negatives.drop_closest, experiment.negatives.keep_within, experiment.training.epochs
        (0.05, 0.5, 30)
        >>> preset("own-moco", "my/photographs").data.name
        'my/photographs'
    """
    known = [*preset_names(), *(f"{OWN}-{method}" for method in METHODS)]
    if name not in known:
        parts = f"A preset is IMAGES-METHOD, with images of {', '.join(IMAGES)} and a method of {', '.join(METHODS)}."
        raise unknown("preset", name, known, otherwise=parts)
    images_name, _, method_name = name.partition("-")
    if images_name == OWN and images is None:
        raise CltoolsError(f'{name} trains on images of your own: --images FOLDER, or preset("{name}", FOLDER).')
    images_of, method = IMAGES[images_name], METHODS[method_name]
    base = images_of.settings
    return replace(
        base,
        data=replace(base.data, name=images_name if images is None else fspath(images)),
        encoder=replace(base.encoder, bn_group=None) if method.mode == "simclr" else base.encoder,
        positives=method.positives,
        negatives=fitted(method.negatives, images_of),
        loss=LossSettings(temperature=0.2, form=method.form),
        training=replace(base.training, mode=method.mode),
    )


def fitted(rule: NegativeRule, images: ImagePreset) -> NegativeRule:
    """Adapt a rule to an image set.

    A rank band gets the set's edges, random negatives the share that this band keeps, and estimates and learned
    thresholds the set's expected share of false negatives.
    """
    closest, within = images.band
    if isinstance(rule, mining.RankBand):
        return replace(rule, drop_closest=closest, keep_within=within)
    if isinstance(rule, mining.RandomNegatives):
        return replace(rule, share=within - closest)
    if isinstance(rule, mining.LearnedThreshold):
        return replace(rule, alpha=1 / images.classes)
    if isinstance(rule, mining.HardnessWeighted | mining.Debiased):
        return replace(rule, tau_plus=1 / images.classes)
    return rule


def laptop(experiment: Experiment) -> Experiment:
    """Return the same method with settings for a CPU: tiny encoder, batch 256, K = 2,048, 10,000 images, 20 epochs.

    Example:
        >>> from cltools import laptop, preset
        >>> small = laptop(preset("cifar10-potential"))
        >>> small.encoder.backbone, small.training.epochs, small.data.limit
        ('tiny', 20, 10000)
        >>> small.negatives == preset("cifar10-potential").negatives
        True
    """
    return replace(
        experiment,
        data=replace(experiment.data, limit=10_000),
        views=replace(experiment.views, blur=0.0),
        encoder=TINY,
        training=replace(experiment.training, batch=256, queue_size=2048, epochs=20, warmup_epochs=1.0, momentum=0.99),
        evaluation=replace(experiment.evaluation, every=5, test_limit=3000),
    )
