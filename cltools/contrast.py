"""A batch's contrast in one call: similarities → selection → loss, of all anchors at once or of some at a time.

Legend: B anchors, K keys, d embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cltools.errors import check_number
from cltools.losses import LossSettings, info_nce
from cltools.mining import PerAnchor, Selection, Similarities, same_class, select, similarities, terms
from cltools.mining.handed_in import Numbers, as_ids, as_labels, as_tensor, check_unit
from cltools.mining.rules import NegativeRule, PositiveRule, State, check_rules, reads_now
from cltools.ranks import ALONE, Ranks

Observer = Callable[[Similarities, Selection], None] | None
"""Called with what was compared and chosen."""
Part = tuple[Tensor, Similarities, Selection]
"""Losses of some anchors, what was compared for them, and what was chosen."""


def contrastive_loss(
    anchor: Float[Tensor, "B d"] | Numbers,
    positive: Float[Tensor, "B d"] | Numbers,
    keys: Float[Tensor, "K d"] | Numbers,
    positive_rule: PositiveRule,
    negative_rule: NegativeRule,
    loss: LossSettings,
    *,
    ids: tuple[Numbers, Numbers],
    labels: tuple[Any, Any] | None = None,
    generator: torch.Generator | None = None,
    state: State | None = None,
    chunk: int | None = None,
    observe: Observer = None,
    check: bool | None = None,
) -> PerAnchor:
    """Each anchor's loss over the samples that the rules choose, at full strength.

    How much each anchor counts in their mean, where a rule says so, stands in the selection that `observe` is given.

    Args:
        anchor: z, unit length.
        positive: z', unit length.
        keys: n, unit length; K may be 0.
        positive_rule: which keys are positives too.
        negative_rule: which keys are negatives.
        loss: temperature and form.
        ids: of the images that anchors and keys come from; a key of the anchor's own image is its own.
        labels: their classes, for the oracle and for what `observe` counts; below 0 where unknown, of no class.
        generator: for rules that draw.
        state: of a negative rule that learns; it must not change before the backward pass.
        chunk: that many anchors at a time, computed again in the backward pass: several matrices of chunk × K instead
            of B × K are held at once. The same values and gradients up to rounding; a rule that draws draws anew.
        observe: called with what was compared and chosen, once for each chunk.
        check: whether vectors must be finite and of unit length, see `cltools.mining.handed_in.check_unit`.

    Raises:
        ValueError: a chunk below 1, and what `similarities`, `select` and `info_nce` refuse.
    """
    if chunk is not None:
        check_number("chunk", chunk, "a whole number of at least 1", ", or None for all anchors at once.")
    check_rules(positive_rule, negative_rule)
    named = {"anchor": anchor, "positive": positive, "keys": keys}
    anchor, positive, keys = (as_tensor(*each) for each in named.items())
    for name, vectors in zip(named, (anchor, positive, keys), strict=True):
        check_unit(name, vectors, check)
    reads = reads_now(positive_rule, negative_rule)
    of_ids = [as_ids("ids", each, anchor.device) for each in ids]
    of_labels = None if labels is None else as_labels("labels", *labels, device=anchor.device)

    def part(z: Tensor, z_positive: Tensor, n: Tensor, rows: slice, draws: torch.Generator | None) -> Part:
        own, images = of_ids[0][rows, None] == of_ids[1], (of_ids[0][rows], of_ids[1]) if "ids" in reads else None
        same = None if of_labels is None else same_class(of_labels[0][rows], of_labels[1])
        s = similarities(z, z_positive, n, own, same_class=same, ids=images, reads=reads, check=False)
        selection = select(s, positive_rule, negative_rule, temperature=loss.temperature, generator=draws, state=state)
        losses = info_nce(**terms(s, selection), temperature=loss.temperature, form=loss.form, reduction="none")
        return losses, s, selection

    observe = observe or (lambda s, selection: None)
    if chunk is None or chunk >= len(anchor):
        losses, s, selection = part(anchor, positive, keys, slice(None), generator)
        observe(s, selection)
        return losses
    # They are read again in the backward pass, when a queue may have taken others.
    of_ids = [each.clone() for each in of_ids]
    of_labels = None if of_labels is None else [each.clone() for each in of_labels]
    parts = []
    for start in range(0, len(anchor), chunk):
        rows = slice(start, start + chunk)
        losses, s, selection = _computed_twice(part, anchor[rows], positive[rows], keys, rows, generator)
        observe(s, selection)
        del s, selection  # the matrices of one chunk are let go before those of the next are made
        parts.append(losses)
    return torch.cat(parts)


def _computed_twice(
    part: Callable[..., Part], z: Tensor, z_positive: Tensor, n: Tensor, rows: slice, generator: torch.Generator | None
) -> Part:
    """What the part returns; its losses are computed again in the backward pass instead of kept until then.

    Both times the part draws from a generator of its own, which begins where `generator` stood; afterwards `generator`
    stands where the first time has left it, and the backward pass does not move it.
    """
    if generator is None:
        return checkpoint(part, z, z_positive, n, rows, None, use_reentrant=False)
    begin, draws = generator.get_state(), torch.Generator(generator.device)

    def drawn(z: Tensor, z_positive: Tensor, n: Tensor) -> Part:
        draws.set_state(begin)
        return part(z, z_positive, n, rows, draws)

    made: Part = checkpoint(drawn, z, z_positive, n, use_reentrant=False, preserve_rng_state=False)
    generator.set_state(draws.get_state())
    return made


def mean_over_anchors(losses: PerAnchor, weights: Sequence[Tensor | None], ranks: Ranks = ALONE) -> Float[Tensor, ""]:
    """The mean of the losses, anchors weighted where a rule weighs them; 0 where no anchor counts.

    Over several ranks the mean of what each returns is that of all anchors.

    Args:
        losses: of this rank's anchors.
        weights: `Selection.anchor_weight` of each chunk; None where the rule weighs none.
        ranks: over which weights are summed.
    """
    given = [weight for weight in weights if weight is not None]
    if not given:
        return losses.mean()
    weight = torch.cat(given)
    total = ranks.total(weight.sum()) / ranks.count
    return (losses * weight).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)
