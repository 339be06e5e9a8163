"""The miner that `as_metric_learning_miner` gives, apart, because it needs pytorch-metric-learning."""

from typing import Any

import torch
from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor

from cltools.interop.pairs import Pairs, mined_pairs


class RuleMiner(BaseMiner):  # type: ignore[misc]
    """Our rules as a miner; copied and sent to other processes as any module is."""

    def __init__(self, *rules: Any, temperature: float, generator: torch.Generator | None) -> None:
        """A miner by a positive and a negative rule."""
        super().__init__()
        self.rules = rules
        self.settings: dict[str, Any] = {"temperature": temperature, "generator": generator}

    def mine(self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor) -> Pairs:
        """See `mined_pairs`."""
        return mined_pairs(embeddings, labels, ref_emb, ref_labels, *self.rules, **self.settings)
