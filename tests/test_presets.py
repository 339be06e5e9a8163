"""Named experiments: every one builds, and those of published images follow the published recipe."""

import math
import re
from dataclasses import replace
from itertools import product

import pytest
import torch

from cltools.config import Experiment, differences
from cltools.datasets import image_sets, load_images
from cltools.encoders import build_encoder
from cltools.losses import LossSettings
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    CancelFalseNegatives,
    Debiased,
    EveryKey,
    HardnessWeighted,
    MixedNegatives,
    NearestKeys,
    OracleNegatives,
    RandomNegatives,
    RankBand,
    RingNegatives,
)
from cltools.presets import IMAGES, METHODS, fitted, laptop, preset, preset_names
from cltools.training import fit

PLAIN = AugmentedView()

EMBEDDED = ("digits", "shapes")
RECIPE = ("cifar10", "cifar100", "tinyimagenet")
CLASSES = {"shapes": 5, "digits": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200}

every = pytest.mark.parametrize("name", preset_names())
images = pytest.mark.parametrize("images", IMAGES)
recipe = pytest.mark.parametrize("name", [f"{i}-{m}" for i, m in product(RECIPE, METHODS)])


# Names


def test_there_is_one_of_each_image_set_and_method() -> None:
    assert set(IMAGES) == set(image_sets())
    assert list(METHODS)[:4] == ["simclr", "moco", "potential", "oracle"]
    assert preset_names() == [f"{i}-{m}" for i in IMAGES for m in METHODS]


@every
def test_each_trains_on_the_images_of_its_name(name: str) -> None:
    experiment = preset(name)
    assert isinstance(experiment, Experiment) and experiment.data.name == name.split("-")[0]
    assert experiment.seed == 0 and experiment.data.holdout == 0 and experiment.data.limit is None


@images
def test_each_builds_an_encoder_of_its_width(images: str) -> None:
    settings = preset(f"{images}-potential").encoder
    encoder = build_encoder(settings, None).eval()
    size = 64 if images == "tinyimagenet" else 32
    assert encoder(torch.zeros(2, 3, size, size, dtype=torch.uint8)).shape == (2, settings.projection)
    assert encoder.dim == (512 if images in RECIPE else 256)


@every
def test_each_has_batches_of_whole_groups_that_divide_the_queue(name: str) -> None:
    experiment = preset(name)
    assert experiment.training.queue_size % experiment.training.batch == 0
    assert experiment.training.batch % (experiment.encoder.bn_group or 1) == 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar10-potental", "Did you mean cifar10-potential"),
        ("digit-moco", "Did you mean digits-moco"),
        ("cifar10_moco", "Did you mean cifar10-moco"),
        ("imagenet", "Did you mean tinyimagenet-"),
        ("", "A preset is IMAGES-METHOD, with images of digits, "),
        ("zzz", "A preset is IMAGES-METHOD, with images of digits, "),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"Unknown preset {name!r}. {hint}")):
        preset(name)


# Methods


@images
def test_methods_with_a_queue_differ_in_their_rules_alone(images: str) -> None:
    moco = preset(f"{images}-moco")
    for method in ("potential", "oracle"):
        changed = differences(moco, preset(f"{images}-{method}"))
        assert changed and all(line.startswith(("positives.", "negatives.")) for line in changed), changed


@images
def test_simclr_is_moco_with_keys_from_the_batch(images: str) -> None:
    moco, simclr = preset(f"{images}-moco"), preset(f"{images}-simclr")
    assert simclr.training.mode == "simclr" and simclr.encoder.bn_group is None
    in_batch = replace(
        moco,
        training=replace(moco.training, mode="simclr"),
        encoder=replace(moco.encoder, bn_group=None),
    )
    assert differences(simclr, in_batch) == []


@images
def test_simclr_and_moco_mine_nothing_and_keep_every_negative(images: str) -> None:
    for method in ("simclr", "moco"):
        experiment = preset(f"{images}-{method}")
        assert experiment.positives == AugmentedView() and experiment.negatives == AllNegatives()


@images
def test_the_oracle_mines_nothing_and_reads_labels(images: str) -> None:
    experiment = preset(f"{images}-oracle")
    assert experiment.positives == AugmentedView() and experiment.negatives == OracleNegatives()


