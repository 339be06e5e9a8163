"""A run's folder: one training writes there, and what is missing, cut or altered loses nothing of what was known."""

import errno
import json
import os
import random
import re
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_training_checkpoint import LEARNED, POTENTIAL, SIMCLR, files, made, same, stopped, training
from torch import nn

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import CltoolsError
from cltools.files import IN_USE, claimed
from cltools.training import Run, fit
from cltools.training.checkpoint import Checkpoint
from cltools.training.record import RunRecord, read_run_record
from cltools.training.run import FILES

fitting = import_module("cltools.training.fit")
running = import_module("cltools.training.run")
reporting = import_module("cltools.evaluation.report")

ASKED = Experiment(
    data=DataSettings("digits", limit=64),
    encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
    training=TrainingSettings(epochs=3, batch=16, queue_size=32, device="cpu"),
    evaluation=EvaluationSettings(every=2, test_limit=50),
)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished and evaluated run; nobody changes it."""
    folder = tmp_path_factory.mktemp("once") / "run"
    fit(ASKED, out=folder).evaluate(protocols=["knn10"])
    return folder


@pytest.fixture
def folder(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "run"))


def recorded(folder: Path) -> RunRecord:
    record = read_run_record(folder)
    assert record is not None
    return record


# --- one folder, one training


def test_a_folder_that_is_trained_in_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    told: list[str] = []

    def second(run: Run) -> None:
        if len(run.history.rows) > 1:
            return
        before = files(tmp_path)
        for resume in (False, True):

            def other(resume: bool = resume) -> None:
                with pytest.raises(ValueError, match=f"in use by process {os.getpid()} on ") as refused:
                    fit(training(POTENTIAL, epochs=2), out=tmp_path, images=made(), resume=resume)
                told.append(str(refused.value))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert files(tmp_path) == before

    run = fit(training(POTENTIAL, epochs=2), images=made(), out=tmp_path, callbacks=[second])
    assert len(told) == 2 and all(str(tmp_path) in each and "another path" in each for each in told)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES} and len(run.history.rows) == 2


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_experiment_is_refused_in_a_folder_that_holds_another(resume: bool, folder: Path) -> None:
    before = files(folder)
    with pytest.raises((FileExistsError, CltoolsError), match=r"already holds a run|made with other settings"):
        fit(replace(ASKED, seed=5), out=folder, resume=resume)
    assert files(folder) == before


def test_one_that_comes_after_another_has_ended_sees_what_that_left(tmp_path: Path) -> None:
    """The folder is looked at again when it is claimed: another may have gone on in between."""
    stopped(POTENTIAL, tmp_path, epoch=1)
    expected = fit(POTENTIAL, images=made())
    read, late = Checkpoint.read.__func__, list[str]()  # type: ignore[attr-defined]

    def meanwhile(kind: type, path: Path) -> Any:
        found = read(kind, path)
        if not late:
            late.append("once")
            stopped(POTENTIAL, tmp_path, epoch=3, resume=True)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "read", classmethod(meanwhile))
        run = fit(POTENTIAL, images=made(), out=tmp_path, resume=True)
    assert same(run.encoder.state_dict(), expected.encoder.state_dict()) and len(run.history.rows) == 4


def test_an_evaluation_beside_a_training_keeps_nothing_and_says_what_it_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "PATIENCE", 0.0)
    before = files(folder)
    run = Run.load(folder)
    with claimed(folder / IN_USE, "train"):
        thread = threading.Thread(target=lambda: run.evaluate(protocols=["knn200"]))
        thread.start()
        thread.join()
    assert re.search(r"in use by .*not saved: knn200 \d", capsys.readouterr().err)
    assert files(folder) == before
    run.evaluate(protocols=["knn200"])
    assert {"knn10", "knn200"} <= recorded(folder).evaluations["test"].keys()


def test_a_callback_evaluates_and_saves_within_the_claim_of_its_training(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []

    def measure(run: Run) -> None:
        run.save()
        reports.append(run.evaluate(protocols=["knn10"]))
        assert (tmp_path / IN_USE).is_file()

    fit(ASKED, out=tmp_path, callbacks=[measure])
    assert [report["epochs"] for report in reports] == [1, 2, 3] and not (tmp_path / IN_USE).exists()
    assert recorded(tmp_path).evaluations == {"test": reports[-1]}


def test_names_without_a_place_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="out is empty"):
        fit(SIMCLR, images=made(), out="")
    for name in ("/dev/full", "/dev/null"):
        with pytest.raises(OSError, match=f"{name} could not be written: a file exists where a folder is needed"):
            fit(SIMCLR, images=made(), out=name)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OSError, match=r"could not be written: .*No such file"):
        fit(SIMCLR, images=made(), out="run")
    monkeypatch.chdir(tmp_path)
    assert not list(tmp_path.iterdir())


# --- what is missing, cut or altered


LOST: dict[str, Callable[[Path], object]] = {
    "history missing": lambda run: (run / "history.csv").unlink(),
    "history cut": lambda run: (run / "history.csv").write_bytes((run / "history.csv").read_bytes()[:-200]),
    "history empty": lambda run: (run / "history.csv").write_bytes(b""),
    "history of one epoch": lambda run: (run / "history.csv").write_text(
        "".join((run / "history.csv").read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8"
    ),
    "config missing": lambda run: (run / "config.json").unlink(),
    "weights missing": lambda run: (run / "encoder.safetensors").unlink(),
    "checkpoint missing": lambda run: (run / "checkpoint.pt").unlink(),
    "checkpoint cut": lambda run: (run / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:-999]),
}


@pytest.mark.parametrize("lost", LOST)
def test_what_is_lost_of_a_run_is_not_lost_of_its_record(lost: str, folder: Path) -> None:
    before = recorded(folder)
    LOST[lost](folder)
    report = Run.load(folder).evaluate(protocols=["knn200"])
    after = recorded(folder)
    assert after.evaluations["test"] == before.evaluations["test"] | report | {
        "per_class": before.evaluations["test"]["per_class"] | report["per_class"]
    }
    assert replace(after, evaluations={}) == replace(before, evaluations={})
    assert len(Run.load(folder).history.rows) == 3


def test_a_history_that_is_missing_comes_back_from_the_checkpoint(once: Path, folder: Path) -> None:
    (folder / "history.csv").unlink()
    Run.load(folder).evaluate(protocols=["knn10"])
    assert (folder / "history.csv").read_bytes() == (once / "history.csv").read_bytes()


def test_without_history_and_checkpoint_the_record_stays_as_it_was(folder: Path) -> None:
    for name in ("history.csv", "checkpoint.pt"):
        (folder / name).unlink()
    before = files(folder)
    run = Run.load(folder)
    for act in (run.evaluate, run.save):
        with pytest.raises(ValueError, match=r"record\.json is of epoch 3, .* Bring back history\.csv"):
            act()
    assert files(folder) == before


def test_a_record_of_a_longer_run_is_not_written_over(folder: Path) -> None:
    run = Run.load(folder)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    (folder / "record.json").write_text(json.dumps(record | {"epochs": 9}), encoding="utf-8")
    before = files(folder)
    for act in (run.evaluate, run.save):
        with pytest.raises(ValueError, match="is of epoch 9, step 0, not 3, 0"):
            act()
    assert files(folder) == before


def test_a_run_without_record_is_evaluated_into_a_new_one(folder: Path) -> None:
    (folder / "record.json").unlink()
    Run.load(folder).evaluate(protocols=["knn10"])
    assert recorded(folder).epochs == 3 and recorded(folder).evaluations["test"]["epochs"] == 3


def test_settings_that_were_edited_put_no_figures_under_others(folder: Path) -> None:
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"test_limit": 50', '"test_limit": 40'), encoding="utf-8")
    before = files(folder)
    with pytest.raises(ValueError, match=r"config\.json was changed: .*evaluation\.test_limit: 50 → 40"):
        Run.load(folder).evaluate(protocols=["knn10"])
    assert files(folder) == before
    (folder / "config.json").write_text(
        config.replace('"checkpoint_every": 1', '"checkpoint_every": 2'), encoding="utf-8"
    )
    Run.load(folder).evaluate(protocols=["knn10"])


def test_an_evaluation_that_is_interrupted_keeps_what_it_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = recorded(folder).evaluations["test"]
    monkeypatch.setattr(reporting, "linear_predict", stop)
    with pytest.raises(KeyboardInterrupt):
        Run.load(folder).evaluate(protocols=["knn200", "linear", "probe"])
    after = recorded(folder).evaluations["test"]
    assert after["knn200"] >= 0 and after["knn10"] == before["knn10"] and "linear_epochs" not in after
    assert (folder / "confusion-test-knn200.csv").is_file() and "probe" not in after


def test_where_nothing_can_be_kept_figures_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, run = files(folder), Run.load(folder)

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        measured = run.evaluate(protocols=["knn10", "knn200"])
    told = capsys.readouterr().err
    for name in ("knn10", "knn200"):
        assert re.search(
            rf"No space left.*Free some space.*Measured but not saved: .*{name} {measured[name]:.1f}", told
        )
    assert files(folder) == before


# --- numbers are those that were written


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that a checkpoint may hold."""
    return stopped(replace(POTENTIAL, negatives=LEARNED.negatives), tmp_path_factory.mktemp("learned") / "run")


