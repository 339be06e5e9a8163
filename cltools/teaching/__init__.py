"""What only the notebooks use: predictions, checks of exercises, classic mistakes, and pictures."""

from cltools.teaching import band_plots, grids, mistakes, plots, record_plots, records, run_plots, seeds
from cltools.teaching import exercises as check
from cltools.teaching.live import LiveCurves
from cltools.teaching.pictures import gallery
from cltools.teaching.predict import Predict
from cltools.teaching.records import comparison
from cltools.teaching.setting import choose
from cltools.teaching.trial import Trial

__all__ = [
    "LiveCurves",
    "Predict",
    "Trial",
    "band_plots",
    "check",
    "choose",
    "comparison",
    "gallery",
    "grids",
    "mistakes",
    "plots",
    "record_plots",
    "records",
    "run_plots",
    "seeds",
]
