"""Similarities → bands → selection: pure functions of tensors that say which samples a loss learns from."""

from cltools.mining.bands import Band
from cltools.mining.negatives import (
    AllNegatives,
    CancelFalseNegatives,
    CosineBand,
    Debiased,
    DifficultAnchors,
    HardnessWeighted,
    LearnedThreshold,
    MarginBand,
    MixedNegatives,
    OracleNegatives,
    RandomNegatives,
    RankBand,
    RingNegatives,
    SoftenedBand,
)
from cltools.mining.positives import AugmentedView, EveryKey, NearestKeys, OraclePositives
from cltools.mining.rules import Context, Estimate, Mined, NegativeRule, PositiveRule
from cltools.mining.selection import Selection, Terms, select, terms
from cltools.mining.similarities import Similarities, similarities
