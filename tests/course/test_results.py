"""What a notebook shows of the records is what they say, and its title says no more."""

import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from cltools.evaluation.intervals import student
from cltools.presets import preset
from cltools.reports.arms import chance_name
from cltools.reports.published import PUBLISHED
from cltools.training.record import Measured
from course import comparison, grids, paired
from course.figures import MINING
from course.results import RESULTS, best_and_last, figures_by_method, method_of, recorded_runs

ROOT = Path(__file__).parents[2]


def record(folder: Path, seed: int, rows: list[dict[str, Any]], **more: Any) -> None:
    same = json.loads((RESULTS / "compare-shapes-0.json").read_text(encoding="utf-8"))
    (folder / f"compare-shapes-{seed}.json").write_text(json.dumps(same | more | {"rows": rows}), encoding="utf-8")


def row(arm: str, seed: int, knn200: float, probe: float, purity: float | None = None) -> dict[str, Any]:
    return {
        "arm": arm,
        "seed": seed,
        "knn200": knn200,
        "probe": probe,
        "kept": 1.0,
        "false_negative_share": None,
        "mined_purity": purity,
    }


def prose(notebook: str) -> str:
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path, 0, [row("moco", 0, 70, 90), row("nnclr", 0, 69, 91, 0.5)])
    record(tmp_path, 1, [row("moco", 1, 60, 80), row("nnclr", 1, 63, 82, 0.6), row("sce", 1, 60, 79)])
    return tmp_path


def test_differences_are_within_a_seed(folder: Path) -> None:
    records = comparison("shapes", folder=folder)
    assert records.seeds == (0, 1)
    assert records.of("moco") == {0: 70, 1: 60}
    assert records.gains("nnclr") == {0: -1, 1: 3}
    assert records.gains("nnclr", "probe") == {0: 1, 1: 2}
    assert records.gains("sce", against="nnclr") == {1: -3}


def test_a_row_an_arm(folder: Path) -> None:
    first, second = comparison("shapes", folder=folder).table({"nnclr": "replace", "sce": "every key"})
    assert first == {
        "arm": "nnclr",
        "what it does": "replace",
        "kNN-200 against moco": 1,
        "ahead in": "1 of 2 seeds",
        "probe against moco": 1.5,
        "mined purity %": pytest.approx(55),
    }
    assert second["ahead in"] == "0 of 1 seeds" and second["mined purity %"] is None


def test_what_cannot_be_told_is_refused(folder: Path, tmp_path: Path) -> None:
    records = comparison("shapes", folder=folder)
    with pytest.raises(ValueError, match="no knn200 of an arm 'mocco'"):
        records.gains("mocco")
    with pytest.raises(ValueError, match="no mined_purity of an arm 'moco'"):
        records.of("moco", "mined_purity")
    with pytest.raises(FileNotFoundError, match=r"no compare-digits-\*\.json"):
        comparison("digits", folder=folder)
    record(tmp_path, 2, [row("moco", 2, 60, 80)], warm_epochs=9)
    with pytest.raises(ValueError, match="warm_epochs"):
        comparison("shapes", folder=folder)


# What notebook 03 says of the records


def test_after_a_short_start_no_arm_that_mines_reaches_moco() -> None:
    records = comparison("shapes")
    assert len(records.seeds) >= 3
    means = {arm: statistics.fmean(records.gains(arm).values()) for arm in MINING}
    assert len(means) == 9 and max(means.values()) < 0
    for arm, without in (("potential", "band"), ("potential-random", "random")):
        assert statistics.fmean(records.gains(arm, against=without).values()) < 0
    of_oracle = records.gains("potential-oracle", against="oracle")
    assert abs(statistics.fmean(of_oracle.values())) < 0.5


def test_after_a_long_start_four_of_them_are_level_with_it() -> None:
    records = comparison("shapes", "late")
    assert len(records.seeds) >= 3
    arms = {*records.arms} - {"moco"}
    gains = [[*records.gains(arm).values()] for arm in arms]
    assert len(arms) == 4 and all(abs(statistics.fmean(gain)) <= 0.5 for gain in gains)
    assert all(min(gain) <= 0 < max(gain) for gain in gains)  # ahead in some seeds, not in others
    purity = records.frame["mined_purity"]
    assert purity.min() > 0.75 and purity.max() < 0.85  # four guesses in five


