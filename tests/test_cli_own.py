"""A rule and photographs of one's own, by commands alone: from training to the explorer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import answered, answered_anew, call, refused, started
from PIL import Image

from cltools.training import Run

RULES = '''
from dataclasses import dataclass

import torch

from cltools.mining import Band, Mined, NegativeRule, PositiveRule


@dataclass(frozen=True)
class NotTheClosest(NegativeRule):
    """Drops keys more similar than an edge."""

    edge: float = 0.5

    def judge(self, s, context):
        return torch.where(s.anchor_keys < self.edge, Band.POTENTIAL, Band.HARD).to(torch.int8)


@dataclass(frozen=True)
class TheClosest(PositiveRule):
    """Mines the closest key."""

    def mine(self, s, context):
        index = s.anchor_keys.masked_fill(s.own, -2).argmax(1, keepdim=True)
        return Mined(index, torch.full((len(index), 2), 0.5))
'''
QUICK = ("--epochs", "2", "--batch", "16", "--queue-size", "32", "--size", "16", "--device", "cpu", "--laptop")
"""On pictures of 16 pixels by the tiny encoder; flags beside --laptop win."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with rules in my_rules.py and photographs of two classes in photographs/."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_rules.py").write_text(RULES, encoding="utf-8")
    for split, count in (("train", 48), ("test", 12)):
        for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)):
            path = folder / "photographs" / split / ("cats", "dogs")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels // (1 + i % 2)).save(path)
    return folder


@pytest.mark.slow
def test_the_whole_way_by_commands_alone(here: Path) -> None:
    asked = ("own-moco", "--images", "photographs", "--import", "my_rules", *QUICK, "--out", "runs/a")
    rules = ("--rule", "NotTheClosest", "--negatives.edge", "0.6", "--positive-rule", "TheClosest")
    settings = answered(here, "train", *asked, *rules, "--print-config")
    assert settings["negatives"] == {"rule": "NotTheClosest", "edge": 0.6} and settings["outside"]["rules"] == [
        "my_rules"
    ]
    trained = answered_anew(here, "train", *asked, *rules)
    assert trained["run"] == "runs/a" and trained["epochs"] == 2 and trained["report"]["split"] == "test"
    again = answered(here, "train", *asked, *rules, "--resume")
    assert again["report"] == trained["report"]
    report = answered(here, "evaluate", "runs/a", "--protocol", "knn10")
    assert report["knn10"] == trained["report"]["knn10"]
    elsewhere = answered(here, "evaluate", "runs/a", "--images", "photographs", "--protocol", "knn10")
    assert elsewhere["knn10"] == report["knn10"]
    assert answered(here, "diagnose", "runs/a", "--n", "20")["anchors"] == 20
    (here / "own.json").write_text(json.dumps(settings), encoding="utf-8")
    seeds = answered(here, "train", "--config", "own.json", "--seeds", "1", "2")
    assert [each["run"] for each in seeds] == ["runs/photographs-seed1", "runs/photographs-seed2"]
    listed = answered(here, "runs")
    assert [(each["run"], each["differs"]["seed"]) for each in listed] == [
        ("runs/a", 0), ("runs/photographs-seed1", 1), ("runs/photographs-seed2", 2)
    ]  # fmt: skip
    shown = answered(here, "table", "runs/a")["markdown"]
    assert "NotTheClosest" in shown and "| photographs (48) |" in shown, shown
    kept = answered(here, "snapshot", "runs/a", "a.npz", "--umap", "--n", "20")
    page = answered(here, "explore", kept["snapshot"], "--html", "a.html", "--import", "my_rules")
    assert page == {"page": "a.html"} and "photographs" in (here / "a.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_own_rules_are_compared_with_as_many_keys_by_chance(here: Path) -> None:
    rules = ("--import", "my_rules", "--rules", "NotTheClosest", "TheClosest")
    budget = ("--epochs", "1", "--warm-epochs", "1", "--laptop", "--device", "cpu")
    photographs = ("compare", "own", "comparison.json", "--images", "photographs")
    with pytest.raises(AssertionError, match=r"fewer than training\.batch=256"):
        answered(here, *photographs, *rules, *budget)
    small = ("--set", "training.batch", "16", "training.queue_size", "32", "data.size", "16")
    rows = answered(here, *photographs, *budget, "--only", "band", *small)["rows"]
    assert [row["arm"] for row in rows] == ["moco", "band"]
    answer = answered(here, "compare", "digits", "digits.json", *rules, *budget, "--seeds", "0", "1")
    rows = answer["rows"]
    arms = ["moco", "NotTheClosest", "TheClosest", "random-as-TheClosest", "random-as-NotTheClosest"]
    assert [*answer["verdicts"]] == arms[1:] and all(said.endswith("]") for said in answer["verdicts"].values())
    assert [(row["seed"], row["arm"]) for row in rows] == [(seed, arm) for seed in (0, 1) for arm in arms]
    kept = {row["arm"]: row["kept"] for row in rows if row["seed"] == 0}
    assert kept["random-as-NotTheClosest"] == pytest.approx(kept["NotTheClosest"], abs=0.02)
    assert kept["NotTheClosest"] < kept["moco"]
    mined = {row["arm"]: row["curves"]["mined_purity"][-1] for row in rows if row["seed"] == 0}
    assert mined["random-as-TheClosest"] < mined["TheClosest"], "about one in ten is of the anchor's class"


@pytest.mark.slow
def test_processes_of_torchrun_know_the_rules(here: Path) -> None:
    rules = ("--import", "my_rules", "--rule", "NotTheClosest", "--positive-rule", "TheClosest")
    small = ("--epochs", "1", "--limit", "256", "--encoder.bn-group", "32", "--device", "cpu", "--out", "runs/two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "cltools", "train", "digits-moco", *rules, *small]
    done = subprocess.run(command, cwd=here, capture_output=True, encoding="utf-8", check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert answered(here, "evaluate", "runs/two", "--protocol", "knn10")["epochs"] == 1


def test_a_module_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused(call("train", "digits-moco", "--import", "no_such_rules"), "no_such_rules", "PYTHONPATH")
    refused(call("train", "own-moco"), "own-moco trains on images of your own", "--images FOLDER")
    assert not list(tmp_path.iterdir())


def test_a_run_says_which_module_its_rules_are_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config of a run is read where its rules are not known yet, and where their module is gone."""
    (tmp_path / "rules_of_mine.py").write_text(RULES.replace("NotTheClosest", "KeepsFar"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    flags = ("--import", "rules_of_mine", "--rule", "KeepsFar", "--limit", "128", "--epochs", "1", "--device", "cpu")
    assert call("train", "digits-moco", *flags, "--out", str(tmp_path / "a")).status == 0
    code = f"from cltools import Run; print(Run.load({str(tmp_path / 'a')!r}).experiment.negatives)"
    done = started(f"import sys; sys.path.insert(0, '.'); {code}", tmp_path)
    assert done.stdout == "KeepsFar(edge=0.5)\n", done.stderr
    config = json.loads((tmp_path / "a" / "config.json").read_text(encoding="utf-8"))
    config["outside"]["rules"] = ["gone_rules"]
    (tmp_path / "a" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match=r"^outside\.rules names 'gone_rules', but Python finds no module"):
        Run.load(tmp_path / "a")
