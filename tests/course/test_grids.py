"""Heat maps over a band's edges: shares against `select`, gains by hand, and where a rule lies."""

import math
from typing import Any

import pytest
from snapshots import made

from cltools.mining import AugmentedView, Band, CosineBand, RandomNegatives, RankBand, select
from course import grids
from course.results import Comparison

S = made(200, epochs=(5,)).similarities()
PLAIN = AugmentedView()


def record(**more: list[float]) -> Comparison:
    """Accuracies of two seeds: the bands of lower edges 0 and 0.1 and upper 0.5 and 1, and chance."""
    arms = {
        "moco": [90.0, 92.0],
        "band-0-0.5": [91.0, 92.0],
        "band-0.1-0.5": [92.0, 95.0],
        "band-0.1-1": [88.0, 90.0],
        "random-0.5": [90.0, 93.0],
        "random-0.4": [90.0, 90.0],
        "random-0.9": [91.0, 91.0],
    }
    rows: list[dict[str, Any]] = [
        {"arm": arm, "seed": seed, "knn200": value}
        for arm, values in (arms | more).items()
        for seed, value in enumerate(values)
    ]
    return Comparison(tuple(rows))


def test_shares_are_what_select_keeps() -> None:
    kept, false = grids.shares(S)
    assert S.same_class is not None
    others, seen = ~S.own, 0
    for row, lower in enumerate(grids.LOWERS):
        for column, upper in enumerate(grids.UPPERS):
            if lower >= upper:
                assert kept.values[row, column].isnan() and false.values[row, column].isnan()
                continue
            mask = select(S, PLAIN, RankBand(lower, upper)).band == Band.POTENTIAL
            assert float(kept.values[row, column]) == pytest.approx(100 * float(mask.sum() / others.sum()))
            same = 100 * float((mask & S.same_class).sum() / mask.sum())
            assert float(false.values[row, column]) == pytest.approx(same, abs=1e-4)
            seen += 1
    assert seen == 33
    base = 100 * float((S.same_class & others).sum() / others.sum())
    assert float(kept.values[0, -1]) == 100 and float(false.values[0, -1]) == pytest.approx(base, abs=1e-4)


def test_a_band_that_holds_no_key_has_no_share() -> None:
    kept, _ = grids.shares(S, (0.0,), (0.001, 1.0))  # a tenth of a key rounds to none
    assert kept.values[0].isnan().tolist() == [True, False]


def test_gains_by_hand_and_every_key_is_moco() -> None:
    above = grids.gains(record())
    assert (above.drop_closest, above.keep_within) == ((0.0, 0.1), (0.5, 1.0))
    assert above.values.tolist() == [[0.5, 0.0], [2.5, -2.0]]
    assert grids.gains(record(), chance=True).values.tolist() == [[0.0, 0.0], [3.5, -2.0]]


def test_pairs_without_a_record_stay_empty_and_other_arms_are_no_bands() -> None:
    records = record(**{"band-0.6-1": [90.0, 92.0], "band-anchor": [1.0, 1.0], "random-annealed": [1.0, 1.0]})
    assert "band-anchor" not in grids.bands_of(records)
    assert math.isnan(grids.gains(records).values[2, 0])


def test_a_rule_lies_between_the_edges() -> None:
    grid = grids.gains(record())
    assert grid.at(RankBand(0.1, 0.5)) == (0.0, 1.0)
    assert grid.at(RankBand(0.05, 0.75)) == pytest.approx((0.5, 0.5))
    for other in (
        RankBand(0.2, 0.4),  # beyond the map
        RandomNegatives(0.5),
        CosineBand(above=-0.5, below=0.5),
        RankBand(0, 1, by="anchor"),
    ):
        assert grid.at(other) is None


def test_charts_say_what_they_show_and_mark_the_rule() -> None:
    chart = grids.of_records(record(), RankBand(0.1, 0.5))
    for words in (
        "gains over 2 seeds",
        "above moco: from -2.0 to +2.5",
        "random control: from -2.0 to +3.5",
        "from 10 % to 50 %",
    ):
        assert words in chart.words
    above, *rings = chart.figure.select_traces(row=1, col=1)
    assert [*map(list, above.z)] == [[0.5, 0], [2.5, -2]] and [*map(list, above.text)] == [
        ["+0.5", "+0.0"],
        ["+2.5", "-2.0"],
    ]
    assert above.customdata[1][0] == "drop the closest 10 %, keep within 50 %"
    assert above.zmin == -above.zmax and [(ring.x, ring.y) for ring in rings] == [((0,), (1,))] * 2
    assert "(" not in grids.of_records(record()).words and len(grids.of_records(record()).figure.data) == 2
    unmarked = grids.of_snapshot(S, RandomNegatives(0.5))
    assert "it is not on this map" in unmarked.words and len(unmarked.figure.data) == 2
    assert unmarked.figure.data[0].z[-1][0] is None and unmarked.figure.data[0].text[-1][0] == ""
    beyond = grids.of_records(record(), RankBand(0.2, 0.4))
    assert "from 20 % to 40 %, is beyond the edges shown" in beyond.words
    assert len(grids.of_snapshot(S, RankBand(0.05, 0.5)).figure.data) == 6
