"""A recorded step: when it is recorded, and that training with it is training without it."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_checkpoint import made, training

from benchmarks.steps import Workplace
from cltools.config import Experiment
from cltools.mining import Band, RankBand
from cltools.presets import preset
from cltools.ranks import Ranks
from cltools.training import Run, fit
from cltools.training.inputs import Parts
from cltools.training.state import set_rate
from cltools.training.step import Batch, Recording, Replay, Rules, StepResult, update

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's


class Again:
    """In place of a CUDA graph: the update, done again on the recording's own memory."""

    def __init__(self, replay: Replay, rules: Rules, batch: Batch) -> None:
        self.replay_, self.rules, self.batch = replay, rules, batch
        self.recording: Recording | None = None

    def replay(self) -> None:
        made = self.recording
        assert made is not None
        result, new_keys = update(
            self.replay_.state, self.batch, self.replay_.experiment, self.rules, labelled=self.replay_.labelled
        )
        made.result.loss.copy_(result.loss)
        made.result.tally.copy_(result.tally)
        if new_keys is not None and made.new_keys is not None:
            made.new_keys.copy_(new_keys)


def on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Recordings without a GPU, and the log of them: the state's step, and "recorded" or "replayed"."""
    log: list[tuple[int, str]] = []

    def record(self: Replay, batch: Batch, rules: Rules) -> Recording:
        log.append((self.state.step, "recorded"))
        state, place = self.state, Batch(*(x.clone() for x in (batch.images, batch.ids, batch.labels)))
        rate = torch.zeros(())
        set_rate(state, rate)
        anchors = self.experiment.training.anchors_per_image * self.experiment.training.batch
        tally = torch.zeros(2 if self.labelled else 1, len(Band), dtype=torch.int64)
        keys = None if state.memory is None else torch.zeros(len(batch.ids), state.memory.queue.dim)
        again = Again(self, rules, place)
        again.recording = Recording(again, place, rate, StepResult(torch.zeros(()), tally, anchors), keys)
        return again.recording

    played = Recording.replay

    def replayed(self: Recording, batch: Batch, rate: float) -> None:
        log.append((self.graph.replay_.state.step, "replayed"))  # type: ignore[attr-defined]
        played(self, batch, rate)

    monkeypatch.setattr(Replay, "_record", record)
    monkeypatch.setattr(Replay, "_discard", lambda self: setattr(self, "recording", None))
    monkeypatch.setattr(Recording, "replay", replayed)
    monkeypatch.setattr(fitting, "check_trainable", lambda *_: None)
    return log


SLOW = pytest.mark.slow


def short(name: str, **settings: Any) -> Experiment:
    return training(preset(name), **({"epochs": 6, "batch": 32, "queue_size": 96} | settings))


