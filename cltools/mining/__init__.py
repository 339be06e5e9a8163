"""Similarities → bands → selection: pure functions of tensors that say which samples a loss learns from."""

from cltools.mining.bands import Band
from cltools.mining.controls import OracleNegatives, RandomNegatives
from cltools.mining.false_negatives import CancelFalseNegatives
from cltools.mining.hardness import Debiased, HardnessWeighted
from cltools.mining.mixed import MixedNegatives
from cltools.mining.negatives import AllNegatives, BandNegatives, Estimate, NegativeRule
from cltools.mining.positives import AUGMENTED_ONLY, PositiveRule
from cltools.mining.ring import RingNegatives
from cltools.mining.selection import Selection, Terms, select, terms
from cltools.mining.similarities import Similarities, similarities

__all__ = [
    "AUGMENTED_ONLY",
    "AllNegatives",
    "Band",
    "BandNegatives",
    "CancelFalseNegatives",
    "Debiased",
    "Estimate",
    "HardnessWeighted",
    "MixedNegatives",
    "NegativeRule",
    "OracleNegatives",
    "PositiveRule",
    "RandomNegatives",
    "RingNegatives",
    "Selection",
    "Similarities",
    "Terms",
    "select",
    "similarities",
    "terms",
]
