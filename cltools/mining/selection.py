"""The choice of samples: positives with weights, negatives with weights, and why each key was or was not taken.

Legend: B anchors, K keys, P candidates, S synthetic negatives, d embedding.
"""

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from cltools.errors import foreign
from cltools.mining.bands import Band
from cltools.mining.negatives import NEUTRAL, Estimate, NegativeRule
from cltools.mining.positives import PositiveRule, mine
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class Selection:
    """Which samples the loss learns from, without gradient.

    Attributes:
        positive_index: int64 [B, P], keys that are candidates for mined positives.
        positive_weight: float32 [B, 1+P], rows sum to 1; column 0 is the augmented view.
        negative_weight: float32 [B, K]; 0 removes a key.
        band: int8 [B, K], codes of `Band`.
        synthetic: [B, S, d], made negatives of unit length, or None.
        estimate: how the negatives' mass is estimated.
    """

    positive_index: Tensor
    positive_weight: Tensor
    negative_weight: Tensor
    band: Tensor
    synthetic: Tensor | None = None
    estimate: Estimate = NEUTRAL


@torch.no_grad()
def select(
    similarities: Similarities,
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> Selection:
    """Choose positives and negatives for each anchor, at full strength (`rule.at(progress)` resolves schedules).

    Args:
        similarities: cosines of B anchors with K keys; K may be 0.
        positive_rule: how positives are mined. k above K is ordinary: every key is then a candidate.
        negative_rule: which keys are kept. An empty band is ordinary: no key then has a weight.
        temperature: the loss's, above 0; read by rules that look at forces.
        generator: for rules that draw.

    Raises:
        TypeError: rules in another order, or something else in their place.
        ValueError: a temperature that is not above 0, or similarities without what a rule reads.
    """
    if not isinstance(positive_rule, PositiveRule):
        raise foreign(positive_rule, "A PositiveRule, and after it a negative rule such as BandNegatives(),")
    if not isinstance(negative_rule, NegativeRule):
        raise foreign(negative_rule, "A negative rule such as BandNegatives(), after the PositiveRule,")
    check_temperature(temperature)
    s = similarities
    index, positive_weight = mine(s, positive_rule, generator=generator)
    mined = positive_weight[:, 1:] > 0  # [B, P], of the candidates
    eligible = ~s.own
    eligible.scatter_(1, index, eligible.gather(1, index) & ~mined)
    band = torch.full_like(s.own, Band.OTHER, dtype=torch.int8)
    if s.own.shape[1]:
        band = _judged(s, eligible, negative_rule, temperature=temperature, generator=generator)
    band.scatter_(1, index, band.gather(1, index).masked_fill_(mined, Band.MINED))
    band.mul_((~s.own).view(torch.int8))  # OWN is 0
    kept = _is_potential(band)
    weight = negative_rule.weigh(s, kept, eligible)
    if weight is None:
        weight = kept.view(torch.int8).float()
    else:  # a kept key without a weight above 0 is not kept
        weight = torch.where(kept & (weight > 0), weight.float(), 0.0)
        band.masked_fill_(kept & (weight == 0), Band.OTHER)
        kept = _is_potential(band)
    return Selection(
        positive_index=index,
        positive_weight=positive_weight,
        negative_weight=weight,
        band=band,
        synthetic=negative_rule.synthesise(s, kept, generator=generator),
        estimate=negative_rule.estimate(),
    )


def check_temperature(temperature: float) -> None:
    """Raise ValueError for a temperature that is not above 0."""
    if not temperature > 0:
        raise ValueError(f"The temperature is {temperature}; it must be above 0.")


def _judged(
    s: Similarities,
    eligible: Tensor,
    rule: NegativeRule,
    *,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """The rule's EASY, POTENTIAL and HARD; all else it says is OTHER, as OWN and MINED are not a rule's to give."""
    band = rule.judge(s, eligible, temperature=temperature, generator=generator)
    if band.dtype == torch.bool or band.is_floating_point() or band.shape != s.own.shape:
        raise ValueError(
            f"{type(rule).__name__}.judge returned {band.dtype} {list(band.shape)}; it must give a code of Band for "
            f"each key, int8 {list(s.own.shape)}."
        )
    # In bits, because on a CPU comparisons and masks take several times as long: 1, 2 and 3 stay, all else becomes 0 …
    code = band if band.dtype == torch.int8 else band.clamp(0, 4).to(torch.int8)
    code = code.view(torch.uint8).clamp(max=4).bitwise_and_(3)
    other = code.clamp(max=1).sub_(1).bitwise_and_(Band.OTHER)  # … and 0 − 1, all bits set, takes the bits of OTHER
    return code.bitwise_or_(other).view(torch.int8)


def _is_potential(band: Tensor) -> Tensor:
    """`band == POTENTIAL` of codes from 0 to 5, in bits."""
    return (1 - (band ^ Band.POTENTIAL).clamp_(max=1)).view(torch.bool)


class Terms(TypedDict):
    """The arguments of `info_nce` and of its gradients that a selection decides."""

    positive: Tensor  # [B, 1+P] cosines
    negative: Tensor  # [B, K+S] cosines
    positive_weight: Tensor  # [B, 1+P]
    negative_weight: Tensor  # [B, K+S]
    estimate: Estimate


def terms(similarities: Similarities, selection: Selection) -> Terms:
    """Cosines and weights of a selection's positives and negatives, ready for `info_nce(**terms(s, selection), …)`."""
    s = similarities
    negative, weight = s.anchor, selection.negative_weight
    if selection.synthetic is not None:
        if s.vectors is None:
            raise ValueError("Synthetic negatives need the vectors: compute similarities(…, with_vectors=True).")
        with torch.autocast(negative.device.type, enabled=False):
            made = torch.einsum("bd,bsd->bs", s.vectors[0], selection.synthetic)
        negative = torch.cat([negative, made], dim=1)
        weight = torch.cat([weight, torch.ones_like(made)], dim=1)
    return Terms(
        positive=torch.cat([s.positive[:, None], s.anchor.gather(1, selection.positive_index)], dim=1),
        negative=negative,
        positive_weight=selection.positive_weight,
        negative_weight=weight,
        estimate=selection.estimate,
    )