@pytest.mark.parametrize(
    "name",
    ["digits-potential", *(pytest.param(f"digits-{x}", marks=SLOW) for x in ("simclr", "random", "ring", "glofnd"))],
)
def test_training_with_a_recording_is_training_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit(short(name, epochs=4), images=made(96))  # 3 steps an epoch
    log = on_cpu(monkeypatch)
    recorded = fit(short(name, epochs=4, cuda_graph=True), images=made(96))
    assert "replayed" in {what for _, what in log}
    for ours, theirs in zip(plain.history.rows, recorded.history.rows, strict=True):
        for column in set(ours) - {"seconds", "views_per_second", "knn"}:
            assert ours[column] == pytest.approx(theirs[column], rel=0, abs=0, nan_ok=True), column
    weights = [run.encoder.state_dict() for run in (plain, recorded)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(("queue_size", "recorded"), [(96, [6]), pytest.param(32, [2, 6], marks=SLOW)])
def test_a_step_is_recorded_once_the_queue_is_full_and_anew_when_rules_have_moved(
    queue_size: int, recorded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = on_cpu(monkeypatch)
    experiment = short("digits-potential", cuda_graph=True, queue_size=queue_size)  # 5 steps an epoch, 30 in all
    fit(experiment, images=made(160))
    # A queue of a batch is full before step 1, one of three before step 3. There the mined weight begins to grow; from
    # step 5 on it has its full value. A step is recorded when the one before had the same rules and keys.
    assert [step for step, what in log if what == "recorded"] == recorded
    assert [step for step, what in log if what == "replayed"] == ([2, 3] if queue_size == 32 else []) + [*range(6, 30)]


def test_moving_edges_are_never_recorded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log = on_cpu(monkeypatch)
    moving = RankBand(0.05, 0.5, drop_closest_from=0.0, anneal=1.0)
    fit(replace(short("digits-moco", cuda_graph=True, epochs=2), negatives=moving), images=made(160))
    assert log == [] and "No step was replayed: the rules changed" in "".join(capsys.readouterr())


def test_the_bench_takes_the_recorded_step(monkeypatch: pytest.MonkeyPatch) -> None:
    log = on_cpu(monkeypatch)
    place = Workplace(short("digits-moco", cuda_graph=True), torch.device("cpu"), side=16)
    for _ in range(3):
        place.step()
    assert [what for _, what in log] == ["recorded", "replayed", "replayed"] and place.state.step == 3


@pytest.mark.slow
def test_a_resumed_run_is_recorded_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = on_cpu(monkeypatch)
    experiment = short("digits-moco", cuda_graph=True, checkpoint_every=1, epochs=3)
    whole = fit(experiment, images=made(96))

    def stop(run: Run) -> None:
        if len(run.history.rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(experiment, images=made(96), out=tmp_path, callbacks=[stop])
    log.clear()
    resumed = fit(experiment, images=made(96), out=tmp_path, resume=True)
    assert [step for step, what in log if what == "recorded"] == [7]
    for ours, theirs in zip(whole.encoder.state_dict().values(), resumed.encoder.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "device", "ranks", "message"),
    [
        ({}, "cpu", Ranks(0, 1), r"excludes device=cpu\."),
        ({"chunk": 8}, "cuda", Ranks(0, 1), r"excludes training\.chunk\."),
        ({}, "cuda", Ranks(0, 2), r"excludes torchrun\."),
    ],
)
def test_what_cannot_be_recorded_is_refused(settings: Any, device: str, ranks: Ranks, message: str) -> None:
    experiment = training(preset("digits-moco"), cuda_graph=True, batch=32, queue_size=96, **settings)
    with pytest.raises(ValueError, match=message):
        fitting.check_trainable(experiment, made(160), ranks, torch.device(device), Parts())


@pytest.mark.gpu
@pytest.mark.parametrize(
    "name", ["digits-moco", "digits-simclr", "digits-potential", "digits-random", "digits-mochi", "digits-glofnd"]
)
def test_a_recorded_step_learns_what_a_plain_one_learns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[int] = []
    played = Recording.replay

    def counted(self: Recording, batch: Batch, rate: float) -> None:
        replays.append(1)
        played(self, batch, rate)

    monkeypatch.setattr(Recording, "replay", counted)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    runs = [
        fit(short(name, device="cuda", precision="float32", queue_size=32, cuda_graph=recorded), images=made(160))
        for recorded in (False, True)
    ]
    assert len(replays) > 15
    for epoch, (ours, theirs) in enumerate(zip(runs[0].history.rows, runs[1].history.rows, strict=True)):
        # What a GPU adds up in no fixed order differs in the last digits, and training makes more of it.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4 if epoch == 0 else 1e-2)
        assert ours["potential"] == pytest.approx(theirs["potential"], rel=1e-2)
    memories = [run.memory for run in runs]
    if memories[0] is not None and memories[1] is not None:
        assert torch.equal(memories[0].queue.ids, memories[1].queue.ids)


@pytest.mark.gpu
def test_what_cannot_be_recorded_says_so() -> None:
    class Waits(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * (1 if float(x.sum().detach()) > 0 else 2)

    experiment = short("digits-moco", device="cuda", cuda_graph=True)
    with pytest.raises(RuntimeError, match=r"cannot be recorded as a CUDA graph, .* in a new Python process"):
        fit(experiment, images=made(160), backbone=Waits())
