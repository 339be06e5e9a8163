"""Weighted InfoNCE with several positives; every method of the package is a setting of it.

s = cosine / temperature; w_j are the weights of the positives (rows sum to 1), v the weights of the negatives, and N_g
is the negatives' mass: Σ v·e^s, or an estimate of it. A sample of weight 0 is absent in every form. All arithmetic is
at least float32.

Legend: B anchors, P1 positives (the augmented view first), K negatives.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cltools.errors import CltoolsError, Settings, unknown
from cltools.mining.bands import PerAnchor, PerKey
from cltools.mining.handed_in import Numbers, as_tensor
from cltools.mining.rules import NEUTRAL, NO_GRADIENT, Estimate, check_temperature

Form = Literal["sep", "in", "out", "decoupled"]
Reduction = Literal["mean", "sum", "none"]
FORMS: tuple[Form, ...] = get_args(Form)

# softplus is exact below this; torch's default of 20 would cost float64 nine digits.
SOFTPLUS_THRESHOLD = 40.0
NEGLIGIBLE = -80.0
"""Lower bound of a term's log relative to the largest, without weights: e^−80 is 2e-35, in float32's range."""


@dataclass(frozen=True)
class LossSettings(Settings):
    """Temperature and form of the loss.

    Example:
        >>> from cltools import LossSettings
        >>> LossSettings(temperature=0.1, form="out")
        LossSettings(temperature=0.1, form='out')
        >>> LossSettings(temperature=0)
        Traceback (most recent call last):
        cltools.errors.CltoolsError: LossSettings: temperature is 0; it must be above 0, a number from 1e-6 to 1e6. ...
    """

    temperature: Annotated[float, "above 0, a number from 1e-6 to 1e6", NO_GRADIENT] = 0.2
    """Temperature by which cosines are divided; above 0."""
    form: Form = "sep"
    """Several positives: one per denominator ("sep"), all in each ("out"), summed in the log ("in"); "decoupled":
    DCL."""


def check_settings(temperature: float, form: str) -> float:
    """Return the temperature; raise ValueError if it is not above 0, or if the form is unknown."""
    if form not in FORMS:
        raise unknown("form of the loss", form, FORMS)
    return check_temperature(temperature)


def info_nce(
    positive: Float[Tensor, "B P1"] | Numbers,
    negative: Float[Tensor, "B K"] | Numbers,
    *,
    temperature: float,
    positive_weight: Float[Tensor, "B P1"] | Numbers | None = None,
    negative_weight: Float[Tensor, "B K"] | Numbers | None = None,
    form: Form = "sep",
    estimate: Estimate = NEUTRAL,
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Weighted InfoNCE of cosines, given as tensors, NumPy arrays or lists.

    sep: Σ_j w_j [−s_j + log(e^{s_j} + N_g)] · in: −log A/(A + N_g), A = Σ w_j e^{s_j} ·
    out: −Σ w_j s_j + log(Σ_{w_j>0} e^{s_j} + N_g) · decoupled: −Σ w_j s_j + log N_g (arXiv:2110.06848).
    With one positive the first three are InfoNCE (arXiv:1807.03748). Without negatives, sep and in are 0, and decoupled
    omits its log term. The gradient with respect to the negatives cannot be differentiated again.

    Args:
        positive: cosines with the positives [B, P1], the augmented view first.
        negative: cosines with the negatives [B, K]; K may be 0.
        temperature: divisor of the cosines, above 0.
        positive_weight: weights of the positives [B, P1], rows sum to 1; may be left out with a single positive.
        negative_weight: weights of the negatives [B, K], at least 0; None for ones. It gets no gradient.
        form: see above.
        estimate: how the negatives' mass is estimated.
        reduction: "mean" or "sum" over anchors, or "none" for one value per anchor [B].

    Returns:
        The loss in nats, at least float32.

    Raises:
        ValueError: a temperature that is not above 0, an unknown form or reduction, cosines or weights of other
            shapes, or several positives without weights.

    Example:
        >>> from cltools import info_nce
        >>> positive, negative = [[0.9], [0.5]], [[0.2, -0.1], [0.8, 0.4]]  # two anchors, with two negatives each
        >>> loss = info_nce(positive, negative, temperature=0.5, reduction="none")
        >>> [round(each, 3) for each in loss.tolist()]
        [0.323, 1.292]
        >>> weighted = info_nce(positive, negative, temperature=0.5, negative_weight=[[1, 1], [0, 1]], reduction="none")
        >>> [round(each, 3) for each in weighted.tolist()]  # without the negative of 0.8
        [0.323, 0.598]
    """
    temperature = check_settings(temperature, form)
    if reduction not in get_args(Reduction):
        raise unknown("reduction of the loss", reduction, get_args(Reduction))
    positive, negative, positive_weight, negative_weight = fitting(positive, negative, positive_weight, negative_weight)
    w = positive_weight_of(positive, positive_weight)
    weights = {"positive_weight": w, "negative_weight": negative_weight}
    log_mass, _ = negative_mass(positive, negative, temperature=temperature, estimate=estimate, **weights)
    loss = combine(full(positive) / temperature, w, log_mass, form)
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def fitting(
    positive: Numbers, negative: Numbers, positive_weight: Numbers | None, negative_weight: Numbers | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return cosines and weights as tensors; raise ValueError if their shapes do not match."""
    positive, negative = as_tensor("positive", positive), as_tensor("negative", negative)
    positive_weight = None if positive_weight is None else as_tensor("positive_weight", positive_weight)
    negative_weight = None if negative_weight is None else as_tensor("negative_weight", negative_weight)
    if positive.ndim != 2 or negative.ndim != 2 or len(positive) != len(negative):
        raise CltoolsError(f"Cosines are {[*positive.shape]} and {[*negative.shape]}; give [B, 1+P] and [B, K].")
    for name, weight, cosine in (("positive", positive_weight, positive), ("negative", negative_weight, negative)):
        if weight is not None and weight.shape != cosine.shape:
            raise CltoolsError(f"{name}_weight has shape {[*weight.shape]}; give one per cosine, {[*cosine.shape]}.")
    return positive, negative, positive_weight, negative_weight


def combine(s: Float[Tensor, "B P1"], w: Float[Tensor, "B P1"], log_mass: PerAnchor, form: Form) -> PerAnchor:
    """Return each anchor's loss, given the positives' logits and weights and the log of the negatives' mass.

    A log mass of −inf means that there are no negatives.
    """
    if form == "sep":
        return (w * F.softplus(log_mass[:, None] - s, threshold=SOFTPLUS_THRESHOLD)).sum(1)
    if form == "in":
        return F.softplus(log_mass - (s + w.log()).logsumexp(1), threshold=SOFTPLUS_THRESHOLD)
    attraction = (w * s).sum(1)
    if form == "out":
        log_positive = s.masked_fill(w == 0, -torch.inf).logsumexp(1)
        return log_positive + F.softplus(log_mass - log_positive, threshold=SOFTPLUS_THRESHOLD) - attraction
    return log_mass.masked_fill(log_mass == -torch.inf, 0) - attraction


def negative_mass(
    positive: Float[Tensor, "B P1"] | Numbers,
    negative: Float[Tensor, "B K"] | Numbers,
    *,
    temperature: float,
    positive_weight: Float[Tensor, "B P1"] | Numbers | None = None,
    negative_weight: Float[Tensor, "B K"] | Numbers | None = None,
    estimate: Estimate = NEUTRAL,
) -> tuple[Float[Tensor, "B"], Bool[Tensor, "B"]]:
    """Return the log of the negatives' mass N_g, and a mask of the anchors at its lower bound.

    With N = Σv and A = Σ_j w_j e^{s_j}: v' = N·v·e^{βs}/Σ(v·e^{βs}) (HCL, arXiv:2010.04592 eq. 4), and
    N_g = max((Σv'e^s − N·τ₊·A)/(1 − τ₊), N·e^{−1/τ}) (debiased, arXiv:2007.00224 eq. 8), all in log space. At β = 0 and
    τ₊ = 0 it is log Σ v·e^s. For an anchor without negatives it is −inf, without gradient. The arguments are those of
    `info_nce`; positives are read only if τ₊ is above 0.

    Returns:
        The log of the mass [B], at least float32; and bool [B].

    Raises:
        ValueError: a temperature that is not above 0, shapes of cosines and weights that do not match, or several
            positives without weights where τ₊ needs them.

    Example:
        >>> from cltools import Estimate, negative_mass
        >>> positive, negative = [[0.9]], [[0.8, 0.2, -0.4]]
        >>> round(float(negative_mass(positive, negative, temperature=0.5)[0].exp()), 2)  # the sum of e^{cosine/0.5}
        6.89
        >>> log_mass, clamped = negative_mass(positive, negative, temperature=0.5, estimate=Estimate(tau_plus=0.5))
        >>> round(float(log_mass.exp()), 2), clamped  # at its lower bound, 3·e^{−1/0.5}
        (0.41, tensor([True]))
    """
    temperature = check_temperature(temperature)
    positive, negative, positive_weight, negative_weight = fitting(positive, negative, positive_weight, negative_weight)
    cosine = full(negative)
    v = None if negative_weight is None else negative_weight.to(cosine.dtype)
    clamped = torch.zeros(len(cosine), dtype=torch.bool, device=cosine.device)
    outer, inner = (1 + estimate.beta) / temperature, estimate.beta / temperature
    slopes = (1 / temperature, 0.0) if estimate.detach else (outer, inner)
    log_mass = log_sum(cosine, v, outer, slopes[0])
    if estimate == NEUTRAL:
        return log_mass, clamped
    log_count = (torch.ones_like(cosine) if v is None else v).sum(1).log()
    if estimate.beta > 0:  # e^s tilted by e^{βs} is e^{(1+β)s}, up to the constant that makes the tilts sum to N
        tilts = log_sum(cosine, v, inner, slopes[1])
        log_mass = log_mass + torch.where(tilts > -torch.inf, log_count - tilts, 0.0)
    if estimate.tau_plus > 0:
        w = positive_weight_of(positive, positive_weight)
        log_false = (full(positive) / temperature + w.log()).logsumexp(1) + log_count + math.log(estimate.tau_plus)
        floor = log_count - 1 / temperature
        corrected = _logsubexp(log_mass, log_false) - math.log(1 - estimate.tau_plus)
        clamped = (corrected <= floor) & (log_count > -torch.inf)
        log_mass = torch.where(clamped, floor, corrected)
    return log_mass, clamped


def log_sum(cosine: PerKey, weight: PerKey | None, scale: float, slope: float) -> Float[Tensor, " B"]:
    """Return log Σ v·e^{scale·c} of each row, −inf for a row of zero weight.

    Its derivative with respect to c is slope × the term's share: the true derivative if `slope` equals `scale`; with
    another slope, part of the exponent is treated as constant.
    """
    value: Tensor = _LogSum.apply(cosine, weight, scale, slope)
    return value.masked_fill(value == -torch.inf, -torch.inf)  # blocks the gradient, which could be NaN


class _LogSum(torch.autograd.Function):
    """Weighted logsumexp that saves its terms in the forward pass, so that the backward pass is one product.

    Composed of torch operations, it would save and traverse several tensors [B, K]. Weights get no gradient.
    """

    @staticmethod
    def forward(ctx: Any, cosine: Tensor, weight: Tensor | None, scale: float, slope: float) -> Tensor:
        if cosine.shape[1] == 0:
            ctx.save_for_backward(cosine, cosine.new_zeros(len(cosine)))
            return cosine.new_full((len(cosine),), -torch.inf)
        # Absent terms may be far above the others, which would then leave the range of e^x, so they are set to −∞. This
        # is done by arithmetic, because masks and underflowing exponentials are slow on a CPU, and in place, because
        # allocating memory is slower still.
        if weight is None:
            term = cosine.clone()
        else:
            term = weight.sign().sub_(0.5).mul_(torch.inf)
            torch.minimum(cosine, term, out=term)
        top = term.amax(1, keepdim=True)
        top.masked_fill_(top == -torch.inf, 0.0)
        term.sub_(top).mul_(scale).clamp_min_(NEGLIGIBLE).exp_()
        if weight is not None:
            term.mul_(weight)
        total = term.sum(1)
        ctx.save_for_backward(term, slope / total.masked_fill(total == 0, 1.0))
        return total.log().add_(top[:, 0], alpha=scale)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        term, slope_of_total = ctx.saved_tensors
        return term * (gradient * slope_of_total)[:, None], None, None, None


def _logsubexp(a: Float[Tensor, "B"], b: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Return log(e^a − e^b); −inf with a gradient of 0 where b ≥ a."""
    positive = a.detach() > b.detach()
    difference = torch.where(positive, b - a, -1.0)
    safe = torch.where(positive, a, 0.0)
    return torch.where(positive, safe + torch.log(-torch.expm1(difference)), -torch.inf)


def full(x: Tensor) -> Tensor:
    """Convert to at least float32: half precision cannot represent e^{s}, or distinguish 0.90 from 0.905."""
    return x if x.dtype == torch.float64 else x.float()


def positive_weight_of(positive: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weights in the loss's precision; ones for a single positive."""
    if weight is not None:
        return weight.to(full(positive).dtype)
    if positive.shape[1] != 1:
        raise CltoolsError(f"There are {positive.shape[1]} positives per anchor; give positive_weight, rows sum to 1.")
    return torch.ones_like(full(positive))