def test_its_title_says_so() -> None:
    text = prose("03_mined_positives")
    assert text.startswith("# 03 · When does a mined positive help? On `shapes` it did not")
    for claim in ("nine arms, none ahead of MoCo", "did no harm, and no good", "Now four guesses in five were right"):
        assert claim in text


# Whole runs, and what notebook 05 says of them


def test_recorded_runs_by_method_and_seed() -> None:
    runs = recorded_runs("digits")
    assert len(runs) == 6 and {*runs} <= {*recorded_runs()} and recorded_runs("nothing") == {}
    for figure in ("knn200", "probe"):
        for method, of_seed in figures_by_method(runs, figure).items():
            for seed, value in of_seed.items():
                path = RESULTS / f"run-digits-{method}-{seed}.json"
                assert json.loads(path.read_text(encoding="utf-8"))["evaluations"]["test"][figure] == value
    assert figures_by_method(runs, "linear") == {}
    assert method_of(Path("run-cifar10-fnc-attract-12.json")) == "fnc-attract"


def test_a_damaged_record_of_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "run-digits-moco-0.json").write_text('{"kind": "run", "format": 2}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"run-digits-moco-0\.json is damaged"):
        recorded_runs("digits", tmp_path)


def test_the_best_and_the_last_that_was_measured() -> None:
    (record, *_) = recorded_runs("digits").values()
    rows = tuple(Measured(epoch, 1.0, knn) for epoch, knn in enumerate((None, 3.0, 9.0, None, 7.0), 1))
    assert best_and_last(replace(record, by_epoch=rows)) == (9, 7)
    with pytest.raises(ValueError, match="no kNN accuracy"):
        best_and_last(replace(record, by_epoch=rows[:1]))


def test_in_every_seed_the_loss_is_lower_and_protocols_disagree() -> None:
    runs = recorded_runs("digits")
    last = {path.stem: record.by_epoch[-1].loss for path, record in runs.items()}
    lower, higher = ([loss for name, loss in last.items() if method in name] for method in ("potential", "moco"))
    assert len(lower) == len(higher) == 3 and max(lower) < min(higher)
    gains, spread = {}, {}
    for figure in ("knn200", "knn10", "probe"):
        by = figures_by_method(runs, figure)
        gains[figure] = statistics.fmean(by["potential"].values()) - statistics.fmean(by["moco"].values())
        spread[figure] = max(by["moco"].values()) - min(by["moco"].values())
        assert max(by["moco"].values()) >= min(by["potential"].values())  # they overlap
        assert max(by["potential"].values()) >= min(by["moco"].values())
    assert gains["knn200"] > 0 and gains["knn10"] > 0 > gains["probe"]
    assert max(map(abs, gains.values())) < spread["knn200"]
    assert any(best > end for best, end in map(best_and_last, runs.values()))
    assert all(record.epochs == record.asked == 30 for record in runs.values())


def test_the_papers_figure_lies_between_two_protocols_of_the_re_run_baseline() -> None:
    of = {row.method: row for row in PUBLISHED if row.images == "cifar10"}
    paper, moco = of["potential-sample mining, the paper"], of["MoCoV2"]
    assert (paper.unknown, moco.knn200, moco.linear) == (88.57, 88.05, 89.70)
    assert moco.knn200 < paper.unknown < moco.linear  # type: ignore[operator]


def test_notebook_05_says_so() -> None:
    text = prose("05_cifar_and_tinyimagenet")
    assert text.startswith("# 05 · CIFAR and TinyImageNet: when is one run better than another?")
    for claim in (
        "for every seed, and three protocols do not agree",
        "For all seeds the loss of `potential` ends below the loss of `moco`",
        "ahead by kNN and behind by the probe, and each mean is smaller than the effect of the seed alone on kNN-200",
        "above the MoCo v2 of these rows if it is a kNN-200 (88.05), and below it if it is a linear evaluation (89.70)",
    ):
        assert claim in text
    for name in re.findall(r"cltools train (\S+)", text):
        preset(name)
    assert text.count("python -m cltools train") >= 4 and "torchrun --nproc-per-node" in text


# What the page of results says of the records


def results_page() -> str:
    return " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())


def test_the_page_says_how_far_three_and_two_seeds_reach() -> None:
    needed = {seeds: stats.t.ppf(1 - 0.05 / 2 / 34, seeds - 1) / seeds**0.5 for seeds in (2, 3)}
    assert (round(needed[3]), round(needed[2], -2)) == (15, 300)
    assert "must be 15 times the deviation beside it with three seeds, and 300 times with two" in results_page()


def test_the_page_counts_the_arms_on_either_side_in_every_seed() -> None:
    records = comparison("shapes")
    gains = {arm: records.gains(arm).values() for arm in records.arms if arm != "moco"}
    below, above = ([arm for arm, of in gains.items() if all(sign * x > 0 for x in of)] for sign in (-1, 1))
    assert (len(gains), len(below)) == (34, 21)
    assert {*above} == {"simclr", "oracle", "hcl", "potential-oracle"}
    for claim in (
        "21 of 34 arms are below `moco` in all three seeds",
        "four are above it: `simclr`, `oracle`, `hcl` and `potential-oracle`",
        "Two seeds prove nothing",
    ):
        assert claim in results_page()


# What notebook 04 says of the records


def test_the_curves_are_as_the_text_beside_them_says() -> None:
    records = comparison("digits", "short")
    ends = {}
    for arm in records.arms:
        curves = records.curves(arm, "false_negative_share")
        if curves and all({1, 5} <= {*of} for of in curves.values()):  # `sce` keeps no negative
            first, last = (100 * statistics.fmean(of[epoch] for of in curves.values()) for epoch in (1, 5))
            ends[arm] = first, last
    ring = ends.pop("ring")
    moved = {arm: abs(last - first) for arm, (first, last) in ends.items()}
    text = prose("04_train_and_compare")
    assert f"by {max(moved.values()):.0f} points at most, in `{max(moved, key=moved.__getitem__)}`" in text
    assert f"rises far, to {ring[1]:.0f} %" in text
    assert paired.verdict(records.gains("ring").values()) == "no difference shown"
    among_seeds = statistics.stdev(records.of("moco").values())
    assert among_seeds > 2 * statistics.stdev(statistics.fmean(records.of(arm).values()) for arm in records.arms)
    mined = {arm: records.curves(arm, "mined_purity") for arm in records.arms}
    grown = {arm: statistics.fmean(c[5] - c[1] for c in of.values()) for arm, of in mined.items() if of}
    assert grown.pop("sce") == pytest.approx(0, abs=0.001) and min(grown.values()) > 0


def test_every_band_is_above_moco_and_so_is_as_many_keys_by_chance() -> None:
    records = comparison("digits", "grid")
    assert len(records.seeds) == 3
    text = prose("04_train_and_compare")
    bands = grids.bands_of(records)
    chance = {arm: chance_name(upper - lower) for arm, (lower, upper) in bands.items()}
    of_bands = [statistics.fmean(records.gains(arm).values()) for arm in bands]
    of_chance = [statistics.fmean(records.gains(arm).values()) for arm in {*chance.values()}]
    assert (len(of_bands), len(of_chance)) == (15, 14) and min(of_bands + of_chance) > 0
    assert (
        f"is above `moco`, whose own cell is at its lower right, by {min(of_bands):.1f} to {max(of_bands):.1f} points"
        in text
    )
    told = f"{min(of_bands):.1f} to {max(of_bands):.1f} points and by {min(of_chance):.1f} to {max(of_chance):.1f}"
    assert told in results_page()
    assert f"at all fourteen shares, by {min(of_chance):.1f} to {max(of_chance):.1f} points" in text
    verdicts = [paired.verdict(records.gains(arm, against=control).values()) for arm, control in chance.items()]
    assert verdicts.count("ahead") == 1 and verdicts.count("no difference shown") == 14
    assert "One of the fifteen bands is shown to be ahead of its control" in text


def test_the_best_band_gave_less_in_the_seed_that_had_no_say() -> None:
    records = comparison("digits", "grid")
    found = paired.winners(records, [*grids.bands_of(records)])
    assert len(found) == 3 and all(1.9 < winner.chosen / winner.fresh < 5.1 for winner in found)
    assert "two to five times its gain in the seed left out" in prose("04_train_and_compare")
    chosen, fresh = (statistics.fmean(getattr(winner, name) for winner in found) for name in ("chosen", "fresh"))
    told = f"the best cell by two seeds gains {chosen:.1f} points in them, and {fresh:.1f} in the third"
    assert told in results_page()


def test_the_test_images_are_in_neither_record() -> None:
    for kind in ("grid", "short"):
        for path in RESULTS.glob(f"{kind}-digits-*.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            assert record["baseline"]["data"]["holdout"] == 0.25
            assert f"{path.name} --seeds {path.stem[-1]}" in record["command"]
            told = (
                record["command"]
                .replace(path.name, f"{kind}-digits-0.json")
                .replace(f"seeds {path.stem[-1]}", "seeds 0")
                .replace("--lowers", "--drop-closest")  # flags had these names when it was run
                .replace("--uppers", "--keep-within")
            )
            shown = prose("04_train_and_compare").replace(" \\\n   ", "")
            assert told in shown, "the notebook shows the command"


def test_three_arms_are_shown_ahead_none_behind_and_no_rule_beats_its_control() -> None:
    records, text = comparison("digits", "short"), prose("04_train_and_compare")
    arms = [arm for arm in records.arms if arm != "moco"]
    assert records.seeds == (0, 1, 2, 3, 4) and all(len(records.of(arm)) == 5 for arm in ["moco", *arms])
    shown = {arm: paired.verdict(records.gains(arm).values()) for arm in arms}
    assert len(arms) == 34 and "behind" not in shown.values()
    assert [arm for arm, verdict in shown.items() if verdict == "ahead"] == ["hcl", "band-annealed", "drop-beyond"]
    assert "`hcl`, `band-annealed` and `drop-beyond`; none is shown to be behind" in text
    for arm, control in (
        ("band", "random"),
        ("potential", "potential-random"),
        ("mined-soft-hard", "moco"),
        ("oracle", "moco"),
    ):
        assert paired.verdict(records.gains(arm, against=control).values()) == "no difference shown"
    assert round(statistics.fmean(records.of("moco").values())) == 94


def test_what_five_and_fifty_seeds_can_detect() -> None:
    records, text = comparison("digits", "short"), prose("04_train_and_compare")
    arms = {*records.arms} - {"moco"}
    typical = statistics.median(statistics.stdev(records.gains(arm).values()) for arm in arms)
    five, fifty = (student(n - 1) * typical / n**0.5 for n in (5, 50))
    assert f"{typical:.1f} points. Five seeds can show a difference of {five:.1f} points or more" in text
    assert 0.2 < fifty < 0.25 and "a quarter of a point takes fifty" in text
    assert sum(abs(statistics.fmean(records.gains(arm).values())) >= five for arm in arms) <= 5  # "few arms"


def test_the_band_that_notebook_04_opens_with_is_first_in_one_seed_and_last_in_the_other() -> None:
    records, text = comparison("digits", "grid"), prose("04_train_and_compare")
    first, second = ({arm: records.of(arm)[seed] for arm in ("moco", "band-0.1-0.5", "random-0.4")} for seed in (0, 1))
    assert max(first, key=first.__getitem__) == "band-0.1-0.5" == min(second, key=second.__getitem__)
    assert f"changes by {abs(first['moco'] - second['moco']):.1f} points" in text
    notebook = (ROOT / "notebooks" / "04_train_and_compare.ipynb").read_text(encoding="utf-8")
    assert "drop_closest=0.1, keep_within=0.5)" in notebook and "trial.train(seeds=(0, 1))" in notebook
