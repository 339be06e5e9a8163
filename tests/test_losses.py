"""`info_nce` and `negative_mass` against plain Python loops, limits, gradients and messages."""

import inspect
import math
from typing import Any

import brute_force
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor

from cltools.losses import info_nce, negative_mass
from cltools.mining import Estimate

NEUTRAL = Estimate()
FORMS = ("sep", "in", "out", "decoupled")
ESTIMATES = (
    Estimate(),
    Estimate(beta=1.0),
    Estimate(tau_plus=0.1),
    Estimate(beta=0.7, tau_plus=0.3),
    Estimate(beta=1.0, tau_plus=0.1, detach=False),
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 2e-5}
quick = settings(deadline=None, derandomize=True, max_examples=40)


def problem(seed: int, rows: int, positives: int, keys: int, grid: bool = False) -> dict[str, Tensor]:
    """Random cosines and weights in float64; some positives and negatives have weight 0, some rows have none kept."""
    g = torch.Generator().manual_seed(seed)
    positive = torch.rand(rows, positives, generator=g, dtype=torch.float64) * 2 - 1
    negative = torch.rand(rows, keys, generator=g, dtype=torch.float64) * 2 - 1
    if grid:  # ties, and cosines of exactly ±1
        positive, negative = (positive * 2).round() / 2, (negative * 2).round() / 2
    w = torch.rand(rows, positives, generator=g, dtype=torch.float64)
    w = w * (torch.rand(rows, positives, generator=g) < 0.7)
    w[w.sum(1) == 0] = 1
    v = 2 * torch.rand(rows, keys, generator=g, dtype=torch.float64) * (torch.rand(rows, keys, generator=g) < 0.6)
    v[torch.rand(rows, generator=g) < 0.2] = 0
    return {
        "positive": positive,
        "negative": negative,
        "positive_weight": w / w.sum(1, keepdim=True),
        "negative_weight": v,
    }


def rows_of(p: dict[str, Tensor]) -> list[tuple[list[float], list[float], list[float], list[float]]]:
    """Each anchor's cosines and weights as Python lists, in the order the oracles take them."""
    names = ("positive", "negative", "positive_weight", "negative_weight")
    return list(zip(*(p[name].double().tolist() for name in names), strict=True))


def brute(p: dict[str, Tensor], temperature: float, form: str, estimate: Estimate = NEUTRAL) -> Tensor:
    losses = [brute_force.loss(*row, temperature, form, estimate.beta, estimate.tau_plus) for row in rows_of(p)]
    return torch.tensor(losses, dtype=torch.float64)


@quick
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 5),
    positives=st.integers(1, 4),
    keys=st.integers(0, 9),
    grid=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
    temperature=st.sampled_from([0.07, 0.2, 1.0]),
    form=st.sampled_from(FORMS),
    estimate=st.sampled_from(ESTIMATES),
)
def test_agrees_with_the_loop(
    seed: int,
    rows: int,
    positives: int,
    keys: int,
    grid: bool,
    dtype: torch.dtype,
    temperature: float,
    form: Any,
    estimate: Estimate,
) -> None:
    p = problem(seed, rows, positives, keys, grid)
    low = torch.float32 if dtype == torch.bfloat16 else dtype
    p = {name: value.to(low if "weight" in name else dtype) for name, value in p.items()}
    got = info_nce(**p, temperature=temperature, form=form, estimate=estimate, reduction="none")
    assert got.dtype == low
    assert got.shape == (rows,)
    torch.testing.assert_close(
        got.double(), brute(p, temperature, form, estimate), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] / temperature
    )


