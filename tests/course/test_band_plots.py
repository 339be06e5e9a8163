"""Charts of bands: their numbers against counting by hand, and that they say in words what they show."""

import numpy as np
import pytest
import torch
from snapshots import made

from cltools.mining import AugmentedView, Band, RankBand, select
from course import band_plots

SNAPSHOT = made(100)
S = SNAPSHOT.similarities()


@pytest.mark.parametrize("by", ["positive", "anchor", "force"])
def test_prices_count_what_an_edge_drops(by: band_plots.By) -> None:
    (row,) = band_plots.prices(S, [0.1], by=by)
    band = select(S, AugmentedView(), RankBand(0.1, 1.0, by=by)).band
    same = false = true = kept_false = kept = 0
    for i in range(100):
        for j in range(100):
            if i == j:
                continue
            alike, dropped = bool(SNAPSHOT.labels[i] == SNAPSHOT.labels[j]), bool(band[i, j] == Band.HARD)
            same += alike
            false += alike and dropped
            true += not alike and dropped
            kept += not dropped
            kept_false += alike and not dropped
    assert row == pytest.approx(
        {
            "drop the closest %": 10,
            "kept %": 100 * int(kept) / 9900,
            "false among kept %": 100 * int(kept_false) / int(kept),
            "false dropped %": 100 * int(false) / int(same),
            "true dropped %": 100 * int(true) / (9900 - int(same)),
        },
        rel=1e-5,
    )


def test_nothing_is_dropped_at_an_edge_of_0() -> None:
    (row,) = band_plots.prices(S, [0.0])
    assert row["kept %"] == 100 and row["false dropped %"] == row["true dropped %"] == 0


def test_a_band_is_counted_at_every_epoch() -> None:
    rows = band_plots.over_training(SNAPSHOT, RankBand(0.1, 0.5))
    assert [row["epoch"] for row in rows] == [1, 5]
    assert rows[1]["same class among suspected %"] > rows[0]["same class among suspected %"], "groups draw apart"
    s = SNAPSHOT.similarities(epoch=0)
    assert s.same_class is not None
    hard = select(s, AugmentedView(), RankBand(0.1, 0.5)).band == Band.HARD
    expected = 100 * float((hard & s.same_class).sum() / hard.sum())
    assert rows[0]["same class among suspected %"] == pytest.approx(expected)


def test_the_first_bin_of_the_purity_is_that_of_the_closest_key() -> None:
    assert S.positive_keys is not None and S.same_class is not None
    closest = S.positive_keys.masked_fill(S.own, -2).argmax(1)
    share = 100 * float(S.same_class[torch.arange(100), closest].float().mean())
    area, curve = [trace for trace in band_plots.purity_by_rank(SNAPSHOT).figure.data if "5" in trace.legendgroup]
    assert curve.y[0] == pytest.approx(share, abs=1e-3)
    count = len(curve.y)
    low, high = area.y[:count], area.y[: count - 1 : -1]
    assert all(a <= value <= b for a, value, b in zip(low, curve.y, high, strict=True))
    assert [tuple(ends) for *_, least, most in curve.customdata for ends in [(least, most)]] == [
        *zip(low, high, strict=True)
    ]


def test_curves_of_dropping_go_through_the_prices() -> None:
    chart = band_plots.by_closeness(S)
    for by, curve in zip(("positive", "anchor", "force"), chart.figure.data, strict=False):
        (row,) = band_plots.prices(S, [curve.customdata[12] / 100], by=by)
        assert (curve.x[12], curve.y[12]) == pytest.approx((row["true dropped %"], row["false dropped %"]))
        assert curve.name == f"by the {by}" and f"{by}: " in chart.words
    assert chart.figure.data[3].x == chart.figure.data[3].y == (0, 100)


def test_every_anchor_is_in_the_histogram() -> None:
    bars, mean = band_plots.anchors_apart(S, RankBand(0.1, 0.5)).figure.data
    kept = select(S, AugmentedView(), RankBand(0.1, 0.5)).band == Band.POTENTIAL
    assert S.same_class is not None and sum(bars.y) == 100
    assert mean.x[0] == pytest.approx(100 * float((kept & S.same_class).sum() / kept.sum()))
    shares = 100 * (kept & S.same_class).sum(1) / kept.sum(1)
    assert bars.customdata[0][0] == pytest.approx(float(shares.min()), abs=1e-3)


def test_every_point_is_on_every_map() -> None:
    chart = band_plots.maps_apart(SNAPSHOT)
    for index, name in enumerate(SNAPSHOT.map_names):
        drawn = [*chart.figure.select_traces(row=1 + index // 2, col=1 + index % 2)]
        points = {(x, y) for trace in drawn for x, y in zip(trace.x, trace.y, strict=True)}
        assert points == {(float(x), float(y)) for x, y in SNAPSHOT.maps[index, -1]}
        kept = 100 * np.median(SNAPSHOT.kept[index, -1])
        assert f"{name} {kept:.0f} %" in chart.words
