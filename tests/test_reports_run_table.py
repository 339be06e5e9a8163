"""Runs beside published figures: what is grouped, what is said of a run, what is blank, and what is refused."""

import json
import random
import statistics
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cltools.config import Experiment, to_plain
from cltools.mining import AllNegatives, RankBand
from cltools.presets import laptop, preset
from cltools.provenance import write_record
from cltools.reports.published import CAUTION, PUBLISHED, WHOLE
from cltools.reports.table import COLUMNS, table
from cltools.training.inputs import TrainedOn
from cltools.training.record import RunRecord, Stretch

HARDWARE = {"device": "abacus", "threads": 1, "ranks": 1}


def run(path: Path, experiment: Experiment, evaluations: dict[str, dict[str, Any]], /, **more: Any) -> Path:
    """A record as a finished run leaves it, with `more` in place of its attributes, or of those of its stretch."""
    stretch = Stretch(1, "python -m cltools train", "c0ffee", {"torch": "2.6"}, HARDWARE)
    told = {f.name for f in fields(Stretch)}
    epochs = more.get("epochs", experiment.training.epochs)
    count, tested = WHOLE.get(experiment.data.name, (1297, 500))
    record = RunRecord(
        experiment=to_plain(experiment),
        backbone=experiment.encoder.backbone,
        images=TrainedOn(experiment.data.name, count, False, "7"),
        stretches=(replace(stretch, **{name: value for name, value in more.items() if name in told}),),
        epochs=epochs,
        steps=0,
        seconds=1.0,
        views_per_second=1.0,
        judged=None,
        by_epoch=(),
        evaluations={
            split: {"split": split, "epochs": epochs, "test_images": tested, **figures}
            for split, figures in evaluations.items()
        },
    )
    record = replace(record, **{name: value for name, value in more.items() if name not in told})
    write_record(path, record.to_plain())
    return path


def seeded(name: str, seed: int) -> Experiment:
    return replace(preset(name), seed=seed)


def rows(text: str) -> list[dict[str, str]]:
    caption, blank, head, rule, *lines = text.splitlines()
    assert caption and not blank and head == f"| {' | '.join(COLUMNS)} |" and rule.count("|") == head.count("|")
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert all(len(row) == len(COLUMNS) for row in cells)
    return [dict(zip(COLUMNS, row, strict=True)) for row in cells]


def test_by_hand(tmp_path: Path) -> None:
    figures = [
        {"knn200": 90.0, "knn10": 91.0, "probe": 95.0},
        {"knn200": 92.0, "knn10": 91.5, "probe": 96.0, "linear": 97.25},
    ]
    paths = [
        run(tmp_path / f"{seed}.json", seeded("digits-moco", seed), {"test": of}) for seed, of in enumerate(figures)
    ]
    (row,) = rows(table(paths))
    assert row == {
        "method": "`digits-moco`",
        "images": "digits (1,297)",
        "split": "test, 500 images",
        "kNN-200": f"91.0 ± {statistics.stdev([90, 92]):.1f}",
        "kNN-10": "91.2 ± 0.4",
        "probe": "95.5 ± 0.7",
        "linear": "97.2 (1 of 2 seeds)",
        "1 % labels": "",
        "10 % labels": "",
        "top-1, protocol unknown": "",
        "seeds": "0, 1",
        "epochs": "30",
        "backbone": "tiny",
        "source": "this run: commit c0ffee, abacus",
    }
    labels = run(tmp_path / "l.json", seeded("digits-moco", 2), {"test": {"finetune1": 50.0, "finetune10": 80.0}})
    (row,) = rows(table([labels]))
    assert (row["kNN-200"], row["1 % labels"], row["10 % labels"]) == ("", "50.0", "80.0")


def test_a_runs_folder_stands_for_its_record(tmp_path: Path) -> None:
    path = run(tmp_path / "a" / "record.json", seeded("digits-moco", 0), {"test": {"knn200": 90.0}})
    assert table([path.parent]) == table([path])
    with pytest.raises(FileNotFoundError, match=r"holds no record\.json; .* python -m cltools evaluate"):
        table([tmp_path])


