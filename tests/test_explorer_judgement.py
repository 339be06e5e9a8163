"""What an explorer judges is what training selects, and what a key exerts is the loss's own gradient."""

from typing import Any

import numpy as np
import pytest
import torch
from snapshots import made

from cltools.explorer.judgement import SEED, chosen, judge, one_thread
from cltools.explorer.state import Side
from cltools.losses import info_nce
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    CancelFalseNegatives,
    CosineBand,
    Debiased,
    HardnessWeighted,
    MarginBand,
    MixedNegatives,
    NearestKeys,
    NegativeRule,
    OracleNegatives,
    RandomNegatives,
    RankBand,
    RingNegatives,
    select,
    terms,
)
from cltools.mining.draws import Draws

RULES: list[NegativeRule] = [
    AllNegatives(),
    RankBand(0.1, 0.5),
    RankBand(0.1, 0.5, by="anchor"),
    RankBand(0.1, 0.5, by="force"),
    MarginBand(margin=-0.2, within=0.7),
    CosineBand(above=0.0, below=0.4, rescale=True),
    RandomNegatives(0.3),
    RingNegatives(),
    HardnessWeighted(),
    Debiased(),
    CancelFalseNegatives(k=5, min_cosine=0.3),
    MixedNegatives(hardest=10, pairs=4, with_anchor=2),
    OracleNegatives(),
]
rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{type(rule).__name__}-{getattr(rule, 'by', '')}")


def side(rule: NegativeRule, **more: Any) -> Side:
    return Side(
        more.pop("positives", NearestKeys(min_weight="mean").at(1)),
        rule,
        more.pop("temperature", 0.2),
        more.pop("epoch", 5),
    )


@rules
def test_bands_are_those_of_select(rule: NegativeRule) -> None:
    snapshot = made()
    s = snapshot.similarities(torch.tensor([11]))
    j = judge(s, side(rule), "sep")
    assert s.ids is not None
    draws = Draws(SEED, *s.ids)
    expected = select(s, NearestKeys(min_weight="mean").at(1), rule, temperature=0.2, generator=draws)
    assert np.array_equal(j.band, expected.band[0].numpy())
    assert torch.equal(j.selection.negative_weight, expected.negative_weight)


@rules
@pytest.mark.parametrize("form", ["sep", "in", "out"])
def test_forces_are_the_gradient_across_the_normalised_anchor(rule: NegativeRule, form: Any) -> None:
    """Autograd through the normalisation of z, one kept key at a time."""
    snapshot = made()
    row = torch.tensor([11])
    s = snapshot.similarities(row)
    j = judge(s, side(rule), form)
    z = s.anchor_keys.detach().double()
    arguments = dict(terms(s, j.selection))
    cosines = arguments["negative"].double().requires_grad_()  # type: ignore[attr-defined]
    arguments |= {"negative": cosines, "positive": arguments["positive"].double()}  # type: ignore[attr-defined]
    info_nce(**arguments, temperature=0.2, form=form).backward()  # type: ignore[arg-type]
    across = (cosines.grad.abs() * (1 - cosines.detach() ** 2).clamp_min(0).sqrt())[0]  # type: ignore[union-attr]
    share = (across / across.sum()).numpy()
    assert j.force == pytest.approx(share[: z.shape[1]], abs=1e-5)
    assert ((j.force > 0) <= (j.band == Band.POTENTIAL)).all(), "only what is kept pushes"


def test_the_order_is_that_of_the_score_with_the_own_key_last() -> None:
    snapshot = made()
    for rule in (RankBand(0.1, 0.5), RankBand(0.1, 0.5, by="anchor"), RingNegatives()):
        j = judge(snapshot.similarities(torch.tensor([11])), side(rule), "sep")
        assert j.order[-1] == 11 and np.array_equal(np.sort(j.order), np.arange(60))
        assert (np.diff(j.score[j.order[:-1]]) <= 0).all()


def test_shares_of_the_push_sum_to_one() -> None:
    s = made().similarities(torch.tensor([3]))
    for rule in (RankBand(0.1, 0.5), AllNegatives()):
        assert judge(s, side(rule, positives=AugmentedView()), "sep").force.sum() == pytest.approx(1, abs=1e-5)


def test_rules_that_draw_draw_the_same_each_time() -> None:
    s = made().similarities(torch.tensor([3]))
    one, two = (chosen(s, side(RandomNegatives(0.3))) for _ in range(2))
    assert torch.equal(one.band, two.band)


def test_threads_come_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == before
