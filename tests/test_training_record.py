"""The record of a run: what it says, across resumes in other places, and beside evaluations."""

import json
import math
import shutil
import statistics
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from cltools.config import EvaluationSettings, Experiment, TrainingSettings, from_plain, to_plain
from cltools.datasets import DataSettings, load_images
from cltools.encoders import EncoderSettings, build_encoder
from cltools.errors import CltoolsError
from cltools.mining import AugmentedView
from cltools.provenance import commit, write_record
from cltools.training import History, Run, fit, record as records
from cltools.training.inputs import TrainedOn
from cltools.training.record import RunRecord, Stretch, read_run_record

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

ASKED = Experiment(
    data=DataSettings("digits", limit=64, holdout=0.25),
    encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
    positives=AugmentedView(),
    training=TrainingSettings(epochs=3, batch=16, queue_size=32, device="cpu"),
    evaluation=EvaluationSettings(every=2, test_limit=50),
    seed=4,
)


ENCODER = build_encoder(ASKED.encoder, None)


def rows(n: int) -> list[dict[str, float]]:
    return [
        {"epoch": e, "loss": 1 / e, "knn": math.nan, "seconds": 2.0 * e, "views_per_second": 10.0 * e}
        for e in range(1, n + 1)
    ]


def here(place: str, after: int = 0, warm_epochs: int = 0) -> Stretch:
    hardware = {"device": place, "threads": 1, "ranks": 1}
    return Stretch(after + 1, f"by {place} after {after}", "c0ffee", {}, hardware, warm_epochs)


def made(
    n: int, here: Stretch | None = None, before: RunRecord | None = None, images: TrainedOn | None = None
) -> RunRecord:
    return RunRecord.of(Run(ASKED, ENCODER, History(rows(n)), images=images, stretch=here), before)


def places(record: RunRecord) -> list[str]:
    """Where each epoch was trained, as the record tells it."""
    by_epoch = [
        [stretch.hardware.get("device", "?") for stretch in record.stretches if stretch.from_epoch <= epoch][-1]
        for epoch in range(1, record.epochs + 1)
    ]
    assert all(a.environment != b.environment for a, b in pairwise(record.stretches))
    return by_epoch


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(ASKED, out=tmp_path_factory.mktemp("trained") / "a")


@pytest.fixture
def trained(trained_once: Run, tmp_path: Path) -> Run:
    """A trained run whose folder is a copy, to be changed."""
    assert trained_once.path is not None
    return replace(trained_once, path=Path(shutil.copytree(trained_once.path, tmp_path / "a")))


def saved(folder: Path) -> RunRecord:
    record = read_run_record(folder)
    assert record is not None
    return record


# --- what it says


def test_says_what_the_history_says_and_what_was_asked(trained_once: Run) -> None:
    run = trained_once
    assert run.path is not None
    record = saved(run.path)
    assert from_plain(Experiment, record.experiment) == ASKED and record.seed == 4 and record.evaluations == {}
    assert record.images == run.images and record.images is not None and record.images.count == 48
    assert (record.epochs, record.asked, record.steps, record.backbone) == (3, 3, 0, "tiny")
    assert record.seconds == pytest.approx(sum(run.history.column("seconds")), abs=0)
    assert record.views_per_second == statistics.median(run.history.column("views_per_second"))
    assert record.judged == "val" and [row.epoch for row in record.by_epoch] == [1, 2, 3]
    assert [row.loss for row in record.by_epoch] == run.history.column("loss")
    assert record.by_epoch[0].knn is None
    assert [row.knn for row in record.by_epoch[1:]] == run.history.column("knn")[1:]
    (stretch,) = record.stretches
    assert stretch.commit == commit() and stretch.versions["torch"] == torch.__version__
    assert stretch.hardware["ranks"] == 1 and stretch.hardware["threads"] == torch.get_num_threads()
    assert (stretch.command, stretch.from_epoch) == ("from Python", 1)


