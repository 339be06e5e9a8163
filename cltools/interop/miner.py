"""Our rules as a miner for pytorch-metric-learning.

Legend: A embeddings, R reference rows, d embedding, P and N pairs.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cltools.errors import CltoolsError
from cltools.mining import Band, NegativeRule, PositiveRule, select, similarities
from cltools.mining.handed_in import Numbers, as_labels, as_rows, to_length_1
from cltools.mining.rules import check_temperature, learns, reads_now
from cltools.mining.schedule import Rescalable
from cltools.mining.selection import check_rules

Pairs = tuple[Int64[Tensor, " P"], Int64[Tensor, " P"], Int64[Tensor, " N"], Int64[Tensor, " N"]]
"""Anchors and their positives, then anchors and their negatives."""

SAME = 1 - 1e-6  # a cosine from which two rows are one and the same


def as_metric_learning_miner(
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A `pytorch_metric_learning.miners.BaseMiner` that selects by our rules: `mined_pairs` under its call.

    Rules act at full strength; for a schedule make a miner of `rule.at(progress)`. The miner's `distance` is not read.

    Raises:
        ValueError: a rule that pairs of indices cannot express, or a temperature that is not above 0.
        ModuleNotFoundError: pytorch-metric-learning is not installed.
    """
    temperature = check_temperature(temperature)
    remedy = "Rows of one label are no negatives of each other here: use AllNegatives, and give the classes as labels."
    check_pairs(positive_rule, negative_rule, remedy)
    if isinstance(negative_rule, Rescalable) and negative_rule.rescale:
        raise inexpressible(negative_rule)
    try:
        import pytorch_metric_learning.miners  # noqa: F401  # of which the next is made

        from cltools.interop.rule_miner import RuleMiner
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"{missing}: pip install pytorch-metric-learning", name=missing.name) from missing
    return RuleMiner(positive_rule, negative_rule, temperature=temperature, generator=generator)


@torch.no_grad()
def mined_pairs(
    embeddings: Float[Tensor, "A d"] | Numbers,
    labels: Any,
    ref_emb: Float[Tensor, "R d"] | Numbers,
    ref_labels: Any,
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> Pairs:
    """The selected pairs: anchors are rows of the embeddings, positives and negatives of the reference.

    Rows of an anchor's label are its own: its augmented views, never its negatives. So labels are ids of images, or
    classes for supervised use. What rules know as z' is an anchor's first view that is not the anchor itself, which a
    memory of the batch holds too; without a view it has no pairs.

    A positive is listed if its weight is above 0, the augmented views if theirs is (in NNCLR it is not). All that are
    listed then count alike: soft weights are lost.

    Args:
        embeddings: of any length; similarities are cosines.
        labels: of the embeddings, whole numbers or text; see `as_labels`.
        ref_emb: what anchors are compared with.
        ref_labels: of the reference.
        positive_rule: how positives are mined among other labels.
        negative_rule: which rows are kept.
        temperature: for rules that look at forces.
        generator: for rules that draw.

    Raises:
        ValueError: the rule weighs its negatives or makes new ones.
    """
    itself, z, n = ref_emb is embeddings, as_rows("embeddings", embeddings), as_rows("ref_emb", ref_emb)
    of_rows, of_reference = as_labels("labels", labels, ref_labels, device=z.device)
    if len(of_rows) != len(z) or len(of_reference) != len(n) or z.shape[1] != n.shape[1]:
        shapes = ", ".join(str([*each.shape]) for each in (z, of_rows, n, of_reference))
        raise CltoolsError(
            f"Embeddings, labels and those of the reference are {shapes}; give [A, d], [A], [R, d], [R]."
        )
    own = of_rows[:, None] == of_reference
    views = own & ~torch.eye(len(own), dtype=torch.bool, device=own.device) if itself else own
    rows = views.any(1).nonzero()[:, 0]
    if len(rows) == 0:
        return rows, rows, rows, rows
    own, views = own[rows], views[rows]
    z, n = to_length_1(z[rows]), to_length_1(n)
    # of equal values argmax takes the first: a view that is another row, else any
    first = (views.byte() + (views & ~same_rows(z, n)).byte()).argmax(1)
    s = similarities(z, n[first], n, own, reads=reads_now(positive_rule, negative_rule), check=False)
    chosen = select(s, positive_rule, negative_rule, temperature=temperature, generator=generator)
    weight = chosen.negative_weight
    if chosen.synthetic is not None or chosen.anchor_weight is not None or ((weight != 0) & (weight != 1)).any():
        raise inexpressible(negative_rule)
    augmented = views & (chosen.positive_weight[:, :1] > 0)
    a1, p = (augmented | (chosen.band == Band.MINED)).nonzero(as_tuple=True)
    a2, kept = (chosen.band == Band.POTENTIAL).nonzero(as_tuple=True)
    return rows[a1], p, rows[a2], kept


def same_rows(z: Float[Tensor, "A d"], n: Float[Tensor, "R d"]) -> Bool[Tensor, "A R"]:
    """Which unit vectors are one and the same; in full precision, in which near ones are not."""
    with torch.autocast(z.device.type, enabled=False):
        return z @ n.T >= SAME


def check_apart(positive_rule: Any, negative_rule: Any, without_classes: str = "") -> None:
    """Refuse what is no rule, and rules that need what `fit` alone gives them.

    Args:
        positive_rule: whatever was given for one.
        negative_rule: the same.
        without_classes: the remedy where a rule reads classes and there are none; "" where there are.
    """
    check_rules(positive_rule, negative_rule)
    for rule in (positive_rule, negative_rule):
        if without_classes and "same_class" in rule.reads:
            raise CltoolsError(f"{type(rule).__name__} reads classes, which do not reach it here. {without_classes}")
    if learns(type(negative_rule)):
        name = type(negative_rule).__name__
        raise CltoolsError(f"{name} learns a state per image while training; train it with fit.")


def check_pairs(positive_rule: Any, negative_rule: Any, without_classes: str = "") -> None:
    """As `check_apart`, and refuse negative rules of which pairs would leave out what they are about."""
    check_apart(positive_rule, negative_rule, without_classes)
    estimate, rule = negative_rule.estimate(), type(negative_rule)
    makes = rule.synthesise is not NegativeRule.synthesise and "vectors" in negative_rule.reads
    if makes or estimate.beta or estimate.tau_plus:
        raise inexpressible(negative_rule, MAKES)


MAKES = "estimates the mass of negatives or makes new ones"


def inexpressible(rule: NegativeRule, what: str = "weighs anchors or negatives") -> CltoolsError:
    """The error for a rule whose loss no pairs give."""
    return CltoolsError(
        f"{type(rule).__name__} {what}, which pairs cannot say. Use a rule that only keeps or drops, without rescale."
    )
