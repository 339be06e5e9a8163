"""What the site shows of executed notebooks: text, charts, explorers, questions, and nothing of progress bars."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from snapshots import made

from cltools.explorer.session import Session
from course.predict import Outcome, Predict
from course.style import StyleSheet
from pages import asking, charts
from pages.explorers import embedded, site_script, snapshot_script
from pages.output import WIDGET, for_site, printed


def shown(*outputs: Any) -> list[Any]:
    (cell,) = for_site(new_notebook(cells=[new_code_cell("x", outputs=[*outputs])]), 2).cells
    return [*cell.outputs]


def display(**data: Any) -> Any:
    names = {"plain": "text/plain", "markup": "text/html", "widget": WIDGET, "chart": charts.KIND}
    return new_output("display_data", data={names[name]: value for name, value in data.items()})


def test_progress_bars_and_colours_of_a_terminal_are_gone() -> None:
    assert printed("a\r\n\x1b[31mb\x1b[0m\nold\rnew\nepoch: 50%|█| 3/6 [00:03<00:03]\n") == "a\nb\nnew\n"
    assert printed("50%| 3/6 [00:03<00:03]") == ""
    assert shown(new_output("stream", text="50%| 3/6 [00:03<00:03]"), display(plain="3/6 [00:03<00:03]")) == []


def test_a_widget_shows_its_markup_or_else_its_words() -> None:
    explorer, plain, silent = shown(
        display(plain="a", markup="<b>a</b>", widget={}), display(plain="a < b", widget={}), display(widget={})
    )
    assert {*explorer.data} == {"text/plain", "text/html"} and WIDGET not in plain.data
    assert plain.data["text/html"] == '<p class="cl-control">a &lt; b</p>' and silent.data["text/html"] == ""


def test_a_chart_is_kept_as_data_beside_its_words() -> None:
    figure = {"data": [{"type": "bar", "y": [1, 2]}], "layout": {"height": 300}}
    (output,) = shown(display(plain='bars of "a"', chart=figure))
    found = re.search(r'data-figure="([^"]*)"', output.data["text/html"])
    assert found is not None and json.loads(html.unescape(found[1])) == figure
    assert (
        "height:300px" in output.data["text/html"] and "<figcaption>bars of &quot;a&quot;" in output.data["text/html"]
    )


def test_an_unsolved_exercise_says_where_it_is_checked() -> None:
    (output,) = shown(new_output("stream", text="Not solved yet.\n"))
    assert "<code>cltools lab 2</code>" in output.data["text/html"]


def test_the_style_sheet_of_charts_is_not_repeated() -> None:
    assert shown(display(plain="", markup=StyleSheet()._repr_html_())) == []


def test_an_error_that_a_cell_may_raise_stays() -> None:
    (output,) = shown(new_output("error", ename="ValueError", evalue="wrong", traceback=[]))
    assert output.ename == "ValueError"


def test_formulas_of_folds_are_converted() -> None:
    text = "Text $a$.\n\n<details><summary>Hint</summary>When is $a$?</details>\n\n<p>$b$</p>"
    (cell,) = for_site(new_notebook(cells=[new_markdown_cell(text)]), 2).cells
    assert cell.source.count("<math") == 1 and cell.source.startswith("Text $a$.")


@pytest.mark.parametrize("show", [["pictures"], ["pictures", "map", "push", "cost"]])
def test_an_explorer_is_small_and_its_snapshot_is_shared(show: list[str], tmp_path: Path) -> None:
    session = Session(made(60))
    markup = embedded(session, show, tmp_path)
    assert len(markup) <= 100_000 and html.escape(session.sentence) in markup and "<img" in markup
    found = re.search(r'data-explorer="([^"]*)"', markup)
    assert found is not None
    told = json.loads(html.unescape(found[1]))
    (script,) = tmp_path.glob("*.js")
    assert told["snapshots"] == [script.stem] and told["show"] == show
    assert told["state"] == json.loads(session.state.to_json()) and told["recorded"] == [None]
    before = script.stat().st_mtime_ns
    assert snapshot_script(session.snapshots[0], tmp_path) == script.stem and script.stat().st_mtime_ns == before
    text = script.read_text(encoding="utf-8")
    held = json.loads(text.partition(" = ")[2].rstrip(";\n"))
    assert held["ids"] == session.snapshots[0].ids.tolist() and f'["{script.stem}"] = ' in text


def test_the_sites_script_is_small_and_one_text_each_time() -> None:
    first = site_script()
    site_script.cache_clear()
    assert site_script() == first and len(first.encode()) <= 160_000


def test_a_question_is_a_form_and_its_outcome_says_nothing_before_it_is_shown() -> None:
    choice = asking.form(Predict('Which "one"?', choices=["a", "b & c"]))
    number = asking.form(Predict("How many?", unit="%"))
    assert (
        choice.count('type="radio"') == 2
        and "b &amp; c" in choice
        and 'data-question="Which &quot;one&quot;?"' in choice
    )
    assert (
        'data-unit="%"' in number and "radio" not in number and number.count("<button") == choice.count("<button") == 2
    )
    told = asking.reveal(Outcome("How many?", None, "40 %", "More < most."))
    assert 'data-question="How many?"' in told and "<b>40 %</b>. More &lt; most." in told