def numbers(run: Run) -> list[Any]:
    assert run.memory is not None
    parts = [run.encoder, run.memory.copy, run.memory.queue]
    return [*(part.state_dict() for part in parts), run.rule_state, run.history.rows, run.images]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["checkpoint.pt", "encoder.safetensors"])
@pytest.mark.parametrize("flips", [25, pytest.param(3000, marks=pytest.mark.nightly)])
def test_a_flipped_bit_never_loads_as_other_numbers(name: str, flips: int, learned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "run"))
    experiment = replace(POTENTIAL, negatives=LEARNED.negatives)
    expected, content = numbers(Run.load(folder)), (folder / name).read_bytes()
    draw, refused = random.Random(flips), 0
    for at in range(draw.randrange(len(content) // flips), len(content), len(content) // flips):
        damaged = bytearray(content)
        damaged[at] ^= 1 << draw.randrange(8)
        (folder / name).write_bytes(damaged)
        if name == "checkpoint.pt":
            try:
                run = fit(training(experiment, epochs=4), images=made(), out=folder, resume=True, on_step=stop_at_once)
            except CltoolsError as error:
                assert str(folder / name) in str(error)
                refused += 1
            except StopIteration:
                pass  # what was flipped is read by nobody, as the next lines show
            else:
                raise AssertionError(run)
            found = Run.load(folder)
            if found.memory is None:
                continue
        else:
            try:
                found = Run.load(folder)
            except CltoolsError as error:
                assert str(folder / name) in str(error)
                refused += 1
                continue
        assert same(numbers(found), expected), f"byte {at}"
    assert refused > 0.6 * flips


def stop_at_once(info: object) -> None:
    raise StopIteration


def test_weights_of_another_run_beside_a_checkpoint_are_refused(learned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "run"))
    experiment = replace(POTENTIAL, negatives=LEARNED.negatives, seed=9)
    other = stopped(experiment, tmp_path / "other")
    shutil.copy(other / "encoder.safetensors", folder)
    with pytest.raises(ValueError, match=r"encoder\.safetensors and checkpoint\.pt are of one step and differ"):
        Run.load(folder)
    (folder / "checkpoint.pt").unlink()
    assert same(Run.load(folder).encoder.state_dict(), Run.load(other).encoder.state_dict())


def test_weights_that_no_digest_was_written_with_load(learned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "run"))
    weights = load_file(folder / "encoder.safetensors")
    save_file(weights, folder / "encoder.safetensors")
    run = Run.load(folder)
    assert same(dict(run.encoder.state_dict()), weights) and len(run.history.rows) == 2


