"""A run: what it keeps and gives back, with an own backbone too, and what another may start from."""

import copy
import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import MINING, TINY, asked, equal, made
from torch import Tensor, nn

from cltools.config import Experiment
from cltools.datasets import DataSettings
from cltools.evaluation import LinearRecipe, accuracy, confusion, embed, linear_predict
from cltools.mining import RankBand
from cltools.training import Run, fit
from cltools.training.inputs import training_images
from cltools.training.state import TrainState

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's


class CaughtError(Exception):
    def __init__(self, state: TrainState) -> None:
        self.state = state


def beginning(experiment: Experiment, **arguments: Any) -> TrainState:
    """The state with which `fit` would take its first step."""

    def caught(state: TrainState, *_: Any, **__: Any) -> Any:
        raise CaughtError(state)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(CaughtError) as found:
        patch.setattr(fitting, "train_step", caught)
        fit(experiment, **arguments)
    return found.value.state


# --- own backbones


class Own(nn.Module):
    """Fits pictures of 16×16 only, and has a batch norm of torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Linear(3 * 16 * 16, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(self.flat(x.flatten(1)))
        return features


@pytest.mark.parametrize("mode", ["moco", "simclr"])
def test_an_own_backbone_is_trained_in_place_saved_and_loaded(mode: str, tmp_path: Path) -> None:
    own, other, images = Own(), Own(), made()
    before = copy.deepcopy(own)
    run = fit(asked(mode=mode), images=images, backbone=own, out=tmp_path / "run")
    assert run.encoder.backbone.module is own and not torch.equal(own.flat.weight, before.flat.weight)
    assert int(own.norm.num_batches_tracked) == 2 * 2 * 3 and type(own.norm) is nn.BatchNorm1d
    state = torch.get_rng_state()
    loaded = Run.load(tmp_path / "run", backbone=other)
    assert equal(loaded.encoder, run.encoder) and torch.equal(state, torch.get_rng_state())
    assert torch.equal(embed(loaded.encoder, images), embed(run.encoder, images))
    with pytest.raises(ValueError, match=r"with backbone=test_training_run\.Own\. .* backbone=…\)"):
        Run.load(tmp_path / "run")


def test_a_backbone_that_shares_weights_is_saved_and_loaded(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            features: Tensor = self.second(self.first(x.mean((1, 2))).relu())
            return features

    run = fit(asked(), images=made(), backbone=Tied(), out=tmp_path / "run")
    assert equal(Run.load(tmp_path / "run", backbone=Tied()).encoder, run.encoder)


# --- starting from a run


@pytest.mark.parametrize("from_disk", [False, True])
def test_a_start_takes_encoder_momentum_copy_and_queue_and_no_optimiser(from_disk: bool, tmp_path: Path) -> None:
    source = fit(asked(), images=made(), out=tmp_path)
    if from_disk:
        source = Run.load(tmp_path)
    state = beginning(asked(MINING, seed=5, epochs=7), images=made(seed=3), start_from=source)
    assert source.memory is not None and state.memory is not None
    assert equal(state.encoder, source.encoder) and equal(state.memory.copy, source.memory.copy)
    assert not equal(state.encoder, state.memory.copy.encoder)
    for name in ("keys", "ids", "labels"):
        assert torch.equal(getattr(state.memory.queue, name), getattr(source.memory.queue, name))
    assert state.memory.queue.pointer == source.memory.queue.pointer
    assert not state.optimizer.state and state.step == 0


def test_a_start_leaves_its_source_alone(tmp_path: Path) -> None:
    images = made()
    source = fit(asked(), images=images, out=tmp_path)
    before = copy.deepcopy((source.encoder, source.memory, source.history))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = fit(asked(MINING, seed=1), images=images, start_from=source)
    assert source.memory is not None and before[1] is not None and not equal(run.encoder, source.encoder)
    assert equal(source.encoder, before[0]) and equal(source.memory.copy, before[1].copy)
    assert torch.equal(source.memory.queue.keys, before[1].queue.keys) and len(source.history.rows) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_start_from_simclr_fills_the_momentum_copy_from_the_encoder() -> None:
    images = made()
    source = fit(asked(mode="simclr"), images=images)
    state = beginning(asked(seed=1), images=images, start_from=source)
    assert state.memory is not None and state.memory.queue.filled == 0
    assert equal(state.encoder, source.encoder) and equal(state.memory.copy.encoder, source.encoder)
    assert beginning(asked(mode="simclr"), images=images, start_from=fit(asked(), images=images)).memory is None


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [(asked(encoder=replace(TINY, projection=4)), "size mismatch"), (asked(queue_size=64), "queue has 48 keys")],
)
def test_a_start_from_another_encoder_or_queue_is_refused(experiment: Experiment, reason: str, tmp_path: Path) -> None:
    images = made()
    with pytest.raises(ValueError, match=f"start_from has another encoder or queue (.|\n)*{reason}"):
        fit(experiment, images=images, start_from=fit(asked(epochs=1), images=images), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_start_from_a_run_with_the_same_module_as_backbone_is_refused() -> None:
    source = fit(asked(), images=made(), backbone=Own())
    module = source.encoder.backbone.module
    with pytest.raises(ValueError, match="same module as start_from"):
        fit(asked(), images=made(), backbone=module, start_from=source)  # type: ignore[arg-type]
    again = fit(asked(), images=made(), backbone=copy.deepcopy(module), start_from=source)  # type: ignore[type-var]
    assert not equal(again.encoder, source.encoder)


# --- what a run keeps


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run on digits with a holdout, in a folder."""
    data = DataSettings("digits", limit=128, holdout=0.25)
    yield fit(asked(MINING, RankBand(), data=data), out=tmp_path_factory.mktemp("runs") / "a")


