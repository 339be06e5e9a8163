"""Formulas as MathML, made when the site is built; no script and no font is loaded for them."""

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

from cltools.errors import CltoolsError

FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^\s$](?:[^$]*[^\s$])?)\$", re.DOTALL)
VERBATIM = re.compile(r"(<(code|pre)\b.*?</\2>|</?[A-Za-z][^>]*>)", re.DOTALL)
"""What holds no formulas in a piece of HTML: code, and the tags themselves."""
PRIME = re.compile(r"<msup>(<mi>\w</mi>)<mi>&#x02032;</mi></msup>")
"""z′ as a raised sign made small, which only fonts for formulas enlarge again; others need it as in a text."""


def mathml(formula: str, display: str) -> str:
    """Return a formula of LaTeX as MathML.

    Raises:
        ValueError: it holds what cannot be converted.
    """
    try:
        made: str = convert(formula.strip(), display=display)
    except Exception as error:  # the converter has its own error for each kind of mistake, and raises others too
        reason = f"{error or type(error).__name__}"
        raise CltoolsError(f"The formula ${formula}$ could not be converted: {reason}.") from error
    if "\\" in made:
        unknown = re.findall(r"\\\w*", made)
        raise CltoolsError(f"The formula ${formula}$ could not be converted: {', '.join(unknown)} is not known.")
    return PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">&#x02032;</mo></mrow>', made)


def with_formulas(text: str) -> str:
    """Return a piece of HTML with its formulas converted; code in it is left as it is."""

    def converted(found: re.Match[str]) -> str:
        kind = "block" if found["block"] else "inline"
        return mathml(html.unescape(found[kind]), kind)

    return "".join(
        part if place % 3 == 1 else FORMULA.sub(converted, part)
        for place, part in enumerate(VERBATIM.split(text))
        if place % 3 != 2  # the name of the tag, which is a group of its own
    )


def register(app: Any) -> None:
    """Make MathML the renderer of formulas."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.config.html_math_renderer = "mathml"


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode
