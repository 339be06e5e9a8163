"""What only the notebooks use: predictions, checks of exercises, classic mistakes, and pictures."""

from cltools.teaching import band_plots, mistakes, plots
from cltools.teaching import exercises as check
from cltools.teaching.curve import LiveCurve
from cltools.teaching.pictures import gallery
from cltools.teaching.predict import Predict
from cltools.teaching.records import comparison

__all__ = ["LiveCurve", "Predict", "band_plots", "check", "comparison", "gallery", "mistakes", "plots"]
