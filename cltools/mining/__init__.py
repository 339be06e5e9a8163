"""Similarities → bands → selection: pure functions of tensors that select the samples a loss learns from."""

from cltools.mining.bands import KEPT, Band, PerAnchor, PerKey, rank_count
from cltools.mining.handed_in import Numbers, seeded

from cltools.mining.negatives import (  # isort: skip
    AllNegatives, CancelFalseNegatives, CosineBand, Debiased, DifficultAnchors, HardnessWeighted, LearnedThreshold,
    MarginBand, MixedNegatives, OracleNegatives, RandomNegatives, RankBand, RingNegatives, SoftenedBand,
)  # fmt: skip
from cltools.mining.positives import AugmentedView, EveryKey, NearestKeys, OraclePositives
from cltools.mining.rules import NEUTRAL, Context, Estimate, Mined, NegativeRule, PositiveRule, State, learns, reads_now
from cltools.mining.selection import Selection, Terms, select, terms
from cltools.mining.similarities import Similarities, own_last, same_class, similarities
