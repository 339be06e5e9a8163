"""`similarities` against plain Python dot products, and where gradients flow."""

from typing import Any

import brute_force
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st

from cltools.mining import similarities
from cltools.mining.similarities import largest, own_last


@pytest.mark.parametrize("keys", [0, 1, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_similarities_agree_with_the_loop(keys: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    z, p, n = (F.normalize(torch.randn(k, 5, generator=g), dim=1).to(dtype) for k in (3, 3, keys))
    own = torch.zeros(3, keys, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        s = similarities(z, p, n, own)
    assert s.positive_keys is not None
    assert s.anchor_keys.dtype == s.positive_keys.dtype == s.anchor_positive.dtype == torch.float32
    assert s.own is own and s.same_class is None and s.ids is None
    for b in range(3):
        rows = [(s.anchor_keys, z), (s.positive_keys, p)]
        for got, vectors in rows:
            expected = [brute_force.dot(vectors[b].tolist(), key.tolist()) for key in n]
            assert got[b].tolist() == pytest.approx(expected, abs=1e-6)
        assert s.anchor_positive[b].item() == pytest.approx(brute_force.dot(z[b].tolist(), p[b].tolist()), abs=1e-6)


def test_gradient_flows_through_the_anchor_only_where_it_should() -> None:
    g = torch.Generator().manual_seed(0)
    z, p, n = (F.normalize(torch.randn(4, 5, generator=g), dim=1).requires_grad_() for _ in range(3))
    s = similarities(z, p, n, torch.eye(4, dtype=torch.bool))
    assert s.positive_keys is not None and not s.positive_keys.requires_grad
    (s.anchor_keys.sum() + s.anchor_positive.sum()).backward()
    assert all(x.grad is not None and (x.grad != 0).any() for x in (z, p, n))  # SimCLR: keys are not constants


def test_optional_parts_of_similarities() -> None:
    z, p, n = torch.eye(3), torch.eye(3), torch.eye(3)[:2]
    own, same = torch.zeros(3, 2, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)
    s = similarities(z, p, n, own, same_class=same, reads=["vectors"])
    assert s.positive_keys is None and s.same_class is same and s.vectors is not None
    assert torch.equal(s.vectors[0], z) and torch.equal(s.vectors[1], n)


@pytest.mark.parametrize("reads", [(), ("positive_keys",), ("vectors",), ("positive_keys", "vectors")])
def test_only_what_is_read_is_computed(reads: tuple[str, ...]) -> None:
    z = torch.eye(3)
    s = similarities(z, z, z[:2], torch.zeros(3, 2, dtype=torch.bool), reads=reads)
    assert (s.positive_keys is not None) == ("positive_keys" in reads)
    assert (s.vectors is not None) == ("vectors" in reads)


def test_ids_go_along() -> None:
    z, ids = torch.eye(3), (torch.arange(3), torch.arange(2))
    given = similarities(z, z, z[:2], torch.zeros(3, 2, dtype=torch.bool), ids=ids).ids
    assert given is not None and given[0] is ids[0] and given[1] is ids[1]


@pytest.mark.parametrize("ids", [([0, 1], [0, 1, 2]), (np.array(3), [0, 1, 2]), ([0.5, 1.0, 2.0], [0, 1, 2])])
def test_ids_that_do_not_fit_are_refused(ids: Any) -> None:
    z = torch.eye(3)
    with pytest.raises(ValueError, match="ids are"):
        similarities(z, z, z, torch.eye(3, dtype=torch.bool), ids=ids)


def test_a_name_that_is_none_of_the_optional_fields_is_refused() -> None:
    z = torch.eye(3)
    with pytest.raises(ValueError, match="positive_keys"):
        similarities(z, z, z, torch.eye(3, dtype=torch.bool), reads=["positive_key"])


@given(seed=st.integers(0, 10**6), keys=st.integers(1, 6000), count=st.integers(0, 200), grid=st.booleans())
def test_the_largest_of_a_row_are_those_of_topk(seed: int, keys: int, count: int, grid: bool) -> None:
    score = torch.randn(4, keys, generator=torch.Generator().manual_seed(seed))
    score = score.round() if grid else score
    own = torch.rand(score.shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    score, count = own_last(score, own), min(count, keys)
    best, index = largest(score, count)
    assert torch.equal(best, score.topk(count, dim=1).values) and torch.equal(score.gather(1, index), best)
    assert all(len({*row}) == count for row in index.tolist())
    assert torch.equal(largest(score, count, ordered=False)[0].sort(dim=1, descending=True).values, best)


@pytest.mark.parametrize("count", [2, 100])
@pytest.mark.parametrize("kind", ["sorted", "equal", "one row equal", "not a number", "columns", "none"])
def test_the_largest_are_those_of_topk_wherever_they_lie(count: int, kind: str) -> None:
    score = torch.randn(4, 3001, generator=torch.Generator().manual_seed(0))
    if kind == "sorted":
        score = score.sort(dim=1).values
    elif kind == "equal":
        score = torch.ones_like(score)
    elif kind == "one row equal":
        score[2] = -torch.inf
    elif kind == "not a number":
        score[0], score[1, 3000], score[2, 7] = torch.nan, torch.nan, torch.nan
    elif kind == "columns":
        score = score.T.contiguous().T
    else:
        score = score[:0]
    (best, index), expected = largest(score, count), score.topk(count, dim=1).values
    assert torch.allclose(best, expected, rtol=0, atol=0, equal_nan=True)
    assert torch.allclose(score.gather(1, index), expected, rtol=0, atol=0, equal_nan=True)
    assert all(len({*row}) == count for row in index.tolist())


def test_own_keys_rank_last_in_a_copy_of_any_layout() -> None:
    whole = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    own = torch.rand(10, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    for score in (whole.T, whole.T.double(), whole.T.bfloat16()):
        expected = torch.where(own, -torch.inf, score)
        assert torch.equal(own_last(score, own), expected) and bool(score.isfinite().all())
