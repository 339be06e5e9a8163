"""What only the notebooks use: curves that grow while training, pictures, and the first slider."""

from cltools.teaching.bands import BandPictures
from cltools.teaching.curve import LiveCurve
from cltools.teaching.pictures import gallery

__all__ = ["BandPictures", "LiveCurve", "gallery"]
