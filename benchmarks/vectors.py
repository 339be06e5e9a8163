"""Random anchors, positives and keys, and the work of a method on them. Only this file calls rules.

Legend: B anchors, K keys, d embedding.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cltools.config import Experiment
from cltools.contrast import contrastive_loss
from cltools.losses import info_nce
from cltools.mining import Selection, Similarities, select, similarities, terms
from cltools.mining.rules import reads_now

CLASSES = 10


class Contrast:
    """A batch of unit vectors with positives near their anchors, for rules at full strength; key i is anchor i's own.

    `selection` and `loss` are the parts of a step that mine and compare; `in_training` is both, with products and
    gradient.
    """

    def __init__(self, shape: tuple[int, int | None, int], experiment: Experiment, device: torch.device) -> None:
        """Draw the vectors; `shape` is (B, K, d), where None for K makes the anchors the keys (SimCLR)."""
        anchors, keys, dim = shape
        self.rules, self.settings = (experiment.positives.at(1.0), experiment.negatives.at(1.0)), experiment.loss
        self.generator = torch.Generator(device).manual_seed(0)
        self.anchor, near = self._unit(anchors, dim).requires_grad_(), 0.5 * self._unit(anchors, dim)
        self.positive = F.normalize(self.anchor.detach() + near, dim=1)
        self.keys = self.anchor if keys is None else self._unit(keys, dim)
        ids, key_ids = (torch.arange(len(vectors), device=device) for vectors in (self.anchor, self.keys))
        self.ids = ids, key_ids

    @cached_property
    def own(self) -> Tensor:
        """True [B, K] where a key is the anchor's own."""
        return self.ids[0][:, None] == self.ids[1]

    @cached_property
    def same_class(self) -> Tensor:
        """True [B, K] where a key has the anchor's class."""
        return self.ids[0][:, None] % CLASSES == self.ids[1] % CLASSES

    def _unit(self, rows: int, dim: int) -> Tensor:
        return F.normalize(torch.randn(rows, dim, device=self.generator.device, generator=self.generator), dim=1)

    def compared(self) -> Similarities:
        """Compute the similarities that the rules read, as a step does."""
        vectors, reads = (self.anchor, self.positive, self.keys), reads_now(*self.rules)
        return similarities(*vectors, self.own, same_class=self.same_class, ids=self.ids, reads=reads, check=False)

    def chosen(self, s: Similarities) -> Selection:
        """Return the selection of the rules."""
        return select(s, *self.rules, temperature=self.settings.temperature, generator=self.generator)

    def gradient(self, s: Similarities, chosen: Selection, *, keep: bool = False) -> Tensor:
        """Return the loss's gradient [B, d] at the anchors; `keep` retains the graph of the similarities."""
        settings = self.settings
        value = info_nce(**terms(s, chosen), temperature=settings.temperature, form=settings.form)
        return torch.autograd.grad(value, self.anchor, retain_graph=keep)[0]

    @cached_property
    def prepared(self) -> tuple[Similarities, Selection]:
        """Cached similarities and selection, for parts that start from them."""
        s = self.compared()
        return s, self.chosen(s)

    def selection(self) -> Selection:
        """Run only the selection, on similarities computed before."""
        return self.chosen(self.prepared[0])

    def loss(self) -> Tensor:
        """Compute only the loss of an earlier selection, and its gradient at the anchors."""
        return self.gradient(*self.prepared, keep=True)

    def in_training(self) -> Tensor:
        """Compute the loss as a training step does, in chunks where these suit a cache, and its gradient [B, d]."""
        vectors = self.anchor, self.positive, self.keys
        options: dict[str, Any] = {"ids": self.ids, "generator": self.generator, "check": False}
        if "same_class" in reads_now(*self.rules):
            options["labels"] = tuple(ids % CLASSES for ids in self.ids)
        losses = contrastive_loss(*vectors, *self.rules, self.settings, **options)
        return torch.autograd.grad(losses.mean(), self.anchor)[0]

    def cross_entropy(self) -> Tensor:
        """Compute plain InfoNCE as in most public code: the products, and cross-entropy over all keys."""
        positive = (self.anchor * self.positive).sum(1, keepdim=True)
        logits = torch.cat([positive, self.anchor @ self.keys.T], dim=1) / self.settings.temperature
        value = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
        return torch.autograd.grad(value, self.anchor)[0]
