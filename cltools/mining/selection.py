"""The selection of samples: weighted positives, weighted negatives, and the reason for each key.

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
    """The samples that the loss learns from, without gradient.

    Attributes:
        positive_index: int64 [B, P], keys that are candidates for mined positives.
        positive_weight: float32 [B, 1+P], rows sum to 1; column 0 is the augmented view.
        negative_weight: float32 [B, K]; 0 removes a key.
        band: int8 [B, K], codes of `Band`.
        synthetic: [B, S, d], synthetic negatives of unit length, or None.
        estimate: how the negatives' mass is estimated.
        anchor_weight: float32 [B], weight of each anchor in the mean of the loss; None for equal weights.
        measured: float32 [B], the statistic from which a learning rule learns; None if nothing is learned.

    Example:
        >>> from cltools import NearestKeys, RankBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, NearestKeys(k=1), RankBand(drop_closest=0.25, keep_within=0.5))
        >>> chosen.positive_index, chosen.positive_weight
        (tensor([[0]]), tensor([[0.5000, 0.5000]]))
        >>> chosen.negative_weight
        tensor([[0., 0., 1., 1., 0., 0., 0., 0.]])
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
    """Choose positives and negatives for each anchor by rules whose schedules are resolved (`rule.at(progress)`).

    Args:
        similarities: cosines of B anchors with K keys; K may be 0.
        positive_rule: rule that mines positives. If it asks for more candidates than keys, every key is one.
        negative_rule: rule that chooses the keys to keep. Its band may be empty; then no key has a weight.
        temperature: temperature of the loss, above 0; read by rules that use forces.
        generator: random generator for rules that draw.
        state: state of a learning negative rule; without it, the rule drops nothing by learned thresholds.

    Raises:
        TypeError: rules in the wrong order, or objects that are not rules.
        ValueError: a temperature that is not above 0; similarities that lack a field that a rule reads; a rule that
            reads a field without declaring it, or that returns anything but codes and weights.

    Example:
        >>> from cltools import NearestKeys, RankBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, NearestKeys(k=1), RankBand(drop_closest=0.25, keep_within=0.5), temperature=0.2)
        >>> chosen.band  # codes of Band: a key is mined, one is too hard, two are kept, and four are too easy
        tensor([[4, 3, 2, 2, 1, 1, 1, 1]], dtype=torch.int8)
    """
    rules.check_rules(positive_rule, negative_rule)
    temperature = rules.check_temperature(temperature)
    s = similarities
    context = Context(~s.own, temperature, generator, state)
    mined = mine(s, positive_rule, context)
    index, taken = mined.index, mined.weight[:, 1:] > 0  # [B, P], per candidate
    context.eligible.scatter_(1, index, context.eligible.gather(1, index) & ~taken)
    band = judge(s, negative_rule, context)
    band.scatter_(1, index, band.gather(1, index).masked_fill_(taken, Band.MINED))
    band.mul_((~s.own).view(torch.int8))  # OWN is 0
    kept = potential(band)
    readable = s.read_by(negative_rule, negative_rule.reads)
    weight = negative_rule.weigh(readable, kept, context)
    if weight is None:
        weight = kept.view(torch.int8).float()
    else:  # a kept key without a weight above 0 is not kept
        weight = torch.where(kept & (weight > 0), weight.float(), 0.0)
        band.masked_fill_(kept & (weight == 0), Band.OTHER)
        kept = potential(band)
        if negative_rule.softens:
            band.masked_fill_(kept & (weight < 1), Band.SOFTENED)
    synthetic, estimate = negative_rule.synthesise(readable, kept, context), negative_rule.estimate()
    of_anchors = negative_rule.weigh_anchors(readable, context), negative_rule.measure(readable, context)
    return Selection(index, mined.weight, weight, band, synthetic, estimate, *of_anchors)


def mine(s: Similarities, rule: PositiveRule, context: Context) -> Mined:
    """Call a positive rule and apply its strength: candidates get w_j·strength, the view 1 − strength·(1 − w_0).

    Raises:
        ValueError: similarities that lack a field that the rule reads, or a rule that does not return [B, P] keys with
            [B, 1+P] weights.
    """
    if rule.strength == 0 or s.own.shape[1] == 0:
        return nothing_mined(s)
    mined = rule.mine(s.read_by(rule, rule.reads), context)
    if mined.index.dtype != torch.int64 or mined.weight.shape != (len(s.own), 1 + mined.index.shape[1]):
        returned = f"{mined.index.dtype} {[*mined.index.shape]} with weights {[*mined.weight.shape]}"
        raise CltoolsError(f"{type(rule).__name__}.mine returned {returned}; give int64 [B, P], weights [B, 1+P].")
    if rule.strength == 1:
        return mined
    view, others = mined.weight[:, :1], mined.weight[:, 1:]
    return Mined(mined.index, torch.cat([1 - rule.strength * (1 - view), rule.strength * others], dim=1))


