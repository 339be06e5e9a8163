"""The contrastive loss of a batch in one call: similarities → selection → loss, for all anchors at once or in chunks.

Legend: B anchors, K keys, d embedding.
"""

from collections.abc import Callable, Sequence
from functools import partial
from operator import eq
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cltools.errors import CltoolsError, check_number
from cltools.losses import LossSettings, info_nce
from cltools.mining import PerAnchor, Selection, Similarities, same_class, select, similarities, terms
from cltools.mining.handed_in import Numbers, as_ids, as_labels, as_tensor, check_unit
from cltools.mining.rules import NegativeRule, PositiveRule, State, check_rules, reads_now
from cltools.mining.similarities import compared
from cltools.ranks import ALONE, Ranks

Observer = Callable[[Similarities, Selection], None] | None
"""Callback that gets the similarities and the selection."""


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
    """Return each anchor's loss over the samples that the rules choose, at full strength.

    If a rule weights anchors in the mean of the loss, the weights are in the selections passed to `observe`.

    Args:
        anchor: z [B, d], unit length.
        positive: z' [B, d], unit length.
        keys: n [K, d], unit length; K may be 0.
        positive_rule: rule that chooses keys as further positives.
        negative_rule: rule that chooses keys as negatives.
        loss: temperature and form.
        ids: ids of the images that anchors [B] and keys [K] come from; a key of the anchor's image is an own key.
        labels: their classes, for the oracle and for diagnosis in `observe`; below 0 is unknown, of no class.
        generator: random generator for rules that draw.
        state: state of a learning negative rule; it must not change before the backward pass.
        chunk: number of anchors per chunk, so that matrices of chunk × K instead of B × K are in memory; the gradient
            of a chunk is computed with its losses, so the keys may need none. None for all at once on a GPU, and for as
            many as suit the cache of a CPU. Values and gradients are equal up to rounding, but a rule that draws makes
            different draws.
        observe: called with similarities and selection, once per chunk; those of a chunk pass no gradient on.
        check: whether to check that vectors are finite and of unit length, see `cltools.mining.handed_in.check_unit`.

    Raises:
        ValueError: a chunk below 1, or chunks although keys need a gradient; and what `similarities`, `select` and
            `info_nce` refuse.

    Example:
        >>> import torch
        >>> from cltools import AugmentedView, LossSettings, RankBand, contrastive_loss
        >>> z, positive, keys = (torch.nn.functional.normalize(torch.randn(n, 8), dim=1) for n in (3, 3, 20))
        >>> ids = torch.arange(3), torch.arange(20)  # of images: the first three keys are own keys
        >>> rules = AugmentedView(), RankBand(drop_closest=0.05, keep_within=0.5)
        >>> losses = contrastive_loss(z.requires_grad_(), positive, keys, *rules, LossSettings(), ids=ids)
        >>> losses.mean().backward()
        >>> losses.shape, z.grad.shape
        (torch.Size([3]), torch.Size([3, 8]))
    """
    if chunk is not None:
        check_number("chunk", chunk, "a whole number of at least 1", ", or None for all anchors at once.")
    check_rules(positive_rule, negative_rule)
    named = {"anchor": anchor, "positive": positive, "keys": keys}
    anchor, positive, keys = (as_tensor(*each) for each in named.items())
    if chunk is not None and chunk < len(anchor) and keys.requires_grad:
        raise CltoolsError(f"chunk is {chunk}, but the keys need a gradient, as those of a batch do; leave it out.")
    for name, vectors in zip(named, (anchor, positive, keys), strict=True):
        check_unit(name, vectors, check)
    reads = reads_now(positive_rule, negative_rule)
    of_ids = [as_ids("ids", each, anchor.device) for each in ids]
    of_labels = None if labels is None else as_labels("labels", *labels, device=anchor.device)

    def losses_of(z: Tensor, z_positive: Tensor, rows: slice = slice(None)) -> Tensor:
        own = compared(eq, of_ids[0][rows, None], of_ids[1])
        images = (of_ids[0][rows], of_ids[1]) if "ids" in reads else None
        same = None if of_labels is None else same_class(of_labels[0][rows], of_labels[1])
        s = similarities(z, z_positive, keys, own, same_class=same, ids=images, reads=reads, check=False)
        chosen = select(s, positive_rule, negative_rule, temperature=loss.temperature, generator=generator, state=state)
        if observe is not None:
            observe(s, chosen)
        return info_nce(**terms(s, chosen), temperature=loss.temperature, form=loss.form, reduction="none")

    if chunk is None:
        whole = anchor.device.type != "cpu" or keys.requires_grad or torch.compiler.is_compiling()
        chunk = len(anchor) if whole else max(64, CHUNK_COSINES // max(1, len(keys)))
    if chunk >= len(anchor):
        return losses_of(anchor, positive)
    rows = [slice(start, start + chunk) for start in range(0, len(anchor), chunk)]
    parts = [(anchor[each], positive[each], partial(losses_of, rows=each)) for each in rows]
    if not torch.is_grad_enabled():
        return torch.cat([losses(z, z_positive) for z, z_positive, losses in parts])
    return torch.cat([_WithGradient.apply(*part) for part in parts])


CHUNK_COSINES = 3 * 2**19
"""Cosines of a chunk on a CPU: 6 MB, beside as much for what is computed of them (`python -m benchmarks costs`)."""


class _WithGradient(torch.autograd.Function):
    """Losses whose gradients with respect to z and z' are computed with them, so that no matrix outlives its chunk."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_positive: Tensor, losses_of: Callable[..., Tensor]) -> Tensor:
        leaves = [x.detach().requires_grad_(x.requires_grad) for x in (z, z_positive)]
        wanted = [x for x in leaves if x.requires_grad]
        with torch.set_grad_enabled(bool(wanted)):
            losses = losses_of(*leaves)
            gradients = iter(torch.autograd.grad(losses.sum(), wanted) if wanted else ())
        ctx.save_for_backward(*(next(gradients) if x.requires_grad else None for x in leaves))
        return losses.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if each is None else each * upstream[:, None] for each in ctx.saved_tensors), None


def mean_over_anchors(losses: PerAnchor, weights: Sequence[Tensor | None], ranks: Ranks = ALONE) -> Float[Tensor, ""]:
    """Return the mean of the losses, weighted if a rule weights anchors; 0 if all weights are 0.

    With several ranks, the mean of the ranks' results is the mean over all anchors.

    Args:
        losses: losses of this rank's anchors.
        weights: `Selection.anchor_weight` of each chunk; None if the rule does not weight anchors.
        ranks: ranks over which the weights are summed.
    """
    given = [weight for weight in weights if weight is not None]
    if not given:
        return losses.mean()
    weight = torch.cat(given)
    total = ranks.total(weight.sum()) / ranks.count
    return (losses * weight).sum() / total.clamp_min(torch.finfo(total.dtype).tiny)