def test_a_run_comes_back_from_its_folder(kept: Run) -> None:
    assert kept.path is not None and kept.memory is not None
    back = Run.load(kept.path)
    assert back.experiment == kept.experiment and back.path == kept.path and equal(back.encoder, kept.encoder)
    assert not back.encoder.training and not kept.encoder.training
    for name in kept.history.rows[0]:
        assert back.history.column(name) == pytest.approx(kept.history.column(name), rel=0, abs=0, nan_ok=True)
    assert back.memory is not None and equal(back.memory.copy, kept.memory.copy)
    assert torch.equal(back.memory.queue.keys, kept.memory.queue.keys)
    assert back.memory.queue.state_dict().keys() == kept.memory.queue.state_dict().keys()


def test_evaluation_is_written_with_what_it_was_measured_on(kept: Run) -> None:
    assert kept.path is not None
    for split, judged in (("val", 32), ("test", 100)):
        report = kept.evaluate(split)
        assert json.loads((kept.path / "record.json").read_text(encoding="utf-8"))["evaluations"][split] == report
        assert list(report) == [
            "images", "split", "epochs", "knn200", "knn10", "probe", "uniformity", "train_images", "test_images",
            "per_class",
        ]  # fmt: skip
        assert (report["images"], report["split"], report["epochs"]) == ("digits", split, 2)
        assert (report["train_images"], report["test_images"]) == (96, judged)
    assert kept.history.rows[-1]["knn"] == kept.evaluate("val")["knn200"]
    assert {path.name for path in kept.path.iterdir()} == {
        "config.json", "history.csv", "checkpoint.pt", "encoder.safetensors", "record.json",
        *(f"confusion-{split}-{name}.csv" for split in ("val", "test") for name in ("knn200", "knn10", "probe")),
    }  # fmt: skip
    assert Experiment.from_json((kept.path / "config.json").read_text(encoding="utf-8")) == kept.experiment


def counted(confusion_file: Path) -> int:
    """The images that a confusion counts."""
    return sum(
        int(cell)
        for row in list(csv.reader(confusion_file.read_text(encoding="utf-8").splitlines()))[1:]
        for cell in row[1:]
    )