def test_the_files_of_a_run_agree(trained_once: Run) -> None:
    assert trained_once.path is not None
    record, run = saved(trained_once.path), Run.load(trained_once.path)
    config = json.loads((trained_once.path / "config.json").read_text(encoding="utf-8"))
    assert to_plain(run.experiment) == record.experiment == config
    assert [(row.epoch, row.loss) for row in record.by_epoch] == [
        (row["epoch"], row["loss"]) for row in run.history.rows
    ]
    assert run.images == record.images, "by checkpoint and record"


def test_several_processes_are_counted() -> None:
    assert records.new_stretch(torch.device("cpu"), ranks=4).hardware["ranks"] == 4


def test_names_a_backbone_of_ones_own_and_images_that_were_given(tmp_path: Path) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 8)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(pixels.mean(dim=(2, 3)))
            return out

    images = load_images("digits").subset(64, seed=0)
    fit(ASKED, images=images, backbone=Pooled(), out=tmp_path / "a")
    record = saved(tmp_path / "a")
    assert record.backbone == "Pooled" and record.images is not None and record.images.given
    assert set(record.given) == {"images", "backbone"} and record.given["images"] == "digits"
    assert record.given["backbone"].endswith("Pooled")


def test_a_warm_start_is_told(trained_once: Run, tmp_path: Path) -> None:
    run = fit(replace(ASKED, training=replace(ASKED.training, epochs=1)), start_from=trained_once, out=tmp_path / "b")
    assert saved(tmp_path / "b").warm_epochs == 3
    Run.load(tmp_path / "b").save()
    assert saved(tmp_path / "b").warm_epochs == 3 and run.path is not None
    assert made(2, here("a"), None).warm_epochs == 0


# --- resumed


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.sampled_from("ab")), min_size=1, max_size=6))
def test_every_epoch_keeps_the_place_it_was_trained_at(parts: list[tuple[int, int, str]]) -> None:
    """Each part loses some epochs since a checkpoint and trains some more, in a place; a loop keeps count."""
    record: RunRecord | None = None
    expected: list[str] = []
    for lost, more, place in parts:
        expected = expected[: max(0, len(expected) - lost)]
        stretch = here(place, after=len(expected))
        for _ in range(more):
            expected.append(place)
            record = made(len(expected), stretch, record)
            assert places(record) == expected
            assert places(made(len(expected), None, record)) == expected, "loaded and saved"


def test_the_command_that_began_a_stretch_stays() -> None:
    first = made(2, here("a"))
    assert [part.command for part in made(3, here("a", after=2), first).stretches] == ["by a after 0"]
    moved = made(3, here("b", after=2), first).stretches
    assert [(part.command, part.from_epoch) for part in moved] == [("by a after 0", 1), ("by b after 2", 3)]


def test_without_a_record_nothing_is_claimed_of_the_epochs_before() -> None:
    assert places(made(3, here("b", after=2))) == ["?", "?", "b"]
    record = made(3)
    assert places(record) == ["?"] * 3 and record.stretches[0].commit == "" and record.images is None


def test_the_images_stay_where_they_are_not_at_hand() -> None:
    images = TrainedOn("digits", 48, given=False, pixels="a", pictures="b", ids="c", labels="d")
    before = made(2, here("a"), images=images)
    assert made(2, None, before).images == images


def test_a_resumed_run_says_so_and_its_time_is_that_of_all_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(run: Run) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(ASKED, out=tmp_path / "a", callbacks=[stop])
    assert (saved(tmp_path / "a").epochs, saved(tmp_path / "a").asked) == (1, 3)
    Run.load(tmp_path / "a").evaluate("val")
    assert saved(tmp_path / "a").evaluations["val"]["epochs"] == 1
    monkeypatch.setattr(
        fitting, "new_stretch", lambda device, **rest: here("abacus", rest["after"], rest["warm_epochs"])
    )
    run = fit(ASKED, out=tmp_path / "a", resume=True)
    record = saved(tmp_path / "a")
    assert places(record)[1:] == ["abacus"] * 2 and places(record)[0] != "abacus"
    assert record.evaluations == {}, "of an epoch that is not the last any more"
    assert record.seconds == pytest.approx(sum(run.history.column("seconds")), abs=0)
    run.evaluate("val")
    run.evaluate("test")
    assert {split: report["epochs"] for split, report in saved(tmp_path / "a").evaluations.items()} == {
        "val": 3,
        "test": 3,
    }
    assert all("elsewhere" not in report for report in saved(tmp_path / "a").evaluations.values())


