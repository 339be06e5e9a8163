"""Our rules and our loss in the call shapes of other libraries, which are imported only where they are used."""

from cltools.interop.loss import ContrastiveLoss, MemoryBank
from cltools.interop.pairs import as_metric_learning_miner, mine_hard_negatives_arguments, mine_pairs, mined_pairs