def test_only_the_seed_may_differ_within_a_row(tmp_path: Path) -> None:
    base = seeded("digits-moco", 0)
    others: list[tuple[Experiment, dict[str, Any]]] = [
        (replace(base, loss=replace(base.loss, temperature=0.1)), {}),
        (base, {"commit": "decaf"}),
        (base, {"hardware": {**HARDWARE, "device": "loom"}}),
        (base, {"versions": {"torch": "2.7"}}),
        (base, {"epochs": 29}),
        (base, {"warm_epochs": 5}),
        (base, {"images": TrainedOn("digits", 100, False, "7")}),
        (base, {"images": TrainedOn("digits", 1297, False, "8")}),
        (replace(base, data=replace(base.data, name="elsewhere/digits")), {}),
        (base, {"backbone": "Mine"}),
    ]
    first = run(tmp_path / "first.json", base, {"test": {"knn200": 90.0}})
    for n, (experiment, more) in enumerate(others):
        other = run(tmp_path / f"{n}.json", replace(experiment, seed=1), {"test": {"knn200": 91.0}}, **more)
        assert [row["seeds"] for row in rows(table([first, other]))] in (["0", "1"], ["1", "0"]), more
    for n, same in enumerate(
        (
            replace(base, data=replace(base.data, root="/elsewhere", download=False)),
            replace(base, training=replace(base.training, device="cpu", checkpoint_every=7)),
            replace(base, evaluation=replace(base.evaluation, every=1, protocol="knn10")),
        )
    ):
        other = run(tmp_path / f"s{n}.json", replace(same, seed=1), {"test": {"knn200": 91.0}})
        assert [row["seeds"] for row in rows(table([first, other]))] == ["0, 1"]


@pytest.mark.parametrize("digests", [("pixels",), ("pixels", "pictures", "ids", "labels")])  # of old records, of new
def test_a_seed_may_decide_which_images_are_held_out(tmp_path: Path, digests: tuple[str, ...]) -> None:
    base = preset("digits-moco")
    paths = [
        run(
            tmp_path / f"{seed}.json",
            replace(base, data=replace(base.data, holdout=0.2), seed=seed),
            {"val": {"knn200": 90.0 + seed}},
            images=TrainedOn("digits", 1038, False, *[f"{seed}"] * 4),
        )
        for seed in (0, 1)
    ]
    assert [row["seeds"] for row in rows(table(paths))] == ["0, 1"]


@pytest.mark.parametrize(
    ("experiment", "more", "cells"),
    [
        (
            replace(preset("digits-potential"), data=replace(preset("digits-potential").data, limit=300)),
            {"images": TrainedOn("digits", 300, False, "7")},
            {"method": "`digits-potential`: data.limit: None → 300", "images": "digits (300)"},
        ),
        (
            replace(preset("digits-moco"), training=replace(preset("digits-moco").training, epochs=3)),
            {},
            {"method": "`digits-moco`: training.epochs: 30 → 3", "epochs": "3"},
        ),
        (preset("digits-moco"), {"epochs": 4}, {"method": "`digits-moco`", "epochs": "4 of 30"}),
        (preset("digits-moco"), {"warm_epochs": 5}, {"epochs": "30, after 5 of another run"}),
        (laptop(preset("cifar100-ring")), {}, {"method": "`cifar100-ring --laptop`", "backbone": "tiny"}),
        (
            replace(preset("digits-moco"), negatives=RankBand(0.1, 0.5)),
            {},
            {
                "method": "`digits-potential`: positives.rule: NearestKeys → AugmentedView, "
                "negatives.drop_closest: 0.05 → 0.1"
            },
        ),
        (
            replace(preset("shapes-moco"), data=replace(preset("shapes-moco").data, name="/somewhere/my birds")),
            {},
            {"method": "`shapes-moco`", "images": "my birds (1,297)"},
        ),
        (
            preset("digits-moco"),
            {"images": TrainedOn("mine", 5, True, "7"), "backbone": "Mine"},
            {"images": "mine (5, given)", "backbone": "own: Mine"},
        ),
        (
            preset("digits-moco"),
            {"commit": "", "hardware": {}, "images": None},
            {"source": "this run: commit unknown, unknown device", "images": "digits"},
        ),
        (
            preset("digits-moco"),
            {
                "stretches": (
                    Stretch(1, commit="decaf", hardware={"device": "loom", "threads": 1}),
                    Stretch(3, commit="decaf", hardware={"device": "loom", "threads": 2}),
                    Stretch(6, commit="c0ffee", hardware={**HARDWARE, "ranks": 4}),
                )
            },
            {"source": "this run: commit decaf, loom, then commit c0ffee, 4 × abacus"},
        ),
    ],
)
def test_a_row_says_what_is_particular_of_a_run(
    tmp_path: Path, experiment: Experiment, more: dict[str, Any], cells: dict[str, str]
) -> None:
    path = run(tmp_path / "a.json", experiment, {"test": {"knn200": 90.0}}, **more)
    assert cells.items() <= rows(table([path]))[0].items()


