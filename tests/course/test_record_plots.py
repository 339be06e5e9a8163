"""Pictures of recorded comparisons draw what the records hold: differences within a seed, and means by epoch."""

import statistics
from typing import Any

import numpy as np
import pytest

from course import comparison
from course.plots import COLOURS, panels
from course.record_plots import draw_gains, gains, learning_curves
from course.results import Comparison


def test_a_dot_a_seed_and_a_tick_at_the_mean() -> None:
    records = comparison("shapes")
    axes = gains(records, ["nnclr", "oracle"]).figure.axes[0]
    dots, tick = axes.lines[2], axes.lines[3]  # the second arm stands below, and is drawn first
    assert sorted(dots.get_xdata()) == sorted(records.gains("nnclr").values())
    assert tick.get_xdata()[0] == pytest.approx(np.mean([*records.gains("nnclr").values()]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["oracle", "nnclr"]


def test_later_records_are_hollow_dots() -> None:
    late = comparison("shapes", "late")
    _, (axes,) = panels(4, 2, 1)
    draw_gains(axes, comparison("shapes"), ["nnclr", "oracle"], "knn200", against="moco", later=late)
    (hollow,) = [line for line in axes.lines if line.get_markerfacecolor() == "none"]  # the oracle is in none of them
    assert sorted(hollow.get_xdata()) == sorted(late.gains("nnclr").values())


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
    picture = learning_curves(MADE, ["moco", "mined"])
    knn, false, mined = picture.figure.axes
    named = {str(line.get_label()): line for line in knn.lines}
    assert [*named["moco"].get_xdata()] == [1, 2, 3] and [*named["moco"].get_ydata()] == [55, 65, 85]
    assert [*named["mined"].get_ydata()] == [40, 50, 65]
    assert len(knn.lines) == len(false.lines) == 3 and [*knn.lines[0].get_ydata()] == [10, 20, 30]
    (shade,) = knn.collections
    heights = shade.get_paths()[0].vertices[:, 1]
    deviation = statistics.stdev([80, 90])
    assert heights.max() == pytest.approx(85 + deviation) and heights.min() == pytest.approx(55 - deviation)
    (only,) = mined.lines  # the others mine nothing
    assert [*only.get_ydata()] == pytest.approx([30, 40, 60])
    assert [line.get_text() for line in picture.figure.legends[0].get_texts()] == ["moco", "mined"]
    assert "kNN-200 of moco 55.0 to 85.0 %" in picture.words and "Thin lines: 1 other arms" in picture.words


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
    (line,) = learning_curves(records, ["moco"]).figure.axes[0].lines
    assert [*line.get_xdata()] == [2, 4] and [*line.get_ydata()] == [65, 85]


def test_an_arm_that_diverged_in_every_seed_is_left_out_and_asked_for_says_so() -> None:
    lost = {"arm": "lost", "seed": 0, "diverged": "The loss is nan."}
    records = Comparison((*ROWS, lost))
    assert records.arms == ("moco", "mined", "other")
    assert len(learning_curves(records, ["moco"]).figure.axes[0].lines) == 3
    for asked in (records.of, records.curves):
        with pytest.raises(ValueError, match="of an arm 'lost': it diverged in every seed"):
            asked("lost")