@images
def test_potential_mines_positives_and_keeps_a_band_close_to_the_positive(images: str) -> None:
    experiment = preset(f"{images}-potential")
    assert experiment.positives == NearestKeys(min_weight="mean")
    lower, upper = IMAGES[images].band
    assert experiment.negatives == RankBand(lower, upper, rescale=False)


def test_the_band_drops_more_where_classes_are_fewer_but_never_more_than_a_class_holds() -> None:
    lower = [IMAGES[images].band[0] for images in CLASSES]
    assert set(CLASSES) == set(IMAGES) and lower == sorted(lower, reverse=True) and len(set(lower)) > 2
    assert all(0 < edge <= 1 / classes for edge, classes in zip(lower, CLASSES.values(), strict=True))


def test_a_rule_is_fitted_to_the_images() -> None:
    images = IMAGES["cifar100"]
    assert images.band == (0.01, 0.5) and images.classes == 100
    assert fitted(RankBand(by="anchor", rescale=True), images) == RankBand(0.01, 0.5, by="anchor", rescale=True)
    assert fitted(RandomNegatives(rescale=True), images) == RandomNegatives(0.49, rescale=True)
    assert fitted(HardnessWeighted(beta=2.0), images) == HardnessWeighted(beta=2.0, tau_plus=0.01)
    assert fitted(Debiased(), images) == Debiased(tau_plus=0.01)
    assert fitted(AllNegatives(), images) == AllNegatives()


@images
def test_the_assumed_number_of_classes_is_the_sets(images: str) -> None:
    assert IMAGES[images].classes == CLASSES[images]


PEERS = {
    "random": (PLAIN, RandomNegatives, "sep"),
    "ring": (PLAIN, RingNegatives, "sep"),
    "hcl": (PLAIN, HardnessWeighted, "sep"),
    "debiased": (PLAIN, Debiased, "sep"),
    "fnc": (PLAIN, CancelFalseNegatives, "sep"),
    "fnc-attract": (
        NearestKeys(k=10, weighting="uniform", augmented_share=None, min_cosine=0.7, by="either"),
        AllNegatives,
        "out",
    ),
    "mochi": (PLAIN, MixedNegatives, "sep"),
    "nnclr": (NearestKeys(k=1, weighting="uniform", augmented_share=0.0), AllNegatives, "sep"),
    "snclr": (NearestKeys(k=5, temperature=1.0), AllNegatives, "out"),
    "myow": (NearestKeys(weighting="uniform", pick=1), AllNegatives, "sep"),
    "sce": (EveryKey(temperature=0.05), AllNegatives, "out"),
    "decoupled": (PLAIN, AllNegatives, "decoupled"),
}


@pytest.mark.parametrize("method", PEERS)
@images
def test_a_peer_is_moco_with_its_rules_and_form(images: str, method: str) -> None:
    experiment, plain = preset(f"{images}-{method}"), preset(f"{images}-moco")
    positives, negatives, form = PEERS[method]
    assert experiment.positives == positives and type(experiment.negatives) is negatives
    assert experiment.loss == LossSettings(temperature=0.2, form=form)  # type: ignore[arg-type]
    assert experiment == replace(
        plain, positives=experiment.positives, negatives=experiment.negatives, loss=experiment.loss
    )


def test_every_method_is_one_of_these() -> None:
    assert {*METHODS} == {"simclr", "moco", "potential", "oracle", *PEERS}


@pytest.mark.parametrize("method", PEERS)
def test_a_peer_trains(method: str) -> None:
    experiment = preset(f"digits-{method}")
    training = replace(experiment.training, epochs=2, batch=32, queue_size=64, warmup_epochs=0.5, device="cpu")
    experiment = replace(experiment, training=training, positives=replace(experiment.positives, start=0.5, ramp=0.0))
    run = fit(experiment, images=load_images("digits", limit=128))
    assert all(math.isfinite(loss) and loss > 0 for loss in run.history.column("loss"))
    assert (run.history.rows[-1]["mined"] > 0) == (not isinstance(experiment.positives, AugmentedView))


# The recipe: ResNet-18 for small images, as the benchmark of these data sets trains it.


