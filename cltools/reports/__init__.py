"""Comparisons, and tables of records: what runs and their comparisons are put together from."""

from cltools.reports.arms import BASELINE, arms_of, band_name, chance_name, grid_of
from cltools.reports.comparing import CompareFlags, compare, train_arm, warm_start, whole
from cltools.reports.comparison_table import comparison_table
from cltools.reports.published import IMAGE_SETS
from cltools.reports.rendering import table

__all__ = [
    "BASELINE",
    "IMAGE_SETS",
    "CompareFlags",
    "arms_of",
    "band_name",
    "chance_name",
    "compare",
    "comparison_table",
    "grid_of",
    "table",
    "train_arm",
    "warm_start",
    "whole",
]
