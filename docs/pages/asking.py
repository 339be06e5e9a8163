"""Questions and exercises on pages of the site, as forms.

What follows a question is folded until the reader guesses or waives it; the page's script finds the reveal by the
question's text. The answer to an exercise is checked on the page, if that needs no kernel. In a notebook's kernel this
is an IPython extension.
"""

import html
import json
from dataclasses import asdict
from typing import Any

from cltools.explorer.session import Session
from course.exercises.cases import Checked
from course.predict import Outcome, Predict
from pages.explorers import number_of

WITHOUT = "(Answers are taken and checked by a script of this page, or in the notebook: <code>cltools lab</code>.)"


def form(asked: Predict) -> str:
    """Return the form of a question."""
    question = html.escape(asked.question)
    if asked.choices is not None:
        inputs = "".join(
            f'<label><input type="radio" name="guess" value="{html.escape(choice)}"> {html.escape(choice)}</label>'
            for choice in asked.choices
        )
    else:
        unit = html.escape(asked.unit or "")
        inputs = f'<label class="cl-number">Your guess, in {unit}: <input name="guess" inputmode="decimal"></label>'
    unit = f' data-unit="{html.escape(asked.unit)}"' if asked.unit else ""
    return (
        f"<noscript><p><b>{question}</b> {WITHOUT}</p></noscript>"
        f'<form class="cl-ask" data-question="{question}"{unit} hidden><fieldset><legend>{question}</legend>{inputs}'
        '</fieldset><div><button type="submit">Answer</button><button type="button">Show what it was</button></div>'
        '<p role="status"></p></form>'
    )


def reveal(outcome: Outcome) -> str:
    """Return the outcome of a question, which opens with the reader's guess once it is known."""
    return (
        f'<p class="cl-reveal" data-question="{html.escape(outcome.question)}"><span class="cl-opening">It was</span> '
        f"<b>{html.escape(outcome.value)}</b>. {html.escape(outcome.sentence)}</p>"
    )


def check(checked: Checked) -> str:
    """Return the form of an exercise whose answer is a number or the state of the explorer above it."""
    cases = checked.cases
    told = {"cases": [asdict(case) for case in cases.cases], "measures": cases.measures, "unit": cases.unit}
    data = html.escape(json.dumps(told, ensure_ascii=False, separators=(",", ":")))
    if cases.unit:
        unit = html.escape(cases.unit)
        read = "<p>The check also reads <a>the explorer above</a>.</p>" if cases.measures else ""
        asked = f'{read}<label class="cl-number">Your answer, in {unit}: <input inputmode="decimal"></label> '
    else:
        asked = "<p>Your answer is how you set <a>the explorer above</a>.</p>"
    measured = cases.explorer or checked.answer
    session = f' data-session="{number_of(measured)}"' if isinstance(measured, Session) else ""
    return (
        f"<noscript><p>{WITHOUT}</p></noscript>"
        f'<form class="cl-ask cl-check" data-check="{data}"{session} hidden>{asked}<button type="submit">Check</button>'
        '<p role="status"></p></form>'
    )


def still(words: str) -> str:
    """Return a control of the notebook as text."""
    return f'<p class="cl-control">{html.escape(words)}</p>' if words else ""


def in_notebook(number: int) -> str:
    """Return what a page says of an exercise whose check needs a kernel."""
    return (
        '<p class="cl-control">Your answer is checked in the notebook, which runs on your own computer: '
        f"<code>cltools lab {number}</code> opens it.</p>"
    )


def load_ipython_extension(shell: Any) -> None:
    """Display questions and outcomes in this kernel as the site shows them."""
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(Predict, form)
    formatter.for_type(Outcome, reveal)
    formatter.for_type(Checked, check)
