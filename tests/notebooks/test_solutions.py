"""Every notebook has three exercises, in one pattern; `test_notebooks.py` puts their solutions in."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from exercises import CODE, HEAD, Exercise, exercises_of

from course import check

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def read(path: Path) -> list[Exercise]:
    return exercises_of(nbformat.read(path, as_version=4))


def test_there_are_three_grades_with_their_time() -> None:
    for path in NOTEBOOKS:
        found = read(path)
        assert [(each.number, each.grade) for each in found] == [(1, "Check"), (2, "Tweak"), (3, "Open")]
        assert all(re.search(r"\d+ minutes|an hour", each.minutes) for each in found)
        assert all(each.hint.strip() for each in found)


def test_one_at_least_is_solved_in_the_explorer() -> None:
    for path in NOTEBOOKS:
        assert any(each.reads_explorer for each in read(path))


def test_an_answer_cell_ends_in_its_checks() -> None:
    for path in NOTEBOOKS:
        for each in read(path):
            assert each.checks and set(each.checks) <= set(check.__all__)
            lines = each.answer.splitlines()
            first = next(number for number, line in enumerate(lines) if line.startswith("check."))
            assert all(line.startswith("check.") for line in lines[first:]), each.answer
            ast.parse(each.solved)


def test_a_fold_is_one_block_of_html() -> None:
    """A blank line would end it, and in it Markdown stays as it is written."""
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        folds = re.findall(
            r"<details>.*?</details>", "\n".join(cell.source for cell in notebook.cells), flags=re.DOTALL
        )
        assert len(folds) >= 6
        assert [fold for fold in folds if "\n\n" in fold] == []
        assert [fold for fold in folds if re.search(r"`|\*\*|\]\(", CODE.sub("", fold))] == []


def test_every_check_is_asked_for_by_a_notebook() -> None:
    asked = {name for path in NOTEBOOKS for each in read(path) for name in each.checks}
    assert asked == set(check.__all__)


def test_a_solution_is_put_in_above_the_checks() -> None:
    fold = "<details><summary>Hint</summary>Think.</details>\n<details><summary>Solution</summary>So: {}</details>"
    pages = ["a = 1 &lt; 2", "a = 1 &lt; 2; b = 3"]
    for code, page in zip(("<code>{}</code> as in <code>c</code>", "<pre>{}</pre>"), pages, strict=True):
        text = f"Talk.\n\n**1 · Check (5 minutes).** Do.\n\n{fold.format(code.format(page))}"
        cells = [
            nbformat.v4.new_markdown_cell(text),
            nbformat.v4.new_code_cell("a = None\ncheck.kept(a)\ncheck.fair(a)"),
        ]
        (each,) = exercises_of(nbformat.v4.new_notebook(cells=cells))
        assert each.checks == ["kept", "fair"] and HEAD.search(text)
        assert each.solved == f"a = None\n{page.replace('&lt;', '<')}\ncheck.kept(a)\ncheck.fair(a)"
        with pytest.raises(ValueError, match="no answer cell"):
            exercises_of(nbformat.v4.new_notebook(cells=cells[:1]))
        cells[0].source = text.replace("Hint", "Help")
        with pytest.raises(ValueError, match="wants a cell of its own"):
            exercises_of(nbformat.v4.new_notebook(cells=cells))
