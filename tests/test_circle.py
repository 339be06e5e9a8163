"""Selections that one can check by eye: every vector is an angle on a circle, so the closest is the nearest angle.

The anchor stands at 0° and its positive, unless a test says otherwise, at 20°. A key at 50° is then 50° from the anchor
and 30° from the positive, and its cosines are those of these angles.
"""

import math

import pytest
import torch
from torch import Tensor

from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    CosineBand,
    EveryKey,
    MarginBand,
    NearestKeys,
    NegativeRule,
    PositiveRule,
    RankBand,
    Selection,
    select,
    similarities,
)

KEYS = (-170, -75, -35, -5, 10, 30, 50, 90, 135, 165)
"""From the positive at 20°: 170, 95, 55, 25, 10, 10, 30, 70, 115 and 145 degrees."""


def selected(positives: PositiveRule, negatives: NegativeRule, *, positive: float = 20, keys: tuple[float, ...] = KEYS,
             own: tuple[float, ...] = ()) -> Selection:  # fmt: skip
    """What the rules choose for one anchor at 0° among keys at these angles."""
    s = similarities(at(0), at(positive), at(*keys), torch.tensor([[angle in own for angle in keys]]))
    return select(s, positives, negatives)


def at(*angles: float) -> Tensor:
    """Unit vectors at these angles, in degrees."""
    radians = [math.radians(angle) for angle in angles]
    return torch.tensor([[math.cos(x), math.sin(x)] for x in radians])


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def angles(chosen: Selection, band: Band, keys: tuple[float, ...] = KEYS) -> set[float]:
    """Where the keys of a band stand."""
    return {angle for angle, code in zip(keys, chosen.band[0].tolist(), strict=True) if code == band}


def kept(chosen: Selection, keys: tuple[float, ...] = KEYS) -> set[float]:
    """Where the keys stand that push."""
    found = {angle for angle, weight in zip(keys, chosen.negative_weight[0].tolist(), strict=True) if weight > 0}
    assert found == angles(chosen, Band.POTENTIAL, keys)
    return found


def test_without_a_band_every_key_pushes_but_the_anchors_own() -> None:
    chosen = selected(AugmentedView(), AllNegatives(), own=(10, 30))
    assert kept(chosen) == {*KEYS} - {10, 30} and angles(chosen, Band.OWN) == {10, 30}
    assert chosen.positive_weight.tolist() == [[1.0]]


def test_a_band_of_ranks_leaves_out_the_nearest_and_the_farthest() -> None:
    chosen = selected(AugmentedView(), RankBand(0.2, 0.6))  # of ten keys the nearest two go, and the last four
    assert angles(chosen, Band.HARD) == {10, 30}
    assert kept(chosen) == {-5, 50, -35, 90}
    assert angles(chosen, Band.EASY) == {-75, 135, 165, -170}


def test_nearness_to_the_anchor_is_another_order_than_nearness_to_the_positive() -> None:
    by_anchor = selected(AugmentedView(), RankBand(0.2, 0.6, by="anchor"))
    assert angles(by_anchor, Band.HARD) == {-5, 10} and kept(by_anchor) == {30, -35, 50, -75}


@pytest.mark.parametrize("turn", [17, 90, 211])
def test_the_selection_turns_with_the_circle(turn: float) -> None:
    keys = tuple(angle + turn for angle in KEYS)
    s = similarities(at(turn), at(20 + turn), at(*keys), torch.zeros(1, len(KEYS), dtype=torch.bool))
    turned = select(s, NearestKeys(2), RankBand(0.3, 0.6))
    assert torch.equal(turned.band, selected(NearestKeys(2), RankBand(0.3, 0.6)).band)


def test_own_keys_count_among_the_ranks_but_come_last() -> None:
    chosen = selected(AugmentedView(), RankBand(0.2, 0.6), own=(10,))
    assert angles(chosen, Band.HARD) == {30, -5} and kept(chosen) == {50, -35, 90, -75}


def test_a_band_of_cosines_is_an_arc_on_either_side_of_the_positive() -> None:
    chosen = selected(AugmentedView(), CosineBand(cosine(100), cosine(28)))
    assert angles(chosen, Band.HARD) == {-5, 10, 30}, "less than 28° from 20°"
    assert kept(chosen) == {-75, -35, 50, 90}, "from 28° to 100°"
    assert angles(chosen, Band.EASY) == {-170, 135, 165}
    around_anchor = selected(AugmentedView(), CosineBand(cosine(100), cosine(28), by="anchor"))
    assert kept(around_anchor) == {-75, -35, 30, 50, 90}


