"""Comparisons: arms that differ in what they say alone, one warm start, records to go on with, and the table."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from cltools.config import Experiment, TrainingSettings, differences, from_plain, to_plain
from cltools.datasets import ImageSet, load_images, split_holdout
from cltools.errors import CltoolsError
from cltools.evaluation import knn_accuracy
from cltools.evaluation.embed import embed
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Context,
    LearnedThreshold,
    NearestKeys,
    OracleNegatives,
    PositiveRule,
    RandomNegatives,
    RankBand,
    similarities,
)
from cltools.presets import IMAGES, METHODS, preset
from cltools.reports import comparing
from cltools.reports.arms import BASELINE, RandomPositives, arms_of, grid_of
from cltools.reports.comparing import CompareFlags, compare
from cltools.reports.table import table
from cltools.testing import check_rule
from cltools.training import Run
from course.results import Comparison


@pytest.mark.parametrize("images", [name for name in IMAGES if name != "own"])
def test_every_preset_is_an_arm_and_every_ablation_differs_in_what_it_names(images: str) -> None:
    found, moco = arms_of(images), preset(f"{images}-moco")
    for method in METHODS:
        assert found[method] == preset(f"{images}-{method}")
    assert len({experiment.to_json() for experiment in found.values()}) == len(found), "no arm stands twice"
    for name, experiment in found.items():
        if name in METHODS:
            continue
        sections = {each.path.split(".")[0] for each in differences(moco, experiment)}
        allowed = {"loss"} if name.startswith("moco-t") else {"positives", "negatives", "loss"}
        assert sections <= allowed, name
        assert ("loss" in sections) == bool(re.search(r"-t0\.\d$", name))


def test_the_controls_are_those_that_make_an_effect_attributable() -> None:
    found = arms_of("cifar10")
    band = found["potential"].negatives
    assert isinstance(band, RankBand)
    chance = found["random"].negatives
    assert isinstance(chance, RandomNegatives) and chance.share == band.keep_within - band.drop_closest
    assert found["potential-random"].positives == found["potential"].positives
    assert found["potential-random"].negatives == chance, "as many keys, by chance"
    assert found["band"].negatives == band and found["band"].positives == AugmentedView()
    assert found["band-rescaled"].negatives == replace(band, rescale=True)
    assert found["random-rescaled"].negatives == replace(chance, rescale=True)
    annealed, matched = found["band-annealed"].negatives, found["random-annealed"].negatives
    assert isinstance(annealed, RankBand) and isinstance(matched, RandomNegatives)
    for progress in (0.0, 0.2, 0.7):
        now = annealed.at(progress)
        assert matched.at(progress).share == pytest.approx(now.keep_within - now.drop_closest)
    assert found["drop-closest"].negatives == replace(band, keep_within=1.0)
    assert found["drop-beyond"].negatives == replace(band, drop_closest=0.0)
    learned = found["glofnd"].negatives
    assert isinstance(learned, LearnedThreshold) and learned.alpha == 0.1, "one of ten classes"
    assert found["glofnd-band"].negatives == RankBand(drop_closest=0.1, keep_within=1.0, by="anchor")
    assert found["potential-oracle"].negatives == OracleNegatives()
    assert found["mined-soft-hard"].positives == NearestKeys(min_weight="mean") == found["potential"].positives
    assert found["mined-soft-hard"].negatives == AllNegatives()
    assert [found[f"moco-t{t}"].loss.temperature for t in (0.1, 0.5)] == [0.1, 0.5]


def test_a_grid_has_a_band_a_pair_and_as_many_keys_by_chance() -> None:
    moco = preset("digits-moco")
    found = grid_of(moco, (0.3, 0.0, 0.1), (0.3, 1.0))
    bands = {"band-0-0.3": (0.0, 0.3), "band-0.1-0.3": (0.1, 0.3), "band-0.1-1": (0.1, 1.0), "band-0.3-1": (0.3, 1.0)}
    assert list(found) == [BASELINE, *bands, "random-0.2", "random-0.3", "random-0.7", "random-0.9"]
    assert found[BASELINE] == moco, "which is the band from 0 to 1"
    for name, (lower, upper) in bands.items():
        assert found[name] == replace(moco, negatives=RankBand(lower, upper))
        assert f"random-{upper - lower:g}" in found
    for share in (0.2, 0.3, 0.7, 0.9):
        assert found[f"random-{share}"] == replace(moco, negatives=RandomNegatives(share))
    for drop_closest, keep_within in (((0.5,), (0.5, 0.1)), ((0.0,), (1.0,))):
        with pytest.raises(ValueError, match=r"No band drops \[0\.\d\] and keeps within \[.*\]"):
            grid_of(moco, drop_closest, keep_within)
    with pytest.raises(ValueError, match=r"drop_closest is -0\.1; it must be a number between 0 and 1"):
        grid_of(moco, (-0.1,), (1.0,))


def test_a_control_mines_as_many_random_keys_with_the_weights_of_its_rule() -> None:
    rule = NearestKeys(k=4, min_weight="mean", start=0.3)
    control = RandomPositives(rule, start=rule.start)
    check_rule(control)
    assert from_plain(PositiveRule, to_plain(control), "x") == control and control.at(0.2).strength == 0
    z, keys = (normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(n)), dim=1) for n in (30, 400))
    s = similarities(z, z, keys, torch.zeros(30, 400, dtype=torch.bool))
    context = Context(~s.own, 0.2, torch.Generator().manual_seed(0))
    mined, drawn = rule.mine(s, context), control.mine(s, context)
    torch.testing.assert_close(drawn.weight, mined.weight)
    assert drawn.index.shape == mined.index.shape and float((drawn.index == mined.index).float().mean()) < 0.1


def test_a_rule_of_no_kind_is_unknown() -> None:
    with pytest.raises(ValueError, match=r"Unknown rule 'RankBnd'. Did you mean RankBand.*--import"):
        CompareFlags("digits", Path("x.json"), rules=("RankBnd",)).chosen()


def test_a_setting_is_varied_beside_the_baseline() -> None:
    flags = CompareFlags("digits", Path("x.json"), vary=("loss.temperature", "0.1", "0.5"), only=("moco", "potential"))
    found = flags.chosen()
    names = [f"{arm} loss.temperature={t}" for arm in ("moco", "potential") for t in ("0.1", "0.5")]
    assert list(found) == [BASELINE, *names]
    for name in names:
        arm, _, value = name.partition(" loss.temperature=")
        assert found[name].loss == replace(flags.arms()[arm].loss, temperature=float(value))
        (difference,) = differences(flags.budgeted(flags.arms()[arm], 10), found[name])
        assert difference.path == "loss.temperature"
    vary = ("training.mode", "simclr")
    alone = CompareFlags("digits", Path("x.json"), vary=vary, folder=Path("mine"), imports=("a",))
    (_, varied) = alone.chosen().values()
    assert varied.training.mode == "simclr" and varied.data.name == "mine" and varied.outside.rules == ("a",)
    small = CompareFlags("cifar10", Path("x.json"), laptop=True, vary=("training.batch", "64"))
    baseline, varied = small.chosen().values()
    assert [each.path for each in differences(baseline, varied)] == ["training.batch"], "after the laptop's settings"
    for path in ("seed", "data.name", "training.epochs", "outside.rules"):
        for flags in ({"vary": (path, "1", "2")}, {"given": ((path, "1"),)}):
            with pytest.raises(ValueError, match=f"compare sets {path} itself"):
                CompareFlags("digits", Path("x.json"), **flags)
    with pytest.raises(ValueError, match=r"Unknown setting 'loss.temprature'. Did you mean loss.temperature"):
        CompareFlags("digits", Path("x.json"), vary=("loss.temprature", "1")).chosen()
    with pytest.raises(ValueError, match=r"temperature"):
        CompareFlags("digits", Path("x.json"), vary=("loss.temperature", "warm")).chosen()
    with pytest.raises(ValueError, match="add its values"):
        CompareFlags("digits", Path("x.json"), vary=("loss.temperature",))


def small(out: Path, **more: Any) -> CompareFlags:
    return CompareFlags("digits", out, device="cpu", **{"warm_epochs": 1, "epochs": 1, "only": ("band",), **more})


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """A step or two an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = comparing.training_images
        patch.setattr(comparing, "training_images", lambda e, images=None: drawn(e, images or few("train")))
        patch.setattr(comparing, "evaluation_images", lambda experiment: few("test"))
        yield


