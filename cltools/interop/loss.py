"""The loss with its rules as a module with the interface of lightly's losses; lightly itself is not needed.

Legend: B images of a batch, K keys of the bank, d embedding.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cltools.contrast import contrastive_loss, mean_over_anchors
from cltools.errors import CltoolsError, plain, shown
from cltools.interop.pairs import check_apart
from cltools.losses import Form, LossSettings
from cltools.mining import AllNegatives, AugmentedView, NegativeRule, PositiveRule
from cltools.mining.handed_in import UNKNOWN, Numbers, as_ids, as_rows, to_length_1
from cltools.queue import Queue
from cltools.ranks import ALONE, Ranks

NO_ID = -2  # the id of an anchor whose image has no id


class ContrastiveLoss(nn.Module):
    """The contrastive loss with selection rules, called like lightly's `NTXentLoss`: `loss(out0, out1)`.

    Without a bank it is SimCLR (arXiv:2002.05709): both outputs stacked are 2B anchors and the same 2B keys, with
    gradient on both sides. With one it is MoCo (arXiv:1911.05722): `out0` are anchors, `out1` their positives without
    gradient, and the bank, which is empty at first, holds the keys.

    `out1` is enqueued in the backward pass of a loss in training mode, not when the loss is computed. So evaluation
    does not change the bank, and both terms of a symmetric loss with one backward pass see the same bank, without the
    batch's own keys (lightly's issue 564); give one of them `enqueue=False`, so that each image has one key. With
    `ids`, older keys of the same image are own keys and not negatives: give them if images return before the bank has
    dropped their keys, or if each term has its own backward pass.

    Do not checkpoint the call (`torch.utils.checkpoint`): its second pass would see another bank.

    The bank's tensors are buffers, saved in the `state_dict`, and follow the outputs to their device. Rules act at full
    strength; for a schedule assign `loss.negative_rule = rule.at(progress)`, and `positive_rule` likewise.

    Example:
        >>> import torch
        >>> from cltools import ContrastiveLoss, RankBand
        >>> loss = ContrastiveLoss(negative_rule=RankBand(by="anchor"), temperature=0.2, memory_bank_size=(64, 8))
        >>> out0, out1 = torch.randn(2, 16, 8, requires_grad=True)  # of an encoder, for two views of 16 images
        >>> loss(out0, out1).backward()
        >>> loss.bank.queue.filled  # the backward pass has enqueued out1
        16
    """

    def __init__(
        self,
        positive_rule: PositiveRule | None = None,
        negative_rule: NegativeRule | None = None,
        *,
        temperature: float = 0.5,
        form: Form = "sep",
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """Create a loss with an empty bank.

        Args:
            positive_rule: rule that mines positives; None for the other view alone.
            negative_rule: rule that chooses the keys to keep; None for all.
            temperature: divisor of the cosines, a number above 0; it is not learned.
            form: how several positives combine, see `info_nce`.
            memory_bank_size: number of keys K and their dimension d; 0 for no bank.
            gather_distributed: compare with the batches of all processes of the group, which must have equal sizes, and
                enqueue them all in each bank; if False, use this process's batch alone. The mean of the processes'
                results is the loss of all, and DistributedDataParallel's mean of their gradients is its gradient.
            generator: random generator for rules that draw.

        Raises:
            ValueError: an invalid setting, or a rule that needs labels.
        """
        super().__init__()
        self.gather_distributed = gather_distributed
        self.settings, self.generator = LossSettings(temperature, form), generator
        self.positive_rule = AugmentedView() if positive_rule is None else positive_rule
        self.negative_rule = AllNegatives() if negative_rule is None else negative_rule
        check_apart(self.positive_rule, self.negative_rule, "loss(out0, out1) takes no labels: use another rule.")
        self.bank = _empty_bank(memory_bank_size)

    @property
    def temperature(self) -> float:
        """Divisor of the cosines; assign it for a schedule."""
        return self.settings.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.settings = replace(self.settings, temperature=value)

    def extra_repr(self) -> str:
        """Return rules and settings."""
        return f"{self.positive_rule}, {self.negative_rule}, {self.settings}"

    def forward(
        self,
        out0: Float[Tensor, "B d"] | Numbers,
        out1: Float[Tensor, "B d"] | Numbers,
        ids: Int[Tensor, " B"] | Numbers | None = None,
        *,
        enqueue: bool = True,
    ) -> Float[Tensor, ""]:
        """Return the mean loss over anchors, in float32 even under autocast.

        Args:
            out0: outputs for one view, of any length.
            out1: outputs for the other view of the same images.
            ids: ids of the images; below 0, or None, if unknown.
            enqueue: whether `out1` is enqueued in the bank.

        Raises:
            ValueError: shapes that do not match each other or the bank.
        """
        out0, out1 = as_rows("out0", out0), as_rows("out1", out1)
        ids = None if ids is None else as_ids("ids", ids, out0.device)
        if not len(out0) or out0.shape != out1.shape or (ids is not None and ids.shape != out0.shape[:1]):
            wrong = f"Outputs and ids have shapes {[list(x.shape) for x in (out0, out1, ids) if x is not None]}"
            raise CltoolsError(f"{wrong}; give [B, d] twice with B of at least 1, and ids [B] if any.")
        ids = torch.full_like(out0[:, 0], UNKNOWN, dtype=torch.int64) if ids is None else ids
        ranks = Ranks.current() if self.gather_distributed else ALONE
        if self.bank is None:
            return self._in_batch(out0, out1, ids, ranks)
        compare = self._with_bank
        if torch.compiler.is_compiling():  # a compiled graph cannot contain the hook that changes the bank
            compare = torch.compiler.disable(compare)  # type: ignore[no-untyped-call]  # as a decorator: slow import
        return compare(self.bank, out0, out1.detach(), ids, ranks, enqueue and self.training)

    def _in_batch(self, out0: Tensor, out1: Tensor, ids: Tensor, ranks: Ranks) -> Tensor:
        z0, z1 = to_length_1(out0), to_length_1(out1)
        unique = NO_ID - ranks.rank * len(ids) - torch.arange(len(ids), device=ids.device)
        ids = torch.where(ids < 0, unique, ids).repeat(2)  # both views of an image without an id share one
        z = torch.cat([z0, z1])
        keys, key_ids = ranks.gathered_with_gradient(z, views=2), ranks.gathered(ids, views=2)
        return self._loss(z, torch.cat([z1, z0]), keys, ids, key_ids, ranks)

    def _with_bank(
        self, memory: "MemoryBank", out0: Tensor, out1: Tensor, ids: Tensor, ranks: Ranks, enqueue: bool
    ) -> Tensor:
        z0, z1, bank = to_length_1(out0), to_length_1(out1), memory.to(out0.device).queue
        # The graph needs the keys in the backward pass, and by then another loss may have written into the bank.
        loss = self._loss(z0, z1, bank.keys.clone(), torch.where(ids < 0, NO_ID, ids), bank.ids, ranks)
        if loss.requires_grad and enqueue:
            new, new_ids = ranks.gathered(z1), ranks.gathered(ids)

            def take(_: Tensor) -> None:
                handle.remove()  # enqueue once, even if the graph is differentiated again
                last = slice(-bank.size, None)  # a larger batch would overwrite itself
                bank.enqueue(new[last], new_ids[last], torch.full_like(new_ids[last], UNKNOWN))

            handle = loss.register_hook(take)  # type: ignore[no-untyped-call]
        return loss

    def _loss(
        self, anchor: Tensor, positive: Tensor, keys: Tensor, ids: Tensor, key_ids: Tensor, ranks: Ranks
    ) -> Tensor:
        weights: list[Tensor | None] = []
        losses = contrastive_loss(
            anchor, positive, keys, self.positive_rule, self.negative_rule, self.settings, ids=(ids, key_ids),
            generator=self.generator, observe=lambda s, selection: weights.append(selection.anchor_weight),
        )  # fmt: skip
        return mean_over_anchors(losses, weights, ranks)


class MemoryBank(nn.Module):
    """A queue whose tensors are buffers: they are in the `state_dict`, fit safetensors, and move with `.to()`."""

    keys: Tensor

    @torch.inference_mode(False)
    def __init__(self, size: int, dim: int) -> None:
        """Create an empty bank, on the CPU until it is moved or used on another device."""
        super().__init__()
        self.queue = Queue(size, dim, "cpu")
        for name, ring in self.queue.rings.items():
            self.register_buffer(name, ring, persistent=name != "labels")
        self.queue.rings = self._buffers  # type: ignore[assignment]  # so that it follows the buffers when they move

    @torch.inference_mode(False)
    def _apply(self, fn: Any, recurse: bool = True) -> "MemoryBank":
        keys = self.keys
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.keys = keys.to(self.keys.device)  # float32 whatever the loss is cast to
        return self

    def get_extra_state(self) -> Tensor:
        """Return the queue's pointer, fill level and size, as a tensor for the sake of safetensors."""
        return torch.tensor([self.queue.pointer, self.queue.filled, self.queue.size], device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Restore pointer and fill level of a bank of the same size; torch refuses the tensors of another."""
        pointer, filled, size = state.tolist()
        if size == self.queue.size:
            self.queue.pointer, self.queue.filled = pointer, filled


def _empty_bank(size: int | Sequence[int]) -> MemoryBank | None:
    sizes, wanted = plain(size), "(number of keys, their dimension), or 0 for no bank"
    if sizes == 0 or (isinstance(sizes, tuple) and sizes[:1] == (0,)):
        return None
    try:
        return MemoryBank(*sizes)
    except (TypeError, ValueError) as error:
        raise CltoolsError(f"memory_bank_size is {shown(size)}; give {wanted}. {error}") from error
