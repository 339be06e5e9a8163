"""Closed-form gradients against autograd in float64, and the figures made of them against loops and closed forms."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from cltools.gradients import info_nce_gradients, tangential_force
from cltools.losses import info_nce, negative_mass
from cltools.mining import Estimate
from course.pushes import balance

FORMS = ("sep", "in", "out", "decoupled")
ESTIMATES = (
    Estimate(),
    Estimate(beta=1.0),
    Estimate(beta=1.0, detach=False),
    Estimate(tau_plus=0.1),
    Estimate(beta=0.7, tau_plus=0.3),
    Estimate(beta=0.7, tau_plus=0.3, detach=False),
)
seeds = st.integers(0, 10**6)


def problem(seed: int, rows: int = 5, positives: int = 3, keys: int = 9) -> dict[str, Any]:
    """Cosines and weights in float64; some samples have weight 0, the first anchor keeps no negative."""
    g = torch.Generator().manual_seed(seed)
    w = torch.rand(rows, positives, generator=g, dtype=torch.float64)
    w = w * (torch.rand(rows, positives, generator=g) < 0.7)
    w[w.sum(1) == 0] = 1
    v = 2 * torch.rand(rows, keys, generator=g, dtype=torch.float64) * (torch.rand(rows, keys, generator=g) < 0.7)
    v[0] = 0
    return {
        "positive": torch.rand(rows, positives, generator=g, dtype=torch.float64) * 2 - 1,
        "negative": torch.rand(rows, keys, generator=g, dtype=torch.float64) * 2 - 1,
        "positive_weight": w / w.sum(1, keepdim=True),
        "negative_weight": v,
    }


def by_autograd(p: dict[str, Any], **rest: Any) -> tuple[Tensor, Tensor]:
    positive, negative = (p[name].clone().requires_grad_() for name in ("positive", "negative"))
    info_nce(**p | {"positive": positive, "negative": negative}, **rest, reduction="sum").backward()
    zeros = torch.zeros_like(negative)
    return positive.grad, zeros if negative.grad is None else negative.grad


# The gradient


@pytest.mark.parametrize("estimate", ESTIMATES, ids=str)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=12)
@given(seed=seeds, temperature=st.sampled_from([0.05, 0.2, 0.5, 1.0, 5.0]))
def test_the_closed_form_is_autograds(form: Any, estimate: Estimate, seed: int, temperature: float) -> None:
    p = problem(seed)
    expected = by_autograd(p, temperature=temperature, form=form, estimate=estimate)
    found = info_nce_gradients(**p, temperature=temperature, form=form, estimate=estimate)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_some_of_these_masses_are_clamped_and_some_are_not() -> None:
    seen: set[bool] = set()
    for seed in range(20):
        p = problem(seed)
        _, clamped = negative_mass(**p, temperature=0.2, estimate=Estimate(tau_plus=0.1))
        seen |= set(clamped[1:].tolist())
    assert seen == {True, False}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keys", [0, 1])
def test_no_keys_or_one_and_no_weights_given(form: Any, keys: int) -> None:
    p = {"positive": torch.tensor([[0.3], [0.9]]).double(), "negative": torch.full((2, keys), 0.1).double()}
    for ours, theirs in zip(
        info_nce_gradients(**p, temperature=0.2, form=form), by_autograd(p, temperature=0.2, form=form), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
def test_gradients_are_finite_and_at_least_float32(dtype: torch.dtype, temperature: float) -> None:
    positive = torch.tensor([[1.0], [-1.0], [1.0]], dtype=dtype)
    negative = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=dtype)
    for form in FORMS:
        for estimate in ESTIMATES:
            found = info_nce_gradients(positive, negative, temperature=temperature, form=form, estimate=estimate)
            assert all(x.isfinite().all() and x.dtype == torch.float32 for x in found)


def test_one_positive_is_the_textbooks() -> None:
    positive, negative, tau = torch.tensor([[0.8]]).double(), torch.tensor([[0.5, -0.2, 0.1]]).double(), 0.2
    e = torch.cat([positive, negative], dim=1).div(tau).exp()
    p = e / e.sum()
    for form in ("sep", "in", "out"):
        pull, push = info_nce_gradients(positive, negative, temperature=tau, form=form)
        torch.testing.assert_close(pull, (p[:, :1] - 1) / tau)
        torch.testing.assert_close(push, p[:, 1:] / tau)


def test_the_gradient_on_the_anchor_is_these_numbers_times_the_vectors() -> None:
    g = torch.Generator().manual_seed(0)
    z, positive = (normalize(torch.randn(4, 8, generator=g).double(), dim=1) for _ in range(2))
    keys = normalize(torch.randn(20, 8, generator=g).double(), dim=1)
    z.requires_grad_()
    cosines = (z * positive).sum(1, keepdim=True), z @ keys.T
    info_nce(*cosines, temperature=0.2, reduction="sum").backward()
    pull, push = info_nce_gradients(*cosines, temperature=0.2)
    torch.testing.assert_close(z.grad, pull * positive + push @ keys)


def test_a_close_positive_of_little_weight_is_pushed_away_in_out_and_nowhere_else() -> None:
    p = {
        "positive": torch.tensor([[0.2, 0.9]]),
        "negative": torch.tensor([[0.0]]),
        "positive_weight": torch.tensor([[0.9, 0.1]]),
    }
    pushed = {form: bool(info_nce_gradients(**p, temperature=0.2, form=form)[0][0, 1] > 0) for form in FORMS}  # type: ignore[arg-type]
    assert pushed == {"sep": False, "in": False, "out": True, "decoupled": False}


# Figures


@pytest.mark.parametrize("form", ["sep", "in", "out"])
@settings(max_examples=20)
@given(seed=seeds)
def test_attraction_equals_repulsion(form: Any, seed: int) -> None:
    attraction, repulsion = balance(*info_nce_gradients(**problem(seed), temperature=0.2, form=form))
    torch.testing.assert_close(attraction, repulsion, rtol=1e-9, atol=1e-9)
    assert (attraction[1:] > 0).any()


def test_decoupled_attraction_is_that_of_a_positive_alone() -> None:
    p = problem(3)
    attraction, repulsion = balance(*info_nce_gradients(**p, temperature=0.2, form="decoupled"))
    torch.testing.assert_close(attraction, torch.full_like(attraction, 5.0))
    torch.testing.assert_close(repulsion[1:], torch.full_like(attraction[1:], 5.0))
    assert repulsion[0] == 0


@pytest.mark.parametrize("tau, best", [(0.07, 0.966), (0.1, 0.951), (0.2, 0.905), (0.5, 0.781), (1.0, 0.618)])
def test_force_vanishes_at_both_ends_and_is_largest_where_derived(tau: float, best: float) -> None:
    cosine = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[None]
    force = tangential_force((cosine / tau).exp() / tau, cosine)[0]
    assert float(cosine[0, force.argmax()]) == pytest.approx((math.sqrt(tau**2 + 4) - tau) / 2, abs=1e-4)
    assert float(cosine[0, force.argmax()]) == pytest.approx(best, abs=6e-4)
    assert force[0] == force[-1] == 0


def test_force_is_the_length_of_the_gradients_part_across_the_anchor() -> None:
    g = torch.Generator().manual_seed(0)
    z, keys = normalize(torch.randn(3, 6, generator=g), dim=1), normalize(torch.randn(10, 6, generator=g), dim=1)
    gradient, cosine = torch.randn(3, 10, generator=g), z @ keys.T
    across = keys[None] - cosine[:, :, None] * z[:, None]
    torch.testing.assert_close(tangential_force(gradient, cosine), gradient.abs() * across.norm(dim=2))


def test_what_does_not_fit_is_refused_as_by_the_loss() -> None:
    for bad in (
        {"positive": [[0.5]], "negative": [[0.1], [0.2]]},
        {"positive": [[0.5]], "negative": [[0.1, 0.2]], "negative_weight": [[1.0]]},
    ):
        for function in (info_nce, info_nce_gradients):
            with pytest.raises(ValueError, match=r"shape|are \[1, 1\] and"):
                function(**bad, temperature=0.2)  # type: ignore[arg-type]
