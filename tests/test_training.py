"""Training: one step against a recomputation by hand, the loop around it, and what a run keeps."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from waiting import no_waiting

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.contrast import contrastive_loss
from cltools.datasets import DataSettings, ImageSet, load_images, split_holdout
from cltools.encoders import EncoderSettings
from cltools.evaluation import embed, knn_accuracy
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    LearnedThreshold,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    PositiveRule,
    RankBand,
    Selection,
)
from cltools.training import Run, fit
from cltools.training.fit import learning_rate
from cltools.training.state import TrainState, new_train_state
from cltools.training.step import MIXED_BLOCKS, Batch, StepResult, batches, enqueue, epoch_order, train_step, update
from cltools.views import augment

stepping = import_module("cltools.training.step")
fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

TINY = EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None)
PLAIN = AugmentedView()
MINING = NearestKeys(min_weight="mean", k=3, start=0, ramp=0)
DIGITS = DataSettings("digits", limit=128)
QUICK = EvaluationSettings(every=10, test_limit=100)


def asked(
    positives: PositiveRule = PLAIN,
    negatives: NegativeRule | None = None,
    *,
    data: DataSettings = DIGITS,
    encoder: EncoderSettings = TINY,
    evaluation: EvaluationSettings = QUICK,
    seed: int = 0,
    **training: Any,
) -> Experiment:
    settings = {"epochs": 2, "batch": 16, "queue_size": 48, "learning_rate": 1.6, "warmup_epochs": 0.5, "device": "cpu"}
    return Experiment(
        data=data,
        encoder=encoder,
        positives=positives,
        negatives=negatives or AllNegatives(),
        training=TrainingSettings(**settings | training),
        evaluation=evaluation,
        seed=seed,
    )


def made(count: int = 48, *, size: int = 16, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    ids = 100 + torch.randperm(count, generator=generator)
    return ImageSet(pixels, ids % 4, ids, ("a", "b", "c", "d"), "made", "train")


def whole(images: ImageSet) -> Batch:
    return Batch(images.images, images.ids, images.labels)


def taught(experiment: Experiment, images: ImageSet, steps: int) -> TrainState:
    state = new_train_state(experiment, images, torch.device("cpu"))
    for _ in range(steps):
        train_step(state, whole(images), experiment, progress=0.5, labelled=True)
    return state


@contextmanager
def observed() -> Iterator[list[Selection]]:
    """What rules choose of all anchors of a step, chunk by chunk."""
    seen: list[Selection] = []

    def both(*given: Any, observe: Any, **more: Any) -> Any:
        def each(s: Any, selection: Selection) -> None:
            seen.append(selection)
            observe(s, selection)

        return contrastive_loss(*given, observe=each, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepping, "contrastive_loss", both)
        yield seen


def stepped(
    state: TrainState, images: ImageSet, experiment: Experiment, progress: float = 0.5
) -> tuple[StepResult, Tensor]:
    """A step, and the band of every key it compared."""
    batch, rules = whole(images), experiment.rules_at(progress)
    with observed() as seen:
        result, new_keys = update(state, batch, experiment, rules, labelled=True)
    enqueue(state, batch, new_keys)
    band = torch.cat([selection.band for selection in seen])
    assert [int((band == code).sum()) for code in Band] == result.tally[0].tolist()
    return result, band


def equal(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Step(NamedTuple):
    ids: list[int]
    rate: float
    progress: float


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """What each step of `fit` was given."""
    seen: list[Step] = []

    def spy(state: TrainState, batch: Batch, experiment: Experiment, *, progress: float, labelled: bool) -> Any:
        seen.append(Step(batch.ids.tolist(), state.optimizer.param_groups[0]["lr"], progress))
        return train_step(state, batch, experiment, progress=progress, labelled=labelled)

    monkeypatch.setattr(fitting, "train_step", spy)
    return seen


# --- a rule that learns


@pytest.mark.parametrize("chunk", [None, 20])
def test_a_threshold_learns_from_the_mean_over_both_views_of_an_image(
    chunk: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, experiment = made(), asked(negatives=LearnedThreshold(alpha=0.1, start=0.0), symmetric=True, chunk=chunk)
    state = taught(experiment, images, steps=1)
    assert state.rule_state is not None
    state.rule_state["threshold"].fill_(0.5)
    learned: list[tuple[list[int], Tensor]] = []

    def learn(self: LearnedThreshold, state: Any, ids: Tensor, measured: Tensor) -> None:
        learned.append((ids.tolist(), measured))

    monkeypatch.setattr(LearnedThreshold, "learn", learn)
    with observed() as seen:
        update(state, whole(images), experiment, experiment.rules_at(0.5), labelled=True)
    shares = [share for selection in seen for share in selection.measured.tolist()]  # type: ignore[union-attr]
    first, second = shares[:48], shares[48:]
    assert len(second) == 48 and first != second, "both views are anchors, and meet different keys"
    [(ids, measured)] = learned
    assert ids == images.ids.tolist()
    assert measured.tolist() == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=True)])


# --- schedule


@pytest.mark.parametrize(("batch", "warmup", "epochs"), [(256, 5.0, 200), (64, 1.0, 3), (512, 0.0, 7), (32, 2.5, 4)])
def test_the_learning_rate_warms_up_from_0_and_falls_to_0_on_a_cosine(batch: int, warmup: float, epochs: int) -> None:
    settings = TrainingSettings(batch=batch, queue_size=512, learning_rate=0.06, warmup_epochs=warmup, epochs=epochs)
    peak = 0.06 * batch / 256
    for epoch in torch.linspace(0, epochs, 41).tolist():
        done = (epoch - warmup) / (epochs - warmup)
        expected = peak * epoch / warmup if epoch < warmup else peak * math.cos(math.pi / 2 * done) ** 2
        assert learning_rate(settings, epoch) == pytest.approx(expected, abs=1e-12)
    assert learning_rate(settings, warmup) == pytest.approx(peak)
    assert learning_rate(settings, epochs) == pytest.approx(0, abs=1e-12)


def test_a_warm_up_longer_than_training_only_grows() -> None:
    settings = TrainingSettings(epochs=2, warmup_epochs=4, learning_rate=0.8)
    assert [learning_rate(settings, epoch) for epoch in (0, 0.5, 1, 2)] == pytest.approx([0, 0.1, 0.2, 0.4])


def test_each_step_has_the_rate_and_the_progress_of_its_place(steps: list[Step]) -> None:
    experiment = asked(epochs=3, warmup_epochs=1.5)
    fit(experiment, images=made(32))
    places = [0, 0.5, 1, 1.5, 2, 2.5]
    assert [s.rate for s in steps] == pytest.approx([learning_rate(experiment.training, place) for place in places])
    assert [s.progress for s in steps] == pytest.approx([place / 3 for place in places])


# --- one step


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.square().sum(1, keepdim=True).sqrt()


def info_nce_by_hand(
    z: Tensor, positive: Tensor, keys: Tensor, negatives: list[list[int]], temperature: float
) -> Tensor:
    losses = []
    for anchor, own, rows in zip(z, positive, negatives, strict=True):
        logits = torch.stack([anchor @ own, *(anchor @ keys[row] for row in rows)]) / temperature
        losses.append(logits.exp().sum().log() - logits[0])
    return torch.stack(losses).mean()


def next_draws(state: TrainState) -> torch.Generator:
    draws = torch.Generator()
    draws.set_state(state.view_rng.get_state())
    return draws


def next_views(images: ImageSet, experiment: Experiment, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    view1 = augment(images.images, experiment.views, generator=draws)
    return view1, augment(images.images, experiment.views, generator=draws)


def after_sgd(encoder: nn.Module, state: TrainState, settings: TrainingSettings) -> dict[str, Tensor]:
    """The parameters of `encoder`, whose gradients are taken, after one step with the momentum of the state's."""
    buffers = [state.optimizer.state[p]["momentum_buffer"] for p in state.encoder.parameters()]
    moved = {}
    for (name, p), buffer in zip(encoder.named_parameters(), buffers, strict=True):
        assert p.grad is not None
        velocity = settings.sgd_momentum * buffer + p.grad + settings.weight_decay * p.detach()
        moved[name] = p.detach() - settings.learning_rate * velocity
    return moved


