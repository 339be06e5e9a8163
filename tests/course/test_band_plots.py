"""Pictures of bands: their numbers against counting by hand, and that they say in words what they show."""

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


def test_pictures_say_what_they_show() -> None:
    for picture in (
        band_plots.purity_by_rank(SNAPSHOT),
        band_plots.by_closeness(S),
        band_plots.anchors_apart(S, RankBand(0.1, 0.5)),
        band_plots.maps_apart(SNAPSHOT),
    ):
        assert picture.png().startswith(b"\x89PNG") and len(repr(picture)) > 40
    kept = 100 * np.median(SNAPSHOT.kept[1, -1])
    assert f"PCA {kept:.0f} %" in repr(band_plots.maps_apart(SNAPSHOT))


def test_the_first_bin_of_the_purity_is_that_of_the_closest_key() -> None:
    assert S.positive_keys is not None and S.same_class is not None
    closest = S.positive_keys.masked_fill(S.own, -2).argmax(1)
    share = 100 * float(S.same_class[torch.arange(100), closest].float().mean())
    line = band_plots.purity_by_rank(SNAPSHOT).figure.axes[0].lines[1]
    values = [y for y in np.asarray(line.get_ydata(), float) if y == y]
    assert values[0] == pytest.approx(share, abs=1e-3)