def judge(s: Similarities, rule: NegativeRule, context: Context) -> Int8[Tensor, "B K"]:
    """Call a negative rule and keep its codes EASY, POTENTIAL and HARD; all others, OWN and MINED too, become OTHER.

    Raises:
        ValueError: similarities that lack a field that the rule reads, or a rule that does not return codes.
    """
    if s.own.shape[1] == 0:
        return torch.full_like(s.own, Band.OTHER, dtype=torch.int8)
    band = rule.judge(s.read_by(rule, rule.reads), context)
    if band.dtype == torch.bool or band.is_floating_point() or band.shape != s.own.shape:
        returned = f"{band.dtype} {[*band.shape]}"
        raise CltoolsError(f"{type(rule).__name__}.judge returned {returned}; return int8 codes {[*s.own.shape]}.")
    return rule_codes(band)


def rule_codes(band: Int[Tensor, "B K"]) -> Int8[Tensor, "B K"]:
    """Keep EASY, POTENTIAL and HARD, and replace every other number by OTHER.

    It uses bit operations, because on a CPU comparisons and masks take several times as long (`python -m benchmarks
    plain`).
    """
    code = band if band.dtype == torch.int8 else band.clamp(0, 4).to(torch.int8)
    code = code.view(torch.uint8).clamp(max=4).bitwise_and_(3)  # 1, 2 and 3 stay, all others become 0 …
    other = code.clamp(max=1).sub_(1).bitwise_and_(Band.OTHER)  # … and 0 − 1 has all bits set, so `and` gives OTHER
    return code.bitwise_or_(other).view(torch.int8)


def potential(band: Int8[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
    """Return True where a code from 0 to 5 is POTENTIAL, by bit operations as in `rule_codes`."""
    return (1 - (band ^ Band.POTENTIAL).clamp_(max=1)).view(torch.bool)


class Terms(TypedDict):
    """The arguments of `info_nce` and of its gradients that a selection determines.

    Example:
        >>> from cltools import AllNegatives, AugmentedView, select, similarities, terms
        >>> s = similarities([[0.6, 0.8]], [[0.8, 0.6]], [[0, 1], [1, 0]], own=[[False, False]])
        >>> arguments = terms(s, select(s, AugmentedView(), AllNegatives()))
        >>> list(arguments)
        ['positive', 'negative', 'positive_weight', 'negative_weight', 'estimate']
        >>> arguments["negative"], arguments["negative_weight"]
        (tensor([[0.8000, 0.6000]]), tensor([[1., 1.]]))
    """

    positive: Tensor
    """Cosines of the augmented view and of the candidates [B, 1+P]."""
    negative: Tensor
    """Cosines of the keys and of synthetic negatives [B, K+S]."""
    positive_weight: Tensor
    """Weights of the positives [B, 1+P]; rows sum to 1."""
    negative_weight: Tensor
    """Weights of the negatives [B, K+S]; 0 removes one."""
    estimate: Estimate
    """How the negatives' mass is estimated."""


def terms(similarities: Similarities, selection: Selection) -> Terms:
    """Return cosines and weights of the selected positives and negatives, for `info_nce(**terms(s, selection), …)`.

    Args:
        similarities: the similarities that were selected from.
        selection: the result of `select`.

    Example:
        >>> from cltools import AllNegatives, NearestKeys, info_nce, select, similarities, terms
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> arguments = terms(s, select(s, NearestKeys(k=1), AllNegatives(), temperature=0.5))
        >>> arguments["positive"]  # cosines with the augmented view and with the mined key
        tensor([[0.9600, 0.9600]])
        >>> round(float(info_nce(**arguments, temperature=0.5)), 3)
        0.997
    """
    s = similarities
    negative, weight = s.anchor_keys, selection.negative_weight
    if selection.synthetic is not None:
        assert s.vectors is not None, "a rule that makes keys declares it in reads, which select checks"
        with torch.autocast(negative.device.type, enabled=False):
            synthetic = torch.einsum("bd,bsd->bs", s.vectors[0], selection.synthetic)
        negative = torch.cat([negative, synthetic], dim=1)
        weight = torch.cat([weight, torch.ones_like(synthetic)], dim=1)
    positive = torch.cat([s.anchor_positive[:, None], s.anchor_keys.gather(1, selection.positive_index)], dim=1)
    w, estimate = selection.positive_weight, selection.estimate
    return Terms(positive=positive, negative=negative, positive_weight=w, negative_weight=weight, estimate=estimate)