STEP = {"learning_rate": 0.1, "momentum": 0.7, "weight_decay": 0.01}


@pytest.mark.parametrize(("symmetric", "predictor"), [(True, False), (False, False), (False, True)])
def test_a_moco_step_is_the_formula_and_sgd(symmetric: bool, predictor: bool) -> None:
    images = made(16)  # one batch is everything, so the queue holds older keys of every anchor's image
    experiment = asked(encoder=replace(TINY, predictor=predictor), symmetric=symmetric, **STEP)
    state = taught(experiment, images, steps=2)
    assert state.memory is not None
    queue, queue_ids = state.memory.queue.keys.clone(), state.memory.queue.ids.clone()
    encoder, slow = copy.deepcopy(state.encoder), copy.deepcopy(state.memory.copy.encoder)
    view1, view2 = next_views(images, experiment, next_draws(state))
    with torch.no_grad():
        for name, p in slow.named_parameters():
            p.copy_(0.7 * p + 0.3 * encoder.get_parameter(name))
        key1, key2 = unit(slow.project(view1)), unit(slow.project(view2))
    others = [[row for row, other in enumerate(queue_ids.tolist()) if other != own] for own in images.ids.tolist()]
    z1, z2 = unit(encoder(view1)), unit(encoder(view2))
    loss = info_nce_by_hand(z1, key2, queue, others, 0.2)
    if symmetric:
        loss = (loss + info_nce_by_hand(z2, key1, queue, others, 0.2)) / 2
    loss.backward()
    expected = after_sgd(encoder, state, experiment.training)

    result, band = stepped(state, images, experiment)
    torch.testing.assert_close(result.loss, loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dict(state.encoder.named_parameters()), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(state.memory.copy.encoder.named_parameters()), dict(slow.named_parameters()))
    own = images.ids.repeat(2 if symmetric else 1)[:, None] == queue_ids
    assert torch.equal(band == Band.OWN, own) and own.sum(1).tolist() == [2] * len(own)
    torch.testing.assert_close(state.memory.queue.keys[32:], key2, rtol=1e-4, atol=1e-5)
    assert torch.equal(state.memory.queue.ids[32:], images.ids) and state.memory.queue.filled == 48
    assert torch.equal(state.memory.queue.labels[32:], images.labels) and state.step == 3


