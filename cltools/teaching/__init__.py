"""What only the notebooks use: predictions, checks of exercises, classic mistakes, pictures, and the first slider."""

from cltools.teaching import exercises as check
from cltools.teaching import mistakes
from cltools.teaching.bands import BandPictures
from cltools.teaching.curve import LiveCurve
from cltools.teaching.pictures import gallery
from cltools.teaching.predict import Predict
from cltools.teaching.records import comparison

__all__ = ["BandPictures", "LiveCurve", "Predict", "check", "comparison", "gallery", "mistakes"]
