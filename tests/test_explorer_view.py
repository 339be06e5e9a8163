"""The view model: what each panel gets, against counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from snapshots import made

from cltools.explorer import view
from cltools.explorer.colours import BANDS, CLASSES, DIFFERENCE, LEVELS, SIZES, SYMBOLS, scale
from cltools.explorer.judgement import Judgement, judge
from cltools.explorer.state import Side
from cltools.mining import AugmentedView, Band, NearestKeys, NegativeRule, RandomNegatives, RankBand

SNAPSHOT = made()


def judgement(rule: NegativeRule | None = None, row: int = 11) -> Judgement:
    s = SNAPSHOT.similarities(torch.tensor([row]))
    return judge(s, Side(NearestKeys(k=3, min_weight="mean").at(1), rule or RankBand(0.1, 0.5), 0.2, 5), "sep")


@settings(deadline=None, derandomize=True, max_examples=30)
@given(lower=st.floats(0, 0.5), width=st.floats(0.05, 0.5), row=st.integers(0, 59))
def test_groups_hold_each_band_closest_first(lower: float, width: float, row: int) -> None:
    j = judgement(RankBand(lower, min(1.0, lower + width)), row)
    found = {group.band: group for group in view.groups(j)}
    for band in (Band.MINED, Band.HARD, Band.POTENTIAL, Band.EASY):
        members = [int(i) for i in np.flatnonzero(j.band == band)]
        if not members:
            assert band not in found
            continue
        sign = 1 if band == Band.EASY else -1
        expected = sorted(members, key=lambda i: sign * j.score[i])[: view.SHOWN]
        assert found[band].total == len(members)
        assert [j.score[i] for i in found[band].places] == [j.score[i] for i in expected]
        assert {*found[band].places} <= {*members}


def test_a_histogram_counts_every_other_key_once_in_its_bin() -> None:
    j = judgement()
    h = view.histogram(j)
    others = j.band != Band.OWN
    assert h.counts.sum() == 59 and h.counts[:, Band.OWN].sum() == 0
    for band in Band:
        assert h.counts[:, band].sum() == ((j.band == band) & others).sum()
    for i in range(view.BINS):
        low, high = h.edges[i], h.edges[i + 1]
        inside = (j.score >= low) & ((j.score < high) | (i == view.BINS - 1)) & others
        assert abs(h.counts[i].sum() - inside.sum()) <= 1, "but for rounding at an edge"


def test_a_histogram_of_equal_scores_has_one_bin() -> None:
    same = made(groups=1)
    vectors = np.repeat(same.anchors[:1, :1], 60, axis=1)
    equal = made(groups=1, epochs=(5,))
    s = type(equal)(**{**vars(equal), "anchors": vectors, "keys": vectors}).similarities(torch.tensor([0]))
    h = view.histogram(judge(s, Side(AugmentedView(), RankBand(0.0, 1.0), 0.2, 5), "sep"))
    assert h.counts.sum() == 59 and np.isfinite(h.edges).all()


def test_the_curve_ends_at_the_whole_force_and_never_falls() -> None:
    j = judgement()
    c = view.curve(j)
    assert c.ranks[0] == 1 and c.ranks[-1] == 60
    for values in (c.plain, c.rules):
        assert (np.diff(values) >= -1e-6).all() and values[-1] == pytest.approx(1, abs=1e-5)
    held = j.plain_force[j.order[:7]].sum()
    assert c.plain[c.ranks.tolist().index(7)] == pytest.approx(held, abs=1e-6)


def test_colour_by_band_and_difference() -> None:
    a, b = judgement(), judgement(RankBand(0.0, 0.2))
    painted = view.by_band(a)
    assert np.array_equal(painted.codes, a.band) and painted.colours[Band.HARD] == BANDS[Band.HARD]
    found = view.by_difference(a, b)
    for i in range(60):
        kept = (a.band[i] == Band.POTENTIAL, b.band[i] == Band.POTENTIAL)
        assert found.codes[i] == {(False, False): 0, (True, True): 1, (True, False): 2, (False, True): 3}[kept]
    assert found.colours == DIFFERENCE


def test_colour_by_a_number_grows_with_it() -> None:
    j = judgement()
    for painted, values in ((view.by_similarity(j, [j]), j.score), (view.by_force(j, [j]), j.force)):
        others = j.band != Band.OWN
        order = np.argsort(values[others], kind="stable")
        assert (np.diff(painted.codes[others][order]) >= 0).all()
        assert painted.codes[others].min() == 0 and painted.codes[others].max() == len(LEVELS) - 1


def test_colour_by_class_tells_the_anchors_own_and_the_most_suspected_where_there_are_many() -> None:
    j = judgement()
    few = view.by_class(j, [j], SNAPSHOT.labels, SNAPSHOT.classes, 11)
    assert len(few.colours) == 6 and {few.names[c] for c in few.codes} == {*SNAPSHOT.classes}
    many = tuple(f"kind {i}" for i in range(30))
    labels = np.arange(60) % 30
    found = view.by_class(j, [j], labels, many, 11)
    suspected = {many[label] for label in labels[j.band == Band.HARD]}
    assert found.names[1] == many[labels[11]] == found.names[found.codes[11]]
    assert {*found.names[1:]} <= suspected | {many[labels[11]]} and len(found.colours) == len(found.names) <= 11
    assert suspected <= {*found.names} or len(found.names) == 11 == len(CLASSES) + 1


def test_every_band_has_a_symbol_and_a_colour_of_its_own_but_the_own_key() -> None:
    shown = [*Band][1:]
    slots = [view.by_band(judgement()).slots.dtype.type(view._BAND_SLOTS[band]) for band in shown]
    assert len({*slots}) == 6 == len(SYMBOLS) == len(SIZES) and len({BANDS[band] for band in shown}) == 6


def test_bands_differ_for_every_colour_vision() -> None:
    """Simulated by Machado, Oliveira and Fernandes (2009) at full severity: every two bands stay apart."""
    kinds = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    shown = [*Band][1:]
    rgb = np.array([[int(BANDS[b][i : i + 2], 16) / 255 for i in (1, 3, 5)] for b in shown])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in kinds.values():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.4)
        apart = np.linalg.norm(seen[:, None] - seen, axis=2)[np.triu_indices(6, 1)]
        assert apart.min() > 0.12


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
def test_marks_are_visible_on_light_and_on_dark(ground: str) -> None:
    def luminance(colour: str) -> float:
        channel = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channel)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for colour in (*BANDS, *DIFFERENCE, *LEVELS, *CLASSES):
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 1.8, colour


def test_a_discrete_scale_has_a_step_for_each_colour() -> None:
    found = scale(("#000000", "#ffffff", "#888888"))
    assert [edge for edge, _ in found] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert [colour for _, colour in found] == ["#000000"] * 2 + ["#ffffff"] * 2 + ["#888888"] * 2


def test_a_frame_holds_every_point_and_little_more() -> None:
    place = SNAPSHOT.maps[0, 1]
    low, high = view.frame(place)
    assert (place > low).all() and (place < high).all()
    assert (high - low) == pytest.approx(1.1 * np.ptp(place, axis=0), rel=1e-4)


def test_lines_tell_sides_apart() -> None:
    a, b = judgement(), judgement(RandomNegatives(0.3))
    base, one, two = view.force_lines(a, b, compared=True)
    assert one is not None and two is not None
    assert one.y == pytest.approx(100 * view.curve(a).rules) and two.y == pytest.approx(100 * view.curve(b).rules)
    assert base.y == pytest.approx(100 * view.curve(a).plain)
    assert (one.name, two.name) == ("negatives of A", "negatives of B")
    alone, nothing = view.force_lines(a, None, compared=False)[1:]
    assert alone is not None and alone.name == "the kept" and nothing is None
    assert view.force_lines(None, b, compared=True)[1] is None
