"""Markdown of a notebook or of the README as HTML that needs nothing beside it.

Formulas become MathML, pictures are taken into the page, links to notebooks lead to their pages, and links to other
files of the project, which a book does not hold, become plain text.
"""

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from cltools.errors import CltoolsError

FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>.+?)\$", re.DOTALL)
VERBATIM = re.compile(r"(<code>.*?</code>|</?[A-Za-z][^>]*>)", re.DOTALL)
"""What holds no formulas in a piece of HTML: code, and the tags themselves."""
PRIME = re.compile(r"<msup>(<mi>\w</mi>)<mi>&#x02032;</mi></msup>")
"""z′ as a raised sign made small, which only fonts for formulas enlarge again; others need it as in a text."""


class Prose(IPythonRenderer):
    """Renders the Markdown of one page.

    Attributes:
        headings: of level 2, as (id, HTML) in their order.
        title: the text of the first heading of level 1.
    """

    def __init__(self, source: Path, pages: Mapping[Path, str]) -> None:
        """A renderer for one source.

        Args:
            source: the file that the text is from; links and pictures are relative to its folder.
            pages: address in the book of each file that has a page.
        """
        super().__init__(escape=False, exclude_anchor_links=True)
        self.source, self.pages = source, pages
        self.headings: list[tuple[str, str]] = []
        self.title = ""
        self._ids: set[str] = set()

    def convert(self, text: str) -> str:
        """HTML of a piece of Markdown.

        Raises:
            ValueError: a formula cannot be converted, or a picture is not there.
        """
        return MarkdownWithMath(self).render(text)

    def heading(self, text: str, level: int, **_: Any) -> str:
        """A heading under the id that JupyterLab gives it, so that links keep their meaning."""
        plain = html.unescape(re.sub("<[^>]+>", "", text))
        name = base = "-".join(plain.split())
        number = 1
        while name in self._ids:
            number += 1
            name = f"{base}-{number}"
        self._ids.add(name)
        if level == 1 and not self.title:
            self.title = plain
        if level == 2:
            self.headings.append((name, re.sub(r"</?a\b[^>]*>", "", text)))
        return f'<h{level} id="{html.escape(name)}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link that works in the book, or its text."""
        if re.match(r"[a-z]+:|#", url):
            return str(super().link(text, url, title))
        file, _, fragment = url.partition("#")
        page = self.pages.get((self.source.parent / unquote(file)).resolve())
        if page is None:
            return text
        return str(super().link(text, f"{page}#{fragment}" if fragment else page, title))

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """A picture, taken into the page."""
        path = self.source.parent / unquote(url)
        if not path.is_file():
            raise CltoolsError(f"{self.source.name} shows the picture {url}, but there is no {path}.")
        return picture(path.read_bytes(), html.unescape(re.sub("<[^>]+>", "", text)))

    def table(self, text: str) -> str:
        """A table that scrolls by itself where the window is narrow."""
        return f'<div class="wide"><table>\n{text}</table></div>\n'

    def inline_math(self, body: str) -> str:
        """A formula in a line."""
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        """A formula on a line of its own."""
        return f'<span class="wide">{mathml(body, "block")}</span>'

    def block_html(self, html: str) -> str:
        """HTML in the text, such as a folded hint; formulas stand in it too."""
        return super().block_html(_with_formulas(html))

    def paragraph(self, text: str) -> str:
        """A paragraph."""
        return f"<p>{text}</p>\n"


def mathml(formula: str, display: str) -> str:
    """A formula of LaTeX as MathML.

    Raises:
        ValueError: it holds what cannot be converted.
    """
    try:
        made = convert(formula.strip(), display=display)
    except Exception as error:  # the converter has its own error for each kind of mistake, and raises others too
        raise CltoolsError(
            f"The formula ${formula}$ could not be converted: {error or type(error).__name__}."
        ) from error
    if "\\" in made:
        unknown = re.findall(r"\\\w*", made)
        raise CltoolsError(f"The formula ${formula}$ could not be converted: {', '.join(unknown)} is not known.")
    return PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">&#x02032;</mo></mrow>', made)


def picture(png: bytes, words: str, width: int | None = None) -> str:
    """A picture in the page; on a narrow screen it scrolls by itself and stays legible.

    Args:
        png: the file.
        words: what it shows.
        width: in pixels of the page; None for its own.
    """
    source, wide = base64.b64encode(png).decode(), f' width="{width}"' if width else ""
    return f'<span class="wide"><img src="data:image/png;base64,{source}" alt="{html.escape(words)}"{wide}></span>'


def _with_formulas(text: str) -> str:
    def converted(found: re.Match[str]) -> str:
        kind = "block" if found["block"] else "inline"
        return mathml(html.unescape(found[kind]), kind)

    parts = VERBATIM.split(text)
    return "".join(part if place % 2 else FORMULA.sub(converted, part) for place, part in enumerate(parts))
