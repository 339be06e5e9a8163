"""Our rules and our loss in the call shapes of other libraries.

`as_metric_learning_miner` makes a miner for pytorch-metric-learning, which is imported only then; `ContrastiveLoss`
is called as lightly's losses are and needs no lightly.

Legend: B images of a batch, A embeddings, R reference rows, K keys of the bank, d embedding, P and N pairs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.nn.functional import normalize

from cltools.contrast import contrastive_loss
from cltools.losses import Form, LossSettings, check_settings
from cltools.mining import AllNegatives, Band, NegativeRule, OracleNegatives, PositiveRule, select, similarities
from cltools.mining.selection import check_temperature
from cltools.queue import Queue

Pairs = tuple[Int64[Tensor, " P"], Int64[Tensor, " P"], Int64[Tensor, " N"], Int64[Tensor, " N"]]
"""Anchors and their positives, then anchors and their negatives."""

UNKNOWN = -1  # the id of a key whose image was not named: nobody's own


def as_metric_learning_miner(
    positives: PositiveRule,
    negatives: NegativeRule,
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
    check_temperature(temperature)
    estimate = negatives.estimate()
    if isinstance(negatives, OracleNegatives):
        raise ValueError(
            "OracleNegatives drops nothing in a miner, where rows of one label are never negatives of each other. "
            "Use AllNegatives, and give the classes as labels."
        )
    if negatives.reads_vectors or estimate.beta or estimate.tau_plus or getattr(negatives, "rescale", False):
        raise _inexpressible(negatives)
    try:
        from pytorch_metric_learning.miners import BaseMiner
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            f"{missing}. Install it: pip install pytorch-metric-learning", name=missing.name
        ) from missing

    class RuleMiner(BaseMiner):  # type: ignore[misc]
        """Our rules as a miner."""

        def mine(self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor) -> Pairs:
            """See `mined_pairs`."""
            rows = (embeddings, labels, ref_emb, ref_labels)
            return mined_pairs(*rows, positives, negatives, temperature=temperature, generator=generator)

    return RuleMiner()


@torch.no_grad()
def mined_pairs(
    embeddings: Float[Tensor, "A d"],
    labels: Int[Tensor, " A"],
    ref_emb: Float[Tensor, "R d"],
    ref_labels: Int[Tensor, " R"],
    positives: PositiveRule,
    negatives: NegativeRule,
    *,
    temperature: float = 0.2,
    generator: torch.Generator | None = None,
) -> Pairs:
    """The selected pairs: anchors are rows of the embeddings, positives and negatives of the reference.

    Rows of an anchor's label are its own: its augmented views, never its negatives. So labels are ids of images, or
    classes for supervised use. What rules know as z' is an anchor's first view; without a view it has no pairs. A row
    is no view of itself if `ref_emb` is the very tensor `embeddings`; in a memory that holds the batch too, it is one.

    A positive is listed if its weight is above 0, the augmented views if theirs is (in NNCLR it is not). All that are
    listed then count alike: soft weights are lost.

    Args:
        embeddings: of any length; similarities are cosines.
        labels: of the embeddings.
        ref_emb: what anchors are compared with.
        ref_labels: of the reference.
        positives: how positives are mined among other labels.
        negatives: which rows are kept.
        temperature: for rules that look at forces.
        generator: for rules that draw.

    Raises:
        ValueError: the rule weighs its negatives or makes new ones.
    """
    own = labels[:, None] == ref_labels
    views = own & ~torch.eye(len(own), dtype=torch.bool, device=own.device) if ref_emb is embeddings else own
    rows = views.any(1).nonzero()[:, 0]
    if len(rows) == 0:
        return rows, rows, rows, rows
    own, views = own[rows], views[rows]
    z, n = normalize(embeddings[rows].float(), dim=1), normalize(ref_emb.float(), dim=1)
    first = views.byte().argmax(1)  # of equal values argmax takes the first
    s = similarities(z, n[first], n, own, with_key=positives.reads_key or negatives.reads_key)
    chosen = select(s, positives, negatives, temperature=temperature, generator=generator)
    weight = chosen.negative_weight
    if chosen.synthetic is not None or ((weight != 0) & (weight != 1)).any():
        raise _inexpressible(negatives)
    augmented = views & (chosen.positive_weight[:, :1] > 0)
    a1, p = (augmented | (chosen.band == Band.MINED)).nonzero(as_tuple=True)
    a2, kept = (chosen.band == Band.POTENTIAL).nonzero(as_tuple=True)
    return rows[a1], p, rows[a2], kept


def _inexpressible(rule: NegativeRule) -> ValueError:
    return ValueError(
        f"{type(rule).__name__} weighs its negatives, estimates their mass or makes new ones, which pairs of indices "
        "cannot say. Use a rule that only keeps or drops, without rescale."
    )


class ContrastiveLoss(nn.Module):
    """Our loss with our rules, called as lightly's `NTXentLoss`: `loss(out0, out1)`, over one process's batch.

    Without a bank it is SimCLR (arXiv:2002.05709): both outputs stacked are 2B anchors and the same 2B keys, with
    gradient on both sides. With one it is MoCo (arXiv:1911.05722): `out0` are anchors, `out1` their positives without
    gradient, the keys those of the bank, which is empty at first.

    The bank takes `out1` when the loss is differentiated, not when it is computed. So evaluation leaves it alone, and
    both terms of a symmetric loss with one backward pass see the same bank, without the batch's own keys (lightly's
    issue 564). `ids` make an image's older keys its own, no negatives: give them where images return before the bank
    has forgotten them, or where each term has its own backward pass.

    The bank is part of the `state_dict` and follows the outputs to their device. Rules act at full strength; for a
    schedule assign `loss.negatives = rule.at(progress)`, and `positives` likewise.
    """

    def __init__(
        self,
        positives: PositiveRule | None = None,
        negatives: NegativeRule | None = None,
        *,
        temperature: float = 0.5,
        form: Form = "sep",
        memory_bank_size: int | Sequence[int] = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        """A loss with an empty bank.

        Args:
            positives: how positives are mined; None for the other view alone.
            negatives: which keys are kept; None for all.
            temperature: divides cosines; above 0.
            form: how several positives combine, see `info_nce`.
            memory_bank_size: number of keys K and their dimension d; 0 for no bank.
            generator: for rules that draw.

        Raises:
            ValueError: a setting without meaning, or a rule that needs labels.
        """
        super().__init__()
        check_settings(temperature, form)
        if isinstance(negatives, OracleNegatives):
            raise ValueError("OracleNegatives needs labels, which loss(out0, out1) is not given. Use another rule.")
        self.positives = PositiveRule(weighting="none") if positives is None else positives
        self.negatives = AllNegatives() if negatives is None else negatives
        self.temperature, self.form, self.generator = temperature, form, generator
        self.bank = _empty_bank(memory_bank_size)

    def forward(
        self, out0: Float[Tensor, "B d"], out1: Float[Tensor, "B d"], ids: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, ""]:
        """Mean over anchors, in float32 also under autocast.

        Args:
            out0: of one view, of any length.
            out1: of the other view of the same images.
            ids: of the images, at least 0; None if unknown.

        Raises:
            ValueError: shapes that do not match each other or the bank.
        """
        if out0.ndim != 2 or out0.shape != out1.shape or (ids is not None and ids.shape != out0.shape[:1]):
            shapes = [list(x.shape) for x in (out0, out1, ids) if x is not None]
            raise ValueError(f"Outputs and ids have shapes {shapes}; give [B, d] twice, and ids [B] if any.")
        if self.bank is not None and out0.shape[1] != self.bank.dim:
            raise ValueError(f"The bank holds keys of dimension {self.bank.dim}, but the outputs have {out0.shape[1]}.")
        ids = None if ids is None else ids.to(out0.device)
        with torch.autocast(out0.device.type, enabled=False):
            z0, z1 = normalize(out0.float(), dim=1), normalize(out1.float(), dim=1)
            return self._in_batch(z0, z1, ids) if self.bank is None else self._with_bank(self.bank, z0, z1, ids)

    def _in_batch(self, z0: Tensor, z1: Tensor, ids: Tensor | None) -> Tensor:
        ids = (torch.arange(len(z0), device=z0.device) if ids is None else ids).repeat(2)
        z = torch.cat([z0, z1])
        return self._loss(z, torch.cat([z1, z0]), z, ids, ids)

    def _with_bank(self, bank: Queue, z0: Tensor, z1: Tensor, ids: Tensor | None) -> Tensor:
        if bank.keys.device != z0.device:
            bank = self.bank = _copy(bank, z0.device)
        new, new_ids = z1.detach(), torch.full_like(z0[:, 0], UNKNOWN, dtype=torch.int64) if ids is None else ids
        anchor_ids = new_ids - 1 if ids is None else ids  # an anchor without a name is nobody's own either
        # The graph needs its keys until the backward pass, which may come after others have written into the bank.
        loss = self._loss(z0, new, bank.keys.clone(), anchor_ids, bank.ids)
        if loss.requires_grad:

            def take(_: Tensor) -> None:
                handle.remove()  # once, however often the graph is used
                last = slice(-bank.size, None)  # a larger batch would overwrite itself
                bank.enqueue(new[last], new_ids[last], torch.full_like(new_ids[last], UNKNOWN))

            handle = loss.register_hook(take)  # type: ignore[no-untyped-call]
        return loss

    def _loss(self, anchor: Tensor, positive: Tensor, keys: Tensor, ids: Tensor, key_ids: Tensor) -> Tensor:
        settings = LossSettings(self.temperature, self.form)
        vectors, rules = (anchor, positive, keys), (self.positives, self.negatives)
        return contrastive_loss(*vectors, *rules, settings, ids=(ids, key_ids), generator=self.generator).mean()

    def get_extra_state(self) -> dict[str, Any] | None:
        """The bank, for `state_dict`; loads with `weights_only=True`."""
        return None if self.bank is None else self.bank.state_dict()

    def set_extra_state(self, state: dict[str, Any] | None) -> None:
        """Continue with a saved bank.

        Raises:
            ValueError: the saved bank has another size, or only one of the two losses has a bank.
        """
        if (state is None) != (self.bank is None):
            raise ValueError("Of the saved loss and this one only one has a bank: give both the same memory_bank_size.")
        if self.bank is not None and state is not None:
            self.bank.load_state_dict(state)


def _empty_bank(size: int | Sequence[int]) -> Queue | None:
    if size == 0:
        return None
    if isinstance(size, int) or len(size) != 2:
        raise ValueError(f"memory_bank_size is {size}; give (number of keys, their dimension), or 0 for no bank.")
    keys, dim = size
    return Queue(keys, dim) if keys else None


def _copy(queue: Queue, device: torch.device) -> Queue:
    copy = Queue(queue.size, queue.dim, device)
    copy.load_state_dict(queue.state_dict())
    return copy
