"""What labels would choose: against loops, at every purity, and SupCon by its formula."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn.functional import normalize

from cltools import AllNegatives, AugmentedView, OracleNegatives, OraclePositives, info_nce, select, similarities, terms
from cltools.mining import Similarities

FULL = {"start": 0.0, "ramp": 0.0}


def made(seed: int, rows: int = 5, keys: int = 40, classes: int = 3) -> Similarities:
    g = torch.Generator().manual_seed(seed)
    z, positive, n = (normalize(torch.randn(count, 6, generator=g), dim=1) for count in (rows, rows, keys))
    labels, of_keys = (torch.randint(classes, (count,), generator=g) for count in (rows, keys))
    own = torch.zeros(rows, keys, dtype=torch.bool)
    own[:, 0] = labels == of_keys[0]
    return similarities(z, positive, n, own, same_class=labels[:, None] == of_keys)


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]), st.integers(1, 40))
def test_the_closest_of_each_kind_in_the_share_that_is_asked_for(seed: int, k: int, purity: float, keys: int) -> None:
    s = made(seed, keys=keys)
    rule = OraclePositives(k=k, purity=purity, augmented_share=0.25, **FULL)  # type: ignore[arg-type]
    chosen = select(s, rule, AllNegatives())
    assert s.same_class is not None and s.positive_keys is not None
    right = math.floor(purity * k + 0.5)
    for row in range(5):
        found = chosen.positive_index[row][chosen.positive_weight[row, 1:] > 0].tolist()
        expected = []
        for same, n in ((True, right), (False, k - right)):
            kind = [j for j in range(keys) if not s.own[row, j] and bool(s.same_class[row, j]) == same]
            expected += sorted(kind, key=lambda j: -float(s.positive_keys[row, j]))[:n]  # type: ignore[index]
        assert sorted(found) == sorted(expected)
        weight = chosen.positive_weight[row]
        assert float(weight[0]) == pytest.approx(0.25 if found else 1.0)
        torch.testing.assert_close(weight[1:][weight[1:] > 0], torch.full((len(found),), 0.75 / max(1, len(found))))


def test_random_ones_are_of_their_kind_seeded_and_others_each_time() -> None:
    s = made(0)
    rule = OraclePositives(k=6, purity=0.5, right="random", wrong="random", **FULL)  # type: ignore[arg-type]
    assert rule.reads == {"same_class"}
    draws = [select(s, rule, AllNegatives(), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    mined = [torch.zeros(5, 40).scatter_add_(1, d.positive_index, d.positive_weight[:, 1:]) > 0 for d in draws]
    assert torch.equal(mined[0], mined[1]) and not torch.equal(mined[0], mined[2])
    assert s.same_class is not None
    assert all((mined[0] & kind).sum(1).tolist() == [3] * 5 for kind in (s.same_class, ~s.same_class))


def test_all_of_a_class_in_the_form_out_is_supcon() -> None:
    s = made(3)
    rule = OraclePositives(k=None, augmented_share=None, **FULL)  # type: ignore[arg-type]
    loss = info_nce(**terms(s, select(s, rule, AllNegatives())), temperature=0.2, form="out", reduction="none")
    assert s.same_class is not None
    for row in range(5):
        logits = [float(s.anchor_positive[row]) / 0.2]
        others = [j for j in range(40) if not s.own[row, j]]
        positives = logits + [float(s.anchor_keys[row, j]) / 0.2 for j in others if s.same_class[row, j]]
        every = logits + [float(s.anchor_keys[row, j]) / 0.2 for j in others]
        total = math.log(math.fsum(math.exp(x) for x in every))
        assert float(loss[row]) == pytest.approx(math.fsum(total - x for x in positives) / len(positives), abs=1e-4)


def test_an_oracle_of_negatives_drops_a_share_of_the_class() -> None:
    s = made(4, rows=60, keys=200)
    assert s.same_class is not None
    same = s.same_class & ~s.own
    for share in (0.0, 0.5, 1.0):
        chosen = select(
            s, AugmentedView(), OracleNegatives(share=share), generator=torch.Generator().manual_seed(0)
        )  # fmt: skip
        dropped = (chosen.negative_weight == 0) & ~s.own
        assert not bool((dropped & ~same).any())
        assert float(dropped.sum() / same.sum()) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"k": 0}, "k is 0.* Give k=None for every key"),
        ({"purity": 1.2}, "purity"),
        ({"k": None, "purity": 0.5}, "purity is 0.5.*give k"),
        ({"augmented_share": -1.0}, "augmented_share"),
    ],
)
def test_settings_without_meaning_are_named(bad: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=f"OraclePositives.*{named}"):
        OraclePositives(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [2.5, True, "5"])
def test_a_number_of_mined_keys_is_a_whole_number(k: object) -> None:
    """Past the run-time types of the tests."""
    rule = OraclePositives()
    object.__setattr__(rule, "k", k)
    with pytest.raises(ValueError, match=r"OraclePositives: k is .*; it must be a whole number"):
        rule.__post_init__()
