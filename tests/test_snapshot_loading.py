"""Snapshots by name, file and run's folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cltools import load_snapshot
from cltools.config import Experiment, TrainingSettings
from cltools.datasets import load_images
from cltools.encoders import EncoderSettings
from cltools.errors import CltoolsError
from cltools.explorer.session import Session
from cltools.mining import LearnedThreshold
from cltools.mining.negatives import thresholds
from cltools.presets import preset
from cltools.snapshot import Snapshot, making, take_snapshot
from cltools.training import Run, fit


def asked() -> Experiment:
    base = preset("digits-moco")
    return replace(
        base,
        data=replace(base.data, limit=200),
        encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
        training=TrainingSettings(epochs=1, batch=64, queue_size=128, warmup_epochs=0.5, device="cpu"),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(asked(), out=tmp_path_factory.mktemp("runs") / "mine")


@pytest.fixture(scope="module")
def taken(run: Run) -> Snapshot:
    return take_snapshot(run, load_images("digits", limit=200), 50, seed=3)


def test_of_a_runs_folder_its_training_images_are_taken(run: Run, taken: Snapshot) -> None:
    assert run.path is not None
    found = load_snapshot(run.path, n=50, seed=3)
    assert found.experiment == run.experiment and found.epochs == (1,)
    assert np.array_equal(found.ids, taken.ids) and np.array_equal(found.keys, taken.keys)
    assert np.array_equal(found.anchors, taken.anchors) and np.array_equal(found.maps, taken.maps)
    assert len(load_snapshot(str(run.path), n=7)) == 7


def test_what_a_rule_has_learned_is_kept_with_the_run_and_with_the_snapshot(tmp_path: Path) -> None:
    images = load_images("digits", limit=200)
    run = fit(replace(asked(), negatives=LearnedThreshold(start=0.0)), out=tmp_path / "run")
    loaded = Run.load(tmp_path / "run")
    assert run.rule_state is not None and loaded.rule_state is not None
    assert all(torch.equal(run.rule_state[name], loaded.rule_state[name]) for name in run.rule_state)
    assert loaded.diagnose(n=20).anchors == 20
    snapshot = take_snapshot(loaded, images, 50, seed=3)
    snapshot.save(tmp_path / "mine.npz")
    again = Snapshot.load(tmp_path / "mine.npz")
    learned = thresholds(run.rule_state, torch.from_numpy(again.ids)).numpy()
    assert again.thresholds is not None and np.array_equal(again.thresholds, learned[None])
    assert learned.min() < 1, "the second and the third batch, which met keys, have moved those of 128 images"
    assert Session(again).rules[1] == LearnedThreshold(start=0.0)
    with pytest.raises(ValueError, match="LearnedThreshold learns while training"):
        Session(replace(again, thresholds=None))


def test_images_held_out_are_not_taken(tmp_path: Path) -> None:
    experiment = asked()
    experiment = replace(experiment, data=replace(experiment.data, holdout=0.3))
    fit(experiment, out=tmp_path)
    assert len(load_snapshot(tmp_path, n=500)) == 140


def test_a_name_goes_before_a_folder_and_a_file_is_read_by_its_path(
    run: Run, taken: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SHIPPED", tmp_path / "shipped")
    taken.save(tmp_path / "shipped" / "digits-moco.npz")
    replace(taken, classes=tuple("abcdefghij")).save(tmp_path / "own.npz")
    (tmp_path / "digits-moco").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_snapshot("digits-moco").classes == taken.classes
    assert load_snapshot("own.npz").classes == load_snapshot(tmp_path / "own.npz").classes == tuple("abcdefghij")
    with pytest.raises(FileNotFoundError, match="digits-moco holds no trained run"):
        load_snapshot("./digits-moco")
    with pytest.raises(FileNotFoundError, match=r"none\.npz is not a file"):
        load_snapshot("none.npz")


@pytest.mark.parametrize(("name", "save"), [("z.npy", np.save), ("z.npz", np.savez), ("z.bin", np.save)])
def test_of_embeddings_it_is_said_what_reads_them(name: str, save: Any, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        save(file, np.eye(3))
    told = f"{name} cannot be read as a snapshot: no description.*read_embeddings reads other embeddings"
    with pytest.raises(CltoolsError, match=told):
        load_snapshot(tmp_path / name)


@pytest.mark.parametrize("description", ["[]", "3", "null", "{}", '{"version": 1}', '{"format": null, "version": 1}'])
def test_a_description_of_something_else_is_foreign(description: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", about=np.frombuffer(description.encode(), np.uint8))
    with pytest.raises(CltoolsError, match=r"cannot be read as a snapshot: no description in it says"):
        load_snapshot(tmp_path / "z.npz")


def test_an_unknown_name_is_refused_with_all_that_are_known(
    taken: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SHIPPED", tmp_path)
    with pytest.raises(ValueError, match=r"no file or folder of that name either\. Shipped: none; or name a file"):
        load_snapshot("digits-moco")
    for name in ("shapes-moco", "digits-moco"):
        taken.save(tmp_path / f"{name}.npz")
    with pytest.raises(ValueError, match=r"Did you mean shapes-moco.*\? Shipped: digits-moco, shapes-moco; or name"):
        load_snapshot("shapes-mocco")


def test_a_run_on_images_given_by_hand_asks_for_them(tmp_path: Path) -> None:
    fit(asked(), images=load_images("digits").subset(100), out=tmp_path)
    with pytest.raises(ValueError, match=r"holds no images; give them: take_snapshot\(Run\.load\("):
        load_snapshot(tmp_path)


def test_an_empty_name_is_none() -> None:
    """It was the working folder."""
    with pytest.raises(CltoolsError, match=r"Unknown snapshot ''.*name a file \(\.npz\) or a run's folder"):
        load_snapshot("")
