"""Our rules and our loss in the call shapes of other libraries, which are imported only where they are used."""

from cltools.interop.loss import ContrastiveLoss, MemoryBank
from cltools.interop.miner import as_metric_learning_miner, mined_pairs
from cltools.interop.offline import MinedPairs, mine_hard_negatives_arguments, mine_pairs