ODD: tuple[Any, ...] = (None, -1, "text", [], {}, 10**30, float("nan"))


def altered(value: Any) -> list[Any]:
    if not isinstance(value, torch.Tensor):
        return list(ODD)
    some = [value.double(), value[:0] if value.ndim else value[None], value.new_zeros(1).expand(10**12), "text", None]
    return [
        each
        for each in some
        if not (isinstance(each, torch.Tensor) and each.dtype == value.dtype and each.shape == value.shape)
    ]


def places(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, torch.Tensor) or not isinstance(value, dict | list):
        return []
    keys = [*value] if isinstance(value, dict) else [*range(len(value))][:2]
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@pytest.mark.parametrize("count", [30, pytest.param(2000, marks=pytest.mark.nightly)])
def test_a_checkpoint_that_was_altered_is_refused_in_words(count: int, learned: Path, tmp_path: Path) -> None:
    """Every member away, or something else in its place: it goes on, or an error names the file."""
    folder = Path(shutil.copytree(learned, tmp_path / "run"))
    experiment = replace(POTENTIAL, negatives=LEARNED.negatives)
    content, draw = (folder / "checkpoint.pt").read_bytes(), random.Random(count)
    for _ in range(count):
        (folder / "checkpoint.pt").write_bytes(content)
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        parts = places(state)
        holder, key = draw.choice(parts if draw.random() < 0.6 else [(state, name) for name in state])
        if draw.random() < 0.3:
            del holder[key]
        else:
            holder[key] = draw.choice(altered(holder[key]))
        torch.save(state, folder / "checkpoint.pt")
        try:
            fit(experiment, images=made(), out=folder, resume=True, on_step=stop_at_once)
        except CltoolsError as error:
            assert str(folder / "checkpoint.pt") in str(error)
        except StopIteration:
            pass
        try:
            Run.load(folder)
        except CltoolsError as error:
            assert str(folder) in str(error)