def test_protocols_are_passed_on_with_the_seed_and_the_mirroring_of_the_run(kept: Run, tmp_path: Path) -> None:
    other = replace(kept.experiment, seed=3, views=replace(kept.experiment.views, flip=0.125))
    run = replace(kept, experiment=other, path=tmp_path)
    report = run.evaluate("val", ["linear"], linear_epochs=2)
    assert report["linear_epochs"] == 2 and set(report["per_class"]) == {"linear"} and "knn200" not in report
    train, held_out = training_images(other)
    assert held_out is not None
    recipe = LinearRecipe(epochs=2, seed=3, views=replace(LinearRecipe().views, flip=0.125))
    predicted = linear_predict(kept.encoder, train, held_out, recipe)
    assert report["linear"] == accuracy(predicted, held_out.labels)
    rows = list(csv.reader((tmp_path / "confusion-val-linear.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["true \\ predicted by linear", *held_out.classes]
    counts = [[int(cell) for cell in row[1:]] for row in rows[1:]]
    assert counts == confusion(predicted, held_out.labels, 10).tolist()
    with pytest.raises(ValueError, match="linear_epochs belongs to the linear evaluation; ask for that too"):
        run.evaluate("val", "probe", linear_epochs=2)
    before = (tmp_path / "confusion-val-linear.csv").read_bytes()
    run.evaluate("test", ["knn10"])
    run.evaluate("val", ["knn10"])
    assert (tmp_path / "confusion-val-linear.csv").read_bytes() == before
    written = {path.name: counted(path) for path in tmp_path.glob("confusion*")}
    assert written == {"confusion-val-linear.csv": 32, "confusion-val-knn10.csv": 32, "confusion-test-knn10.csv": 100}


def test_a_run_in_memory_is_evaluated_and_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(asked(epochs=1))
    assert run.path is None and run.evaluate()["test_images"] == 100
    with pytest.raises(ValueError, match="kept in memory"):
        run.save()
    with pytest.raises(ValueError, match="held no images out"):
        run.evaluate("val")
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_run_is_refused(kept: Run, tmp_path: Path) -> None:
    assert kept.path is not None
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no trained run"):
            Run.load(folder)
    (tmp_path / "config.json").write_bytes((kept.path / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match="holds no trained run"):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b"{", r"config\.json cannot be read: .*not valid JSON"),
        ("history.csv", b"epoch,loss\n1,none\n", r"history\.csv is not a history .*: .*\. Move it away"),
        ("history.csv", b"epoch\n1,2\n", r"history\.csv is not a history"),
        ("encoder.safetensors", b"half", r"encoder\.safetensors is damaged"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(name: str, content: bytes, reason: str, kept: Run, tmp_path: Path) -> None:
    assert kept.path is not None
    for path in kept.path.iterdir():
        if path.name != "checkpoint.pt":  # which knows the history too
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        Run.load(tmp_path)


@pytest.mark.parametrize("content", [b"PK", None])
def test_a_run_whose_checkpoint_cannot_be_read_is_evaluated_all_the_same(
    content: bytes | None, kept: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kept.path is not None
    copied = Path(shutil.copytree(kept.path, tmp_path / "run"))
    if content is None:  # of an older version
        torch.save(torch.load(copied / "checkpoint.pt", weights_only=True) | {"version": 1}, copied / "checkpoint.pt")
    else:
        (copied / "checkpoint.pt").write_bytes(content)
    run = Run.load(copied)
    assert "The encoder's weights are used; momentum copy and queue are missing." in capsys.readouterr().err
    assert equal(run.encoder, kept.encoder) and run.memory is None and run.images is None
    assert run.evaluate(protocols=["knn10"])["knn10"] == kept.evaluate(protocols=["knn10"])["knn10"]
    with pytest.raises(ValueError, match="This run has no queue"):
        run.diagnose()


def test_a_run_knows_its_folder_after_a_change_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    fit(asked(MINING, epochs=2), images=made(), out="run", callbacks=[lambda _: monkeypatch.chdir(other)])
    assert not list(other.iterdir()) and len(Run.load(tmp_path / "run").history.rows) == 2
    assert not (tmp_path / "run" / "in-use").exists()
    monkeypatch.chdir(tmp_path)
    run = Run.load("run")
    monkeypatch.chdir(other)
    assert run.path == tmp_path / "run"


def test_a_config_that_differs_from_its_checkpoint_is_refused(kept: Run, tmp_path: Path) -> None:
    assert kept.path is not None
    copied = Path(shutil.copytree(kept.path, tmp_path / "run"))
    changed = replace(kept.experiment, loss=replace(kept.experiment.loss, temperature=0.77))
    (copied / "config.json").write_text(changed.to_json(), encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json was changed: loss\.temperature: .* → 0\.77"):
        Run.load(copied)