# --- evaluated


def report(split: str = "test", **figures: Any) -> dict[str, Any]:
    return {"images": "digits", "split": split, "epochs": 2, "test_images": 50, **figures}


def test_one_split_or_figure_does_not_lose_another() -> None:
    a = here("a")
    record = made(2, a)
    for new in (
        report(knn200=50.0, knn10=40.0, per_class={"knn200": {"0": 1.0}}),
        report("val", knn200=60.0),
        report(knn10=41.0, probe=70.0, per_class={"probe": {"0": 2.0}}),
    ):
        record = record.evaluated(new, a)
    per_class = {"knn200": {"0": 1.0}, "probe": {"0": 2.0}}
    assert record.evaluations == {
        "test": report(knn200=50.0, knn10=41.0, per_class=per_class, probe=70.0),
        "val": report("val", knn200=60.0),
    }
    assert made(2, a, record).evaluations == record.evaluations
    assert made(3, a, record).evaluations == {}


def test_figures_measured_elsewhere_say_so_until_they_are_measured_again() -> None:
    record = made(2, here("a")).evaluated(report(knn200=50.0, probe=70.0), here("b"))
    (elsewhere,) = record.evaluations["test"]["elsewhere"]
    assert elsewhere["figures"] == ["knn200", "probe"] and elsewhere["hardware"]["device"] == "b"
    record = record.evaluated(report(probe=71.0), here("a"))
    (elsewhere,) = record.evaluations["test"]["elsewhere"]
    assert elsewhere["figures"] == ["knn200"] and record.evaluations["test"]["probe"] == 71.0
    record = record.evaluated(report(knn200=50.5), here("a"))
    assert "elsewhere" not in record.evaluations["test"]


@pytest.mark.usefixtures("trained")
def test_a_run_without_record_gets_one_that_claims_no_more_than_is_known(tmp_path: Path) -> None:
    (tmp_path / "a" / "record.json").unlink()
    Run.load(tmp_path / "a").evaluate("val")
    record = saved(tmp_path / "a")
    assert record.stretches == (Stretch(),) and record.epochs == 3
    assert record.images is not None and record.images.count == 48
    (elsewhere,) = record.evaluations["val"]["elsewhere"]
    assert elsewhere["versions"]["torch"] == torch.__version__


# --- damaged


HALF = replace(ASKED, training=replace(ASKED.training, checkpoint_every=2))


