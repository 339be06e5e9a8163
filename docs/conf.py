"""Sphinx builds the site from the whole repository, so that links between its files are links between pages."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.ext.napoleon.docstring import GoogleDocstring

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "notebooks")]

project = "cltools"
version = release = version_of("cltools-ssl")
root_doc = "docs/index"
include_patterns = ["*.md", "data/*.md", "docs/*.md", "docs/*/*.md", "notebooks/*.ipynb"]
exclude_patterns = [".*", "node_modules", "site", "runs", "tests", "cltools", "benchmarks", "docs/readings.md"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "pages"]
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
suppress_warnings = ["toc.not_included"]  # the decisions, which their own page lists
nb_execution_mode = "off"  # `pages` gives executed notebooks
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
toc_object_entries_show_parents = "hide"  # full names do not fit beside the page
default_role = "code"
GoogleDocstring._consume_inline_attribute = lambda self: ("", self._dedent(self._consume_to_end()))  # type: ignore
"""The first line of a field's docstring names no type, although it may have a colon."""

html_theme = "sphinx_book_theme"
html_title = "cltools"
html_show_search_summary = False  # it would fetch pages, which a browser refuses from a file
html_show_sourcelink = False
html_static_path: list[str] = []  # filled by `pages`
templates_path = ["templates"]
html_additional_pages = {"index": "entry.html"}
html_context = {"default_mode": "auto"}
html_css_files = ["explorer.css", "charts.css", "site.css"]
html_js_files = [("cltools.js", {"defer": "defer"}), ("pages.js", {"defer": "defer"})]
html_theme_options = {"footer_content_items": [], "navbar_persistent": [], "use_download_button": False}