def test_figures_measured_elsewhere_say_where(tmp_path: Path) -> None:
    elsewhere = [{"figures": ["linear"], "commit": "decaf", "versions": {}, "hardware": {"device": "loom"}}]
    path = run(tmp_path / "a.json", preset("digits-moco"), {"test": {"linear": 90.0, "elsewhere": elsewhere}})
    assert rows(table([path]))[0]["source"] == "this run: commit c0ffee, abacus; linear by commit decaf, loom"


def test_a_shortened_linear_evaluation_stands_alone_and_says_so(tmp_path: Path) -> None:
    reports = [
        {"linear": 90.0, "linear_epochs": 100}, {"knn200": 80.0}, {"linear": 60.0, "linear_epochs": 2},
        {"linear": 62.0, "linear_epochs": 2}, {"linear": 50.0, "linear_epochs": 1},
    ]  # fmt: skip
    paths = [
        run(tmp_path / f"{seed}.json", seeded("digits-moco", seed), {"test": of}) for seed, of in enumerate(reports)
    ]
    assert {(row["seeds"], row["linear"]) for row in rows(table(paths))} == {
        ("0, 1", "90.0 (1 of 2 seeds)"),
        ("2, 3", "61.0 ± 1.4 (2 epochs)"),
        ("4", "50.0 (1 epoch)"),
    }


def test_each_split_has_a_row_and_one_not_evaluated_is_blank(tmp_path: Path) -> None:
    both = run(tmp_path / "a.json", preset("digits-moco"), {"val": {"knn200": 90.0}, "test": {"knn200": 80.0}})
    assert [(row["split"], row["kNN-200"]) for row in rows(table([both]))] == [
        ("test, 500 images", "80.0"),
        ("val, 500 images", "90.0"),
    ]
    stale = {"test": {"split": "test", "epochs": 4, "test_images": 500, "knn200": 80.0}}
    for n, evaluations in enumerate(({}, stale)):
        path = run(tmp_path / f"{n}.json", preset("digits-moco"), {}, evaluations=evaluations)
        (row,) = rows(table([path]))
        assert (row["split"], row["kNN-200"], row["epochs"]) == ("", "", "30")


def test_published_figures_stand_beside_runs_on_their_images(tmp_path: Path) -> None:
    digits = run(tmp_path / "d.json", preset("digits-moco"), {"test": {"knn200": 90.0}})
    tiny = run(tmp_path / "t.json", preset("tinyimagenet-moco"), {"test": {"knn200": 30.0}})
    cifar = run(tmp_path / "c.json", preset("cifar10-potential"), {"test": {"knn200": 80.0}})
    assert CAUTION not in table([digits])
    text = table([tiny, digits, cifar])
    assert CAUTION in text
    found = rows(text)
    assert [row["images"].split()[0] for row in found] == ["digits", *["cifar10"] * 22, *["tinyimagenet"] * 16]
    assert found[1]["method"] == "`cifar10-potential`" and found[1]["backbone"] == "ResNet-18"
    assert found[2]["top-1, protocol unknown"] == "88.57" and "2311.00358" in found[2]["source"]
    assert not any(found[2][name] for name in ("split", "kNN-200", "linear", "seeds", "epochs", "backbone"))
    assert found[3] == dict.fromkeys(COLUMNS, "") | {
        "method": "MoCoV2",
        "images": "cifar10",
        "kNN-200": "88.05",
        "linear": "89.70",
        "epochs": "200",
        "backbone": "ResNet-18",
        "source": "github.com/pc-cp/Benchmark-Methods-For-MNN, README at commit 80dd398",
    }
    assert len(rows(table([digits], references=True))) == 1 + len(PUBLISHED)
    assert len(rows(table([], references=True))) == len(PUBLISHED)