def test_a_simclr_step_is_the_formula_and_sgd() -> None:
    images, experiment = made(16), asked(mode="simclr", **STEP)
    state = taught(experiment, images, steps=1)
    encoder = copy.deepcopy(state.encoder)
    view1, view2 = next_views(images, experiment, next_draws(state))
    z = unit(torch.cat([encoder(view1), encoder(view2)]))
    sibling = [*range(16, 32), *range(16)]
    others = [[row for row in range(32) if row not in (i, sibling[i])] for i in range(32)]
    loss = info_nce_by_hand(z, z[sibling], z, others, 0.2)
    loss.backward()
    expected = after_sgd(encoder, state, experiment.training)

    result, band = stepped(state, images, experiment)
    torch.testing.assert_close(result.loss, loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dict(state.encoder.named_parameters()), expected, rtol=1e-4, atol=1e-5)
    codes = torch.full((32, 32), Band.POTENTIAL, dtype=torch.int8)
    codes[range(32), range(32)] = codes[range(32), sibling] = Band.OWN
    assert torch.equal(band, codes) and state.memory is None


def test_the_queue_takes_the_second_views_keys_once_after_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, images = asked(MINING, RankBand()), made(16)
    state = taught(experiment, images, steps=1)
    assert state.memory is not None
    events: list[object] = []
    enqueue = state.memory.queue.enqueue

    def spy(keys: Tensor, ids: Tensor, labels: Tensor) -> None:
        events.append((len(keys), ids.tolist()))
        enqueue(keys, ids, labels)

    monkeypatch.setattr(state.memory.queue, "enqueue", spy)
    state.encoder.head[0].weight.register_post_accumulate_grad_hook(lambda _: events.append("backward"))
    train_step(state, whole(images), experiment, progress=0.5, labelled=True)
    assert events == ["backward", (16, images.ids.tolist())]