def test_bands_by_default_leave_out_what_is_opposite_or_too_near() -> None:
    assert kept(selected(AugmentedView(), CosineBand())) == {-35, -5, 10, 30, 50, 90}, "at most 90° from the positive"
    assert kept(selected(AugmentedView(), MarginBand())) == {*KEYS} - {-5, 10}, "farther than the positive's 20°"
    assert kept(selected(AugmentedView(), RankBand())) == {-35, -5, 50}, "10° and 30° are equally near"


def test_every_key_as_a_positive_leaves_the_view_alone_where_all_are_own() -> None:
    chosen = selected(EveryKey(), AllNegatives(), keys=(10, 20), own=(10, 20))
    assert chosen.positive_weight.tolist() == [[1, 0, 0]] and not chosen.negative_weight.any()


def test_a_margin_moves_with_the_positive() -> None:
    """Only keys that are farther from the anchor than its positive is, by a margin, and within a width of that."""
    near = selected(
        AugmentedView(), MarginBand(margin=0.1, within=0.6), positive=20
    )  # cosines from 0.24 to 0.84: 76° to 33°
    assert kept(near) == {-75, -35, 50} and angles(near, Band.HARD) == {-5, 10, 30}
    far = selected(AugmentedView(), MarginBand(margin=0.1, within=0.6), positive=60)  # from −0.20 to 0.40: 102° to 66°
    assert kept(far) == {-75, 90} and angles(far, Band.HARD) == {-35, -5, 10, 30, 50}


def test_an_arc_without_keys_keeps_nothing() -> None:
    assert kept(selected(AugmentedView(), CosineBand(cosine(94), cosine(80)))) == set()


# Positives


def test_the_nearest_keys_of_the_positive_are_mined_and_no_longer_push() -> None:
    keys = (-40, 0, 15, 28, 45, 120)  # 60, 20, 5, 8, 25 and 100 degrees from the positive
    chosen = selected(NearestKeys(2), AllNegatives(), keys=keys)
    assert angles(chosen, Band.MINED, keys) == {15, 28}
    assert kept(chosen, keys) == {-40, 0, 45, 120}
    weight = dict(zip(chosen.positive_index[0].tolist(), chosen.positive_weight[0, 1:].tolist(), strict=True))
    nearer, farther = (math.exp(cosine(degrees) / 0.1) for degrees in (5, 8))
    assert weight[2] == pytest.approx(0.5 * nearer / (nearer + farther), rel=1e-5), "the nearer key weighs more"
    assert chosen.positive_weight[0, 0] == pytest.approx(0.5) and sum(weight.values()) == pytest.approx(0.5)


def test_the_own_key_is_never_mined() -> None:
    keys = (-40, 0, 15, 28, 45, 120)
    chosen = selected(NearestKeys(2, weighting="uniform"), AllNegatives(), keys=keys, own=(15,))
    assert angles(chosen, Band.MINED, keys) == {0, 28} and angles(chosen, Band.OWN, keys) == {15}


def test_a_gate_takes_only_candidates_within_an_arc() -> None:
    keys = (-40, 0, 15, 28, 45, 120)
    chosen = selected(NearestKeys(4, weighting="uniform", min_cosine=cosine(10)), AllNegatives(), keys=keys)
    assert angles(chosen, Band.MINED, keys) == {15, 28}, "the other candidates, at 0° and 45°, are 20° and 25° away"
    none = selected(NearestKeys(4, weighting="uniform", min_cosine=cosine(3)), AllNegatives(), keys=keys)
    assert angles(none, Band.MINED, keys) == set() and none.positive_weight[0, 0] == 1


def test_a_mined_key_keeps_its_rank_so_the_band_does_not_shift() -> None:
    """The nearest four of ten: two are mined, two too hard; the band begins at the fifth with or without mining."""
    plain = selected(AugmentedView(), RankBand(0.4, 0.7), positive=21)
    mined = selected(NearestKeys(2, weighting="uniform"), RankBand(0.4, 0.7), positive=21)
    assert kept(plain) == kept(mined) == {-35, 90, -75}
    assert angles(plain, Band.HARD) == {30, 10, -5, 50}
    assert angles(mined, Band.HARD) == {-5, 50} and angles(mined, Band.MINED) == {30, 10}