@quick
@given(
    seed=st.integers(0, 10**6),
    keys=st.integers(0, 9),
    grid=st.booleans(),
    temperature=st.sampled_from([0.1, 0.5]),
    estimate=st.sampled_from(ESTIMATES),
)
def test_mass_agrees_with_the_loop(seed: int, keys: int, grid: bool, temperature: float, estimate: Estimate) -> None:
    p = problem(seed, 4, 3, keys, grid)
    mass, clamped = negative_mass(**p, temperature=temperature, estimate=estimate)
    expected = [brute_force.log_mass(*row, temperature, estimate.beta, estimate.tau_plus) for row in rows_of(p)]
    torch.testing.assert_close(mass, torch.tensor([m for m, _ in expected], dtype=torch.float64))
    assert clamped.dtype == torch.bool
    # Exactly on the floor (every kept cosine −1) either answer is right.
    floors = p["negative_weight"].sum(1).log() - 1 / temperature
    for got, (want, used), floor in zip(clamped.tolist(), expected, floors.tolist(), strict=True):
        assert got == used or math.isclose(want, floor, abs_tol=1e-9)


def test_clamped_anchors_are_named_and_use_the_floor() -> None:
    positive = torch.tensor([[0.9], [-1.0]])
    negative = torch.tensor([[-0.9, -0.8], [0.9, 0.8]])
    mass, clamped = negative_mass(
        positive,
        negative,
        temperature=0.2,
        positive_weight=torch.ones(2, 1),
        negative_weight=torch.ones(2, 2),
        estimate=Estimate(tau_plus=0.1),
    )
    assert clamped.tolist() == [True, False]
    assert mass[0].item() == pytest.approx(math.log(2) - 5)


def test_neutral_estimate_is_the_plain_sum() -> None:
    p = problem(3, 6, 2, 7)
    mass, clamped = negative_mass(**p, temperature=0.2, estimate=Estimate())
    plain = torch.logsumexp(p["negative"] / 0.2 + p["negative_weight"].log(), dim=1)
    torch.testing.assert_close(mass, plain)
    assert not clamped.any()


@pytest.mark.parametrize("form", ["sep", "in", "out"])
def test_one_positive_is_cross_entropy(form: Any) -> None:
    p = problem(1, 8, 1, 16)
    logits = torch.cat([p["positive"], p["negative"]], dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(8, dtype=torch.int64))
    got = info_nce(p["positive"], p["negative"], temperature=0.2, form=form)
    torch.testing.assert_close(got, expected)


def test_one_positive_decoupled_leaves_the_positive_out_of_the_sum() -> None:
    p = problem(1, 8, 1, 16)
    got = info_nce(p["positive"], p["negative"], temperature=0.2, form="decoupled", reduction="none")
    torch.testing.assert_close(got, torch.logsumexp(p["negative"] / 0.2, 1) - p["positive"][:, 0] / 0.2)


def test_reductions() -> None:
    p = problem(5, 6, 2, 5)
    each = info_nce(**p, temperature=0.2, reduction="none")
    torch.testing.assert_close(info_nce(**p, temperature=0.2), each.mean())
    torch.testing.assert_close(info_nce(**p, temperature=0.2, reduction="mean"), each.mean())
    torch.testing.assert_close(info_nce(**p, temperature=0.2, reduction="sum"), each.sum())


def test_default_form_is_sep() -> None:
    p = problem(5, 6, 3, 5)
    torch.testing.assert_close(info_nce(**p, temperature=0.2), info_nce(**p, temperature=0.2, form="sep"))