def test_keys_are_made_in_an_order_that_the_step_draws() -> None:
    experiment, images = asked(encoder=replace(TINY, bn_group=4), symmetric=False), made(16)
    state = taught(experiment, images, steps=1)
    assert state.memory is not None
    slow, draws = copy.deepcopy(state.memory.copy), next_draws(state)
    slow.update(state.encoder, experiment.training.momentum)
    _, view2 = next_views(images, experiment, draws)
    shuffled, straight = unit(slow.keys(view2, generator=draws)), unit(slow.encoder.project(view2))
    train_step(state, whole(images), experiment, progress=0.5, labelled=True)
    torch.testing.assert_close(state.memory.queue.keys[16:], shuffled)
    assert not torch.allclose(shuffled, straight, rtol=1e-2, atol=1e-2)


def test_an_image_never_meets_itself_in_a_later_epoch() -> None:
    experiment = asked(MINING, batch=16)
    images = made(16)
    state = taught(experiment, images, steps=3)
    assert state.memory is not None
    same = images.ids.repeat(2)[:, None] == state.memory.queue.ids
    _, band = stepped(state, images, experiment)
    assert torch.equal(band == Band.OWN, same) and bool(same.any(1).all())
    assert bool((band == Band.MINED).any(1).all())


def test_an_empty_queue_is_an_ordinary_first_step() -> None:
    experiment, images = asked(MINING, RankBand()), made(16)
    state = taught(experiment, images, steps=0)
    result, band = stepped(state, images, experiment, progress=0.0)
    assert result.loss == 0 and band.shape == (32, 0)
    assert all(bool(p.isfinite().all()) for p in state.encoder.parameters())


def test_a_step_resolves_the_rules_schedules() -> None:
    experiment, images = asked(replace(MINING, start=0.5)), made(16)
    state = taught(experiment, images, steps=2)
    before, after = (stepped(state, images, experiment, progress)[1] for progress in (0.49, 0.51))
    assert not bool((before == Band.MINED).any()) and bool((after == Band.MINED).any())


def test_a_step_in_chunks_is_the_step_at_once() -> None:
    images = made(16)
    weights, tallies = [], []
    for chunk in (None, 5):
        experiment = asked(MINING, RankBand(), chunk=chunk)
        state = new_train_state(experiment, images, torch.device("cpu"))
        assert state.memory is not None
        for encoder in (state.encoder, state.memory.copy.encoder):
            encoder.double()  # in float32 a sum in another order can switch a unit on or off
        for _ in range(3):
            result, _ = stepped(state, images, experiment)
        weights.append(dict(state.encoder.named_parameters()))
        tallies.append(result.tally)
        assert result.anchors == 32
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    assert torch.equal(tallies[0][0], tallies[1][0])


def test_a_step_in_half_precision_that_is_watched_and_summed_never_waits_for_the_device() -> None:
    """What `test_no_waiting.py` does not do in a step of each rule."""
    experiment, images = asked(MINING, RankBand(), precision="bfloat16"), made(16)
    state = taught(experiment, images, steps=2)
    sums = fitting.EpochSums(torch.device("cpu"))
    kept: list[Tensor] = []
    with no_waiting():
        result = train_step(
            state,
            whole(images),
            experiment,
            progress=0.5,
            labelled=True,
            on_step=lambda info: kept.append(info.loss + info.selection.negative_weight.sum()),
        )
        sums.add(state.step, result.loss, result.tally, result.anchors)
    assert len(kept) == 1 and sums.fetch()["loss"] == pytest.approx(float(result.loss))


# --- the order of images


def test_a_smaller_last_batch_is_dropped() -> None:
    images, order = made(10), torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    taken = list(batches(images, 4, order, torch.device("cpu")))
    assert len(taken) == 2
    for batch, places in zip(taken, ([3, 1, 4, 0], [5, 9, 2, 6]), strict=True):
        assert torch.equal(batch.images, images.images[places])
        assert torch.equal(batch.ids, images.ids[places]) and torch.equal(batch.labels, images.labels[places])


