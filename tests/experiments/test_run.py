"""That an experiment is run and continued, and its record is read like that of a comparison."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cltools.errors import CltoolsError
from cltools.mining import OracleNegatives
from cltools.reports.table import table
from experiments import run as running
from experiments.__main__ import main
from experiments.arms import RepairedKeys
from experiments.images import SUPERCLASSES, Pictures, pictures
from experiments.plans import EXPERIMENTS, wide
from experiments.run import Setting, run
from experiments.starts import moco, with_rules


@pytest.fixture(scope="module")
def setting() -> Setting:
    base = moco("shapes", 1)
    base = replace(base, training=replace(base.training, batch=32, queue_size=64))
    arms = {
        "repaired": with_rules(base, RepairedKeys(purity=1.0)),
        "oracle": with_rules(base, negatives=OracleNegatives()),
    }
    source = partial(pictures, "shapes", count=320, judge="val", judged=100)
    return Setting("tiny", source, base, 1, arms, range(1))


@pytest.fixture(scope="module")
def folder(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its record is."""
    folder = tmp_path_factory.mktemp("whole")
    run(setting, folder)
    return folder


@pytest.fixture
def whole(folder: Path) -> dict[str, Any]:
    """Its record."""
    record: dict[str, Any] = json.loads((folder / "tiny.json").read_text(encoding="utf-8"))
    return record


@pytest.mark.slow
def test_an_experiment_goes_on_where_it_was_interrupted(
    setting: Setting, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(row["arm"], row["seed"]) for row in whole["rows"]] == [("moco", 0), ("repaired", 0), ("oracle", 0)]
    train = running.row
    rows: list[str] = []

    def interrupted(of: Setting, name: str, *given: object) -> object:
        if name == "oracle" and not rows:
            rows.append(name)
            raise KeyboardInterrupt
        return train(of, name, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "row", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(setting, tmp_path / "cut")
    continued = run(setting, tmp_path / "cut")
    for one, two in zip(whole["rows"], continued["rows"], strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert "| `repaired` |" in table([tmp_path / "cut" / "tiny.json"])


@pytest.mark.slow
def test_a_backbone_of_its_own_is_made_by_the_seed(setting: Setting, whole: dict[str, Any], tmp_path: Path) -> None:
    arms = {"oracle": setting.arms["oracle"]}
    small = replace(setting, arms=arms, backbone=wide)
    one = run(small, tmp_path)
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(one | {"rows": one["rows"][:1]}), encoding="utf-8")
    two = run(small, tmp_path)  # whose warm start must be the first one's
    assert {**one["rows"][1], "seconds": 0} == {**two["rows"][1], "seconds": 0}
    assert one["warm_starts"] != whole["warm_starts"]


@pytest.mark.slow
def test_what_is_mined_is_recorded_of_every_epoch(
    setting: Setting, whole: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    of_moco, repaired, _ = whole["rows"]
    assert repaired["curves"]["mined_purity"] == [1.0] and 0 < repaired["curves"]["mined_pull"][0] < 1
    assert -1 <= repaired["curves"]["mined_cosine"][0] <= 1 and of_moco["curves"]["mined_pull"] == [None]
    assert len(run(replace(setting, warm_epochs=2), tmp_path)["rows"]) == 3, "nothing is left to do"
    with pytest.raises(CltoolsError, match="other settings: warm_epochs"):
        run(replace(setting, warm_epochs=2, seeds=range(2)), tmp_path)
    others = {"pictures": partial(pictures, "shapes", count=320, judge="test", judged=100), "backbone": wide}
    for name, other in {**others, "start": setting.arms["oracle"]}.items():
        with pytest.raises(CltoolsError, match="other settings: images"):
            run(replace(setting, seeds=range(2), **{name: other}), tmp_path)  # type: ignore[arg-type]


def test_pictures_are_held_out_and_drawn_without_labels() -> None:
    one, two = (pictures("shapes", None, count=300, judge=judge, judged=200) for judge in ("val", "test"))
    assert isinstance(one, Pictures) and len(one.judged) == len(two.judged) == 200
    assert torch.equal(one.train.ids, two.train.ids) and not {*one.train.ids.tolist()} & {*one.judged.ids.tolist()}
    with pytest.raises(CltoolsError, match="too many"):
        pictures("shapes", None, count=10**6, judge="val")


def test_every_fine_class_has_one_superclass() -> None:
    fine = [name for group in SUPERCLASSES.values() for name in group.split()]
    assert len(SUPERCLASSES) == 20 and len({*fine}) == len(fine) == 100


def test_plans_name_arms_that_can_be_trained_and_recorded() -> None:
    names = [setting.name for settings in EXPERIMENTS.values() for setting in settings]
    assert len({*names}) == len(names)
    for settings in EXPERIMENTS.values():
        for setting in settings:
            for arm in setting.arms.values():
                json.dumps(arm.to_json())
                assert arm.training.epochs == setting.baseline.training.epochs


def test_an_unknown_experiment_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["headrom", str(tmp_path)])
    assert "headroom" in capsys.readouterr().err
