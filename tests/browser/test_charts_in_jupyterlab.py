"""Charts in JupyterLab: coloured by the page in either theme, of a steady height, and redrawn by a running kernel."""

import re
from pathlib import Path

import pytest
from lab import Lab

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

pytestmark = pytest.mark.browser

SETUP = """import sys
sys.path.insert(0, {path!r})
from course import live
from course.charts import Chart, line, panels
def chart(points):
    figure = panels("Squares, %")
    figure.add_trace(line(range(points), [x * x for x in range(points)], "squares", "%{{x}}: %{{y}} %"))
    return Chart(figure, "A curve.")"""
SHOW = "handle = display(chart(3), display_id=True)"
REDRAW = "live.redraw(handle, chart(5))"
PLOT = "document.querySelector('.js-plotly-plot .main-svg')"


def colours(lab: Lab) -> tuple[float, float]:
    """The least contrast of a chart's texts with the notebook's ground, and the luminance of that ground."""
    told = lab.page.evaluate(
        """() => {
          const fill = node => getComputedStyle(node).fill;
          const ground = getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor;
          const texts = [...document.querySelectorAll('.js-plotly-plot .main-svg text')].filter(t => t.textContent);
          return [ground, ...texts.map(fill)];
        }"""
    )
    ground, *texts = [luminance(colour) for colour in told]
    ratios = [(max(ground, text) + 0.05) / (min(ground, text) + 0.05) for text in texts]
    assert len(ratios) > 5
    return min(ratios), ground


def luminance(colour: str) -> float:
    red, green, blue, *alpha = [float(part) for part in re.findall(r"[\d.]+", colour)]
    assert not alpha or alpha[0] > 0.8, colour
    parts = [part / 255 for part in (red, green, blue)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_the_page_colours_a_chart_and_redraws_it(lab: Lab) -> None:
    lab.open(SETUP.format(path=str(NOTEBOOKS)), SHOW, REDRAW)
    lab.run_all()
    lab.until(f"{PLOT} && document.querySelectorAll('.js-plotly-plot .point').length === 5")
    sheets = "document.querySelectorAll('style.course-charts').length"
    assert lab.page.evaluate(sheets) == 1
    lab.rerun(0)
    assert lab.page.evaluate(sheets) == 1
    height = "document.querySelector('.js-plotly-plot').offsetHeight"
    before = lab.page.evaluate(height)
    light, ground = colours(lab)
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    lab.until("document.body.dataset.jpThemeLight === 'false'")
    lab.page.set_viewport_size({"width": 800, "height": 600})
    lab.until("document.querySelector('.js-plotly-plot').offsetWidth < 500")
    dark, under = colours(lab)
    assert light >= 4.5 and dark >= 4.5 and ground > 0.9 and under < 0.1
    assert lab.page.evaluate(height) == before > 300
    assert "application/vnd.jupyter.widget" not in lab.save()
