"""Every rule and control from one warm start: `python -m cltools compare`."""

from cltools.comparison.arms import BASELINE, arms_of, band_name, chance_name, grid_of
from cltools.comparison.running import CompareFlags, compare, train_arm, warm_start, whole
from cltools.comparison.tables import comparison_table

__all__ = [
    "BASELINE",
    "CompareFlags",
    "arms_of",
    "band_name",
    "chance_name",
    "compare",
    "comparison_table",
    "grid_of",
    "train_arm",
    "warm_start",
    "whole",
]
