"""Colours and symbols: one of each for every band, told apart with any colour vision, on light and on dark pages.

Colours go to a figure as small integers with a discrete scale, never as strings, which would cost it a hundredfold.
"""

from collections.abc import Sequence

ANCHOR = "#E3127E"
GREY = "#888888"  # for axes and text of figures: legible on light and on dark

# By code of `Band`: OWN, EASY, POTENTIAL, HARD, MINED, OTHER, SOFTENED.
BANDS = ("#888888", "#999999", "#005FB8", "#D55E00", "#009E73", "#F088D0", "#56B4E9")
"""Okabe and Ito's palette with a deeper blue, which keeps kept and mined apart for tritanopes too."""
BAND_NAMES = (
    "own image", "too easy", "kept as negative", "suspected", "mined as positive", "dropped otherwise", "softened",
)  # fmt: skip
DIFFERENCE = ("#999999", "#009E73", "#005FB8", "#D55E00")
DIFFERENCE_NAMES = ("kept by neither", "kept by both", "kept by A only", "kept by B only")
CLASSES = (
    "#005FB8", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7B4EA3", "#8FA83A", "#D6616B",
)  # fmt: skip
SIDE_COLOURS = ("#005FB8", "#D55E00")
"""Colours of the curves of sides A and B."""
OTHER_CLASS = "#999999"
LEVELS = ("#2F6DB5", "#5680AE", "#7A8FA6", "#94968F", "#B09A6B", "#C99645", "#DF8E20", "#EE8200")
"""From little to much: blue to orange, every step legible on light and on dark pages."""

# What a point is drawn with, by its slot: that of its band, or of its place in a difference.
SYMBOLS = ("circle", "diamond", "triangle-up", "star", "x", "triangle-down")
SIZES = (4, 7, 9, 12, 7, 9)
SLOT_OF_BAND = (0, 0, 1, 2, 3, 4, 5)  # OWN as EASY, under the anchor's mark
SLOT_OF_DIFFERENCE = (0, 1, 2, 4)
GLYPHS = ("●", "◆", "▲", "★", "✕", "▼")


def scale(colours: Sequence[str]) -> list[tuple[float, str]]:
    """A discrete scale for codes 0, 1, … between `cmin` −½ and `cmax` len − ½."""
    count = len(colours)
    return [(edge / count, colour) for i, colour in enumerate(colours) for edge in (i, i + 1)]
