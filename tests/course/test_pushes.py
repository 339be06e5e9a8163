"""Figures of pushes against loops and closed forms; `tests/test_gradients.py` tests the balance of push and pull."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from cltools.mining import rank_count
from course.pushes import effective_negatives, mass_by_rank


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), keys=st.integers(0, 12))
def test_mass_by_rank_agrees_with_a_loop(seed: int, keys: int) -> None:
    g = torch.Generator().manual_seed(seed)
    push = torch.rand(3, keys, generator=g) * (torch.rand(3, keys, generator=g) < 0.8)
    score = torch.randint(0, 5, (3, keys), generator=g).float()
    shares = (0.0, 0.1, 0.5, 0.75, 1.0)
    found = mass_by_rank(push, score, shares)
    for row in range(3):
        order = sorted(range(keys), key=lambda j: -float(score[row, j]))
        total = sum(float(x) for x in push[row])
        for column, share in enumerate(shares):
            held = sum(float(push[row, j]) for j in order[: rank_count(share, keys)])
            assert float(found[row, column]) == pytest.approx(held / total if total else 0.0, abs=1e-6)


def test_effective_negatives_count_equals() -> None:
    push = torch.tensor([[1.0, 1.0, 1.0, 1.0], [5.0, 0.0, 0.0, 0.0], [2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(effective_negatives(push), torch.tensor([4.0, 1.0, 2.0, 0.0]))