EDITED: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows[0].loss": lambda state: state["rows"][0].update(loss=1),
    "rows[1].knn": lambda state: state["rows"][1].update(knn=True),
    "rows[2].epoch": lambda state: state["rows"].append(dict.fromkeys(state["rows"][0], float("nan"))),
    "queue.pointer": lambda state: state["queue"].update(pointer="3"),
    "queue.keys": lambda state: state["queue"].update(keys=state["queue"]["keys"].double()),
    "optimizer.state[0].momentum_buffer": lambda state: state["optimizer"]["state"][0]["momentum_buffer"].zero_(),
    "optimizer.param_groups[0].momentum": lambda state: state["optimizer"]["param_groups"][0].update(momentum=0.5),
    "ranks[0].chance": lambda state: state["ranks"][0]["chance"].roll(1).copy_(state["ranks"][0].pop("chance")),
    "shuffler": lambda state: state.update(shuffler=torch.zeros_like(state["shuffler"])),
    "epoch": lambda state: state.update(epoch=1),
    "given": lambda state: state.update(given={}),
    "images.pixels": lambda state: state["images"].update(pixels=""),
    "more": lambda state: state.update(more=5),
}


@pytest.mark.parametrize("place", EDITED)
def test_a_checkpoint_edited_by_hand_names_the_place(place: str, learned: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(learned, tmp_path / "run"))
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    EDITED[place](state)
    torch.save(state, folder / "checkpoint.pt")
    experiment = replace(POTENTIAL, negatives=LEARNED.negatives)
    told = rf"checkpoint\.pt was altered after it was written: {re.escape(place)}.* is not as it was saved\. Put the"
    with pytest.raises(CltoolsError, match=told):
        fit(experiment, images=made(), out=folder, resume=True)


# --- an encoder within something else


class Holds(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.parametrize("wrap", [nn.DataParallel, Holds, torch.compile, lambda e: Holds(nn.DataParallel(e))])
def test_an_encoder_that_was_wrapped_is_saved_bare(wrap: Any, once: Path, folder: Path) -> None:
    run = Run.load(folder)
    run.encoder = wrap(run.encoder)
    run.save()
    assert same(dict(Run.load(folder).encoder.state_dict()), dict(Run.load(once).encoder.state_dict()))
    warm = fit(replace(ASKED, seed=3), start_from=run)
    assert same(
        warm.history.column("loss"), fit(replace(ASKED, seed=3), start_from=Run.load(once)).history.column("loss")
    )


def test_what_is_no_encoder_is_not_saved_for_one(folder: Path) -> None:
    before, run = files(folder), Run.load(folder)
    backbone = run.encoder.backbone
    run.encoder.backbone = torch.compile(backbone)  # type: ignore[assignment]
    with pytest.raises(CltoolsError, match=r"a part that is wrapped \(backbone\._orig_mod\); restore"):
        run.save()
    run.encoder.backbone = backbone
    run.encoder = nn.Linear(2, 2)  # type: ignore[assignment]
    with pytest.raises(CltoolsError, match="encoder is of type Linear; restore"):
        run.save()
    assert files(folder) == before


# --- what a training changes of its process


def surroundings() -> dict[str, Any]:
    """What of a process a person, or another part of a program, may have set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    return {
        "convolutions": (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        "matmul": (torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "type": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "environment": environment,
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "draws": torch.get_rng_state().tolist(),
        "folder": os.getcwd(),
    }


@pytest.mark.parametrize("error", [None, RuntimeError("by itself"), KeyboardInterrupt(), MemoryError()])
def test_a_training_leaves_its_process_as_it_was(error: BaseException | None, tmp_path: Path) -> None:
    def fail(info: object) -> None:
        if error is not None:
            raise error

    before = surroundings()
    with pytest.raises(ValueError if isinstance(error, MemoryError) else type(error)) if error else nullcontext():
        fit(training(POTENTIAL, epochs=1), images=made(), out=tmp_path / "run", on_step=fail)
    assert {name: now for name, now in surroundings().items() if now != before[name]} == {}
    assert (tmp_path / "run").exists() == (error is None)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory_says_what_takes_less(error: Exception, tmp_path: Path) -> None:
    def fail(info: object) -> None:
        raise error

    with pytest.raises(ValueError, match=r"^Training would take .* of memory, .*Lower training\.batch or .*chunk"):
        fit(POTENTIAL, images=made(), out=tmp_path, on_step=fail)
    with pytest.raises(RuntimeError, match=r"^another$"):
        fit(POTENTIAL, images=made(), out=tmp_path, on_step=lambda info: raised(RuntimeError("another")))


def raised(error: Exception) -> None:
    raise error
