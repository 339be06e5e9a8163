"""The closed loop: an explorer's rule is trained beside moco and chance, on the records' budget."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from snapshots import made

from cltools.config import differences
from cltools.datasets import load_images
from cltools.explorer.session import Session
from cltools.mining import NearestKeys, RandomNegatives, RankBand
from cltools.presets import preset
from cltools.reports import comparing
from cltools.reports.comparing import CompareFlags
from course import Trial
from course.results import RESULTS
from course.trial import ARMS, BUDGET

QUICK = CompareFlags("digits", Path("none.json"), warm_epochs=1, epochs=2, holdout=0.25, every=1, device="cpu")


def explored(**changes: Any) -> Session:
    asked = {"rule": "RankBand", "positive_rule": "AugmentedView", "drop_closest": 0.1, "keep_within": 0.5, **changes}
    return Session(made(200)).set(asked)


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """A step or two an epoch."""
    drawn, few = comparing.training_images, load_images("digits").subset(300, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "training_images", lambda e, images=None: drawn(e, few if images is None else images))
        yield


@pytest.fixture(scope="module")
def trained() -> Trial:
    """Two seeds of three arms."""
    return Trial(explored(), QUICK).train((0, 1))


def test_arms_differ_in_their_rules_alone_and_chance_keeps_as_many() -> None:
    trial = Trial(explored(positive_rule="NearestKeys", k=3))
    moco, yours, chance = (trial.experiments[arm] for arm in ARMS)
    assert yours.negatives == RankBand(0.1, 0.5)
    assert yours.positives == NearestKeys(k=3, min_weight="mean", start=0, ramp=0)
    assert yours.positives == chance.positives and chance.negatives == RandomNegatives(trial.share)
    assert {each.path.split(".")[0] for each in differences(moco, yours)} == {"positives", "negatives"}
    assert trial.share == round(explored(positive_rule="NearestKeys", k=3).census.kept.value, 3)
    assert Trial(explored()).share == pytest.approx(80 / 199, abs=5e-4)


def test_the_budget_is_that_of_the_records() -> None:
    paths = [*RESULTS.glob("short-digits-*.json"), *RESULTS.glob("grid-digits-*.json")]
    assert len(paths) >= 8
    for path in paths:
        record = json.loads(path.read_text(encoding="utf-8"))
        told = record["baseline"]["training"]["epochs"], record["warm_epochs"], record["baseline"]["data"]["holdout"]
        assert told == (BUDGET.epochs, BUDGET.warm_epochs, BUDGET.holdout) and record["images"] == BUDGET.images
    every = preset("digits-moco").evaluation.every
    moco = Trial(explored()).experiments["moco"]
    assert [str(each) for each in differences(preset("digits-moco"), moco)] == [
        "data.holdout: 0.0 → 0.25", "training.epochs: 30 → 5", f"evaluation.every: {every} → 1",
    ]  # fmt: skip


@pytest.mark.slow
def test_rows_are_those_of_compare(trained: Trial, tmp_path: Path) -> None:
    assert [(row["arm"], row["seed"]) for row in trained.rows] == [(arm, seed) for seed in (0, 1) for arm in ARMS]
    record = comparing.compare(replace(QUICK, out=tmp_path / "a.json", only=("decoupled",), seeds=(0,), every=None))
    alone, told = record["rows"][0], trained.rows[0]
    assert {name: told[name] for name in alone if name not in ("seconds", "curves")} == {
        name: alone[name] for name in alone if name not in ("seconds", "curves")
    }, "measuring after every epoch changes nothing"
    assert told["curves"]["loss"] == alone["curves"]["loss"] and alone["curves"]["knn"][:-1] == [None] * (
        len(told["curves"]["knn"]) - 1
    )
    assert told["loss"] == round(trained.curves["moco", 0][-1]["loss"], 2)
    assert {*trained.result.gains("yours")} == {0, 1} == {*trained.result.gains("yours", against="by chance")}


def test_it_is_drawn_and_told(trained: Trial) -> None:
    figure = trained.chart.figure
    assert len(figure.data) == 18 and all([*trace.x] == [1, 2] for trace in figure.data)
    assert [len([*figure.select_traces(row=row, col=1)]) for row in (1, 2, 3)] == [6, 6, 6]
    assert [trace.name for trace in figure.data if trace.showlegend] == [*ARMS]
    looks = {(trace.name, trace.line.color, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == 3 and {trace.line.dash for trace in figure.data} == {"solid", "dash"}
    assert all(f"{arm}: loss" in trained.chart.words for arm in ARMS)
    assert repr(trained).startswith("6 arms of moco, RankBand, and 40.2 % of the keys by chance are trained")
    fresh = Trial(explored(), QUICK)
    assert repr(fresh) == ("To be trained: moco, RankBand, and 40.2 % of the keys by chance; 2 epochs after 1 of moco.")
    assert fresh.chart.words.endswith("none yet.") and not fresh.chart.figure.data


def test_what_is_trained_is_not_trained_again(trained: Trial) -> None:
    before = [*trained.rows]
    assert trained.train((1, 0)) is trained and trained.rows == before


@pytest.mark.slow
def test_it_shows_itself_while_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, what: Any) -> None:
            shown.append(what)

    monkeypatch.setattr("IPython.display.display", lambda *_, **__: Handle())
    trial = Trial(explored(), QUICK)
    trial._ipython_display_()
    trial.train((0,))
    assert len(shown) == 3 * (3 * QUICK.epochs + 3), "words, a blank and the chart, after each epoch and each arm"


def test_a_rule_that_keeps_nothing_is_refused() -> None:
    nothing = Session(made(200)).set(rule="CosineBand", positive_rule="AugmentedView", above=0.9999, below=1.0)
    with pytest.raises(ValueError, match="keeps no key as a negative; widen the band"):
        Trial(nothing)
