"""`Run.diagnose`: what a run selects now, against a recomputation by hand; looking changes nothing."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.datasets import DataSettings, ImageSet
from cltools.encoders import EncoderSettings
from cltools.evaluation import Diagnosis, diagnose
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    Similarities,
    select,
    similarities,
)
from cltools.training import Run, fit, run as runs
from cltools.training.run import compared_now
from cltools.views import ViewSettings, augment

MINING = NearestKeys(min_weight="mean", k=3, start=0, ramp=0)
BAND = RankBand(0.05, 0.5)


def asked(
    positives: PositiveRule = MINING,
    negatives: NegativeRule = BAND,
    *,
    predictor: bool = False,
    data: DataSettings | None = None,
    views: ViewSettings | None = None,
    **training: Any,
) -> Experiment:
    settings = {"epochs": 2, "batch": 16, "queue_size": 32, "learning_rate": 0.4, "warmup_epochs": 0.5, "device": "cpu"}
    return Experiment(
        data=data or DataSettings("digits"),
        views=views or ViewSettings(),
        encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None, predictor=predictor),
        positives=positives,
        negatives=negatives,
        training=TrainingSettings(**settings | training),
        evaluation=EvaluationSettings(every=10, test_limit=100),
    )


def made(count: int = 48, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    ids = 100 + torch.randperm(count, generator=generator)
    pixels = torch.randint(0, 200, (count, 3, 16, 16), generator=generator) + 15 * (ids % 4)[:, None, None, None]
    return ImageSet(pixels.to(torch.uint8), ids % 4, ids, ("a", "b", "c", "d"), "made", "train")


def state(run: Run) -> list[Tensor]:
    """Everything that looking could change."""
    tensors = [*run.encoder.state_dict().values(), torch.get_rng_state()]
    if run.memory is not None:
        queue = run.memory.queue
        tensors += [*run.memory.copy.state_dict().values(), queue.keys, queue.ids, queue.labels]
    return [tensor.clone() for tensor in tensors]


def flags(run: Run) -> list[bool]:
    copy = [] if run.memory is None else [*run.memory.copy.modules()]
    return [module.training for module in (*run.encoder.modules(), *copy)]


modes = pytest.mark.parametrize("mode", ["moco", "simclr"])


@pytest.mark.parametrize(("mode", "predictor"), [("moco", False), ("moco", True), ("simclr", False)])
def test_a_diagnosis_is_of_the_selection_made_by_hand(mode: str, predictor: bool) -> None:
    experiment, images = asked(predictor=predictor, mode=mode), made()
    run = fit(experiment, images=images)
    draws = torch.Generator().manual_seed(5)

    def two_views(of: ImageSet) -> list[Tensor]:
        return [augment(of.images, experiment.views, generator=draws) for _ in range(2)]

    with torch.no_grad():
        if run.memory is None:
            order = torch.randperm(48, generator=torch.Generator().manual_seed(5))
            part, others = images.select(order[:20]).subset(20, seed=5), images.select(order[20:40])
            z, positive = (normalize(run.encoder.eval()(view), dim=1) for view in two_views(part))
            keys = torch.cat([normalize(run.encoder(view), dim=1) for view in two_views(others)])
            key_ids, key_labels = others.ids.repeat(2), others.labels.repeat(2)
        else:
            part = images.subset(20, seed=5)
            view1, view2 = two_views(part)
            z = normalize(run.encoder.eval()(view1), dim=1)
            positive = normalize(run.memory.copy.encoder.eval().project(view2), dim=1)
            queue = run.memory.queue
            keys, key_ids, key_labels = queue.keys, queue.ids, queue.labels
    own, same = part.ids[:, None] == key_ids, part.labels[:, None] == key_labels
    s = similarities(z, positive, keys, own, same_class=same)
    expected = diagnose(s, select(s, experiment.positives, experiment.negatives))
    found = run.diagnose(images=images, n=20, seed=5)
    assert repr(found) == repr(expected)
    assert found.keys == (40 if mode == "simclr" else 32) and found.bands[Band.MINED].keys > 0
    assert (found.self_hits.value == 0) == (mode == "simclr")


@modes
def test_a_diagnosis_repeats_and_leaves_no_trace(mode: str) -> None:
    images = made()
    run = fit(asked(negatives=RandomNegatives(), mode=mode), images=images)
    run.encoder.train()
    run.encoder.backbone.layers[1].eval()  # frozen by hand
    before, woken = state(run), flags(run)
    first, again, other = (repr(run.diagnose(images=images, n=30, seed=seed)) for seed in (0, 0, 1))
    assert first == again and first != other
    assert flags(run) == woken and True in woken and False in woken
    assert all(torch.equal(was, now) for was, now in zip(before, state(run), strict=True))
    assert all(parameter.grad is None or parameter.requires_grad for parameter in run.encoder.parameters())


def without_classes(d: Diagnosis) -> list[object]:
    bands = {band: (held.keys, held.share) for band, held in d.bands.items()}
    return [d.anchors, d.keys, bands, d.hubness, d.mined_hubness, d.self_hits]


@modes
def test_labels_change_the_counts_of_classes_and_neither_bands_nor_hubs(mode: str) -> None:
    images = made()
    permuted = replace(images, labels=images.labels.roll(1))
    unknown = replace(images, labels=torch.full_like(images.labels, -1), classes=())
    run = replace(fit(asked(mode=mode), images=images), images=None)  # else others than those trained on are refused
    found = [run.diagnose(images=each) for each in (images, permuted, unknown)]
    trained = fit(asked(mode=mode), images=unknown).diagnose(images=unknown)
    assert len({str(without_classes(d)) for d in (*found, trained)}) == 1
    assert found[0].by_k != found[1].by_k and found[0].bands != found[1].bands
    for d in (found[2], trained):
        assert d.base_rate.count == 0 and math.isnan(d.false_negative_share.value) and d.bands[Band.MINED].keys > 0


def test_one_image_of_unknown_class_leaves_the_truth_of_the_others() -> None:
    images = made()
    run = replace(fit(asked(), images=images), images=None)
    labels = images.labels.clone()
    labels[0] = -1
    whole, d = (run.diagnose(images=each) for each in (images, replace(images, labels=labels)))
    assert whole.known is None and d.known is not None and 0.9 < d.known.value < 1
    assert 0 < d.base_rate.count < whole.base_rate.count and d.base_rate.value == pytest.approx(
        whole.base_rate.value, 0.1
    )


def test_the_oracle_reads_labels_and_says_so_without() -> None:
    images = made()
    run = fit(asked(AugmentedView(), OracleNegatives()), images=images)
    d = run.diagnose(images=images)
    assert d.false_negative_share.value == 0 and d.recall.value == 1
    unknown = replace(images, labels=torch.full_like(images.labels, -1), classes=())
    with pytest.raises(ValueError, match=r"same_class.*labels"):
        replace(run, images=None).diagnose(images=unknown)


@dataclass(frozen=True)
class Growing(NegativeRule):
    """Keeps as large a share of the keys as training is done."""

    share: float = 0.0

    def at(self, progress: float) -> "Growing":
        return Growing(progress)

    def judge(self, s: Similarities, eligible: Tensor, **_: Any) -> Tensor:
        kept = torch.arange(s.own.shape[1]) < self.share * s.own.shape[1]
        return torch.where(kept, Band.POTENTIAL, Band.EASY).to(torch.int8).expand(s.own.shape)


def test_rules_are_at_full_strength() -> None:
    images = made()
    run = fit(asked(replace(MINING, start=1.0), Growing()), images=images)
    d = run.diagnose(images=images)
    assert run.history.rows[-1]["mined"] == 0 and d.bands[Band.MINED].keys > 0
    assert run.history.rows[-1]["easy"] > 0 and d.bands[Band.EASY].keys == 0


def test_a_rule_that_makes_keys_can_be_looked_at() -> None:
    images = made()
    run = fit(asked(AugmentedView(), MixedNegatives(hardest=8, pairs=4, with_anchor=2)), images=images)
    d = run.diagnose(images=images)
    assert d.bands[Band.POTENTIAL].keys + d.bands[Band.OWN].keys == d.keys == 32


def test_images_are_taken_in_parts_without_changing_what_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ViewSettings(crop_scale=(1.0, 1.0), flip=0, jitter=0, gray=0)  # draws nothing, so parts do not matter
    experiment, images = asked(views=plain), made()
    run = fit(experiment, images=images)
    draws = torch.Generator()
    whole = compared_now(run, images, draws=draws)
    monkeypatch.setattr(runs, "BATCH", 7)
    parts = compared_now(run, images, draws=draws)
    for name in ("anchor_keys", "positive_keys", "anchor_positive", "own", "same_class"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert whole.vectors is None and not whole.anchor_keys.requires_grad


def test_after_an_epoch_the_queue_holds_its_last_images() -> None:
    images = made()  # 48, of which the queue holds 32
    run = fit(asked(), images=images)
    d = run.diagnose(images=images)
    assert d.anchors == 48 and d.self_hits.value == pytest.approx(32 / 48)
    assert d.self_hits.value > (32 / 48) ** 2 / 2  # as often as while training


def test_anchors_are_images_trained_on_and_none_held_out() -> None:
    run = fit(asked(data=DataSettings("digits", limit=100, holdout=0.25)))
    assert run.diagnose().anchors == 75 and run.diagnose(n=30).anchors == 30
    with pytest.raises(ValueError, match="images to take is 0; it must be"):
        run.diagnose(n=0)


@pytest.mark.slow
def test_a_diagnosis_agrees_with_the_history() -> None:
    tiny_digits = asked(negatives=RankBand(0.05, 0.5), data=DataSettings("digits", limit=384), queue_size=128)
    run = fit(replace(tiny_digits, seed=3, training=replace(tiny_digits.training, batch=32, epochs=3)))
    row, d = run.history.rows[-1], run.diagnose()
    for band in (Band.EASY, Band.POTENTIAL, Band.HARD, Band.MINED):
        assert d.bands[band].keys == pytest.approx(row[band.name.lower()], rel=0.2)
    assert d.false_negative_share.value == pytest.approx(row["false_negative_share"], rel=0.2)
    assert d.mined_purity.value > d.base_rate.high and row["mined_purity"] > d.base_rate.high
    assert d.mined_purity.value == pytest.approx(row["mined_purity"], rel=0.3)


# What cannot be looked at


def test_a_run_on_given_images_asks_for_them_again() -> None:
    images = made()
    run = fit(asked(), images=images)
    with pytest.raises(ValueError, match=r"run\.diagnose\(images=…\)"):
        run.diagnose()
    with pytest.raises(ValueError, match="rained on 48 images of 'made'"):
        run.diagnose(images=made(seed=1))


def test_the_experiments_own_images_may_be_given() -> None:
    from cltools.datasets import load_images

    run = fit(asked(data=DataSettings("digits", limit=64)))
    images = load_images("digits", limit=64)
    assert repr(run.diagnose(images=images)) == repr(run.diagnose())


@modes
def test_a_loaded_run_needs_its_checkpoint_for_its_queue_alone(mode: str, tmp_path: Path) -> None:
    experiment = asked(negatives=AllNegatives(), data=DataSettings("digits", limit=64), mode=mode)
    run = fit(experiment, out=tmp_path / "run")
    expected = repr(run.diagnose(n=40))
    assert repr(Run.load(tmp_path / "run").diagnose(n=40)) == expected
    (tmp_path / "run" / "checkpoint.pt").unlink()
    bare = Run.load(tmp_path / "run")
    if mode == "simclr":
        assert repr(bare.diagnose(n=40)) == expected
    else:
        with pytest.raises(ValueError, match=r"has no queue, because its folder holds no checkpoint\.pt; load it with"):
            bare.diagnose(n=40)