def test_absent_weights_are_ones() -> None:
    p = problem(5, 6, 1, 5)
    ones = {"positive_weight": torch.ones(6, 1).double(), "negative_weight": torch.ones(6, 5).double()}
    pair = {"positive": p["positive"], "negative": p["negative"]}
    torch.testing.assert_close(info_nce(**pair, temperature=0.2), info_nce(**pair, **ones, temperature=0.2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keys", [0, 3])
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_no_negatives_gives_the_formula_and_a_finite_gradient(form: Any, keys: int, estimate: Estimate) -> None:
    positive = torch.tensor([[0.8, -0.2], [1.0, -1.0]], requires_grad=True)
    negative = torch.tensor([[0.5, -0.5, 1.0], [1.0, 0.0, -1.0]])[:, :keys].requires_grad_()
    w = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    kept = torch.zeros(2, keys)
    got = info_nce(
        positive,
        negative,
        temperature=0.2,
        positive_weight=w,
        negative_weight=kept,
        form=form,
        estimate=estimate,
        reduction="none",
    )
    if form in ("sep", "in"):
        expected = torch.zeros(2)
    else:
        expected = -(w * positive.detach() / 0.2).sum(1)
        if form == "out":  # the second anchor's second positive has weight 0, so it is not in the sum
            expected = expected + torch.tensor([math.log(math.exp(4) + math.exp(-1)), 5.0])
    torch.testing.assert_close(got.detach(), expected, atol=1e-5, rtol=1e-5)
    got.sum().backward()
    assert positive.grad is not None and positive.grad.isfinite().all()
    assert negative.grad is None or (negative.grad == 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_extreme_inputs_give_finite_losses_and_gradients(form: Any, estimate: Estimate) -> None:
    """Cosines of ±1 at temperature 0.01: e^{100} overflows float32, so the sums must stay in log space."""
    positive = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], requires_grad=True)
    negative = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], requires_grad=True)
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 1.0]])
    v = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1e-6], [1e6, 1e6]])
    got = info_nce(
        positive,
        negative,
        temperature=0.01,
        positive_weight=w,
        negative_weight=v,
        form=form,
        estimate=estimate,
        reduction="none",
    )
    p = {"positive": positive, "negative": negative, "positive_weight": w, "negative_weight": v}
    detached = {name: value.detach() for name, value in p.items()}
    torch.testing.assert_close(got.detach().double(), brute(detached, 0.01, form, estimate), rtol=1e-4, atol=1e-4)
    got.sum().backward()
    assert positive.grad is not None and positive.grad.isfinite().all()
    assert negative.grad is not None and negative.grad.isfinite().all()
    assert (positive.grad[w == 0] == 0).all()
    assert (negative.grad[v == 0] == 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "estimate", [Estimate(), Estimate(tau_plus=0.1), Estimate(beta=1.0, tau_plus=0.1, detach=False)]
)
def test_gradcheck(form: Any, estimate: Estimate) -> None:
    p = problem(11, 4, 3, 6)

    def each(positive: Tensor, negative: Tensor) -> Tensor:
        return info_nce(
            positive,
            negative,
            temperature=0.3,
            positive_weight=p["positive_weight"],
            negative_weight=p["negative_weight"],
            form=form,
            estimate=estimate,
            reduction="none",
        )

    assert torch.autograd.gradcheck(each, (p["positive"].requires_grad_(), p["negative"].requires_grad_()))


def test_detached_tilt_is_a_constant_weight() -> None:
    """With `detach` the HCL weights are constants, so the gradient is that of the plain loss with those weights."""
    p = problem(7, 5, 2, 6)
    pos, neg = p["positive"].requires_grad_(), p["negative"].requires_grad_()
    v = torch.ones(5, 6, dtype=torch.float64)
    shared: dict[str, Any] = {"temperature": 0.3, "positive_weight": p["positive_weight"]}
    tilted = (v.sum(1, keepdim=True) * torch.softmax(neg / 0.3, dim=1)).detach()
    plain = info_nce(pos, neg, **shared, negative_weight=tilted)
    detached = info_nce(pos, neg, **shared, negative_weight=v, estimate=Estimate(beta=1.0))
    attached = info_nce(pos, neg, **shared, negative_weight=v, estimate=Estimate(beta=1.0, detach=False))
    torch.testing.assert_close(detached, plain)
    torch.testing.assert_close(attached, plain)
    expected = torch.autograd.grad(plain, (pos, neg))
    torch.testing.assert_close(torch.autograd.grad(detached, (pos, neg)), expected)
    assert not torch.allclose(torch.autograd.grad(attached, neg)[0], expected[1])


