"""The miner of `as_metric_learning_miner`, in its own module because it needs pytorch-metric-learning."""

from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor

from cltools.interop.pairs import Pairs, mined_pairs


class RuleMiner(BaseMiner):  # type: ignore[misc]
    """A miner that selects by a positive and a negative rule; it can be copied and pickled like any module."""

    def __init__(self, *rules: Any, temperature: float, generator: torch.Generator | None) -> None:
        """Set the positive and the negative rule, and the arguments of `mined_pairs`."""
        super().__init__()
        self.rules = rules
        self.settings: dict[str, Any] = {"temperature": temperature, "generator": generator}

    def mine(self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor) -> Pairs:
        """See `mined_pairs`."""
        return mined_pairs(embeddings, labels, ref_emb, ref_labels, *self.rules, **self.settings)
