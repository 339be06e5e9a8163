"""Charts on pages of the site: a figure of plotly as data, drawn when it comes into view, and its description."""

import html
import json
from collections.abc import Mapping
from typing import Any

KIND = "application/vnd.plotly.v1+json"


def chart_html(figure: Mapping[str, Any], words: str) -> str:
    """Return the element of a chart.

    Args:
        figure: plotly's JSON.
        words: what the chart shows.
    """
    height = int(figure.get("layout", {}).get("height") or 360)
    data = html.escape(json.dumps(figure, separators=(",", ":")))
    alt = html.escape(words)
    return (
        f'<figure class="cl-chart"><div class="cl-plot" style="height:{height}px" data-figure="{data}"></div>'
        f"<figcaption>{alt}</figcaption></figure>"
    )
