"""Code that only the notebooks use: predictions, checks of exercises, classic mistakes, and figures."""

from course import band_plots, exercises as check, grids, mistakes, paired, plots, record_plots, results, run_plots
from course.gallery import gallery
from course.live import LiveCurves
from course.predict import Predict
from course.results import comparison
from course.setting import choose
from course.style import style_page
from course.trial import Trial

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
    "paired",
    "plots",
    "record_plots",
    "results",
    "run_plots",
]

style_page()
