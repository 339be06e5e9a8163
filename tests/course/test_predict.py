"""The box keeps a guess, says what cannot be one, and shows it beside the outcome; nobody has to answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from course import Predict, predict


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    predict._guesses.clear()
    yield
    predict._guesses.clear()


def message(guess: Predict) -> str:
    text: str = guess.widget.children[2].value
    return text


def share(question: str = "How many?") -> Predict:
    return Predict(question, unit="%")


def test_an_unanswered_question_is_ordinary_and_gives_nothing_away() -> None:
    guess = share()
    assert guess.answer is None
    outcome = guess.reveal(47.23, "Nearly half.")
    assert str(outcome) == repr(outcome) == "You did not answer; it was 47.2 %. Nearly half."
    page = outcome._repr_html_()
    assert page.startswith("<details><summary>You did not answer. Open") and "<b>47.2 %</b>. Nearly half." in page


def test_a_guess_stands_beside_the_outcome() -> None:
    guess = share()
    guess.control.value = "30"
    assert guess.answer == 30 and "Kept: 30 %" in message(guess)
    outcome = guess.reveal(47.23, "Nearly half.")
    assert str(outcome) == "You said 30 %; it was 47.2 %. Nearly half."
    assert "<details>" not in outcome._repr_html_()
    assert "You said 30 %; it was 47.2 %." in message(guess)


def test_who_answers_late_sees_both_in_the_box() -> None:
    guess = share()
    guess.reveal(10)
    assert "it was" not in message(guess)
    guess.control.value = "20"
    assert "You said 20 %; it was 10 %." in message(guess)


def test_a_guess_outlives_its_cell_and_another_question_has_none() -> None:
    first = share()
    first.control.value = "30"
    again = share()
    assert again.answer == 30 and again.control.value == "30" and "Kept: 30 %" in message(again)
    assert share("How few?").answer is None
    again.control.value = " "
    assert share().answer is None


@pytest.mark.parametrize(
    "written, number",
    [("40", 40), (" 40 % ", 40), ("40%", 40), ("0,5", 0.5), ("12.5", 12.5), ("1e1", 10), ("0", 0), ("100", 100)],
)
def test_numbers_are_read_as_people_write_them(written: str, number: float) -> None:
    guess = share()
    guess.control.value = written
    assert guess.answer == number


def test_a_comma_may_group_thousands() -> None:
    guess = Predict("How many?", unit="keys")
    guess.control.value = "1,297 keys"
    assert guess.answer == 1297
    assert str(guess.reveal(1024)) == "You said 1,297 keys; it was 1,024 keys."


@pytest.mark.parametrize(
    "written, words",
    [
        ("many", "“many” is no number; write one, such as 40."),
        ("nan", "“nan” is no number"),
        ("1e999", "“1e999” is no number"),
        ("120", "120 % is no share; write a number from 0 to 100."),
        ("-3", "-3 % is no share"),
        ("<b>", "“&lt;b&gt;” is no number"),
    ],
)
def test_what_is_no_answer_gets_a_message_in_the_box(written: str, words: str) -> None:
    guess = share()
    guess.control.value = written
    assert guess.answer is None and words in message(guess)
    assert str(guess.reveal(5)).startswith("You did not answer")


def test_choices_are_offered_without_one_being_made() -> None:
    guess = Predict("Better?", choices=["better", "worse"])
    assert guess.answer is None and [*guess.control.options] == ["better", "worse"]
    guess.control.value = "worse"
    assert guess.answer == "worse"
    assert str(guess.reveal("better", "Look.")) == "You said worse; it was better. Look."
    assert Predict("Better?", choices=["better", "worse"]).answer == "worse"
    assert Predict("Better?", choices=["yes", "no"]).answer is None


@pytest.mark.parametrize(
    "value, said", [(4.25, "4.25 keys"), (4.0, "4 keys"), (0.031, "0.03 keys"), (1499.26, "1,499.3")]
)
def test_outcomes_have_as_many_digits_as_they_need(value: float, said: str) -> None:
    assert said in str(Predict("How many?", unit="keys").reveal(value))


def test_every_control_is_labelled_and_what_changes_is_announced() -> None:
    for guess in (share(), Predict("Better?", choices=["better", "worse"])):
        assert guess.control.description.startswith("Your guess")
        assert 'role="status"' in message(guess)
    assert "in %" in share().control.description


@pytest.mark.parametrize("asked", [{}, {"choices": ["a", "b"], "unit": "%"}])
def test_one_kind_of_answer_is_asked_for(asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"either choices=\[…\] or unit=…"):
        Predict("What?", **asked)


def test_an_outcome_outside_the_choices_is_an_error_of_the_notebook() -> None:
    with pytest.raises(ValueError, match="'same' is none of the choices"):
        Predict("Better?", choices=["better", "worse"]).reveal("same")


def test_words_of_others_cannot_break_out() -> None:
    guess = Predict("<b>?", choices=["<i>", "no"])
    assert "<b>" not in guess.widget.children[0].value
    guess.control.value = "<i>"
    assert "<i>" not in guess.reveal("<i>", "<u>")._repr_html_() + message(guess)


def test_viewers_without_widgets_see_the_question() -> None:
    shown = share()._repr_mimebundle_()
    assert shown["text/plain"] == "How many?" and "application/vnd.jupyter.widget-view+json" in shown
