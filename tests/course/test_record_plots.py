"""Charts of recorded comparisons draw what the records hold: differences within a seed, and means by epoch."""

import statistics
from typing import Any

import pytest

from course import comparison
from course.charts import COLOURS
from course.paired import detectable
from course.record_plots import gains, learning_curves
from course.results import Comparison


def test_a_dot_a_seed_and_the_mean_with_its_interval_sorted_by_it() -> None:
    records = comparison("shapes")
    dots, means = gains(records, ["nnclr", "oracle"]).figure.data
    values = [*records.gains("nnclr").values()]
    drawn = [x for x, said in zip(dots.x, dots.customdata, strict=True) if said[0] == "nnclr"]
    assert sorted(drawn) == sorted(values) and {said[1] for said in dots.customdata} == {*records.seeds}
    assert means.x[0] == pytest.approx(statistics.fmean(values)) and means.x[0] < means.x[1]
    assert means.error_x.array[0] == pytest.approx(detectable(values))
    figure = gains(records, ["nnclr", "oracle"]).figure
    assert [*figure.layout.yaxis.ticktext] == ["nnclr", "oracle"], "from below"


def test_one_seed_has_no_interval() -> None:
    rows = [{"arm": arm, "seed": 0, "knn200": value} for arm, value in (("moco", 50.0), ("band", 51.0))]
    means = gains(Comparison(rows), ["band"]).figure.data[1]
    assert means.x == (1.0,) and means.error_x.array == (None,)


def test_later_records_are_open_squares() -> None:
    late = comparison("shapes", "late")
    _, later, _ = gains(comparison("shapes"), ["nnclr", "oracle"], later=late).figure.data
    assert sorted(later.x) == sorted(late.gains("nnclr").values()), "the oracle is in none of them"
    assert later.marker.symbol == "square-open"


def arm(name: str, seed: int, knn: list[float | None], mined: list[float | None]) -> dict[str, Any]:
    curves = {"knn": knn, "false_negative_share": [0.1] * len(knn), "mined_purity": mined}
    return {"arm": name, "seed": seed, "curves": curves}


ROWS = (
    arm("moco", 0, [50, 60, 80], [None] * 3),
    arm("moco", 1, [60, 70, 90], [None] * 3),
    arm("mined", 0, [40, 50, 60], [0.2, 0.4, 0.5]),
    arm("mined", 1, [40, 50, 70], [0.4, 0.4, 0.7]),
    arm("other", 0, [10, 20, 30], [None] * 3),
)
MADE = Comparison(ROWS)


def test_curves_are_means_over_seeds_by_epoch_and_the_first_has_its_deviation() -> None:
    chart = learning_curves(MADE, ["moco", "mined"])
    others, shade, moco, mined = chart.figure.select_traces(row=1, col=1)
    assert [*moco.x] == [1, 2, 3] and [*moco.y] == [55, 65, 85] and [*mined.y] == [40, 50, 65]
    assert [*others.y] == [10, 20, 30, None] and others.customdata[0] == "other"
    deviation = statistics.stdev([80, 90])
    assert max(shade.y) == pytest.approx(85 + deviation) and min(shade.y) == pytest.approx(55 - deviation)
    (only,) = chart.figure.select_traces(row=3, col=1)  # the others mine nothing
    assert [*only.y] == pytest.approx([30, 40, 60])
    assert [trace.name for trace in chart.figure.data if trace.showlegend] == ["1 other arms", "moco", "mined"]
    assert "kNN-200 of moco 55.0 to 85.0 %" in chart.words and "Thin lines: 1 other arms" in chart.words


def test_curves_that_no_record_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="no curves of an arm 'moko'"):
        learning_curves(MADE, ["moko"])
    with pytest.raises(ValueError, match="no curves of an arm 'moco'"):
        comparison("shapes").curves("moco")
    with pytest.raises(ValueError, match=f"7 arms, but only {len(COLOURS)} colours can be distinguished"):
        learning_curves(MADE, [str(place) for place in range(7)])


def test_the_recorded_arms_of_digits_end_where_their_rows_do() -> None:
    records = comparison("digits", "short")
    for name in records.frame.index.unique("arm"):
        curves = records.curves(name)
        assert {seed: values[5] for seed, values in curves.items()} == records.of(name)
        assert all([*values] == [1, 2, 3, 4, 5] for values in curves.values())


def test_epochs_without_a_measurement_are_left_out_of_a_curve() -> None:
    measured: list[list[float | None]] = [[None, 60, None, 80], [50, 70, None, 90]]
    records = Comparison(tuple(arm("moco", seed, knn, [None] * 4) for seed, knn in enumerate(measured)))
    assert records.curves("moco") == {0: {2: 60, 4: 80}, 1: {1: 50, 2: 70, 4: 90}}
    *_, curve = learning_curves(records, ["moco"]).figure.select_traces(row=1, col=1)
    assert [*curve.x] == [2, 4] and [*curve.y] == [65, 85]


def test_an_arm_that_diverged_in_every_seed_is_left_out_and_asked_for_says_so() -> None:
    lost = {"arm": "lost", "seed": 0, "diverged": "The loss is nan."}
    records = Comparison((*ROWS, lost))
    assert records.arms == ("moco", "mined", "other")
    others, *_ = learning_curves(records, ["moco"]).figure.data
    assert {*others.customdata} == {"mined", "other", ""}
    for asked in (records.of, records.curves):
        with pytest.raises(ValueError, match="of an arm 'lost': it diverged in every seed"):
            asked("lost")
