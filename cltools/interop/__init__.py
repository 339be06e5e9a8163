"""Adapters of the rules and the loss to other libraries' interfaces; those libraries are imported only when used."""

from cltools.interop.loss import ContrastiveLoss, MemoryBank
from cltools.interop.pairs import as_metric_learning_miner, mine_pairs, mined_pairs
