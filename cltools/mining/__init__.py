"""Similarities → bands → selection: pure functions of tensors that say which samples a loss learns from."""

from cltools.mining.bands import Band
from cltools.mining.negatives import (
    AllNegatives,
    BandNegatives,
    Estimate,
    NegativeRule,
    OracleNegatives,
    RandomNegatives,
)
from cltools.mining.positives import PositiveRule
from cltools.mining.selection import Selection, Terms, select, terms
from cltools.mining.similarities import Similarities, similarities

__all__ = [
    "AllNegatives",
    "Band",
    "BandNegatives",
    "Estimate",
    "NegativeRule",
    "OracleNegatives",
    "PositiveRule",
    "RandomNegatives",
    "Selection",
    "Similarities",
    "Terms",
    "select",
    "similarities",
    "terms",
]
