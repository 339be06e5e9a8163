"""The gradient of the loss in closed form, and the force with which each sample moves the anchor.

s = cosine / temperature; w_j are the weights of the positives, v those of the negatives, and N_g is their mass. Pure
functions of tensors; training does not use them.

Legend: B anchors, P1 positives (the augmented view first), K negatives, C codes of `Band`.
"""

import math
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cltools.losses import Form, check_settings, fitting, full, negative_mass, positive_weight_of
from cltools.mining import NEUTRAL, Estimate, Numbers


@torch.no_grad()
def info_nce_gradients(
    positive: Float[Tensor, "B P1"] | Numbers,
    negative: Float[Tensor, "B K"] | Numbers,
    *,
    temperature: float,
    positive_weight: Float[Tensor, "B P1"] | Numbers | None = None,
    negative_weight: Float[Tensor, "B K"] | Numbers | None = None,
    form: Form = "sep",
    estimate: Estimate = NEUTRAL,
) -> tuple[Float[Tensor, "B P1"], Float[Tensor, "B K"]]:
    """Derivatives of each anchor's loss with respect to its cosines; takes the arguments of `info_nce`.

    A negative derivative pulls the anchor towards the sample, a positive one pushes it away. The gradient with respect
    to the anchor z itself is the sum of the samples' vectors weighted by these derivatives. With one positive and v = 1
    they are −(1 − p₊)/τ and p_n/τ (arXiv:2012.09740); in "out" a positive with p_j > w_j is pushed away.

    Args:
        positive: cosines with the positives [B, P1], the augmented view first.
        negative: cosines with the negatives [B, K]; K may be 0.
        temperature: divisor of the cosines, above 0.
        positive_weight: weights of the positives [B, P1], rows sum to 1; may be left out with a single positive.
        negative_weight: weights of the negatives [B, K], at least 0; None for ones.
        form: as of `info_nce`.
        estimate: as of `info_nce`; a clamped mass does not depend on any cosine.

    Returns:
        The derivatives with respect to the positives' cosines [B, P1] and to the negatives' [B, K].

    Raises:
        ValueError: as `info_nce`.

    Example:
        >>> from cltools import info_nce_gradients
        >>> pull, push = info_nce_gradients([[0.9]], [[0.8, 0.2, -0.4]], temperature=0.5)
        >>> round(pull.item(), 3), [round(each, 3) for each in push[0].tolist()]  # opposite in sign and equal in sum
        (-1.065, [0.765, 0.231, 0.069])
    """
    temperature = check_settings(temperature, form)
    positive, negative, positive_weight, negative_weight = fitting(positive, negative, positive_weight, negative_weight)
    s, w = full(positive) / temperature, positive_weight_of(positive, positive_weight)
    weights = {"positive_weight": w, "negative_weight": negative_weight}
    log_mass, _ = negative_mass(positive, negative, temperature=temperature, estimate=estimate, **weights)
    by_positive, by_mass = combine_gradients(s, w, log_mass, form)
    of_positive, of_negative = mass_gradients(positive, w, negative, negative_weight, temperature, estimate)
    return (by_positive + by_mass[:, None] * of_positive) / temperature, by_mass[:, None] * of_negative / temperature


def combine_gradients(
    s: Float[Tensor, "B P1"], w: Float[Tensor, "B P1"], log_mass: Float[Tensor, " B"], form: Form
) -> tuple[Float[Tensor, "B P1"], Float[Tensor, " B"]]:
    """Return the derivatives of `cltools.losses.combine` with respect to the positives' logits and the log mass."""
    if form == "sep":
        alpha = w * torch.sigmoid(log_mass[:, None] - s)
        return -alpha, alpha.sum(1)
    if form == "in":
        logits = s + w.log()
        push = torch.sigmoid(log_mass - logits.logsumexp(1))
        return -push[:, None] * logits.softmax(1), push
    if form == "out":
        present = s.masked_fill(w == 0, -torch.inf)
        push = torch.sigmoid(log_mass - present.logsumexp(1))
        return (1 - push[:, None]) * present.softmax(1) - w, push
    return -w, (log_mass > -torch.inf).to(s.dtype)


def mass_gradients(
    positive: Tensor, w: Tensor, negative: Tensor, v: Tensor | None, temperature: float, estimate: Estimate
) -> tuple[Float[Tensor, "B P1"], Float[Tensor, "B K"]]:
    """Return the derivatives of the log mass with respect to each logit; 0 for an anchor without negatives."""
    s = full(negative) / temperature
    log_v = torch.zeros_like(s) if v is None else v.to(s.dtype).log()
    of_negative = _softmax((1 + estimate.beta) * s + log_v)  # the tilt multiplies e^s by e^{βs} up to a constant
    if not estimate.detach:  # and that constant depends on every s
        of_negative = (1 + estimate.beta) * of_negative - estimate.beta * _softmax(estimate.beta * s + log_v)
    if estimate.tau_plus == 0:
        return torch.zeros_like(w), of_negative
    mass = partial(negative_mass, positive, negative, temperature=temperature, positive_weight=w, negative_weight=v)
    raw, _ = mass(estimate=replace(estimate, tau_plus=0.0))
    _, clamped = mass(estimate=estimate)
    logits = full(positive) / temperature + w.log()
    log_false = logits.logsumexp(1) + log_v.exp().sum(1).log() + math.log(estimate.tau_plus)
    free = ~clamped & (raw > -torch.inf)
    # log N_g is log(e^raw − e^false) + const.: its derivative by raw is 1/(1 − e^{false−raw}), by false 1 minus that
    by_raw = torch.where(free, -1 / torch.expm1(torch.where(free, log_false - raw, -1.0)), 0.0)
    by_false = torch.where(free, 1 - by_raw, 0.0)
    return by_false[:, None] * logits.softmax(1), by_raw[:, None] * of_negative


def tangential_force(gradient: Float[Tensor, "B M"], cosine: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
    """Force with which each sample moves the normalised anchor: |gradient|·√(1 − c²), for a negative p·√(1 − c²)/τ.

    Only the component orthogonal to the anchor turns it. The force vanishes at c = 1, where that component is 0, and is
    small at c = −1, where the gradient is. At a fixed partition function it is largest at c = (√(τ² + 4) − τ)/2
    (derived here).

    Args:
        gradient: derivatives with respect to the cosines, from `info_nce_gradients`.
        cosine: the cosines of the same samples.
    """
    return gradient.abs() * ((1 - cosine) * (1 + cosine)).clamp_min(0).sqrt()


def _softmax(logits: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Softmax of each row; all 0 for a row in which every entry is −inf."""
    empty = (logits == -torch.inf).all(1, keepdim=True)
    return logits.masked_fill(empty, 0).softmax(1).masked_fill(empty, 0)
