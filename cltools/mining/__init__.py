"""Similarities → bands → selection: pure functions of tensors that say which samples a loss learns from."""

from cltools.mining.bands import Band
from cltools.mining.chance import RandomNegatives
from cltools.mining.hardness import Debiased, HardnessWeighted
from cltools.mining.learned import LearnedThreshold
from cltools.mining.mixed import MixedNegatives
from cltools.mining.negatives import (
    AllNegatives,
    CancelFalseNegatives,
    CosineBand,
    DifficultAnchors,
    MarginBand,
    RankBand,
    RingNegatives,
    SoftenedBand,
)
from cltools.mining.oracles import OracleNegatives, OraclePositives
from cltools.mining.positives import AugmentedView, EveryKey, NearestKeys
from cltools.mining.rules import Context, Estimate, Mined, NegativeRule, PositiveRule
from cltools.mining.selection import Selection, Terms, select, terms
from cltools.mining.similarities import Similarities, similarities

__all__ = [
    "AllNegatives", "AugmentedView", "Band", "CancelFalseNegatives", "Context", "CosineBand", "Debiased",
    "DifficultAnchors", "Estimate", "EveryKey", "HardnessWeighted", "LearnedThreshold", "MarginBand", "Mined",
    "MixedNegatives", "NearestKeys", "NegativeRule", "OracleNegatives", "OraclePositives", "PositiveRule",
    "RandomNegatives", "RankBand", "RingNegatives", "Selection", "Similarities", "SoftenedBand", "Terms", "select",
    "similarities", "terms",
]  # fmt: skip