@recipe
def test_recipe_encoder(name: str) -> None:
    encoder = preset(name).encoder
    assert encoder.backbone == "resnet18"
    assert encoder.max_pool is name.startswith("tinyimagenet")
    assert (encoder.hidden, encoder.projection) == (2048, 128)
    assert not encoder.head_norm and not encoder.predictor


@recipe
def test_recipe_batch_norm(name: str) -> None:
    """The recipe splits 256 images into 8 groups of 32; SimCLR takes a whole view."""
    experiment = preset(name)
    assert experiment.encoder.bn_group == (None if name.endswith("simclr") else experiment.training.batch // 8)


@recipe
def test_recipe_optimiser(name: str) -> None:
    training = preset(name).training
    assert (training.epochs, training.batch, training.warmup_epochs) == (200, 256, 5)
    assert (training.learning_rate, training.sgd_momentum, training.weight_decay) == (0.06, 0.9, 5e-4)


@recipe
def test_recipe_loss(name: str) -> None:
    experiment = preset(name)
    assert experiment.loss.temperature == 0.2
    assert experiment.loss.form == (PEERS[name.split("-", 1)[1]][2] if name.split("-", 1)[1] in PEERS else "sep")
    assert experiment.training.symmetric


@recipe
def test_recipe_momentum_and_queue(name: str) -> None:
    training = preset(name).training
    tiny = name.startswith("tinyimagenet")
    assert (training.momentum, training.queue_size) == ((0.996, 16384) if tiny else (0.99, 4096))


@recipe
def test_recipe_views(name: str) -> None:
    views = preset(name).views
    assert views.crop_scale == (0.2, 1.0) and views.crop_ratio == (3 / 4, 4 / 3)
    assert (views.flip, views.rotation) == (0.5, 0)
    assert views.jitter == 0.8
    assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.4, 0.4, 0.4, 0.1)
    assert views.gray == 0.2
    assert (views.blur, views.blur_sigma) == (0.5, (0.1, 2.0))


@pytest.mark.parametrize("images", RECIPE)
def test_recipe_neighbours(images: str) -> None:
    positives = preset(f"{images}-potential").positives
    assert positives.k == 5 and positives.by == "positive"


@recipe
def test_recipe_evaluation_and_images(name: str) -> None:
    experiment = preset(name)
    assert experiment.evaluation.protocol == "knn200" and experiment.evaluation.test_limit is None
    assert experiment.data.size is None, "CIFAR stays at 32×32, TinyImageNet at 64×64"


# Images that come with the package


@pytest.mark.parametrize("images", EMBEDDED)
def test_embedded_images_are_made_for_a_cpu(images: str) -> None:
    experiment = preset(f"{images}-potential")
    assert experiment.encoder.backbone == "tiny" and experiment.views.blur == 0
    assert experiment.training.epochs <= 30 and experiment.training.queue_size <= 1024


def test_digits_turn_but_are_not_mirrored() -> None:
    views = preset("digits-potential").views
    assert views.rotation > 0 and views.flip == 0


# The CPU setting


@every
def test_laptop_fits_a_cpu(name: str) -> None:
    experiment = laptop(preset(name))
    assert experiment.encoder.backbone == "tiny" and experiment.encoder.bn_group is None
    assert experiment.training.batch == 256 and experiment.training.queue_size == 2048
    assert experiment.data.limit == 10_000
    assert experiment.evaluation.test_limit == 3000


@every
def test_laptop_keeps_the_method(name: str) -> None:
    full = preset(name)
    small = laptop(full)
    assert (small.positives, small.negatives, small.loss) == (full.positives, full.negatives, full.loss)
    assert small.training.mode == full.training.mode and small.training.symmetric == full.training.symmetric
    assert small.data.name == full.data.name and small.seed == full.seed


@every
def test_laptop_twice_is_laptop_once(name: str) -> None:
    assert laptop(laptop(preset(name))) == laptop(preset(name))


@every
def test_laptop_is_read_back_from_json(name: str) -> None:
    assert Experiment.from_json(laptop(preset(name)).to_json()) == laptop(preset(name))


def test_laptop_takes_an_experiment_of_ones_own() -> None:
    own = replace(preset("cifar10-moco"), negatives=RandomNegatives(0.2), seed=7)
    assert laptop(own).negatives == RandomNegatives(0.2) and laptop(own).seed == 7
