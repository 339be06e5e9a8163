"""Every rule and control from one warm start: `python -m cltools compare`, and their records as a `table`."""

from cltools.comparison.arms import BASELINE, arms_of
from cltools.comparison.running import CompareFlags, compare
from cltools.comparison.tables import TableFlags, table

__all__ = ["BASELINE", "CompareFlags", "TableFlags", "arms_of", "compare", "table"]
