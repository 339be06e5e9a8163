"""A band that is softened instead of dropped: against a loop, between InfoNCE and the band that is dropped."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn.functional import normalize

from cltools import AugmentedView, Band, NearestKeys, RankBand, SoftenedBand, info_nce, select, similarities, terms
from cltools.mining import Similarities
from cltools.mining.bands import rank_count

NOTHING = AugmentedView()


def made(seed: int, rows: int = 4, keys: int = 30) -> Similarities:
    g = torch.Generator().manual_seed(seed)
    z, positive, n = (normalize(torch.randn(count, 5, generator=g), dim=1) for count in (rows, rows, keys))
    return similarities(z, positive, n, torch.rand(rows, keys, generator=g) < 0.1)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from([0.1, 0.5, 1.0]), st.floats(0.01, 4.0))
def test_the_band_weighs_e_to_the_margin_and_all_else_1(seed: int, skip: float, within: float, margin: float) -> None:
    if not skip < within:
        return
    s = made(seed)
    rule = SoftenedBand(margin=margin, skip_closest=skip, soften_within=within)
    chosen = select(s, NOTHING, rule, temperature=0.5)
    first, last = rank_count(skip, 30), rank_count(within, 30)
    for row in range(4):
        ranked = sorted((j for j in range(30) if not s.own[row, j]), key=lambda j: -float(s.anchor_keys[row, j]))
        for rank, j in enumerate(ranked):
            softened = first <= rank < last
            assert float(chosen.negative_weight[row, j]) == pytest.approx(math.exp(-margin / 0.5) if softened else 1.0)
            assert chosen.band[row, j] == (Band.SOFTENED if softened else Band.POTENTIAL)


def test_the_loss_is_info_nce_of_cosines_less_the_margin() -> None:
    s = made(0)
    chosen = select(s, NOTHING, SoftenedBand(margin=0.3, soften_within=0.2), temperature=0.2)
    lowered = torch.where(chosen.band == Band.SOFTENED, s.anchor_keys - 0.3, s.anchor_keys)
    expected = info_nce(
        s.anchor_positive[:, None], lowered, temperature=0.2, negative_weight=(~s.own).float(), reduction="none"
    )
    torch.testing.assert_close(info_nce(**terms(s, chosen), temperature=0.2, reduction="none"), expected)


def test_between_info_nce_and_the_band_that_is_dropped() -> None:
    s = made(1)

    def loss(rule: object) -> torch.Tensor:
        return info_nce(**terms(s, select(s, NOTHING, rule)), temperature=0.2, reduction="none")  # type: ignore[arg-type]

    dropped = loss(RankBand(drop_closest=0.1, keep_within=1.0, by="anchor"))
    torch.testing.assert_close(loss(SoftenedBand(margin=4.0, soften_within=0.1)), dropped, atol=1e-4, rtol=1e-4)
    plain = loss(SoftenedBand(margin=0.0))
    half = loss(SoftenedBand(margin=0.1, soften_within=0.1))
    assert bool(((dropped < half) & (half < plain)).all())


def test_a_mined_key_stays_mined() -> None:
    s = made(2)
    chosen = select(s, NearestKeys(k=3, by="anchor"), SoftenedBand(soften_within=0.5))
    assert bool((chosen.band == Band.MINED).any(1).all()) and bool((chosen.band == Band.SOFTENED).any())
    assert bool((chosen.negative_weight[chosen.band == Band.MINED] == 0).all())


def test_the_margin_moves() -> None:
    rule = SoftenedBand(margin=0.4, margin_from=0.0, anneal=0.5)
    assert [rule.at(p).margin for p in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.2, 0.4, 0.4]


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"margin": -0.1}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"soften_within": 0.0}, "skip_closest"),
        ({"skip_closest": 0.2}, "skip_closest"),
    ],
)
def test_settings_without_meaning_are_named(bad: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=f"SoftenedBand.*{named}"):
        SoftenedBand(**bad)  # type: ignore[arg-type]