@given(count=st.integers(1, 400), block=st.integers(1, 30), seed=st.integers(0, 99))
def test_shuffled_blocks_take_every_image_once_and_reach_no_further_than_a_few_blocks(
    count: int, block: int, seed: int
) -> None:
    order = epoch_order(count, block, torch.Generator().manual_seed(seed))
    assert torch.equal(order.sort().values, torch.arange(count))
    seen: list[int] = [*dict.fromkeys((order // block).tolist())]
    for start in range(0, len(seen), MIXED_BLOCKS):  # all images of some blocks, then those of the next
        group = {*seen[start : start + MIXED_BLOCKS]}
        places = [place for place, block_of in enumerate((order // block).tolist()) if block_of in group]
        assert places == [*range(places[0], places[0] + len(places))]
    again, other = (epoch_order(count, block, torch.Generator().manual_seed(each)) for each in (seed, seed + 1))
    assert torch.equal(again, order) and (count < 20 or not torch.equal(other, order))


def test_a_mapped_file_is_trained_on_in_shuffled_blocks(tmp_path: Path) -> None:
    images = made(50)
    np.save(tmp_path / "pixels.npy", images.images.numpy())
    mapped = replace(images, images=torch.from_numpy(np.load(tmp_path / "pixels.npy", mmap_mode="r+")))
    blocks, all_alike = asked(shuffle_block=4), asked()
    first, second, other = (
        torch.cat([each.flatten() for each in fit(experiment, images=source).encoder.parameters()])
        for experiment, source in ((blocks, mapped), (blocks, images), (all_alike, images))
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_each_epoch_takes_an_image_at_most_once_in_another_order(steps: list[Step]) -> None:
    images = made(50)
    fit(asked(), images=images)
    epochs = [[i for step in steps[first : first + 3] for i in step.ids] for first in (0, 3)]
    assert len(steps) == 6 and epochs[0] != epochs[1]
    for taken in epochs:
        assert len(taken) == len(set(taken)) == 48 and set(taken) <= set(images.ids.tolist())


def test_no_two_seeds_share_a_stream() -> None:
    images = made(16)
    states = [new_train_state(asked(seed=seed), images, torch.device("cpu")) for seed in range(3)]
    streams = [generator.initial_seed() for state in states for generator in (state.order_rng, state.view_rng)]
    assert len(set(streams)) == 6
    assert not torch.equal(states[0].encoder.head[0].weight, states[1].encoder.head[0].weight)


# --- images


def test_limit_trains_on_that_many_of_the_named_images(steps: list[Step]) -> None:
    fit(asked(data=DataSettings("digits", limit=64), epochs=1))
    taken = sorted(i for step in steps for i in step.ids)
    assert taken == sorted(load_images("digits", limit=64).ids.tolist())


def test_given_images_replace_the_named_ones(steps: list[Step]) -> None:
    images = made(32)
    run = fit(asked(data=DataSettings("nowhere"), epochs=1), images=images)
    assert sorted(i for step in steps for i in step.ids) == sorted(images.ids.tolist())
    mean = images.images.double().mean((0, 2, 3)) / 255
    torch.testing.assert_close(run.encoder.mean.flatten().double(), mean, rtol=1e-6, atol=0)
    assert math.isnan(run.history.rows[-1]["knn"])


def test_held_out_images_are_never_trained_on_and_are_what_knn_is_measured_on(steps: list[Step]) -> None:
    images = load_images("digits", limit=200)
    experiment = asked(data=DataSettings("digits", holdout=0.25), evaluation=replace(QUICK, test_limit=40), epochs=3)
    run = fit(experiment, images=images)
    train, val = split_holdout(images, 0.25, experiment.seed)
    assert {i for step in steps for i in step.ids} <= set(train.ids.tolist())
    assert len(val) == 50 and not {i for step in steps for i in step.ids} & set(val.ids.tolist())
    judged = val.subset(40, seed=0)
    expected = knn_accuracy(embed(run.encoder, train), train.labels, embed(run.encoder, judged), judged.labels)
    assert run.history.rows[-1]["knn"] == expected


def test_knn_is_measured_on_the_test_images_every_so_many_epochs_and_at_last() -> None:
    run = fit(asked(evaluation=replace(QUICK, every=2, protocol="knn10"), epochs=5))
    assert [math.isnan(value) for value in run.history.column("knn")] == [True, False, True, False, False]
    train, test = load_images("digits", limit=128), load_images("digits", "test").subset(100, seed=0)
    sides = embed(run.encoder, train), train.labels, embed(run.encoder, test), test.labels
    assert run.history.rows[-1]["knn"] == knn_accuracy(*sides, protocol="knn10")


def test_measuring_does_not_change_the_training() -> None:
    often = fit(asked(evaluation=replace(QUICK, every=1)))
    assert equal(often.encoder, fit(asked(evaluation=replace(QUICK, every=9))).encoder)


def test_images_without_labels_train_and_leave_their_columns_empty() -> None:
    images = made(32)
    unknown = replace(images, labels=torch.full_like(images.labels, -1), classes=())
    run = fit(asked(MINING, RankBand(), data=DataSettings("digits", holdout=0.25), batch=8), images=unknown)
    for name in ("mined_purity", "false_negative_share", "knn"):
        assert all(math.isnan(value) for value in run.history.column(name))
    assert run.history.rows[-1]["mined"] > 0


@pytest.mark.parametrize(
    ("negatives", "mode"),
    [(RankBand(), "simclr"), (RankBand(by="force"), "moco"), (MixedNegatives(8, 4, 2, start=0), "moco")],
    ids=["simclr", "moco", "made"],
)
def test_labels_steer_nothing(negatives: NegativeRule, mode: str) -> None:
    """In a step; `test_contrast.py` asks every rule."""
    images, experiment = made(16), asked(MINING, negatives, mode=mode)
    permuted = replace(images, labels=images.labels.roll(1))
    unknown = replace(images, labels=torch.full_like(images.labels, -1))
    encoders = [taught(experiment, each, steps=2).encoder for each in (images, permuted, unknown)]
    assert equal(encoders[0], encoders[1]) and equal(encoders[0], encoders[2])


def test_labels_steer_the_oracle() -> None:
    images, experiment = made(16), asked(negatives=OracleNegatives())
    permuted = replace(images, labels=images.labels.roll(1))
    assert not equal(taught(experiment, images, steps=2).encoder, taught(experiment, permuted, steps=2).encoder)


# --- encoders and precision


def test_bfloat16_trains_on_a_cpu_and_keeps_weights_and_keys_in_float32() -> None:
    run, full = (fit(asked(MINING, precision=precision), images=made()) for precision in ("bfloat16", "float32"))
    assert all(math.isfinite(loss) for loss in run.history.column("loss"))
    assert run.history.column("loss") == pytest.approx(full.history.column("loss"), rel=0.1)
    assert not equal(run.encoder, full.encoder)
    assert run.memory is not None and run.memory.queue.keys.dtype == torch.float32
    assert {p.dtype for p in run.encoder.parameters()} == {torch.float32}
    torch.testing.assert_close(run.memory.queue.keys.norm(dim=1), torch.ones(48))


# --- callbacks


def test_callbacks_see_the_run_after_each_epoch() -> None:
    seen: list[tuple[int, Tensor]] = []
    order: list[str] = []

    def look(run: Run) -> None:
        seen.append((len(run.history.rows), run.encoder.head[0].weight.detach().clone()))
        order.append("first")
        run.encoder.eval()

    run = fit(asked(epochs=3), images=made(), callbacks=[look, lambda _: order.append("second")])
    assert [count for count, _ in seen] == [1, 2, 3] and order == ["first", "second"] * 3
    assert not torch.equal(seen[0][1], seen[1][1]) and torch.equal(seen[2][1], run.encoder.head[0].weight)
    assert equal(run.encoder, fit(asked(epochs=3), images=made()).encoder)