@pytest.mark.parametrize("form", FORMS)
def test_weights_pass_no_gradient(form: Any) -> None:
    """Weights come from a selection without gradient; a positive of weight 0 and a dropped key feel nothing."""
    p = problem(13, 6, 3, 8)
    p["positive"].requires_grad_()
    p["negative"].requires_grad_()
    info_nce(**p, temperature=0.2, form=form).backward()
    assert p["positive"].grad is not None and p["negative"].grad is not None
    assert (p["positive"].grad[p["positive_weight"] == 0] == 0).all()
    assert (p["negative"].grad[p["negative_weight"] == 0] == 0).all()


@pytest.mark.parametrize("form", ["sep", "in", "out"])
def test_attraction_balances_repulsion(form: Any) -> None:
    p = problem(17, 6, 3, 8)
    p["positive"].requires_grad_()
    p["negative"].requires_grad_()
    info_nce(**p, temperature=0.2, form=form, reduction="sum").backward()
    assert p["positive"].grad is not None and p["negative"].grad is not None
    torch.testing.assert_close(p["positive"].grad.sum(1), -p["negative"].grad.sum(1))


@quick
@given(seed=st.integers(0, 10**6), form=st.sampled_from(FORMS), estimate=st.sampled_from(ESTIMATES))
def test_order_of_keys_does_not_matter(seed: int, form: Any, estimate: Estimate) -> None:
    p = problem(seed, 4, 3, 7)
    g = torch.Generator().manual_seed(seed)
    keys, views, rows = (torch.randperm(n, generator=g) for n in (7, 3, 4))
    moved = {name: value[:, views if "positive" in name else keys][rows] for name, value in p.items()}
    same: dict[str, Any] = {"temperature": 0.2, "form": form, "estimate": estimate, "reduction": "none"}
    torch.testing.assert_close(info_nce(**moved, **same), info_nce(**p, **same)[rows])


def test_runs_in_float32_under_autocast() -> None:
    p = {name: value.float() for name, value in problem(19, 6, 3, 8).items()}
    plain = info_nce(**p, temperature=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = info_nce(**p, temperature=0.2)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_temperature_must_be_positive(temperature: float) -> None:
    p = problem(1, 2, 2, 3)
    with pytest.raises(ValueError, match="temperature"):
        info_nce(**p, temperature=temperature)
    with pytest.raises(ValueError, match="temperature"):
        negative_mass(**p, temperature=temperature, estimate=Estimate())


def test_several_positives_need_weights() -> None:
    p = problem(1, 2, 2, 3)
    with pytest.raises(ValueError, match="weight"):
        info_nce(p["positive"], p["negative"], temperature=0.2)


@pytest.mark.parametrize("bad", [{"tau_plus": 1.0}, {"tau_plus": -0.1}, {"beta": -1.0}])
def test_estimate_out_of_range_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Estimate(**bad)


@pytest.mark.parametrize("shapes", [((4,), (4, 3)), ((4, 1), (3,)), ((4, 1), (5, 3))])
def test_cosines_of_other_shapes_are_refused_outside_the_tests_too(shapes: Any) -> None:
    plain = inspect.unwrap(info_nce)
    with pytest.raises(ValueError, match="give \\[B, 1\\+P\\] and \\[B, K\\]"):
        plain(torch.zeros(shapes[0]), torch.zeros(shapes[1]), temperature=0.2)


@pytest.mark.parametrize("weights", [{"positive_weight": (4,)}, {"negative_weight": (3,)}, {"negative_weight": (1, 3)}])
def test_weights_of_other_shapes_are_refused_by_name(weights: dict[str, tuple[int, ...]]) -> None:
    plain, (name, shape) = inspect.unwrap(info_nce), next(iter(weights.items()))
    with pytest.raises(ValueError, match=f"{name} has shape .*; give one per cosine"):
        plain(torch.zeros(4, 1), torch.zeros(4, 3), temperature=0.2, **{name: torch.ones(shape)})
