"""Named experiments: each builds, trains, and is read back; those of published images follow the published recipe."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_training_checkpoint import assert_equal_runs, stopped

from cltools import names
from cltools.config import Experiment, differences
from cltools.datasets import DataSettings, image_sets, load_images
from cltools.encoders import build_encoder
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Debiased,
    DifficultAnchors,
    HardnessWeighted,
    LearnedThreshold,
    MarginBand,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    OraclePositives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    SoftenedBand,
)
from cltools.mining.negatives import ABOVE_ALL
from cltools.presets import IMAGES, METHODS, fitted, laptop, preset, preset_names
from cltools.training import fit

CLASSES = {"shapes": 5, "digits": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200}
RECIPE = ("cifar10", "cifar100", "tinyimagenet")

KNOWN = [name for name in IMAGES if name != "own"]
images = pytest.mark.parametrize("images", KNOWN)
methods = pytest.mark.parametrize("method", METHODS)


def test_there_is_one_of_each_image_set_and_method() -> None:
    assert set(KNOWN) == set(image_sets()) == set(CLASSES)
    assert preset_names() == [f"{i}-{m}" for i in KNOWN for m in METHODS]


def test_the_command_line_knows_the_same_names() -> None:
    assert tuple(IMAGES) == names.IMAGES and tuple(METHODS) == names.METHODS


@methods
def test_own_images_are_a_folder_of_photographs(method: str) -> None:
    experiment = preset(f"own-{method}", Path("some") / "photographs")
    assert experiment.data == DataSettings(str(Path("some") / "photographs"), size=64)
    assert experiment.negatives == preset(f"cifar10-{method}").negatives
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert preset(f"digits-{method}", "elsewhere").data == DataSettings("elsewhere")
    with pytest.raises(ValueError, match=rf'own-{method} trains on images of your own.*preset\("own-{method}", FOLDER'):
        preset(f"own-{method}")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("cifar10-potental", "cifar10-potential"), ("digit-moco", "digits-moco"), ("cifar10_moco", "cifar10-moco"),
     ("imagenet", "tinyimagenet-"), ("", "IMAGES-METHOD"), ("zzz", "IMAGES-METHOD")],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=nearest) as refused:
        preset(name)
    assert repr(name) in str(refused.value)


@methods
def test_a_method_fits_every_image_set_and_is_read_back_from_json(method: str) -> None:
    for name in KNOWN:
        full = preset(f"{name}-{method}")
        small = laptop(full)
        assert full.data.name == small.data.name == name
        for experiment in (full, small):
            assert Experiment.from_json(experiment.to_json()) == experiment
            assert experiment.training.queue_size % experiment.training.batch == 0
            assert experiment.training.batch % (experiment.encoder.bn_group or 1) == 0
        assert laptop(small) == small
        assert small.encoder.backbone == "tiny" and small.data.limit and small.evaluation.test_limit
        assert (small.positives, small.negatives, small.loss) == (full.positives, full.negatives, full.loss)
        assert (small.training.mode, small.training.symmetric) == (full.training.mode, full.training.symmetric)


@methods
def test_a_method_trains_a_step(method: str) -> None:
    experiment = preset(f"digits-{method}")
    training = replace(experiment.training, epochs=1, batch=32, queue_size=64, warmup_epochs=0.5, device="cpu")
    mines = type(experiment.positives) is not AugmentedView
    positives = replace(experiment.positives, start=0.0, ramp=0.0) if mines else experiment.positives
    experiment = replace(experiment, training=training, positives=positives)
    run = fit(experiment, images=load_images("digits", limit=64))
    assert all(math.isfinite(loss) and loss > 0 for loss in run.history.column("loss"))
    assert (run.history.rows[-1]["mined"] > 0) == mines


@methods
def test_a_method_is_moco_but_for_its_rules_and_the_form_of_its_loss(method: str) -> None:
    for name in KNOWN:
        plain, experiment = preset(f"{name}-moco"), preset(f"{name}-{method}")
        if method in ("simclr", "supcon"):  # takes its keys from the batch, and statistics of whole views
            plain = replace(
                plain, training=replace(plain.training, mode="simclr"), encoder=replace(plain.encoder, bn_group=None)
            )
        changed = differences(plain, experiment)
        assert all(each.path.startswith(("positives.", "negatives.", "loss.form")) for each in changed), changed
        assert bool(changed) == (method not in ("moco", "simclr"))


RULES: tuple[NegativeRule | PositiveRule, ...] = (
    MarginBand(within=0.5),
    SoftenedBand(),
    LearnedThreshold(alpha=0.2, start=0.3),
    DifficultAnchors(min_cosine=0.9, anchor_weight=0.5),
    OracleNegatives(share=0.5),
    OraclePositives(purity=0.6, start=0.3, ramp=0.3),
    OraclePositives(k=None, augmented_share=None, start=0.0),
    OraclePositives(right="random", start=0.0),
    NearestKeys(skip=3, start=0.0),
)


@pytest.mark.slow
@pytest.mark.parametrize("images", ["digits", "shapes"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_rule_trains_and_resumes_exactly(rule: NegativeRule | PositiveRule, images: str, tmp_path: Path) -> None:
    plain = preset(f"{images}-moco")
    settings = replace(plain.training, epochs=2, batch=32, queue_size=64, warmup_epochs=0.5, checkpoint_every=1)
    kind = "negatives" if isinstance(rule, NegativeRule) else "positives"
    experiment = replace(plain, training=replace(settings, device="cpu"), **{kind: rule})
    given = load_images(images, limit=96)
    stopped(experiment, tmp_path / "cut", epoch=1, images=given)
    resumed = fit(experiment, images=given, out=tmp_path / "cut", resume=True)
    whole = fit(experiment, images=given, out=tmp_path / "whole")
    assert_equal_runs(whole, resumed)
    row = whole.history.rows[-1]
    assert math.isfinite(row["loss"]) and 1 < row["effective_rank"] <= 64
    if kind == "positives":
        assert row["mined"] > 0
    dropped = {SoftenedBand: "softened", MarginBand: "hard", OracleNegatives: "other"}
    if type(rule) in dropped:
        assert row[dropped[type(rule)]] > 0
    assert (whole.rule_state is not None) == isinstance(rule, LearnedThreshold)
    if whole.rule_state is not None:
        assert whole.rule_state["steps"].sum() == 4 * 32, "two of six steps come before the start"
        assert (whole.rule_state["threshold"] < ABOVE_ALL).all()


def test_moco_mines_nothing_and_keeps_every_negative() -> None:
    experiment = preset("digits-moco")
    assert experiment.positives == AugmentedView() and experiment.negatives == AllNegatives()


def test_the_band_drops_more_where_classes_are_fewer_but_never_more_than_a_class_holds() -> None:
    lower = [IMAGES[name].band[0] for name in CLASSES]
    assert lower == sorted(lower, reverse=True) and len(set(lower)) > 2
    assert all(0 < edge <= 1 / classes for edge, classes in zip(lower, CLASSES.values(), strict=True))
    assert {name: IMAGES[name].classes for name in CLASSES} == CLASSES


@images
def test_a_rule_is_fitted_to_the_images(images: str) -> None:
    set_ = IMAGES[images]
    closest, within = set_.band
    assert fitted(RankBand(by="anchor", rescale=True), set_) == RankBand(closest, within, by="anchor", rescale=True)
    assert fitted(RandomNegatives(), set_) == RandomNegatives(within - closest), "as many keys, by chance"
    assert fitted(HardnessWeighted(beta=2.0), set_) == HardnessWeighted(beta=2.0, tau_plus=1 / CLASSES[images])
    assert fitted(Debiased(), set_) == Debiased(tau_plus=1 / CLASSES[images])
    assert fitted(AllNegatives(), set_) == AllNegatives()


@images
def test_the_encoder_is_of_its_width(images: str) -> None:
    settings = preset(f"{images}-potential").encoder
    encoder = build_encoder(settings, None).eval()
    size = 64 if images == "tinyimagenet" else 32
    assert encoder(torch.zeros(2, 3, size, size, dtype=torch.uint8)).shape == (2, settings.projection)
    assert encoder.dim == (512 if images in RECIPE else 256)


@pytest.mark.parametrize("images", RECIPE)
def test_the_recipe_is_the_one_published(images: str) -> None:
    """That of the benchmark of MoCo on small pictures: ResNet-18, batches of 256 in 8 groups, 200 epochs."""
    experiment = preset(f"{images}-potential")
    training, encoder, views = experiment.training, experiment.encoder, experiment.views
    tiny = images == "tinyimagenet"
    assert (training.epochs, training.batch, training.warmup_epochs, training.symmetric) == (200, 256, 5, True)
    assert (training.learning_rate, training.sgd_momentum, training.weight_decay) == (0.06, 0.9, 5e-4)
    assert (training.momentum, training.queue_size) == ((0.996, 16384) if tiny else (0.99, 4096))
    assert (encoder.backbone, encoder.hidden, encoder.projection) == ("resnet18", 2048, 128)
    assert encoder.bn_group == 32 and encoder.max_pool is tiny
    assert (experiment.loss.temperature, experiment.positives) == (0.2, NearestKeys(k=5, min_weight="mean"))
    assert (views.crop_scale, views.flip, views.jitter, views.gray, views.blur) == ((0.2, 1.0), 0.5, 0.8, 0.2, 0.5)
    assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.4, 0.4, 0.4, 0.1)
    assert experiment.evaluation.protocol == "knn200" and experiment.data.size is None


def test_digits_turn_but_are_not_mirrored() -> None:
    views = preset("digits-potential").views
    assert views.rotation > 0 and views.flip == 0


def test_laptop_takes_an_experiment_of_ones_own() -> None:
    own = replace(preset("cifar10-moco"), negatives=RandomNegatives(0.2), seed=7)
    assert laptop(own).negatives == RandomNegatives(0.2) and laptop(own).seed == 7
