"""The choice of samples: positives with weights, negatives with weights, and why each key was or was not taken.

Legend: B anchors, K keys, P candidates, S synthetic negatives, d embedding.
"""

from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Bool, Int, Int8
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.mining import rules
from cltools.mining.bands import Band
from cltools.mining.positives import nothing_mined
from cltools.mining.rules import NEUTRAL, Context, Estimate, Mined, NegativeRule, PositiveRule, State
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
        anchor_weight: float32 [B], how much each anchor counts in the mean of the loss; None for all alike.
        measured: float32 [B], what a rule that learns learns from; None where nothing is learned.
    """

    positive_index: Tensor
    positive_weight: Tensor
    negative_weight: Tensor
    band: Tensor
    synthetic: Tensor | None = None
    estimate: Estimate = NEUTRAL
    anchor_weight: Tensor | None = None
    measured: Tensor | None = None


@torch.no_grad()
def select(
    similarities: Similarities,
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
    state: State | None = None,
) -> Selection:
    """Choose positives and negatives for each anchor, by rules as they are now (`rule.at(progress)`).

    Args:
        similarities: cosines of B anchors with K keys; K may be 0.
        positive_rule: how positives are mined. More candidates than keys are ordinary: every key is then one.
        negative_rule: which keys are kept. An empty band is ordinary: no key then has a weight.
        temperature: of the loss, above 0; read by rules that look at forces.
        generator: for rules that draw.
        state: of a negative rule that learns; without it, the rule drops nothing by what it would have learned.

    Raises:
        TypeError: rules in another order, or something else in their place.
        ValueError: a temperature that is not above 0; similarities without what a rule reads; or a rule that reads what
            it does not declare, or returns something else than codes and weights.
    """
    rules.check_rules(positive_rule, negative_rule)
    temperature = rules.check_temperature(temperature)
    s = similarities
    context = Context(~s.own, temperature, generator, state)
    mined = mine(s, positive_rule, context)
    index, taken = mined.index, mined.weight[:, 1:] > 0  # [B, P], of the candidates
    context.eligible.scatter_(1, index, context.eligible.gather(1, index) & ~taken)
    band = judge(s, negative_rule, context)
    band.scatter_(1, index, band.gather(1, index).masked_fill_(taken, Band.MINED))
    band.mul_((~s.own).view(torch.int8))  # OWN is 0
    kept = potential(band)
    seen = s.read_by(negative_rule, negative_rule.reads)
    weight = negative_rule.weigh(seen, kept, context)
    if weight is None:
        weight = kept.view(torch.int8).float()
    else:  # a kept key without a weight above 0 is not kept
        weight = torch.where(kept & (weight > 0), weight.float(), 0.0)
        band.masked_fill_(kept & (weight == 0), Band.OTHER)
        kept = potential(band)
        if negative_rule.softens:
            band.masked_fill_(kept & (weight < 1), Band.SOFTENED)
    made, estimate = negative_rule.synthesise(seen, kept, context), negative_rule.estimate()
    of_anchors = negative_rule.weigh_anchors(seen, context), negative_rule.measure(seen, context)
    return Selection(index, mined.weight, weight, band, made, estimate, *of_anchors)


def mine(s: Similarities, rule: PositiveRule, context: Context) -> Mined:
    """What a rule mines, its strength applied: w_j·strength for each candidate, 1 − strength·(1 − w_0) for the view.

    Raises:
        ValueError: similarities without what the rule reads, or a rule that mines something else than [B, P] keys with
            [B, 1+P] weights.
    """
    if rule.strength == 0 or s.own.shape[1] == 0:
        return nothing_mined(s)
    mined = rule.mine(s.read_by(rule, rule.reads), context)
    if mined.index.dtype != torch.int64 or mined.weight.shape != (len(s.own), 1 + mined.index.shape[1]):
        gave = f"{mined.index.dtype} {[*mined.index.shape]} with weights {[*mined.weight.shape]}"
        raise CltoolsError(f"{type(rule).__name__}.mine returned {gave}; give int64 [B, P] and weights [B, 1+P].")
    if rule.strength == 1:
        return mined
    view, others = mined.weight[:, :1], mined.weight[:, 1:]
    return Mined(mined.index, torch.cat([1 - rule.strength * (1 - view), rule.strength * others], dim=1))


def judge(s: Similarities, rule: NegativeRule, context: Context) -> Int8[Tensor, "B K"]:
    """The rule's EASY, POTENTIAL and HARD; all else it says is OTHER, as OWN and MINED are not a rule's to give.

    Raises:
        ValueError: similarities without what the rule reads, or a rule that gives something else than codes.
    """
    if s.own.shape[1] == 0:
        return torch.full_like(s.own, Band.OTHER, dtype=torch.int8)
    band = rule.judge(s.read_by(rule, rule.reads), context)
    if band.dtype == torch.bool or band.is_floating_point() or band.shape != s.own.shape:
        gave = f"{band.dtype} {[*band.shape]}"
        raise CltoolsError(f"{type(rule).__name__}.judge returned {gave}; it must give int8 codes {[*s.own.shape]}.")
    return rule_codes(band)


def rule_codes(band: Int[Tensor, "B K"]) -> Int8[Tensor, "B K"]:
    """EASY, POTENTIAL and HARD as they are, every other number as OTHER.

    In bits, because on a CPU comparisons and masks take several times as long (`python -m benchmarks plain`).
    """
    code = band if band.dtype == torch.int8 else band.clamp(0, 4).to(torch.int8)
    code = code.view(torch.uint8).clamp(max=4).bitwise_and_(3)  # 1, 2 and 3 stay, all else becomes 0 …
    other = code.clamp(max=1).sub_(1).bitwise_and_(Band.OTHER)  # … and 0 − 1, all bits set, takes the bits of OTHER
    return code.bitwise_or_(other).view(torch.int8)


def potential(band: Int8[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
    """Where a code from 0 to 5 is POTENTIAL; in bits, as `rule_codes`."""
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
    negative, weight = s.anchor_keys, selection.negative_weight
    if selection.synthetic is not None:
        assert s.vectors is not None, "what makes new keys declares it in reads, which select checks"
        with torch.autocast(negative.device.type, enabled=False):
            made = torch.einsum("bd,bsd->bs", s.vectors[0], selection.synthetic)
        negative = torch.cat([negative, made], dim=1)
        weight = torch.cat([weight, torch.ones_like(made)], dim=1)
    positive = torch.cat([s.anchor_positive[:, None], s.anchor_keys.gather(1, selection.positive_index)], dim=1)
    w, estimate = selection.positive_weight, selection.estimate
    return Terms(positive=positive, negative=negative, positive_weight=w, negative_weight=weight, estimate=estimate)