@pytest.fixture(scope="module")
def half_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after two of three epochs."""

    def stop(run: Run) -> None:
        if len(run.history.rows) == 2:
            raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("half") / "a"
    with pytest.raises(KeyboardInterrupt):
        fit(HALF, out=folder, callbacks=[stop])
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"record\.json cannot be read as a record: .* Nothing was changed\. Move it away"),
        ('{"kind": "comparison"}', "holds a record of kind 'comparison'; one of kind 'run' is needed"),
        ('{"kind": "run", "command": ""}', "cltools 0.1 wrote is converted by: python data/convert.py"),
        ('{"kind": "run", "format": 2, "seconds": 1}', "is damaged or of another version: record lacks 'experiment'"),
    ],
)
def test_a_damaged_record_is_refused_before_anything_is_done(
    half_once: Path, tmp_path: Path, text: str, message: str
) -> None:
    folder = Path(shutil.copytree(half_once, tmp_path / "a"))
    (folder / "record.json").write_text(text, encoding="utf-8")
    run = Run.load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for act in (run.save, run.evaluate, lambda: fit(HALF, out=folder, resume=True)):
        with pytest.raises(ValueError, match=message):
            act()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_whose_record_was_moved_away_goes_on(half_once: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(half_once, tmp_path / "a"))
    (folder / "record.json").unlink()
    fit(HALF, out=folder, resume=True)
    assert saved(folder).epochs == 3 and saved(folder).stretches[0].commit == ""


def test_no_record_is_none_and_a_record_comes_back(tmp_path: Path) -> None:
    assert read_run_record(tmp_path) is None
    record = made(2, here("b", after=1), made(1, here("a", warm_epochs=4))).evaluated(report(knn200=50.0), here("c"))
    (tmp_path / "record.json").write_text(json.dumps(record.to_plain()), encoding="utf-8")
    assert read_run_record(tmp_path) == record and len(record.stretches) == 2 and record.warm_epochs == 4
    older = {name: value for name, value in record.to_plain().items() if name != "given"}
    assert RunRecord.from_plain(tmp_path, older) == record
    for name, value in (("stretches", []), ("stretches", [{"epoch": 1}]), ("by_epoch", [1]), ("experiment", {})):
        (tmp_path / "record.json").write_text(json.dumps(record.to_plain() | {name: value}), encoding="utf-8")
        with pytest.raises(ValueError, match=r"record\.json is damaged"):
            read_run_record(tmp_path)


@pytest.mark.usefixtures("trained")
def test_a_config_that_cannot_be_read_tells_of_the_version_that_can(tmp_path: Path) -> None:
    config = tmp_path / "a" / "config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"queue_size"', '"queue_length"'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json cannot be read: .*queue_length.*queue_size"):
        Run.load(tmp_path / "a")
    first = (
        config.read_text(encoding="utf-8")
        .replace('"queue_length"', '"queue_size"')
        .replace('"rule": "AugmentedView",', "")
    )
    config.write_text(first, encoding="utf-8")
    with pytest.raises(ValueError, match=r"positives must name its rule.*cltools 0\.1"):
        Run.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("evaluations.test.knn200", 250.0, "figure also at most 100"),
        ("evaluations.test.probe", -3.0, "figure also at most 100"),
        ("by_epoch.0.knn", 101.0, "figure also at most 100"),
        ("evaluations.test.test_images", -1, "must be at least 0"),
        ("images.count", -1, "must be at least 0"),
        ("stretches.0.warm_epochs", -7, "must be at least 0"),
        ("stretches.0.from_epoch", -1, "must be at least 0"),
        ("evaluations.foo", {"split": "test", "epochs": 1}, "evaluations.foo is a report of split 'test'"),
        ("evaluations.test.split", "val", "evaluations.test is a report of split 'val'"),
        ("evaluations.test.split", "foo", "evaluations.test.split"),
    ],
)
def test_impossible_numbers_in_a_record_are_refused(path: str, value: Any, message: str, tmp_path: Path) -> None:
    images = TrainedOn("digits", 64, given=False)
    plain = made(1, here("a"), images=images).evaluated(report(knn200=50.0, probe=40.0), here("a")).to_plain()
    plain = json.loads(json.dumps(plain))
    RunRecord.from_plain(tmp_path, plain)
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at: Any = plain
    for part in above:
        at = at[part]
    at[last] = value
    with pytest.raises(CltoolsError, match=message):
        RunRecord.from_plain(tmp_path, plain)


@pytest.mark.parametrize("value", ["inf", "-inf", "1e999"])
def test_a_history_with_an_infinite_number_is_refused(value: str, trained: Run) -> None:
    """It was believed, and then a record was written that could not be read."""
    assert trained.path is not None
    path = trained.path / "history.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = lines[-1].split(",")
    lines[-1] = ",".join([cells[0], value, *cells[2:]])
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    with pytest.raises(CltoolsError, match=r"history\.csv is not a history.*infinite number.*Move it away"):
        History.load(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_record_is_written_that_cannot_be_read(value: float, tmp_path: Path) -> None:
    with pytest.raises(CltoolsError, match=r"record\.json was not written"):
        write_record(tmp_path / "record.json", {"kind": "run", "seconds": value})
    assert not list(tmp_path.iterdir())
