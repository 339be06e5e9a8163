"""Rules of experiments: keys of a dialled purity, by brute force."""

import pytest
import torch
from hypothesis import given, strategies as st

from cltools.mining import AugmentedView, Band, NearestKeys, Similarities, select, similarities
from cltools.mining.rules import Context
from cltools.testing import check_rule
from experiments.arms import PlacedKeys, RepairedKeys, StillNegative, WithoutMined


def drawn(seed: int, anchors: int = 6, keys: int = 40, classes: int = 4) -> Similarities:
    made = torch.Generator().manual_seed(seed)
    z, positive, n = (
        torch.nn.functional.normalize(torch.randn(count, 8, generator=made), dim=1)
        for count in (anchors, anchors, keys)
    )
    same = torch.randint(classes, (anchors, 1), generator=made) == torch.randint(classes, (keys,), generator=made)
    own = torch.rand(anchors, keys, generator=made) < 0.05
    return similarities(z, positive, n, own, same_class=same | own)


def context(s: Similarities) -> Context:
    return Context(~s.own, 0.2, torch.Generator().manual_seed(1), None)


@given(seed=st.integers(0, 10**4), wanted=st.integers(0, 5))
def test_keys_are_swapped_until_the_share_is_right_and_no_further(seed: int, wanted: int) -> None:
    s = drawn(seed)
    assert s.positive_keys is not None and s.same_class is not None
    before = NearestKeys(5, weighting="uniform").mine(s, context(s)).index
    # far enough above a whole number that rounding does not decide, and near enough that a draw rarely adds a key
    after = RepairedKeys(5, purity=min(1.0, (wanted + 1e-5) / 5)).mine(s, context(s))
    assert torch.allclose(after.weight, torch.tensor([0.5, *[0.1] * 5]))
    for row, score in enumerate(s.positive_keys.masked_fill(s.own, -torch.inf).tolist()):
        mined, kept = {*before[row].tolist()}, {*after.index[row].tolist()}
        right = {key for key in range(40) if bool(s.same_class[row, key]) and not bool(s.own[row, key])}
        wrong = {key for key in range(40) if not bool(s.same_class[row, key]) and not bool(s.own[row, key])}
        count = len(kept & right)
        assert len(kept) == 5 and count == min(wanted, len(right))
        for kind in (right, wrong):  # of each kind: those that were mined before, the closest first
            order = sorted(kind, key=lambda key: (key not in mined, -score[key]))
            assert kept & kind == {*order[: len(kept & kind)]}


def test_without_a_purity_nothing_is_swapped() -> None:
    s = drawn(0)
    ours, nearest = RepairedKeys().mine(s, context(s)), NearestKeys(5, weighting="uniform").mine(s, context(s))
    assert torch.equal(ours.index, nearest.index) and torch.equal(ours.weight, nearest.weight)


@pytest.mark.parametrize("purity", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rule", [RepairedKeys, PlacedKeys])
def test_the_purity_is_met_on_average(rule: type[RepairedKeys] | type[PlacedKeys], purity: float) -> None:
    s = drawn(0, anchors=2000, keys=60)
    mined = rule(purity=purity).mine(s, context(s))
    assert s.same_class is not None
    assert float(s.same_class.gather(1, mined.index).float().mean()) == pytest.approx(purity, abs=0.02)
    assert all(len({*keys}) == 5 for keys in mined.index.tolist())


@pytest.mark.parametrize(("right", "ranks"), [("nearest", [0, 1, 2]), ("middle", [4, 5, 6])])
def test_keys_are_taken_from_their_place(right: str, ranks: list[int]) -> None:
    s = drawn(3, anchors=1)
    assert s.positive_keys is not None and s.same_class is not None
    among = [k for k in range(40) if bool(s.same_class[0, k]) and not bool(s.own[0, k])]
    assert len(among) in (10, 11)
    order = sorted(among, key=lambda key: -float(s.positive_keys[0, key]))  # type: ignore[index]
    mined = PlacedKeys(3, right=right).mine(s, context(s))  # type: ignore[arg-type]
    assert {*mined.index[0].tolist()} == {order[rank] for rank in ranks}


def test_keys_attract_or_are_removed_alone() -> None:
    s = drawn(0)
    repaired = RepairedKeys(purity=1.0)
    both = select(s, repaired, StillNegative(), generator=torch.Generator().manual_seed(1))
    assert both.synthetic is not None and s.vectors is not None
    mined = torch.stack([s.vectors[1][index] for index in both.positive_index])
    torch.testing.assert_close(both.synthetic.sort(dim=1).values, mined.sort(dim=1).values)
    alone = select(s, AugmentedView(), WithoutMined(repaired), generator=torch.Generator().manual_seed(1))
    assert bool((alone.positive_weight == 1).all())
    dropped = (alone.band == Band.OTHER).float().gather(1, both.positive_index)
    assert int(dropped.sum()) >= 0.9 * dropped.numel()  # a rounded number of right keys is drawn anew


@pytest.mark.parametrize("rule", [RepairedKeys(), StillNegative(2), PlacedKeys(2, right="middle")], ids=str)
def test_rules_keep_what_rules_must(rule: RepairedKeys) -> None:
    check_rule(rule)