def test_the_order_of_the_records_decides_nothing(tmp_path: Path) -> None:
    names = ("shapes-moco", "digits-potential", "digits-moco", "cifar10-moco")
    paths = [
        run(tmp_path / f"{name}-{seed}.json", seeded(name, seed), {"test": {"knn200": 80.0 + seed}})
        for name in names
        for seed in (1, 0, 2)
    ]
    short = preset("digits-moco")
    short = replace(short, training=replace(short.training, epochs=3))
    paths.append(run(tmp_path / "short.json", short, {"test": {"knn200": 50.0}}))
    text = table(paths)
    for seed in range(5):
        assert table(random.Random(seed).sample(paths, len(paths))) == text
    assert [row["method"] for row in rows(text)][:4] == [
        "`digits-moco`", "`digits-moco`: training.epochs: 30 → 3", "`digits-potential`", "`shapes-moco`",
    ]  # fmt: skip


def test_a_rule_of_ones_own_needs_no_class_to_be_shown(tmp_path: Path) -> None:
    path = run(tmp_path / "a.json", replace(preset("digits-moco"), negatives=AllNegatives()), {"test": {}})
    record = json.loads(path.read_text(encoding="utf-8"))
    record["experiment"]["negatives"] = {"rule": "MineAlone", "n": 3}
    del record["experiment"]["training"]["chunk"]  # of an older version: its default
    path.write_text(json.dumps(record), encoding="utf-8")
    assert rows(table([path]))[0]["method"] == (
        "`digits-moco`: negatives.rule: AllNegatives → MineAlone, negatives.n: absent → 3"
    )


def test_what_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a.json", preset("digits-moco"), {"test": {"knn200": 90.0}})
    with pytest.raises(ValueError, match=r"a\.json and .*a\.json hold the same run with the same seed"):
        table([a, a])
    comparison = tmp_path / "comparison.json"
    comparison.write_text('{"kind": "comparison"}', encoding="utf-8")
    for paths in ([a, comparison], [comparison, a]):
        with pytest.raises(ValueError, match=r"a\.json of kind 'run'.* Show each kind alone"):
            table(paths)
    with pytest.raises(ValueError, match="Published figures are shown beside runs"):
        table([comparison], references=True)
    plain = to_plain(preset("digits-moco"))
    for n, change in enumerate(({"seed": "?"}, {"training": {}}, {"negatives": 1}, {"views": {"flip": "often"}})):
        path = run(tmp_path / f"{n}.json", preset("digits-moco"), {}, experiment={**plain, **change})
        with pytest.raises(ValueError, match=rf"{n}\.json is damaged"):
            table([path])
    record = json.loads(a.read_text(encoding="utf-8"))
    del record["stretches"]
    a.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ValueError, match="record lacks 'stretches'"):
        table([a])


def test_a_set_is_known_by_what_it_is_and_not_by_what_others_are_called(tmp_path: Path) -> None:
    whole = preset("cifar10-moco")
    few = TrainedOn("cifar10", 10_000, False)
    cases: dict[str, tuple[Experiment, dict[str, Any]]] = {
        "other images called cifar10": (replace(whole, data=replace(whole.data, name="/home/a/cifar10")), {}),
        "other images called cifar10 (50,000, given)": (whole, {"images": TrainedOn("cifar10", 50_000, True)}),
        "part of cifar10 (10,000)": (laptop(whole), {"images": few}),
        "part of cifar10 (49,999)": (whole, {"images": TrainedOn("cifar10", 49_999, False)}),
        "part of cifar10": (replace(whole, data=replace(whole.data, size=16)), {}),
        "other images called cifar100": (
            replace(whole, outside=replace(whole.outside, images="mine:images")),
            {"images": TrainedOn("cifar100", 50_000, False)},
        ),
    }
    for name, (experiment, more) in cases.items():
        path = run(tmp_path / "a.json", experiment, {"test": {"knn200": 90.0, "test_images": 10_000}}, **more)
        (row,) = rows(table([path]))
        assert row["images"].startswith(name)
    limited = run(tmp_path / "a.json", whole, {"test": {"knn200": 90.0, "test_images": 500}})
    assert len(rows(table([limited]))) == 1
    held_out = replace(whole, data=replace(whole.data, holdout=0.1))
    path = run(tmp_path / "a.json", held_out, {"val": {"knn200": 90.0}}, images=TrainedOn("cifar10", 45_000, False))
    assert len(rows(table([path]))) == 22
