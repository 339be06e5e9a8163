"""The command line: what flags reach, what is done with a run, and one message for what goes wrong."""

import contextlib
import csv
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import START, call, refused, started
from PIL import Image
from safetensors.torch import load_file, save_file

from cltools import flags
from cltools.cli import main
from cltools.config import Experiment, to_plain
from cltools.errors import CltoolsError
from cltools.evaluation import PROTOCOLS, figures
from cltools.mining import (
    AllNegatives,
    CosineBand,
    DifficultAnchors,
    LearnedThreshold,
    MarginBand,
    NearestKeys,
    OracleNegatives,
    OraclePositives,
    RandomNegatives,
    SoftenedBand,
)
from cltools.presets import METHODS, laptop, preset, preset_names
from cltools.training import Run

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

ROOT = Path(__file__).parent.parent
CONFUSIONS = ["confusion-test-knn10.csv", "confusion-test-knn200.csv", "confusion-test-probe.csv"]
FILES = ["checkpoint.pt", "config.json", *CONFUSIONS, "encoder.safetensors", "history.csv", "record.json"]
QUICK = ["digits-potential", "--epochs", "1", "--limit", "300", "--device", "cpu", "--evaluation.test-limit", "100"]
COMMANDS = ("train", "mine", "evaluate", "diagnose", "download", "presets", "compare", "table", "snapshot")
COMMANDS += ("explore", "doctor", "lab", "runs")


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a short run trained from the command line, and what was printed."""
    out = tmp_path_factory.mktemp("cli") / "runs" / "a"
    return out, call("train", *QUICK, "--out", str(out)).out


@pytest.fixture
def folder(run_once: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return Path(shutil.copytree(run_once[0], tmp_path / "a"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shown(folder: Path, split: str = "test") -> dict[str, Any]:
    """What is printed of a recorded report."""
    report: dict[str, Any] = recorded(folder)["evaluations"][split]
    return {name: value for name, value in report.items() if name != "per_class"}


def recorded(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return record


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SimpleNamespace]:
    """What `train` asks of `fit`, which does nothing here."""
    asked: list[SimpleNamespace] = []

    def fit(experiment: Experiment, **rest: Any) -> Any:
        del rest["callbacks"]
        asked.append(SimpleNamespace(experiment=experiment, **rest))
        return SimpleNamespace(history=SimpleNamespace(rows=[]), path=None, evaluate=lambda split: {})

    monkeypatch.setattr(flags, "fit", fit)
    monkeypatch.chdir(tmp_path)
    return asked


class TestTrain:
    def test_writes_the_files_of_a_run(self, run_once: tuple[Path, str]) -> None:
        folder, _ = run_once
        assert sorted(p.name for p in folder.iterdir()) == FILES
        experiment = Experiment.from_json((folder / "config.json").read_text(encoding="utf-8"))
        assert experiment.training.epochs == 1 and experiment.data.limit == 300
        with (folder / "history.csv").open(encoding="utf-8") as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
        assert Run.load(folder).experiment == experiment

    def test_prints_the_evaluation_it_writes(self, run_once: tuple[Path, str]) -> None:
        folder, printed = run_once
        found = shown(folder)
        assert printed == f"{folder}: 1 epoch; test: {figures(found)}\n"
        assert {"images": "digits", "split": "test", "epochs": 1, "train_images": 300}.items() <= found.items()
        assert all(0 < found[name] <= 100 for name in ("knn200", "knn10", "probe"))

    def test_refuses_a_folder_that_holds_a_run(self, folder: Path) -> None:
        before = contents(folder)
        refused(call("train", *QUICK, "--out", str(folder)), f"{folder} already holds a run", "--resume")
        assert contents(folder) == before

    def test_refuses_a_file_as_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("mine", encoding="utf-8")
        refused(call("train", *QUICK, "--out", str(tmp_path / "a")), "a file exists where a folder is needed")
        assert (tmp_path / "a").read_text(encoding="utf-8") == "mine"

    def test_resuming_a_finished_run_changes_nothing_and_succeeds(self, folder: Path) -> None:
        record = recorded(folder)
        record["evaluations"]["test"]["probe"] = 12.5  # printed as it is recorded, not measured again
        (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
        before = contents(folder)
        outcome = call("train", *QUICK, "--out", str(folder), "--resume")
        assert outcome.status == 0 and f"{folder} is finished: 1 epochs are done" in outcome.out
        assert (
            outcome.out.endswith(f"{folder}: 1 epoch; test: {figures(shown(folder))}\n")
            and "probe 12.50" in outcome.out
        )
        assert contents(folder) == before

    def test_a_damaged_record_is_named_and_nothing_is_lost(self, folder: Path) -> None:
        (folder / "record.json").write_text('{"kind": "run"', encoding="utf-8")
        before = contents(folder)
        for command in (["train", *QUICK, "--out", str(folder), "--resume"], ["evaluate", str(folder)]):
            refused(call(*command), "record.json", "Move it away")
            assert contents(folder) == before

    def test_resuming_a_finished_run_without_a_report_evaluates_it(self, folder: Path) -> None:
        before = contents(folder)
        (folder / "record.json").write_text(json.dumps(recorded(folder) | {"evaluations": {}}), encoding="utf-8")
        assert call("train", *QUICK, "--out", str(folder), "--resume").status == 0
        assert contents(folder) == before

    def test_resuming_with_other_settings_says_which(self, folder: Path) -> None:
        before = contents(folder)
        outcome = call(
            "train", *QUICK, "--out", str(folder), "--resume", "--seed", "4", "--negatives.drop-closest", "0.1"
        )
        refused(outcome, "negatives.drop_closest: 0.05 → 0.1", "seed: 0 → 4")
        assert contents(folder) == before

    def test_ctrl_c_keeps_the_last_checkpoint_to_resume_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        train_step = fitting.train_step

        def interrupted(state: Any, *arguments: Any, **rest: Any) -> Any:
            if state.step == 3:  # of two an epoch
                raise KeyboardInterrupt
            return train_step(state, *arguments, **rest)

        command = [
            "train",
            QUICK[0],
            *QUICK[3:],
            "--epochs",
            "2",
            "--checkpoint-every",
            "1",
            "--out",
            str(tmp_path / "a"),
        ]
        with monkeypatch.context() as patch:
            patch.setattr(fitting, "train_step", interrupted)
            outcome = call(*command)
        assert outcome.status == 130 and "Traceback" not in outcome.err
        assert "--resume" in outcome.err
        assert recorded(tmp_path / "a")["evaluations"] == {} and recorded(tmp_path / "a")["epochs"] == 1
        outcome = call(*command, "--resume")
        assert outcome.status == 0 and "2 epochs; test: " in outcome.out
        assert sorted(p.name for p in (tmp_path / "a").iterdir()) == FILES

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--negatives.by", "cosin"], "--negatives.by"),
            (["--positives.k", "513"], "positives.k"),
            (["--loss.temperature", "nan"], "temperature"),
            (["--epochs", "many"], "many"),
            (["--limit", "100"], "training.batch=128"),
            (["--device", "gpu"], '"cpu"'),
            (["--name", "digts"], "Did you mean digits"),
            (["--name", "no/such/folder"], "no/such/folder"),
            (["--rule"], "--rule"),
            (["--rule", "RandomNegatives", "--negatives.drop-closest", "0.1"], "--negatives.drop-closest"),
            (["--epoch", "3"], "--epochs"),
        ],
        ids=lambda x: " ".join(x) if isinstance(x, list) else "",
    )
    def test_refuses_in_one_message_and_leaves_no_folder(self, tmp_path: Path, flags: list[str], message: str) -> None:
        refused(call("train", "digits-potential", "--out", str(tmp_path / "a"), *flags), message)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
    def test_refuses_cuda_where_there_is_none(self, tmp_path: Path) -> None:
        outcome = call("train", "digits-moco", "--device", "cuda", "--out", str(tmp_path / "a"))
        refused(outcome, "cltools: ", "'cuda'")
        assert outcome.err.count("\n") == 1 and list(tmp_path.iterdir()) == []

    def test_without_a_known_preset_says_how_it_is_used(self) -> None:
        refused(call("train", "digits-potentail"), "'digits-potentail'", "Did you mean digits-potential")
        refused(call("train"), "Missing from cltools train", "cltools presets")

    def test_what_a_person_can_mend_is_one_line_and_any_other_error_keeps_its_traceback(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raised: list[Exception] = []

        def fit(*_: Any, **__: Any) -> None:
            raise raised[-1]

        monkeypatch.setattr(flags, "fit", fit)
        monkeypatch.chdir(tmp_path)
        for error in (CltoolsError, OSError, FloatingPointError):
            raised.append(error("bad"))
            refused(outcome := call("train", "digits-moco"))
            assert outcome.err == "cltools: bad\n"
            with pytest.raises(error, match="bad"):
                call("train", "digits-moco", "--debug")
        for error in (AssertionError, RuntimeError, ValueError):
            raised.append(error("bug"))
            with pytest.raises(error, match="bug"):
                call("train", "digits-moco")
        assert not list((tmp_path / "runs").iterdir()), "what was refused leaves no folder"


def flags_in(help_text: str) -> set[str]:
    """The flags a help page defines, without the forms that switch one off."""
    return set(re.findall(r"^[^\w-]*(?:-h, )?(--[a-z][\w.-]*)", help_text, flags=re.MULTILINE))


class TestFlags:
    def test_every_setting_is_one(self) -> None:
        name = "digits-potential"
        expected = {
            "--help",
            "--out",
            "--resume",
            "--log",
            "--laptop",
            "--rule",
            "--positive-rule",
            "--seed",
            "--seeds",
        }
        expected |= {"--start-from", "--config", "--images", "--import", "--print-config"}
        for part in fields(Experiment):
            if part.name == "seed":
                continue
            prefix = "" if part.name in ("data", "training") else f"{part.name}."
            chosen = getattr(preset(name), part.name)
            for f in fields(chosen):  # what is on is switched off
                off = "no-" if getattr(chosen, f.name) is True else ""
                expected.add(f"--{prefix}{off}{f.name}".replace("_", "-"))
        outcome = call("train", name, "--help")
        assert outcome.status == 0 and flags_in(outcome.out) == expected

    def test_left_out_they_are_the_preset(self, asked: list[SimpleNamespace]) -> None:
        names = ["digits-simclr", "digits-mochi", "digits-sce", "tinyimagenet-potential"]
        for name in names:
            assert call("train", name).status == 0
        rest = {"resume": False, "start_from": None}
        assert asked == [SimpleNamespace(experiment=preset(n), out=Path("runs") / n, **rest) for n in names]

    @pytest.mark.parametrize(
        ("flags", "part", "changes"),
        [
            (["--limit", "300", "--no-download"], "data", {"limit": 300, "download": False}),
            (["--skip-bad"], "data", {"skip_bad": True}),
            (["--no-symmetric", "--warmup-epochs", "2"], "training", {"symmetric": False, "warmup_epochs": 2.0}),
            (["--views.crop-scale", "0.3", "1", "--views.blur", "1"], "views", {"crop_scale": (0.3, 1.0), "blur": 1.0}),
            (["--positives.min-cosine", "0.7"], "positives", {"min_cosine": 0.7}),
            (["--evaluation.no-probe", "--evaluation.every", "2"], "evaluation", {"probe": False, "every": 2}),
        ],
        ids=lambda x: x if isinstance(x, str) else "",
    )  # fmt: skip
    def test_change_their_setting_and_no_other(
        self, asked: list[SimpleNamespace], flags: list[str], part: str, changes: dict[str, Any]
    ) -> None:
        start = preset("digits-potential")
        assert call("train", "digits-potential", *flags).status == 0
        assert asked[0].experiment == replace(start, **{part: replace(getattr(start, part), **changes)})

    def test_a_config_is_printed_and_read_again(self, asked: list[SimpleNamespace], tmp_path: Path) -> None:
        printed = call("train", "shapes-potential", "--seed", "3", "--batch", "64", "--print-config")
        start = preset("shapes-potential")
        experiment = replace(start, seed=3, training=replace(start.training, batch=64))
        assert printed.status == 0 and not asked and printed.out == experiment.to_json()
        (tmp_path / "mine.json").write_text(printed.out, encoding="utf-8")
        assert call("train", "--config", str(tmp_path / "mine.json"), "--epochs", "2").status == 0
        expected = replace(experiment, training=replace(experiment.training, epochs=2))
        assert asked[0].experiment == expected and asked[0].out == Path("runs/shapes")

    def test_each_seed_has_a_folder_and_no_two_runs_the_same(self, asked: list[SimpleNamespace]) -> None:
        call("train", "digits-moco", "--seeds", "4", "7")
        assert [(each.out, each.experiment.seed) for each in asked] == [
            (Path("runs/digits-moco-seed4"), 4), (Path("runs/digits-moco-seed7"), 7)
        ]  # fmt: skip
        for taken in ("digits-moco", "digits-moco-2"):
            (Path("runs") / taken).mkdir(parents=True)
        call("train", "digits-moco")
        assert asked[-1].out == Path("runs/digits-moco-3")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--epochs", "1", "digits-potential"], "Name the preset before its flags: cltools train digits-potential"),
            (["digits-moco", "--epochs", "1", "--epochs=2"], "--epochs is given twice"),
            (["digits-moco", "--import", "a", "--import", "b"], "--import is given twice"),
            (["digits-moco", "--import", "my_rules.py"], "my_rules, without .py"),
            (["digits-moco", "--config", "some.json"], "digits-moco and --config both name settings"),
            (["digits-moco", "--laptop=True"], "cltools train: error"),
        ],
    )
    def test_what_would_be_taken_for_something_else_is_refused(
        self, asked: list[SimpleNamespace], arguments: list[str], message: str
    ) -> None:
        refused(call("train", *arguments), message)
        assert not asked

    def test_a_folder_that_holds_a_run_is_found_before_any_seed_is_trained(
        self, asked: list[SimpleNamespace], tmp_path: Path
    ) -> None:
        (tmp_path / "a-seed2").mkdir()
        (tmp_path / "a-seed2" / "config.json").touch()
        refused(call("train", "digits-moco", "--seeds", "0", "1", "2", "--out", str(tmp_path / "a")), "a-seed2 already")
        assert not asked

    @pytest.mark.parametrize("name", ["settings", "run/config.json", "run"])
    def test_a_config_may_have_any_name_or_be_that_of_a_run(
        self, name: str, asked: list[SimpleNamespace], tmp_path: Path
    ) -> None:
        file = tmp_path / (f"{name}/config.json" if name == "run" else name)
        file.parent.mkdir(exist_ok=True)
        file.write_text(preset("shapes-potential").to_json(), encoding="utf-8")
        assert call("train", "--config", str(tmp_path / name)).status == 0
        assert asked[0].experiment == preset("shapes-potential")

    def test_seed_out_and_resume(self, asked: list[SimpleNamespace]) -> None:
        call("train", "shapes-moco", "--seed", "7", "--out", "some/where", "--resume")
        expected = replace(preset("shapes-moco"), seed=7)
        out = Path("some/where")
        assert asked == [SimpleNamespace(experiment=expected, out=out, resume=True, start_from=None)]

    def test_laptop_is_the_cpu_setting_of_any_preset_and_a_flag_beside_it_wins(
        self, asked: list[SimpleNamespace]
    ) -> None:
        assert call("train", "tinyimagenet-simclr", "--laptop").status == 0
        assert asked.pop().experiment == laptop(preset("tinyimagenet-simclr"))
        expected = laptop(preset("cifar10-potential"))
        for given in (["--laptop", "--limit", "500"], ["--limit", "500", "--laptop"]):
            call("train", "cifar10-potential", *given)
            assert asked.pop().experiment == replace(expected, data=replace(expected.data, limit=500))

    @pytest.mark.parametrize(
        ("flags", "rule"),
        [
            (["--negatives.share", "0.2", "--rule=RandomNegatives"], RandomNegatives(0.2)),
            (["--rule", "AllNegatives"], AllNegatives()),
            (["--rule", "RandomNegatives"], RandomNegatives(0.45)),
            (["--rule", "CosineBand", "--negatives.above", "-0.5"], CosineBand(above=-0.5)),
        ],
        ids=lambda x: " ".join(x) if isinstance(x, list) else "",
    )
    def test_rule_takes_another_negative_rule_with_its_settings(
        self, asked: list[SimpleNamespace], flags: list[str], rule: object
    ) -> None:
        assert call("train", "digits-moco", *flags).status == 0
        assert asked[0].experiment == replace(preset("digits-moco"), negatives=rule)

    @pytest.mark.parametrize(
        ("flags", "changed"),
        [
            (["--rule", "SoftenedBand", "--negatives.margin", "0.4"], {"negatives": SoftenedBand(0.4)}),
            (["--rule", "MarginBand", "--negatives.relative", "0.9"], {"negatives": MarginBand(relative=0.9)}),
            (["--rule", "MarginBand", "--negatives.within", "0.5"], {"negatives": MarginBand(margin=0.0, within=0.5)}),
            (["--rule", "LearnedThreshold"], {"negatives": LearnedThreshold(alpha=0.1)}),
            (["--rule", "DifficultAnchors"], {"negatives": DifficultAnchors()}),
            (["--rule", "OracleNegatives", "--negatives.share", "0.3"], {"negatives": OracleNegatives(0.3)}),
            (["--positive-rule", "OraclePositives", "--positives.k", "3"], {"positives": OraclePositives(3)}),
            (["--positive-rule", "NearestKeys", "--positives.skip", "4"], {"positives": NearestKeys(skip=4)}),
        ],
        ids=lambda x: " ".join(x) if isinstance(x, list) else "",
    )
    def test_every_new_rule_is_a_choice(
        self, asked: list[SimpleNamespace], flags: list[str], changed: dict[str, Any]
    ) -> None:
        assert call("train", "digits-moco", *flags).status == 0
        assert asked[0].experiment == replace(preset("digits-moco"), **changed)

    @pytest.mark.parametrize(
        ("classes", "flags", "said"),
        [
            (("a", "b"), [], "The run will not be evaluated: "),
            (("a", "b"), ["--holdout", "0.25"], "1 epoch; val: knn200"),
            (("train/a", "train/b", "val/a", "val/b"), [], "1 epoch; val: knn200"),
            (("train/a", "train/b", "valid/a", "test/b"), [], "1 epoch; test: knn200"),
            (("",), ["--holdout", "0.25"], "was not evaluated: 36 of 36 labels"),
        ],
        ids=["one split", "one split, held out", "its own val", "its own val and test", "no labels"],
    )
    def test_trains_on_a_folder_and_evaluates_what_it_can(
        self, tmp_path: Path, classes: tuple[str, ...], flags: list[str], said: str
    ) -> None:
        pictures = np.random.default_rng(0).integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
        for i, pixels in enumerate(pictures):
            path = tmp_path / "mine" / classes[i % len(classes)] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        settings = ["--epochs", "1", "--batch", "16", "--queue-size", "32", "--device", "cpu"]
        out = tmp_path / "a"
        outcome = call("train", "digits-moco", "--name", str(tmp_path / "mine"), "--out", str(out), *settings, *flags)
        assert outcome.status == 0 and said in outcome.out + outcome.err, outcome
        assert (out / "encoder.safetensors").is_file()
        own = any(name.startswith("val") for name in classes)
        if classes != ("",):
            assert recorded(out)["judged"] == ("val" if flags or own else None)
        if own:
            assert call("evaluate", str(out), "--split", "val").status == 0
            assert shown(out, "val")["test_images"] == len([*(tmp_path / "mine").glob("val*/*/*.png")])
        elif not flags:
            refused(call("evaluate", str(out)), "which is the whole folder", "--split")

    def test_writes_for_tensorboard_where_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        command = ["train", *QUICK, "--evaluation.no-probe", "--log", "tensorboard", "--out", str(tmp_path / "a")]
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "tensorboard", None)
            refused(call(*command), "tensorboard is not installed; install it with: pip install tensorboard")
        assert not (tmp_path / "a").exists()
        assert call(*command).status == 0
        assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
            *(file for file in FILES if "probe" not in file), "tensorboard",
        ]  # fmt: skip
        before = contents(tmp_path / "a")
        assert call(*command, "--resume").status == 0 and contents(tmp_path / "a") == before


class TestEvaluate:
    def test_prints_and_writes_what_training_did(self, folder: Path) -> None:
        before = contents(folder)
        report = shown(folder)
        (folder / "record.json").write_text(json.dumps(recorded(folder) | {"evaluations": {}}), encoding="utf-8")
        outcome = call("evaluate", str(folder), "--json")
        assert outcome.status == 0 and json.loads(outcome.out) == report
        assert call("evaluate", str(folder)).out == (
            f"{folder} (seed 0): {figures(report)}\n"
            f"By class: {folder / 'record.json'}; confusion matrices: {folder / 'confusion-test-*.csv'}\n"
        )
        assert contents(folder) == before

    def test_on_the_images_held_out(self, tmp_path: Path) -> None:
        run = str(tmp_path / "a")
        assert call("train", *QUICK, "--holdout", "0.2", "--evaluation.no-probe", "--out", run).status == 0
        report = json.loads(call("evaluate", run, "--split", "val", "--json").out)
        assert report["split"] == "val" and report["train_images"] == 240 and report["test_images"] == 60
        assert "probe" not in report
        assert list(recorded(tmp_path / "a")["evaluations"]) == ["test", "val"]
        assert shown(tmp_path / "a", "val") == report

    @pytest.mark.parametrize(
        ("protocol", "expected"),
        [
            ("knn", ("knn200", "knn10")),
            ("knn10", ("knn10",)),
            ("probe", ("probe",)),
            ("linear", ("linear",)),
            pytest.param("finetune", ("finetune1", "finetune10"), marks=pytest.mark.slow),
            pytest.param("all", PROTOCOLS, marks=pytest.mark.nightly),
        ],
    )
    def test_by_other_protocols(self, folder: Path, protocol: str, expected: tuple[str, ...]) -> None:
        shortened = ["--linear-epochs", "3"] if "linear" in expected else []
        outcome = call("evaluate", str(folder), "--protocol", protocol, *shortened, "--device", "cpu", "--json")
        report = json.loads(outcome.out)
        assert tuple(name for name in report if name in PROTOCOLS) == expected
        assert all(0 <= report[name] <= 100 for name in expected)
        assert report.get("linear_epochs") == (3 if "linear" in expected else None)
        record = recorded(folder)["evaluations"]["test"]
        assert record | report == record and set(expected) <= set(record["per_class"])
        for name in expected:
            confusion = folder / f"confusion-test-{name}.csv"
            assert confusion.read_text(encoding="utf-8").startswith(f"true \\ predicted by {name},0,1,")

    def test_refuses_val_of_a_run_that_held_nothing_out(self, folder: Path) -> None:
        before = contents(folder)
        refused(call("evaluate", str(folder), "--split", "val"), "data.holdout")
        assert contents(folder) == before

    def test_refuses_a_folder_without_a_run(self, tmp_path: Path) -> None:
        outcome = call("evaluate", str(tmp_path / "none"))
        refused(outcome, str(tmp_path / "none"), "cltools train")
        assert outcome.err.count("\n") == 1 and list(tmp_path.iterdir()) == []

    def test_names_a_damaged_config(self, folder: Path) -> None:
        (folder / "config.json").write_text("{", encoding="utf-8")
        refused(call("evaluate", str(folder)), f"{folder / 'config.json'} cannot be read", "not valid JSON")

    def test_refuses_a_run_of_a_rule_it_does_not_know(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(
            json.dumps(config | {"negatives": {"rule": "SomebodysOwn"}}), encoding="utf-8"
        )
        refused(call("evaluate", str(folder)), "'SomebodysOwn'", "module")

    def test_refuses_damaged_weights(self, folder: Path) -> None:
        (folder / "encoder.safetensors").write_bytes(b"damaged")
        refused(call("evaluate", str(folder)), "encoder.safetensors")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "name the folder"),
            (["RUN", "--protocol", "lineer"], "'lineer'"),
            (["RUN", "--linear-epochs", "5"], "--protocol linear"),
            (["RUN", "RUN"], "each once"),
        ],
    )
    def test_refuses_what_it_does_not_understand(self, folder: Path, arguments: list[str], message: str) -> None:
        refused(call("evaluate", *(str(folder) if a == "RUN" else a for a in arguments)), message)


def reseeded(folder: Path, name: str, seed: int, **training: Any) -> Path:
    """A copy of a run beside it, said to be of another seed, and with weights that are its own."""
    other = Path(shutil.copytree(folder, folder.with_name(name)))
    experiment = Experiment.from_json((folder / "config.json").read_text(encoding="utf-8"))
    experiment = replace(experiment, seed=seed, training=replace(experiment.training, **training))
    (other / "config.json").write_text(experiment.to_json(), encoding="utf-8")
    record = json.loads((other / "record.json").read_text(encoding="utf-8"))
    (other / "record.json").write_text(json.dumps(record | {"experiment": to_plain(experiment)}), encoding="utf-8")
    weights = load_file(other / "encoder.safetensors")
    noise = torch.Generator().manual_seed(seed)
    for key in (key for key in weights if key.endswith("weight")):
        weights[key] += 0.3 * weights[key].std() * torch.randn(weights[key].shape, generator=noise)
    save_file(weights, other / "encoder.safetensors")
    (other / "checkpoint.pt").unlink()  # which knows better
    return other


class TestEvaluateSeeds:
    def test_shows_each_run_then_mean_and_deviation(self, folder: Path) -> None:
        runs = [folder, reseeded(folder, "b", 5), reseeded(folder, "c", 6, device="auto", checkpoint_every=7)]
        outcome = call("evaluate", *map(str, runs), "--protocol", "knn")
        reports = [recorded(run)["evaluations"]["test"] for run in runs]
        assert outcome.status == 0
        first, second, third, title, *lines = outcome.out.splitlines()
        for line, run, seed, report in zip((first, second, third), runs, (0, 5, 6), reports, strict=True):
            assert line == f"{run} (seed {seed}): knn200 {report['knn200']:.2f}, knn10 {report['knn10']:.2f}"
        assert title == "mean ± deviation over 3 seeds, percent of the test images"
        assert [line.split()[0] for line in lines] == ["knn200", "knn10"]
        for name, line in zip(("knn200", "knn10"), lines, strict=True):
            values = np.array([report[name] for report in reports])
            assert len(set(values)) > 1
            assert line.split()[1:] == [f"{values.mean():.2f}", "±", f"{values.std(ddof=1):.2f}"]

    @pytest.mark.parametrize(
        ("seed", "changes", "message"),
        [(5, {"queue_size": 600}, "training.queue_size: 512 → 600"), (0, {}, "same seed")],
    )
    def test_refuses_runs_that_are_no_seeds_of_one(
        self, folder: Path, seed: int, changes: dict[str, Any], message: str
    ) -> None:
        other = reseeded(folder, "b", seed, **changes)
        before = contents(folder.parent)
        outcome = call("evaluate", str(folder), str(other))
        refused(outcome, message)
        assert str(folder) in outcome.message and str(other) in outcome.message
        assert contents(folder.parent) == before

    def test_refuses_a_run_that_did_fewer_epochs(self, folder: Path) -> None:
        other = reseeded(folder, "b", 5)
        row = (other / "history.csv").read_text(encoding="utf-8").splitlines()[1]
        with (other / "history.csv").open("a", encoding="utf-8") as file:
            file.write(row.replace("1,", "2,", 1) + "\n")
        refused(call("evaluate", str(folder), str(other)), "differ in more than their seed: epochs done: 1 → 2")


class TestDiagnose:
    def test_shows_what_the_run_would_select(self, folder: Path) -> None:
        before = contents(folder)
        outcome = call("diagnose", str(folder), "--n", "40", "--seed", "3")
        found = Run.load(folder).diagnose(n=40, seed=3)
        assert outcome.status == 0 and outcome.out == f"{found}\n"
        counted = json.loads(call("diagnose", str(folder), "--n", "40", "--seed", "3", "--json").out)
        assert counted["anchors"] == 40 and counted["base_rate"]["value"] == found.base_rate.value
        assert counted["bands"]["mined"]["same_class"]["count"] == found.mined_purity.count
        assert outcome.out.startswith("40 anchors with ") and "base rate" in outcome.out
        assert contents(folder) == before

    def test_refuses_a_run_without_its_queue(self, folder: Path) -> None:
        (folder / "checkpoint.pt").unlink()
        refused(call("diagnose", str(folder)), "checkpoint.pt")


class TestTable:
    def test_shows_a_runs_folder(self, folder: Path) -> None:
        report = recorded(folder)["evaluations"]["test"]
        outcome = call("table", str(folder))
        assert outcome.status == 0 and f"| {report['knn200']:.1f} | {report['knn10']:.1f} | " in outcome.out
        changed = "data.limit: None → 300, training.epochs: 30 → 1, evaluation.test_limit: None → 100"
        assert f"| `digits-potential`: {changed} | digits (300) | test, 100 images |" in outcome.out
        assert "88.57" not in outcome.out and "88.57" in call("table", str(folder), "--references").out

    def test_shows_published_figures_alone(self) -> None:
        outcome = call("table", "--references")
        assert outcome.status == 0 and outcome.out.count("80dd398") == 33

    def test_refuses_a_folder_without_a_record(self, folder: Path) -> None:
        (folder / "record.json").unlink()
        refused(call("table", str(folder)), "holds no record.json", f"python -m cltools evaluate {folder}")


class TestMain:
    @pytest.mark.parametrize("arguments", [[], ["--help"]])
    def test_lists_the_commands(self, arguments: list[str]) -> None:
        outcome = call(*arguments)
        assert outcome.status == 0 and outcome.err == "" and all(name in outcome.out for name in COMMANDS)

    @pytest.mark.parametrize("asked", ["", "--help", "--version", "presets", "runs", "evaluate --help"])
    def test_answers_without_torch(self, asked: str, folder: Path) -> None:
        code = (
            f"{START}; sys.argv = ['cltools', *{asked.split()}]\ntry: start()\nexcept SystemExit as stop: print(stop)\n"
        )
        done = started(f"{code}assert not {{'torch', 'pandas', 'numpy'}} & {{*sys.modules}}", folder)
        told = {"runs": "runs holds no run", "presets": "digits-moco"}.get(asked, "cltools")
        assert done.returncode == 0 and told in done.stderr + done.stdout, done.stderr

    def test_lists_runs_and_what_differs_between_them(self, folder: Path) -> None:
        reseeded(folder, "b", 5, queue_size=600)
        (folder.with_name("c") / "record.json").parent.mkdir()
        (folder.with_name("c") / "record.json").write_text("{", encoding="utf-8")
        outcome = call("runs", str(folder.parent))
        head, *lines = outcome.out.splitlines()
        assert outcome.status == 0 and head.split() == ["run", "epochs", "knn200", "probe", "linear", "differs", "in"]
        assert lines[0].split()[0] == str(folder) and lines[0].endswith("seed=0  training.queue_size=512")
        assert lines[1].endswith("seed=5  training.queue_size=600")
        assert f"{folder.with_name('c')}" in lines[2] and "cannot be read" in lines[2]
        found = json.loads(call("runs", str(folder.parent), "--json").out)
        assert found[0]["knn200"] == recorded(folder)["evaluations"]["test"]["knn200"] and found[0]["epochs"] == 1
        assert [each["differs"].get("seed") for each in found] == [0, 5, None]

    def test_refuses_an_unknown_command(self) -> None:
        refused(call("trian", "digits-moco"), "Unknown command 'trian'. Did you mean train?")

    def test_everything_has_help(self) -> None:
        for command in (*COMMANDS, "train cifar10-moco --rule RandomNegatives"):
            outcome = call(*command.split(), "--help")
            assert outcome.status == 0 and outcome.err == "" and len(outcome.out) > 100, command
            assert "Args:" not in outcome.out, "each argument stands beside its own text"

    def test_help_shows_a_setting_with_the_presets_value(self) -> None:
        text = re.sub(r"[\s│]+", " ", call("train", "tinyimagenet-moco", "--help").out)
        assert re.search(r"--queue-size INT [^-]*\(default: 16384\)", text)

    def test_presets_lists_all_and_takes_nothing(self) -> None:
        outcome = call("presets")
        every = sorted([*preset_names(), *(f"own-{method}" for method in METHODS)])
        assert outcome.status == 0 and json.loads(call("presets", "--json").out) == every
        assert sorted(outcome.out.split()) == every
        refused(call("presets", "--full"), "--full")

    def test_ctrl_c_anywhere_ends_in_130(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load_images(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("cltools.datasets.load_images", load_images)
        outcome = call("download", "digits")
        assert outcome.status == 130 and "cltools: interrupted." in outcome.err

    def test_runs_as_a_module(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["cltools", "train", "digits-mocco"])
        with pytest.raises(SystemExit) as stop:
            runpy.run_module("cltools", run_name="__main__")
        written = capsys.readouterr()
        assert stop.value.code == 2 and written.out == ""
        assert written.err.startswith("cltools: ") and "Did you mean digits-moco" in written.err

    def test_a_reader_that_has_read_enough_is_no_error(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        closed = os.fdopen(writer, "w", encoding="utf-8")
        with closed, contextlib.redirect_stdout(closed), pytest.raises(SystemExit) as stop:
            main(["presets"])
        assert stop.value.code == 141


def test_where_the_working_folder_is_gone_it_says_so(tmp_path: Path) -> None:
    code = f"import os, runpy, sys; os.rmdir(os.getcwd()); sys.path.append({str(ROOT)!r})"
    code += "; sys.argv = ['cltools', 'presets']"
    code += "; runpy.run_module('cltools', run_name='__main__')"
    (tmp_path / "gone").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "gone", capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (
        2,
        "cltools: the working folder no longer exists; change into another one.\n",
    )


def test_streams_that_were_closed_before_the_start_are_done_without(tmp_path: Path) -> None:
    for closed in ("1", "2"):
        command = f"{shlex.quote(sys.executable)} -m cltools presets {closed}>&-"
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0 and "Traceback" not in done.stderr
        assert ("digits-moco" in done.stdout) == (closed == "2")


def in_a_process(arguments: list[str], encoding: str) -> tuple[int, bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "cltools", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


def here(arguments: list[str], encoding: str) -> tuple[int, bytes]:
    """The same in this process, whose streams are of that encoding meanwhile."""
    written, status = [io.BytesIO(), io.BytesIO()], 0
    out, err = (io.TextIOWrapper(each, encoding=encoding) for each in written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cltools", *arguments])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("TQDM_DISABLE", "1")
        try:
            runpy.run_module("cltools", run_name="__main__")
        except SystemExit as stop:
            status = int(stop.code or 0)
        out.flush()
        err.flush()
    return status, b"".join(each.getvalue() for each in written)


@pytest.mark.parametrize(("encoding", "run"), [("cp1252", in_a_process), ("ascii", here), ("gbk", here)])
def test_output_never_dies_of_its_encoding(encoding: str, run: Any, tmp_path: Path) -> None:
    for arguments in (["runs", str(tmp_path / "猫→\x1b[31m.json")], ["train", "digits-moco", "--help"]):
        status, written = run(arguments, encoding)
        told = written.decode(encoding)
        assert "Traceback" not in told and "\x1b[31m.json" not in told, told
        assert status == (2 if arguments[0] == "runs" else 0), told


def test_a_file_that_is_not_there_is_named_without_the_systems_number(tmp_path: Path) -> None:
    path = str(tmp_path / "none.json")
    refused(call("train", "--config", path), f"{path}: No such file or directory; check the path.")
