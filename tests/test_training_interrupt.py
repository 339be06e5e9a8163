"""Ctrl-C and SIGTERM: what has been done is saved, also within an epoch, and a second request stops at once."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from test_training_checkpoint import (
    POTENTIAL,
    RANDOM,
    SIMCLR,
    Whole,
    assert_equal_runs,
    checkpoint,
    files,
    made,
    same,
    trained_once,
    training,
)
from torch import nn

from cltools.config import Experiment
from cltools.presets import preset
from cltools.training import Run, Stopped, fit
from cltools.training.fit import SIGNALS, stopping

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

STEPS = 3  # an epoch


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C as a person has it, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Have something happen in the step of that number, counted from 1."""

    def arrange(number: int, event: Callable[[], None]) -> None:
        step, seen = fitting.train_step, []

        def train_step(*arguments: Any, **named: Any) -> Any:
            seen.append(1)
            if len(seen) == number:
                event()
            return step(*arguments, **named)

        monkeypatch.setattr(fitting, "train_step", train_step)

    return arrange


def sent(number: signal.Signals, times: int = 1) -> Callable[[], None]:
    def send() -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)

    return send


def dropping() -> nn.Module:
    import torch

    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def recorded(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return record


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return trained_once(tmp_path_factory)


@pytest.mark.parametrize(
    ("case", "step"),
    [
        ("potential", 4),
        pytest.param("simclr", 1, marks=pytest.mark.slow),
        ("own backbone", 5),
        ("blocks", 2),
        pytest.param("potential", 6, marks=pytest.mark.slow),
        pytest.param("random", 11, marks=pytest.mark.slow),
    ],
)
def test_a_run_stopped_at_any_step_goes_on_as_if_it_had_not_been(
    case: str, step: int, tmp_path: Path, at_step: Callable[..., None], whole: Whole
) -> None:
    blocks = replace(POTENTIAL, training=replace(POTENTIAL.training, shuffle_block=3))
    experiment = {
        "blocks": blocks,
        "potential": POTENTIAL,
        "simclr": SIMCLR,
        "random": RANDOM,
        "own backbone": POTENTIAL,
    }[case]
    own: Callable[[], dict[str, Any]] = lambda: {"backbone": dropping()} if case == "own backbone" else {}  # noqa: E731
    expected = fit(experiment, images=made(), out=tmp_path / "whole", **own()) if own() else whole(experiment)
    handlers = [signal.getsignal(each) for each in SIGNALS]
    at_step(step, sent(signal.SIGTERM))
    with pytest.raises(Stopped, match=r"continue with --resume \(resume=True\)") as stopped:
        fit(experiment, images=made(), out=tmp_path / "cut", **own())
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert stopped.value.signal is signal.SIGTERM and str(tmp_path / "cut") in str(stopped.value)
    epochs, steps = divmod(step, STEPS)
    within = {0: "", 1: " and 1 step"}.get(steps, f" and {steps} steps")
    assert str(stopped.value).startswith(f"Stopped after {epochs} of 4 epochs{within}.")
    state = checkpoint(tmp_path / "cut")
    assert (state["epoch"], state["step"]) == (epochs, step) and (state["ranks"][0]["partial"] is None) == (steps == 0)
    kept = Run.load(tmp_path / "cut", **own())
    assert len(kept.history.rows) == epochs and same(kept.encoder.state_dict(), state["encoder"])
    assert kept.steps == steps and recorded(tmp_path / "cut")["steps"] == steps
    resumed = fit(experiment, images=made(), out=tmp_path / "cut", resume=True, **own())
    assert_equal_runs(expected, resumed)


def test_a_stopped_epoch_takes_the_time_of_its_parts(
    tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: now[0])

    def pass_time() -> None:
        now[0] += 5.0

    at_step(2, lambda: (pass_time(), sent(signal.SIGINT)()))  # type: ignore[arg-type, func-returns-value]
    with pytest.raises(Stopped):
        fit(training(SIMCLR, epochs=1), images=made(), out=tmp_path)
    now[0] += 1000
    at_step(1, pass_time)
    assert fit(training(SIMCLR, epochs=1), images=made(), out=tmp_path, resume=True).history.rows[0]["seconds"] == 10.0


def test_figures_of_a_stopped_epoch_do_not_pass_for_those_of_later_steps(
    tmp_path: Path, at_step: Callable[..., None]
) -> None:
    digits = preset("digits-simclr")
    experiment = replace(
        training(digits, epochs=1, batch=64, device="cpu"), data=replace(digits.data, limit=400), seed=3
    )
    at_step(2, sent(signal.SIGTERM))
    with pytest.raises(Stopped):
        fit(experiment, out=tmp_path)
    report = Run.load(tmp_path).evaluate(protocols=["knn10"])
    assert (report["epochs"], report["steps"]) == (0, 2) and recorded(tmp_path)["evaluations"]["test"] == report
    at_step(1, sent(signal.SIGTERM))
    with pytest.raises(Stopped):
        fit(experiment, out=tmp_path, resume=True)
    assert (recorded(tmp_path)["epochs"], recorded(tmp_path)["steps"]) == (0, 3)
    assert recorded(tmp_path)["evaluations"] == {}


def test_a_second_signal_stops_at_once_and_nothing_is_saved(tmp_path: Path, at_step: Callable[..., None]) -> None:
    at_step(2, sent(signal.SIGINT, times=2))
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(SIMCLR, images=made(), out=tmp_path)
    assert not isinstance(stopped.value, Stopped) and not list(tmp_path.iterdir())


def test_in_memory_there_is_nothing_to_save(at_step: Callable[..., None]) -> None:
    at_step(2, sent(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(SIMCLR, images=made())
    assert not isinstance(stopped.value, Stopped)


def test_a_signal_in_the_last_step_does_not_undo_a_finished_run(tmp_path: Path, at_step: Callable[..., None]) -> None:
    at_step(4 * STEPS, sent(signal.SIGTERM))
    run = fit(SIMCLR, images=made(), out=tmp_path)
    assert len(run.history.rows) == 4 and checkpoint(tmp_path)["epoch"] == 4


def test_a_stop_before_a_loss_that_is_not_finite_saves_nothing_of_it(
    tmp_path: Path, at_step: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = fitting.train_step

    def broken(*arguments: Any, **named: Any) -> Any:
        result = step(*arguments, **named)
        sent(signal.SIGTERM)()
        return replace(result, loss=result.loss * float("nan"))

    monkeypatch.setattr(fitting, "train_step", broken)
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        fit(SIMCLR, images=made(), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_other_threads_leave_signals_alone(tmp_path: Path) -> None:
    before, seen = [signal.getsignal(each) for each in SIGNALS], []

    def work() -> None:
        with stopping(True):
            seen.extend(signal.getsignal(each) for each in SIGNALS)
        seen.append(len(fit(training(SIMCLR, epochs=1), images=made(), out=tmp_path).history.rows))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [*before, 1]


@pytest.mark.parametrize("name", [pytest.param("encoder.safetensors", marks=pytest.mark.slow), "checkpoint.pt"])
def test_a_full_disk_leaves_a_run_that_goes_on(name: str, whole: Whole, tmp_path: Path) -> None:
    """The system itself refuses to write nearly as many bytes into a file as this one needs."""
    expected, before = whole(POTENTIAL), {}
    assert expected.path is not None
    limit = int(0.9 * (expected.path / name).stat().st_size)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(run: Run) -> None:
        if len(run.history.rows) == 2:
            before.update(files(tmp_path / "cut"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

    try:
        with pytest.raises(
            OSError, match=rf"{name} could not be written: .*too large.*earlier file of that name is unchanged"
        ):
            fit(POTENTIAL, images=made(), out=tmp_path / "cut", callbacks=[fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path / "cut")["checkpoint.pt"] == before["checkpoint.pt"]
    assert not list((tmp_path / "cut").glob("*.part")) and checkpoint(tmp_path / "cut")["epoch"] == 2
    assert_equal_runs(expected, fit(POTENTIAL, images=made(), out=tmp_path / "cut", resume=True))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_line_ends_in_a_message_and_goes_on(number: signal.Signals, status: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cltools", "train", "digits-moco", "--epochs", "40", "--out", "run"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # the bar's first epoch
            if "epoch 1/40" in line:
                break
        process.send_signal(number)
        _, words = process.communicate(timeout=120)
    assert process.returncode == status
    assert "cltools: Stopped after " in words and "Traceback" not in words
    assert "epochs" in words and "run: continue with --resume" in words
    assert checkpoint(tmp_path / "run")["step"] > 9


def test_what_a_process_was_started_to_ignore_stays_ignored(tmp_path: Path, at_step: Callable[..., None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    at_step(2, sent(signal.SIGINT))
    assert len(fit(SIMCLR, images=made(), out=tmp_path).history.rows) == 4
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_handlers_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(RuntimeError), stopping(True) as asked:
        assert signal.getsignal(signal.SIGTERM) not in before and not asked
        raise RuntimeError
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_experiments_here_are_as_long_as_the_tests_say() -> None:
    experiments: tuple[Experiment, ...] = (POTENTIAL, SIMCLR, RANDOM)
    for experiment in experiments:
        kept = round(64 * (1 - experiment.data.holdout))
        assert kept // experiment.training.batch == STEPS and experiment.training.epochs == 4
