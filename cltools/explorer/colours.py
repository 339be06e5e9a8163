"""Colours and names of bands in still pictures: told apart with any colour vision; the page has its own, by theme."""

GREY = "#888888"  # for axes and text of figures: legible on light and on dark
ANCHOR = "#15181d"

# By code of `Band`: OWN, EASY, POTENTIAL, HARD, MINED, OTHER, SOFTENED.
BANDS = ("#888888", "#7b8390", "#0a62c4", "#cf5500", "#00875f", "#a8337f", "#3f86d8")
NAMES = ("own image", "too easy", "pushed away", "suspected", "mined", "left out", "pushed less")
