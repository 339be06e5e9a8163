"""The book: formulas, links and pictures of a page, outputs without a kernel, limits, and a former book that stays."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book import building, execution
from book.__main__ import main
from book.building import build
from book.outputs import output_html
from book.pages import front_page, rendered
from book.prose import Prose, mathml

ROOT = Path(__file__).parent.parent
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WIDGET = "application/vnd.jupyter.widget-view+json"
README = """# A course

What it is about: $z'$. See [LICENSE](LICENSE).

[Start](#start) · [Notebooks](#notebooks) ·
[Words](#words)

## Start

Not on the first page.

## Notebooks

| notebook | what |
|---|---|
| [one](notebooks/01_one.ipynb) | first |

### Further

Not there either.
"""
TEXT = """# 01 · One: $\\tau$ decides

A cosine $c = z\\cdot n$ costs `$5`, see [two](02_two.ipynb#The-end), [the data](../data/README.md),
[home](../README.md) and [elsewhere](https://example.org).

$$L = -\\log \\frac{e^{z\\cdot z'/\\tau}}{\\sum_n e^{z\\cdot n/\\tau}}$$

![A dot.](figures/01.png)

## The end

<details><summary>Hint</summary>When is $a < b$? <code>x = "$HOME$"</code></details>

## The end
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A README and two notebooks, one with a formula, a picture and links."""
    folder = tmp_path / "notebooks"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "01.png").write_bytes(PNG)
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    nbformat.write(new_notebook(cells=[new_markdown_cell(TEXT), new_code_cell("1 + 1")]), folder / "01_one.ipynb")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# 02 · Two")]), folder / "02_two.ipynb")
    return tmp_path


def shown(*outputs: Any) -> Callable[[Path], nbformat.NotebookNode]:
    """In place of a kernel: every code cell has put out these."""

    def run(path: Path) -> nbformat.NotebookNode:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [*outputs]
        return notebook

    return run


def make(course: Path, *outputs: Any, out: str = "book") -> Path:
    """The book of a course, whose code cells have put out these."""
    paths = sorted((course / "notebooks").glob("*.ipynb"))
    build(course / out, paths, course / "README.md", run=shown(*outputs))
    return course / out


def display(metadata: dict[str, Any] | None = None, **data: Any) -> Any:
    kinds = {"png": "image/png", "plain": "text/plain", "html": "text/html", "markdown": "text/markdown"}
    kinds["widget"] = WIDGET
    return new_output("display_data", {kinds[name]: value for name, value in data.items()}, metadata=metadata or {})


def as_html(output: Any) -> str:
    return output_html(output, Prose(Path("a.ipynb"), {}))


# Prose


def test_every_formula_of_the_course_is_converted() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        prose = Prose(path, {})
        cells = [
            cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "markdown"
        ]
        body = "".join(prose.convert("".join(cell["source"])) for cell in cells)
        text = re.sub(r"<(code|pre|math)\b.*?</\1>|<[^>]+>", "", body, flags=re.DOTALL)
        assert "$" not in text and prose.title.startswith(path.name[:2]), path


def test_a_page_holds_its_formulas_and_pictures_and_its_links_lead_somewhere(course: Path) -> None:
    page = (make(course) / "01_one.html").read_text(encoding="utf-8")
    assert page.count("<math") == page.count("</math>") == 4  # with the heading's and the hint's
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in page
    assert "<code>$5</code>" in page and '<code>x = "$HOME$"</code>' in page
    assert '<a href="02_two.html#The-end">two</a>' in page
    assert "the data" in page and "home" in page and "README.md" not in page
    assert '<a href="https://example.org">elsewhere</a>' in page
    assert f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}" alt="A dot.">' in page
    assert 'id="The-end"' in page and 'id="The-end-2"' in page


def test_pages_are_linked_in_their_order(course: Path) -> None:
    book = make(course)
    assert sorted(path.name for path in book.iterdir()) == ["01_one.html", "02_two.html", "index.html", "style.css"]
    one, two, front = (
        (book / name).read_text(encoding="utf-8") for name in ("01_one.html", "02_two.html", "index.html")
    )
    assert 'rel="prev" href="index.html"' in one and 'rel="next" href="02_two.html"' in one
    assert 'rel="prev" href="01_one.html"' in two and 'rel="next"' not in two
    assert '<a href="01_one.html">one</a>' in front and "LICENSE" in front and 'href="LICENSE"' not in front
    assert "Not " not in front
    for page in (one, two, front):
        assert page.startswith('<!doctype html>\n<html lang="en">') and page.count("<h1") == 1
    assert "<title>A course</title>" in front and "<title>02 · Two</title>" in two


@pytest.mark.parametrize("formula", ["\\nosuchthing{x}", "x^2^3"])
def test_a_formula_that_cannot_be_converted_is_shown(formula: str) -> None:
    with pytest.raises(ValueError, match=r"could not be converted") as refusal:
        mathml(formula, "inline")
    assert formula in str(refusal.value)


def test_z_prime_is_no_small_raised_sign() -> None:
    assert "<msup>" not in mathml("z'", "inline") and "<msup>" in mathml("z^2", "inline")


def test_a_picture_that_is_not_there_is_named(course: Path) -> None:
    with pytest.raises(ValueError, match=r"README\.md shows the picture figures/no\.png"):
        Prose(course / "README.md", {}).convert("![no](figures/no.png)")


def test_a_readme_without_its_section_is_refused(course: Path) -> None:
    (course / "README.md").write_text("# A course\n\n## Other\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no section “## Notebooks”"):
        front_page(course / "README.md", {})


def test_the_first_page_of_the_course_lists_its_notebooks() -> None:
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    page = front_page(ROOT / "README.md", {path.resolve(): f"{path.stem}.html" for path in paths})
    assert [name for name in (path.stem for path in paths) if f'href="{name}.html"' not in page.body] == []
    assert page.title == "cltools" and "reconstruction" in page.body and 'href="#' not in page.body
    assert '<meta name="viewport"' in rendered(page, None, None)


# Outputs


def test_a_widget_is_its_picture_with_its_sentence() -> None:
    picture = base64.b64encode(PNG).decode()
    live = as_html(display(png=picture, widget={"model_id": "x"}, plain='Of "5" keys.'))
    assert 'alt="Of &quot;5&quot; keys."' in live and "<figcaption>A still picture" in live
    still = as_html(display({"image/png": {"alt": "Two lines.", "width": 300}}, png=picture, plain="Picture()"))
    assert 'alt="Two lines." width="300"' in still and "figcaption" not in still


def test_a_widget_without_a_picture_is_its_text() -> None:
    assert as_html(display(widget={"model_id": "x"}, plain="How <many>?")).startswith(
        '<p class="still">How &lt;many&gt;?'
    )


@pytest.mark.parametrize(
    ("output", "html"),
    [
        (new_output("stream", name="stdout", text="a\rb <\n\x1b[31mred\x1b[0m\n"), "<pre>b &lt;\nred</pre>"),
        (new_output("stream", name="stderr", text="100%|██| 3/3 [00:01<00:00, 2it/s]\n"), ""),
        (display(widget={"model_id": "x"}, plain="training: 0%| | 0/9 [00:00<?, ?step/s]"), ""),
        (display(plain="12 < 13"), "<pre>12 &lt; 13</pre>"),
        (display(markdown="**so**", plain="<Markdown>"), "<p><strong>so</strong></p>\n"),
        (display(html='<table border="1"></table>', plain="x"), '<div class="wide"><table></table></div>'),
        (new_output("error", ename="ValueError", evalue="no", traceback=[]), "<pre>ValueError: no</pre>"),
        (display(), ""),
    ],
)
def test_outputs_are_shown_in_the_form_that_lives_on_a_page(output: Any, html: str) -> None:
    assert as_html(output) == html


def test_styles_of_outputs_stand_in_the_head_once(course: Path) -> None:
    page = (
        make(course, display(html="<style scoped>.a{}</style><i>1</i>"), display(html="<style>.a{}</style>"))
        / "01_one.html"
    )
    head, body = page.read_text(encoding="utf-8").split("<body>")
    assert head.count("<style>.a{}</style>") == 1 and "<style" not in body and "<i>1</i>" in body


# The whole


@pytest.mark.parametrize("limit", ["PAGE", "BOOK"])
def test_what_is_too_large_is_refused_and_the_former_book_stays(
    limit: str, course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = make(course, display(plain="the former"))
    monkeypatch.setattr(building, limit, 0.2)
    large = display(plain="x" * 190_000)
    outputs = [large, large] if limit == "PAGE" else [large]
    with pytest.raises(ValueError, match=r"may have 0\.2 MB.*Show fewer or smaller") as refusal:
        make(course, *outputs)
    assert ("01_one.html" in str(refusal.value)) and "02_two.html 0.4" not in str(refusal.value)
    assert "the former" in (book / "01_one.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in course.iterdir()) == ["README.md", "book", "notebooks"]


def test_a_book_is_replaced_and_anything_else_is_not(course: Path) -> None:
    book = make(course)
    (book / "99_gone.html").write_text("of a notebook that there was", encoding="utf-8")
    assert not (make(course) / "99_gone.html").exists()
    (course / "empty").mkdir()
    assert (make(course, out="empty") / "index.html").is_file()
    with pytest.raises(ValueError, match="no book of this course"):
        make(course, out="notebooks")
    assert (course / "notebooks" / "01_one.ipynb").is_file()


def test_a_cell_that_fails_is_named_and_the_former_book_stays(course: Path) -> None:
    book = make(course, display(plain="the former"))
    path = course / "notebooks" / "02_two.ipynb"
    cells = [new_markdown_cell("# Two"), new_code_cell("x = 1", id="fine"), new_code_cell("y = 2\nx / 0", id="bad")]
    nbformat.write(new_notebook(cells=cells), path)
    with pytest.raises(
        ValueError, match=r"02_two\.ipynb: cell 3 \(bad\).*ZeroDivisionError: division by zero\n.*y = 2"
    ):
        build(book, [path], course / "README.md")
    assert "the former" in (book / "01_one.html").read_text(encoding="utf-8")


def test_a_notebook_runs_in_a_folder_of_its_own(course: Path) -> None:
    path = course / "notebooks" / "02_two.ipynb"
    source = "from pathlib import Path\nPath('../runs').mkdir()\nprint(list(Path().iterdir()))"
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    assert execution.executed(path).cells[0].outputs[0].text == "[]\n"
    assert not (course / "runs").exists()


def test_the_command_makes_the_book_of_the_course(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(building, "CARRIED", course)
    monkeypatch.setattr(building, "notebooks", lambda: {1: course / "notebooks" / "01_one.ipynb"})
    main([str(course / "out")])
    assert re.search(r"out/index\.html: 1 notebooks?, 0\.0 MB, made in", capsys.readouterr().out)
    assert "<pre>2</pre>" in (course / "out" / "01_one.html").read_text(encoding="utf-8")
