"""What becomes of tables on pages: no head without words, and long code that may be broken."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from pages import tables

PAGE = """# Page

| | |
|---|---|
| a | `short_name` |

| name | test |
|---|---|
| b | `test_of_something.py::test_with_a_long_name` |
"""


def test_empty_heads_go_and_only_long_code_is_broken(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text(PAGE, encoding="utf-8")
    app = Sphinx(tmp_path, None, tmp_path / "out", tmp_path / "trees", "dummy", {"extensions": ["myst_parser"]}, None)
    tables.register(app)
    app.build()
    document = app.env.get_doctree("index")
    assert [head.astext().split() for head in document.findall(nodes.thead)] == [["name", "test"]]
    marked = {code.astext(): "cl-long" in code["classes"] for code in document.findall(nodes.literal)}
    assert marked == {"short_name": False, "test_of_something.py::test_with_a_long_name": True}
