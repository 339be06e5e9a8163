"""Each mistake does what its name says: what it spoils, and by how much."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from cltools import AllNegatives, Band, PositiveRule, Similarities, info_nce, info_nce_gradients, select, terms
from cltools import similarities as cosines
from cltools.teaching import mistakes

PLAIN = PositiveRule(weighting="none")


@pytest.fixture
def s() -> Similarities:
    draws = torch.Generator().manual_seed(0)
    z = normalize(torch.randn(6, 8, generator=draws), dim=1)
    keys = normalize(torch.randn(40, 8, generator=draws), dim=1)
    keys[:6] = normalize(z + 0.3 * torch.randn(6, 8, generator=draws), dim=1)
    return cosines(z, keys[:6], keys, torch.eye(6, 40, dtype=torch.bool))


def test_the_own_key_becomes_a_negative_and_nothing_else_changes(s: Similarities) -> None:
    right = select(s, PLAIN, AllNegatives())
    wrong = mistakes.keep_own_key(s, right)
    assert (wrong.negative_weight[s.own] == 1).all()
    assert torch.equal(wrong.negative_weight[~s.own], right.negative_weight[~s.own])
    # it is the positive itself here, so what pulls also pushes
    pull, push = info_nce_gradients(**terms(s, wrong), temperature=0.2)
    p = push[s.own] * 0.2
    torch.testing.assert_close(pull[:, 0] * 0.2, -(1 - p))


def test_a_mined_key_is_pulled_and_pushed(s: Similarities) -> None:
    right = select(s, PositiveRule(k=3), AllNegatives())
    wrong = mistakes.push_mined_keys(right)
    mined = right.band == Band.MINED
    assert mined.any() and (right.negative_weight[mined] == 0).all() and (wrong.negative_weight[mined] == 1).all()
    assert torch.equal(wrong.negative_weight[~mined], right.negative_weight[~mined])
    assert torch.equal(wrong.positive_weight, right.positive_weight)


@pytest.mark.parametrize("length", [1.0, 2.0, 5.0])
def test_a_length_is_another_temperature(s: Similarities, length: float) -> None:
    chosen = select(s, PLAIN, AllNegatives())
    wrong = mistakes.forget_to_normalise(s, length=length)
    loss = info_nce(**terms(wrong, chosen), temperature=0.5)
    torch.testing.assert_close(loss, info_nce(**terms(s, chosen), temperature=0.5 / length**2))
    assert s.key is not None and wrong.key is not None
    torch.testing.assert_close(wrong.key, s.key * length**2)
    assert mistakes.forget_to_normalise(replace(s, key=None), length=length).key is None


def test_fewer_negatives_give_a_lower_loss_of_the_same_encoder(s: Similarities) -> None:
    losses = mistakes.compare_losses(s, (1, 0.5, 0.1), temperature=0.2)
    assert [*losses] == [1, 0.5, 0.1] and losses[1] > losses[0.5] > losses[0.1]
    plain = select(s, PLAIN, AllNegatives())
    assert losses[1] == pytest.approx(float(info_nce(**terms(s, plain), temperature=0.2)))
