"""Charts on pages of the site: a figure of plotly as data, drawn when it comes into view, and its description."""

import html
import json
from collections.abc import Mapping
from typing import Any

from pages.stills import NARROW, WIDE, height_of, still

KIND = "application/vnd.plotly.v1+json"
FOLDER = "../_static/charts"
"""Address of still images, from a page of the course."""


def chart_html(figure: Mapping[str, Any], words: str) -> str:
    """Return the element of a chart, with its still image if that was drawn.

    Args:
        figure: plotly's JSON.
        words: what the chart shows.
    """
    data = html.escape(json.dumps(figure, separators=(",", ":")))
    alt = html.escape(words)
    return (
        f'<figure class="cl-chart"><div class="cl-plot" style="height:{height_of(figure)}px" data-figure="{data}">'
        f"{_picture(figure)}</div><figcaption>{alt}</figcaption></figure>"
    )


def _picture(figure: Mapping[str, Any]) -> str:
    wide, narrow = still(figure, WIDE), still(figure, NARROW)
    if not (wide.is_file() and narrow.is_file()):
        return ""
    size = f'width="{WIDE}" height="{height_of(figure)}"'
    return (
        f'<picture><source media="(max-width: 600px)" srcset="{FOLDER}/{narrow.name}">'
        f'<img src="{FOLDER}/{wide.name}" alt="" {size} loading="lazy"></picture>'
    )
