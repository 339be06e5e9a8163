"""Anchors that count less: by hand, and what becomes of the mean of the loss."""

import pytest
import torch
from torch.nn.functional import normalize

from cltools import (
    AllNegatives,
    AugmentedView,
    Band,
    DifficultAnchors,
    LossSettings,
    NearestKeys,
    contrastive_loss,
    select,
    similarities,
)
from cltools.contrast import mean_over_anchors
from cltools.interop import ContrastiveLoss
from cltools.mining import Selection, Similarities

NOTHING = AugmentedView()


def crowded() -> Similarities:
    """Ten keys in a plane; 3 lie close to the first anchor, one to the second, of which one more is its own."""
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    angle = torch.deg2rad(torch.tensor([0.0, 10, 20, 85, 88, 180, 190, 200, 210, 220]))
    keys = torch.stack([angle.cos(), angle.sin()], dim=1)
    own = torch.zeros(2, 10, dtype=torch.bool)
    own[1, 4] = True
    return similarities(z, z, keys, own)


@pytest.mark.parametrize(
    ("tolerated", "weights"), [(0.0, [0.25, 0.25]), (0.1, [0.25, 1.0]), (0.2, [0.25, 1.0]), (0.3, [1.0, 1.0])]
)
def test_an_anchor_with_more_close_foreign_keys_than_are_tolerated_counts_less(
    tolerated: float, weights: list[float]
) -> None:
    rule = DifficultAnchors(min_cosine=0.9, tolerated=tolerated, anchor_weight=0.25)
    chosen = select(crowded(), NOTHING, rule)
    assert chosen.anchor_weight is not None and chosen.anchor_weight.tolist() == weights
    plain = select(crowded(), NOTHING, AllNegatives())
    assert torch.equal(chosen.negative_weight, plain.negative_weight) and plain.anchor_weight is None


def test_mined_keys_are_not_counted_as_close() -> None:
    """Of three keys that are close to the first anchor two are mined, and one is tolerated."""
    rule, mining = DifficultAnchors(min_cosine=0.9, tolerated=0.1, anchor_weight=0.25), NearestKeys(k=2)
    mined = select(crowded(), mining, rule)
    assert (mined.band == Band.MINED).sum(1).tolist() == [2, 2] and (crowded().anchor_keys[0] >= 0.9).sum() == 3
    assert mined.anchor_weight is not None and mined.anchor_weight.tolist() == [1.0, 1.0]
    alone = select(crowded(), NOTHING, rule).anchor_weight
    assert alone is not None and alone.tolist() == [0.25, 1.0]


def test_the_mean_divides_by_the_weights() -> None:
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert float(mean_over_anchors(losses, [None, None])) == 2.5
    assert float(mean_over_anchors(losses, [torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])])) == pytest.approx(2.25)
    assert float(mean_over_anchors(losses, [torch.zeros(4)])) == 0.0


def vectors(seed: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(n, 3, generator=g), dim=1) for n in (8, 8, 40)]


def test_a_left_out_anchor_gets_no_gradient() -> None:
    z, positive, keys = vectors()
    z.requires_grad_()
    rule = DifficultAnchors(min_cosine=0.8, tolerated=0.1)
    seen: list[Selection] = []
    losses = contrastive_loss(
        z, positive, keys, NOTHING, rule, LossSettings(), ids=(torch.arange(8), torch.arange(8, 48)),
        observe=lambda s, selection: seen.append(selection), chunk=3,
    )  # fmt: skip
    mean_over_anchors(losses, [each.anchor_weight for each in seen]).backward()
    weight = torch.cat([each.anchor_weight for each in seen if each.anchor_weight is not None])
    assert z.grad is not None and 0 < int(weight.sum()) < 8
    assert torch.equal(z.grad.abs().sum(1) > 0, weight > 0)


def test_the_module_weighs_anchors_too() -> None:
    out0, out1, _ = vectors(1)
    rule = DifficultAnchors(min_cosine=0.6, tolerated=0.1)
    z = torch.cat([out0, out1])
    own = torch.arange(8).repeat(2)
    s = similarities(z, torch.cat([out1, out0]), z, own[:, None] == own)
    weight = select(s, NOTHING, rule).anchor_weight
    assert weight is not None and 0 < float(weight.sum()) < 16
    losses = contrastive_loss(
        z, torch.cat([out1, out0]), z, NOTHING, rule, LossSettings(0.5), ids=(own, own)
    )  # fmt: skip
    expected = (losses * weight).sum() / weight.sum()
    torch.testing.assert_close(ContrastiveLoss(NOTHING, rule)(out0, out1), expected)


@pytest.mark.parametrize("bad", [{"min_cosine": 1.5}, {"tolerated": -0.1}, {"anchor_weight": 2.0}])
def test_settings_without_meaning_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"DifficultAnchors.*{next(iter(bad))}"):
        DifficultAnchors(**bad)  # type: ignore[arg-type]
