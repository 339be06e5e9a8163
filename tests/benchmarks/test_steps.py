"""A step by its parts: that what is timed is what trains; never how long it took."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import steps
from benchmarks.measuring import Run, Work
from benchmarks.steps import COLUMNS, PARTS, Workplace, measure
from cltools.config import Experiment, TrainingSettings
from cltools.encoders import EncoderSettings
from cltools.mining import AllNegatives, AugmentedView, NearestKeys
from cltools.presets import laptop, preset
from cltools.training import state as train_state

CPU = torch.device("cpu")
ONCE = Run("cpu", 1)


def small(**changes: Any) -> Experiment:
    """An experiment whose step takes a few milliseconds; its batch does not divide its queue."""
    encoder = EncoderSettings(backbone="tiny", hidden=8, projection=8, bn_group=None)
    training = TrainingSettings(batch=8, queue_size=20, mode=changes.pop("mode", "moco"))
    return Experiment(encoder=encoder, training=training, **changes)


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do every work once, and say that a step took 100 ms and all else 2 ms."""

    def take(run: Run, works: dict[str, Work]) -> dict[str, float]:
        return {name: (work(), 100.0 if name == "step" else 2.0)[1] for name, work in works.items()}

    monkeypatch.setattr(Run, "medians", take)


def operations(work: Work) -> int:
    """Floating-point operations of products and convolutions, by torch's count."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """What `steps` asks to be measured, without measuring."""
    asked: list[Experiment] = []

    def record(experiment: Experiment, run: Run) -> dict[str, float]:
        asked.append(experiment)
        return {"queue_size": experiment.training.queue_size, **dict.fromkeys(COLUMNS, 1.0)}

    monkeypatch.setattr(steps, "measure", record)
    return asked


@pytest.mark.parametrize(
    "changes",
    [{"mode": "simclr", "positives": AugmentedView(), "negatives": AllNegatives()}, {"positives": NearestKeys(k=2)}],
    ids=["simclr", "mined"],
)
def test_the_parts_compute_what_the_step_computes(changes: dict[str, Any]) -> None:
    place = Workplace(small(**changes), CPU, side=16)
    for work in (place.step, *place.parts().values()):
        work()  # what parts prepare once is no part of them
    by_part = {name: operations(work) for name, work in place.parts().items()}
    assert sum(by_part.values()) == operations(place.step), by_part
    assert by_part["views"] == by_part["optimiser"] == 0 and min(by_part["selection"], by_part["loss"]) > 0


@pytest.mark.parametrize(("mode", "keys"), [("moco", 20), ("simclr", 0)])
def test_steps_meet_a_full_queue_rules_at_full_strength_and_trainings_convolutions(
    mode: str, keys: int, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: set[tuple[int, float, bool]] = set()
    train_step: Any = steps.train_step

    def record(state: Any, *rest: Any, progress: float, labelled: bool) -> Any:
        filled = len(state.memory.queue) if state.memory else 0
        taken.add((filled, progress, torch.backends.cudnn.benchmark))
        return train_step(state, *rest, progress=progress, labelled=labelled)

    monkeypatch.setattr(steps, "train_step", record)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.get_rng_state()
    row = measure(small(mode=mode), ONCE)
    assert taken == {(keys, 1.0, True)} and not torch.backends.cudnn.benchmark
    assert row["rest ms"] == 100.0 - 2.0 * len(PARTS) and row["added MiB"] > 0
    assert row["views/s"] == 16 / 0.1
    assert torch.equal(before, torch.get_rng_state())


def test_the_laptop_setting_is_measured_unless_asked_otherwise(asked: list[Experiment]) -> None:
    steps.steps(("cifar10-moco",), run=ONCE)
    steps.steps(("cifar10-moco",), full=True, run=ONCE)
    assert asked == [laptop(preset("cifar10-moco")), preset("cifar10-moco")]


def test_other_queues_are_rows_where_there_is_a_queue(asked: list[Experiment]) -> None:
    record = steps.steps(("digits-moco", "digits-simclr"), queue_sizes=(512,), compile=True, run=ONCE)
    assert [row["preset"] for row in record["rows"]] == ["digits-moco"] * 2 + ["digits-simclr"]
    assert asked[1] == replace(asked[0], training=replace(asked[0].training, queue_size=512))
    assert all(experiment.training.compile for experiment in asked)


def test_torch_forgets_what_it_compiled_before(untimed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[bool] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append(True))
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    monkeypatch.setattr(train_state, "BACKEND", "eager")  # the usual one takes long to load
    made = small()
    measure(replace(made, training=replace(made.training, compile=True)), ONCE)
    assert forgotten


def test_what_cannot_be_measured_is_refused_before_anything_is(asked: list[Experiment]) -> None:
    for wanted, message in [
        ({"presets": ("digits-moco", "digits-mocco")}, "Did you mean digits-moco"),
        ({"presets": ()}, "--presets is empty"),
        ({"cuda_graph": True}, "leave it out"),
        ({"run": Run("gpu")}, "Unknown device 'gpu'"),
        ({"run": Run("cpu", 0)}, "at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            steps.steps(**{"run": ONCE, **wanted})
    assert asked == []
