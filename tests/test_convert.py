"""Old records in the new form: every number of them is still there, and converting again changes nothing."""

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from cltools.config import Experiment, differences, to_plain
from cltools.presets import preset
from cltools.provenance import read_record
from cltools.reports.arms import arms_of
from cltools.training.record import RunRecord

SCRIPT = Path(__file__).parent.parent / "data" / "convert.py"
RESULTS = SCRIPT.parent / "results"


def script() -> Any:
    spec = spec_from_file_location("convert", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_of_the_first_version() -> dict[str, Any]:
    """A run that was resumed elsewhere and stopped within an epoch, as cltools 0.1 recorded it."""
    first = {"from_epoch": 1, "command": "a", "commit": "c0ffee", "versions": {"torch": "2.6"}, "hardware": {}}
    by_epoch = [{"epoch": 1, "loss": 1.5, "knn": None}, {"epoch": 2, "loss": 1.25, "knn": 80.5}]
    return {
        "kind": "run",
        **(first | {"from_epoch": 2, "commit": "decaf"}),
        "earlier": [first],
        "warm_epochs": 7,
        "experiment": to_plain(preset("digits-moco")),
        "seed": 0,
        "backbone": "tiny",
        "images": {"name": "digits", "count": 1297, "pixels": 0, "given": False},
        "epochs": {"done": 2, "asked": 30, "steps": 3},
        "seconds": 2.5,
        "views_per_second": 100.5,
        "accuracy": {"protocol": "knn200", "split": "test", "by_epoch": by_epoch},
        "evaluations": {"test": {"split": "test", "epochs": 2, "steps": 3, "knn200": 80.5}},
    }


def numbers(value: Any) -> list[float]:
    """Every number within a record, in order of size."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return sorted(number for each in inner for number in numbers(each))
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_a_run_keeps_what_it_says() -> None:
    old = run_of_the_first_version()
    new = RunRecord.from_plain(Path("a.json"), script().converted(old))
    assert [(each.from_epoch, each.commit) for each in new.stretches] == [(1, "c0ffee"), (2, "decaf")]
    assert (new.warm_epochs, new.epochs, new.asked, new.steps, new.seed) == (7, 2, 30, 3, 0)
    assert new.experiment == old["experiment"] and new.evaluations == old["evaluations"]
    assert [(each.epoch, each.loss, each.knn) for each in new.by_epoch] == [(1, 1.5, None), (2, 1.25, 80.5)]
    assert new.judged == "test" and new.images is not None and new.images.count == 1297


def test_texts_of_differences_become_the_objects_that_compare_writes() -> None:
    moco = preset("cifar10-moco")
    changed = {name: differences(moco, experiment) for name, experiment in arms_of("cifar10").items()}
    texts = {name: [str(each) for each in of] for name, of in changed.items()}
    old = {"kind": "comparison", "baseline": to_plain(moco), "arms": texts}
    new = script().converted(old)["arms"]
    assert new == {name: [each.to_plain() for each in of] for name, of in changed.items()}
    cropped = {"kind": "comparison", "arms": {"a": ["views.crop: [0.5, 1.0] → None"]}}
    assert script().differences_to_objects(cropped)["arms"]["a"] == [
        {"path": "views.crop", "before": [0.5, 1.0], "now": None}
    ]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_records_that_ship_are_converted(path: Path) -> None:
    record = read_record(path)
    assert script().converted(record) == record


def test_files_are_converted_in_place_and_others_left_alone(tmp_path: Path) -> None:
    run, other, damaged = (tmp_path / f"{name}.json" for name in ("run", "other", "damaged"))
    run.write_text(json.dumps(run_of_the_first_version()), encoding="utf-8")
    other.write_text(json.dumps({"kind": "bench rules", "sizes": []}, indent=1) + "\n", encoding="utf-8")
    damaged.write_text('{"kind": "run"}', encoding="utf-8")
    before = other.read_bytes(), damaged.read_bytes()

    def convert() -> subprocess.CompletedProcess[str]:
        paths = map(str, (run, other, damaged))
        return subprocess.run(
            [sys.executable, "-I", str(SCRIPT), *paths], capture_output=True, encoding="utf-8", check=False
        )

    first = convert()
    assert first.returncode == 1 and "damaged.json" in first.stderr and "run.json: converted" in first.stdout
    assert (other.read_bytes(), damaged.read_bytes()) == before
    RunRecord.from_plain(run, read_record(run))
    text = run.read_text(encoding="utf-8")
    again = convert()
    assert "run.json: stays" in again.stdout and run.read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.json", "other.json", "run.json"]


def test_the_settings_of_a_run_are_converted_too(tmp_path: Path) -> None:
    experiment, file = preset("digits-moco"), tmp_path / "config.json"
    warm_up = {"start": 0.3, "ramp": 0.05, "strength": 1.0}
    positives = {"weighting": "none", "k": 5, "search": "key", "pick": None, **warm_up}
    file.write_text(json.dumps(to_plain(experiment) | {"positives": positives}), encoding="utf-8")
    assert script().convert(file) and Experiment.from_json(file.read_text(encoding="utf-8")) == experiment
    assert not script().convert(file)


def test_no_number_is_lost_or_changed() -> None:
    old = run_of_the_first_version()
    del old["images"]["pixels"]  # a sum, in place of which a digest tells images
    told_twice = [old["seed"], old["epochs"]["asked"]]  # in the settings, too
    added = [2, 0]  # the format, and the epochs before the second stretch
    assert sorted([*numbers(script().converted(old)), *told_twice]) == sorted([*numbers(old), *added])