def few(split: str) -> ImageSet:
    return load_images("digits", split).subset(300, seed=0)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The record of two short arms."""
    out = tmp_path_factory.mktemp("comparison") / "digits.json"
    return out, compare(small(out))


def test_a_record_holds_a_row_an_arm_and_what_it_takes_to_repeat_it(done: tuple[Path, dict[str, Any]]) -> None:
    out, record = done
    assert json.loads(out.read_text(encoding="utf-8")) == record
    assert [(row["arm"], row["seed"]) for row in record["rows"]] == [("moco", 0), ("band", 0)]
    rule, lower, *_ = record["arms"]["band"]
    assert record["arms"]["moco"] == [] and lower == {"path": "negatives.drop_closest", "now": 0.05}
    assert rule == {"path": "negatives.rule", "before": "AllNegatives", "now": "RankBand"}
    plain = record["baseline"]
    assert plain["training"]["epochs"] == record["warm_epochs"] == 1
    assert all(each.decides and each.path != "seed" for each in differences({}, plain))
    moco, band = record["rows"]
    assert all(0 < row[figure] <= 100 for row in record["rows"] for figure in ("knn200", "knn10", "probe"))
    assert moco["kept"] > 0.5 and band["kept"] == pytest.approx(0.45 * moco["kept"], rel=0.05)
    assert 0 < moco["false_negative_share"] < 1 and moco["mined_purity"] is None
    for name in ("command", "commit", "versions", "hardware"):
        assert record[name]


def test_arms_part_from_one_warm_start_and_are_measured_on_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[tuple[Experiment, Run | None, Run]] = []
    fit = comparing.fit

    def spy(experiment: Experiment, **arguments: Any) -> Run:
        run = fit(experiment, **arguments)
        fits.append((experiment, arguments.get("start_from"), run))
        return run

    monkeypatch.setattr(comparing, "fit", spy)
    record = compare(small(tmp_path / "a.json", seeds=(3, 4, 3)))
    assert [e.seed for e, _, _ in fits] == [3, 3, 3, 4, 4, 4]
    for warm, *parted in (fits[:3], fits[3:]):
        assert warm[1] is None and warm[0].negatives == AllNegatives()
        assert all(start is warm[2] for _, start, _ in parted)
    train, test = few("train"), few("test")
    run = fits[2][2]
    expected = knn_accuracy(embed(run.encoder, train), train.labels, embed(run.encoder, test), test.labels)
    assert record["rows"][1]["knn200"] == round(expected, 2)


def test_with_a_holdout_arms_are_measured_on_images_that_none_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[Run] = []
    fit = comparing.fit

    def spy(experiment: Experiment, **arguments: Any) -> Run:
        runs.append(fit(experiment, **arguments))
        return runs[-1]

    def no_test(experiment: Experiment) -> ImageSet:
        raise AssertionError("the test images are read")

    monkeypatch.setattr(comparing, "fit", spy)
    monkeypatch.setattr(comparing, "evaluation_images", no_test)
    out = tmp_path / "a.json"
    record = compare(small(out, seeds=(1,), only=(), drop_closest=(0.1,), keep_within=(0.5,), holdout=0.2))
    assert [(row["arm"], row["seed"]) for row in record["rows"]] == [
        (arm, 1) for arm in ("moco", "band-0.1-0.5", "random-0.4")
    ]
    assert record["baseline"]["data"]["holdout"] == 0.2
    assert all(run.images is not None and run.images.count == 240 for run in runs), "the warm starts neither"
    for run, row in zip(runs[1:], record["rows"], strict=True):
        train, val = split_holdout(few("train"), 0.2, run.experiment.seed)
        expected = knn_accuracy(embed(run.encoder, train), train.labels, embed(run.encoder, val), val.labels)
        assert row["knn200"] == round(expected, 2)
    assert "percent of 20 % of the training images, held out, after the last epoch" in table([out])
    with pytest.raises(ValueError, match=r"other settings: baseline\. Give another file"):
        compare(small(out))


@pytest.mark.slow
def test_curves_are_of_every_epoch_and_measured_on_what_is_held_out(tmp_path: Path) -> None:
    flags = small(tmp_path / "a.json", epochs=3, holdout=0.2, every=2, only=("mined-hard",))
    for row, mined in zip(compare(flags)["rows"], (False, True), strict=True):
        assert {*row["curves"]} == {"loss", "knn", "false_negative_share", "mined_purity"}
        assert all(len(column) == 3 for column in row["curves"].values())
        first, second, last = row["curves"]["knn"]
        assert first is None and 0 < second <= 100 and last == row["knn200"]
        assert row["curves"]["false_negative_share"][-1] == row["false_negative_share"]
        assert row["curves"]["mined_purity"][-1] == row["mined_purity"] and mined == (row["mined_purity"] is not None)
        assert all(loss > 0 for loss in row["curves"]["loss"])


def test_an_arm_that_diverges_is_recorded_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = comparing.train_arm

    def diverging(name: str, *rest: Any) -> dict[str, Any]:
        if name == "band":
            raise FloatingPointError("The loss is nan after step 3; training stopped.")
        return train(name, *rest)

    monkeypatch.setattr(comparing, "train_arm", diverging)
    out = tmp_path / "a.json"
    rows = compare(small(out, only=("band", "decoupled")))["rows"]
    assert [row["arm"] for row in rows] == ["moco", "decoupled", "band"]
    assert rows[2] == {"arm": "band", "seed": 0, "diverged": "The loss is nan after step 3; training stopped."}
    assert compare(small(out, only=("band", "decoupled")))["rows"] == rows, "it is not tried again"
    assert "| `band` | 0, diverged 1 |  |  |  |  |  |  |  |" in table([out])
    read = Comparison(tuple(rows))
    assert set(read.gains("decoupled")) == {0}
    with pytest.raises(ValueError, match="contain no knn200 of an arm 'band'"):
        read.of("band")


def test_a_record_is_gone_on_with(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "again.json"
    kept, lost = done[1]["rows"]
    out.write_text(json.dumps({**done[1], "rows": [kept]}), encoding="utf-8")
    record = compare(small(out, only=("band", "decoupled")))
    assert record["rows"][0] == kept and {**record["rows"][2], "seconds": 0} == {**lost, "seconds": 0}
    assert [row["arm"] for row in record["rows"]] == ["moco", "decoupled", "band"]
    assert set(record["arms"]) == {"moco", "band", "decoupled"}
    before = out.read_text(encoding="utf-8")
    assert compare(small(out)) == json.loads(before), "with nothing left to do"
    assert out.read_text(encoding="utf-8") == before


def test_a_record_of_other_settings_is_refused_and_left_alone(done: tuple[Path, dict[str, Any]]) -> None:
    out, _ = done
    before = out.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"was made with other settings: warm_epochs\. Give another file"):
        compare(CompareFlags("digits", out, warm_epochs=2, epochs=1, device="cpu", only=("band",)))
    with pytest.raises(ValueError, match=r"other settings: baseline\. Give another file"):
        compare(CompareFlags("digits", out, warm_epochs=1, epochs=2, device="cpu", only=("band",)))
    assert out.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("entry", "value", "named"),
    [
        ("commit", "another", "commit"),
        ("versions", {"torch": "1.0"}, "versions"),
        ("hardware", {"device": "H100", "threads": 96}, "hardware"),
        ("arms", {"moco": [], "band": [{"path": "negatives.lower", "before": 0.05, "now": 0.3}]}, "arm band"),
    ],
)
def test_a_record_of_other_code_or_another_machine_is_not_gone_on_with(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, entry: str, value: Any, named: str
) -> None:
    out = tmp_path / "other.json"
    out.write_text(json.dumps({**done[1], entry: value}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"other settings: {named}"):
        compare(small(out))


def test_another_warm_start_is_not_gone_on_from(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", done[1]["warm_starts"]["0"])
    out = tmp_path / "other.json"
    out.write_text(
        json.dumps({**done[1], "warm_starts": {"0": "01234567"}, "rows": done[1]["rows"][:1]}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="another warm start of seed 0, as the code has changed"):
        compare(small(out))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seeds": ()}, "seeds is empty"),
        ({"epochs": 0}, "epochs is 0; it must be a whole number of at least 1"),
        ({"warm_epochs": 0}, "warm_epochs is 0; it must be a whole number of at least 1"),
        ({"only": ("bund",)}, r"Unknown arm 'bund'\. Did you mean band"),
        ({"drop_closest": (0.1,)}, "needs both drop_closest and keep_within"),
        ({"every": 1}, "must not use test images; give holdout too"),
        ({"every": 0, "holdout": 0.2}, "every is 0; it must be a whole number of at least 1"),
        (
            {"drop_closest": (0.1,), "keep_within": (0.5,), "only": ("bands",)},
            r"Unknown arm 'bands'\. Known: band-0\.1-0\.5, moco",
        ),
        ({"images": "cifar"}, r"Unknown images 'cifar'\. Did you mean cifar10"),
    ],
)
def test_comparing_nothing_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompareFlags(**{"images": "digits", "out": Path("x.json"), "only": ("band",), **flags})


def test_the_laptop_setting_and_where_images_lie() -> None:
    flags = CompareFlags("cifar10", Path("x.json"), laptop=True, root="elsewhere", epochs=7)
    for experiment in flags.chosen().values():
        assert experiment.encoder.backbone == "tiny" and experiment.data.limit == 10_000
        assert experiment.data.root == "elsewhere"
        assert (experiment.training.epochs, experiment.evaluation.every) == (7, 7)
    assert list(flags.chosen()) == [BASELINE, *(name for name in arms_of("cifar10") if name != BASELINE)]


# --- the table


def written(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    filled = [{"knn10": 0.0, "kept": 1.0, "false_negative_share": 0.2, "mined_purity": None, **row} for row in rows]
    record = {
        "kind": "comparison",
        "format": 2,
        "images": "shapes",
        "warm_epochs": 1,
        "baseline": {"training": {"epochs": 3}},
        "arms": {row["arm"]: [] for row in rows},
        "commit": "c0ffee",
        "versions": {"torch": "2.6"},
        "hardware": {"device": "abacus"},
        "warm_starts": {},
        "rows": filled,
        **more,
    }
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


TEMPERATURE = {"path": "loss.temperature", "before": 0.2, "now": 0.1}


def cells(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[4:]]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_the_table_by_hand(tmp_path: Path) -> None:
    def row(arm: str, seed: int, knn: float, probe: float, **more: Any) -> dict[str, Any]:
        return {"arm": arm, "seed": seed, "knn200": knn, "probe": probe, **more}

    first = written(
        tmp_path / "0.json", [row("moco", 0, 50.0, 60.0), row("band", 0, 52.0, 59.0, kept=0.4, mined_purity=0.5)]
    )
    second = written(
        tmp_path / "1.json",
        [
            row("moco", 1, 52.0, 61.0),
            row("band", 1, 55.0, 59.0, kept=0.4, mined_purity=0.7),
            row("ring", 1, 40.0, 50.0, false_negative_share=None),
        ],
    )
    text = table([first, second])
    caption, _, head, rule, *_ = text.splitlines()
    assert "`shapes`: 1 epochs of moco, then 3 of each arm" in caption and "c0ffee, abacus" in caption
    assert rule.count("|") == head.count("|")
    assert list(cells(text)) == ["moco", "band", "ring"], "as defined, not ranked by what the test images say"
    assert cells(text)["moco"] == ["2", "51.0 ± 1.4", "", "60.5 ± 0.7", "", "100.0 %", "20.0 %", ""]
    assert cells(text)["band"] == [
        "2", "53.5 ± 2.1", "+2.5 ± 0.7", "59.0 ± 0.0", "-1.5 ± 0.7", "40.0 %", "20.0 %", "60.0 %",
    ]  # fmt: skip
    assert cells(text)["ring"] == ["1", "40.0", "-12.0", "50.0", "-11.0", "100.0 %", "", ""]


def test_what_changes_no_result_does_not_keep_records_apart(tmp_path: Path) -> None:
    row = {"arm": "moco", "seed": 0, "knn200": 1.0, "probe": 1.0}
    new = written(tmp_path / "new.json", [row])
    older = {"data": {"download": True}, "training": {"epochs": 3, "checkpoint_every": 1}}
    both = [new, written(tmp_path / "old.json", [{**row, "seed": 1}], baseline=older)]
    assert cells(table(both))["moco"][0] == "2" and cells(table(both[::-1]))["moco"][0] == "2"


def test_a_record_that_told_more_settings_is_gone_on_with(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    record = json.loads(done[0].read_text(encoding="utf-8"))
    record["baseline"]["data"]["download"] = True
    record["baseline"]["training"]["checkpoint_every"] = 5
    older = tmp_path / "older.json"
    older.write_text(json.dumps(record), encoding="utf-8")
    assert compare(small(older))["rows"] == record["rows"]


def test_records_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    row = {"arm": "moco", "seed": 0, "knn200": 1.0, "probe": 1.0}
    a = written(tmp_path / "a.json", [row])
    with pytest.raises(ValueError, match="hold the same arm with the same seed"):
        table([a, a])
    for name, value in (
        ("images", "digits"),
        ("warm_epochs", 2),
        ("baseline", {"seed": 1}),
        ("commit", "decaf"),
        ("versions", {}),
        ("hardware", {}),
    ):
        with pytest.raises(ValueError, match=rf"b\.json differs from .*a\.json in {name}"):
            table([a, written(tmp_path / "b.json", [{**row, "seed": 1}], **{name: value})])
    with pytest.raises(ValueError, match=r"in arm moco; make a table of each"):
        table([a, written(tmp_path / "b.json", [{**row, "seed": 1}], arms={"moco": [TEMPERATURE]})])
    damaged = tmp_path / "damaged.json"
    damaged.write_text('{"kind": "comparison", "format": 2, "images": "shapes"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"damaged\.json is damaged or of another version: record lacks .commit."):
        table([damaged])
    damaged.write_text('{"kind": "comparison", "images": "shapes"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"python data/convert\.py .*damaged\.json"):
        table([damaged])
    with pytest.raises(ValueError, match="name at least one record"):
        table([])
    with pytest.raises(FileNotFoundError):
        table([tmp_path / "absent.json"])


@pytest.mark.parametrize(
    "change",
    [
        {"knn200": 250.0},
        {"probe": -3.0},
        {"seed": -1},
        {"arm": "elsewhere"},
        {"diverged": "The loss is nan."},
        {"knn200": None, "knn10": None, "probe": None},
    ],
    ids=str,
)
def test_impossible_rows_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    row = {"arm": "moco", "seed": 0, "knn200": 1.0, "probe": 1.0}
    with pytest.raises(
        CltoolsError, match=r"a\.json is damaged .*arm '\w+', seed -?\d, or warm_epochs -?\d: an unknown arm"
    ):
        table([written(tmp_path / "a.json", [row | change], arms={"moco": []})])


def test_a_warm_start_of_less_than_no_epoch_is_refused(tmp_path: Path) -> None:
    row = {"arm": "moco", "seed": 0, "knn200": 1.0, "probe": 1.0}
    with pytest.raises(CltoolsError, match=r"warm_epochs -5: .*a number below 0"):
        table([written(tmp_path / "a.json", [row], warm_epochs=-5)])


@pytest.mark.parametrize("baseline", [{}, {"training": {}}, {"training": {"batch": 64}}])
def test_a_baseline_without_its_epochs_has_the_default(baseline: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", [{"arm": "moco", "seed": 0, "knn200": 1.0, "probe": 1.0}], baseline=baseline)
    assert f"then {TrainingSettings().epochs} of each arm" in table([path])


def test_equal_seeds_make_equal_warm_starts(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    again = compare(small(tmp_path / "b.json", only=("band",)))
    for row, other in zip(done[1]["rows"], again["rows"], strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert torch.get_num_threads() == again["hardware"]["threads"]


def test_a_control_is_as_sparse_as_its_rule_and_none_where_that_diverged() -> None:
    flags = CompareFlags("digits", Path("x.json"), rules=("RingNegatives",))
    rows = [{"arm": BASELINE, "kept": 0.9}, {"arm": "RingNegatives", "kept": 0.0}]
    assert flags.matched("RingNegatives", rows).negatives == RandomNegatives(1e-6)
    with pytest.raises(FloatingPointError, match="RingNegatives or moco diverged"):
        flags.matched("RingNegatives", [rows[0], {"arm": "RingNegatives", "kept": None}])
    for more in ({"only": ("moco",)}, {"vary": ("loss.temperature", "1")}):
        with pytest.raises(ValueError, match="each with its control"):
            CompareFlags("digits", Path("x.json"), rules=("RingNegatives",), **more)


def test_a_record_with_a_control_of_a_diverged_rule_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = comparing.train_arm

    def diverges(name: str, *rest: Any, **named: Any) -> dict[str, Any]:
        if name == "RingNegatives":
            raise FloatingPointError("The loss was not finite at step 1")
        return trained(name, *rest, **named)

    monkeypatch.setattr(comparing, "train_arm", diverges)
    given = (("data.limit", "256"), ("evaluation.probe", "false"))
    flags = CompareFlags(
        "digits", tmp_path / "x.json", rules=("RingNegatives",), epochs=1, warm_epochs=1, given=given, device="cpu"
    )
    rows = {row["arm"]: row for row in compare(flags)["rows"]}
    assert "RingNegatives or moco diverged" in rows["random-as-RingNegatives"]["diverged"]
    assert compare(flags)["rows"] == [*rows.values()] and "diverged 1" in table([flags.out])
