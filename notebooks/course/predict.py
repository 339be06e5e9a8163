"""A question before an experiment: the box stores the reader's guess, and later shows it beside the outcome.

Nothing waits for an answer: when a notebook runs from top to bottom, every box stays empty.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from cltools.errors import CltoolsError

_guesses: dict[str, float | str] = {}
"""Guesses by question: if a cell runs again, as in Run All, the earlier guess is restored."""
THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")


@dataclass(frozen=True, repr=False)
class Outcome:
    """A guess beside the outcome; the outcome is folded if there is no guess yet, so that it is not revealed.

    Attributes:
        question: the question.
        guess: in words, or None.
        value: the outcome in words.
        sentence: what the outcome means; may be empty.
    """

    question: str
    guess: str | None
    value: str
    sentence: str

    def __repr__(self) -> str:
        opening = "You did not answer; it was" if self.guess is None else f"You said {self.guess}; it was"
        return f"{opening} {self.value}. {self.sentence}".rstrip()

    def _repr_html_(self) -> str:
        value, sentence = html.escape(self.value), html.escape(self.sentence)
        if self.guess is None:
            folded = "<summary>You did not answer. Open to see what it was.</summary>"
            return f"<details>{folded}<p>It was <b>{value}</b>. {sentence}</p></details>"
        return f"<p>You said <b>{html.escape(self.guess)}</b>; it was <b>{value}</b>. {sentence}</p>"


class Predict:
    """A question with an input for a guess: `guess = Predict("How many?", unit="%")`, and later `guess.reveal(value)`.

    Attributes:
        control: the ipywidgets control that holds the guess.
        widget: the whole box.
    """

    def __init__(self, question: str, *, choices: Sequence[str] | None = None, unit: str | None = None) -> None:
        """Create an empty box, or one with the earlier guess for the same question.

        Args:
            question: the question; its text is also the key under which the guess is stored.
            choices: answers to choose from; or
            unit: the unit of the requested number, such as "%" (then from 0 to 100) or "keys".

        Raises:
            ValueError: both choices and unit, or neither, were given.
        """
        if (choices is None) == (unit is None):
            raise CltoolsError("Predict: give either choices=[…] or unit=…, so that one kind of answer is asked for.")
        self.question, self.choices, self.unit = question, choices, unit
        self._value: str | None = None
        self._sentence = ""
        self.control: Any = self._make_control()
        self._message = widgets.HTML()
        self.widget: Any = widgets.VBox([widgets.HTML(f"<p>{html.escape(question)}</p>"), self.control, self._message])
        self.control.observe(self._answered, "value")
        self._answered()

    def _make_control(self) -> Any:
        before = _guesses.get(self.question)
        look = {"style": {"description_width": "initial"}, "layout": widgets.Layout(width="max-content")}
        if self.choices is not None:
            value = before if before in self.choices else None
            return widgets.RadioButtons(options=[*self.choices], value=value, description="Your guess:", **look)
        value = "" if not isinstance(before, float) else f"{before:g}"
        name = f"Your guess, in {self.unit}:"
        return widgets.Text(value=value, description=name, placeholder="a number", continuous_update=False, **look)

    @property
    def answer(self) -> float | str | None:
        """The guess: one of the choices or a number; None if there is none or it cannot be read."""
        written = self.control.value
        if self.choices is not None or written is None:
            return written if written is None else str(written)
        try:
            return self._read(written)
        except ValueError:
            return None

    def reveal(self, value: float | str, sentence: str = "") -> Outcome:
        """Return the guess beside the outcome; from now on the box shows both, even if it is answered later.

        Args:
            value: the number in the box's unit, or one of its choices.
            sentence: what the outcome means.

        Raises:
            ValueError: the outcome is none of the choices.
        """
        if self.choices is not None and value not in self.choices:
            raise CltoolsError(f"Predict: the outcome {value!r} is none of the choices {[*self.choices]}.")
        self._value, self._sentence = self._worded(value), sentence
        self._answered()
        return self._outcome()

    def _outcome(self) -> Outcome:
        assert self._value is not None
        answer = self.answer
        guess = None if answer is None else self._worded(answer)
        return Outcome(self.question, guess, self._value, self._sentence)

    def _worded(self, value: float | str) -> str:
        if isinstance(value, str):
            return value
        decimals = 1 if abs(value) >= 10 else 2
        return f"{value:,.{decimals}f}".rstrip("0").rstrip(".") + f" {self.unit}"

    def _read(self, written: str) -> float:
        """Parse the number that was written.

        Raises:
            ValueError: it is no valid number; the message is for the reader.
        """
        text = written.strip().removesuffix(self.unit or "").strip()
        text = text.replace(",", "") if THOUSANDS.fullmatch(text) else text.replace(",", ".")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise CltoolsError(f"“{written.strip()}” is no number; write one, such as 40.")
        if self.unit == "%" and not 0 <= number <= 100:
            raise CltoolsError(f"{number:g} % is no share; write a number from 0 to 100.")
        return number

    def _answered(self, _change: object = None) -> None:
        """Store the guess and show a message."""
        answer = self.answer
        if answer is not None:
            _guesses[self.question] = answer
            kept = f"Kept: {self._worded(answer)}. Click the next cell and run it."
            self._show_message(str(self._outcome()) if self._value else kept)
        elif self.choices is None and self.control.value.strip():
            try:
                self._read(self.control.value)
            except ValueError as error:
                self._show_message(str(error))
        else:
            _guesses.pop(self.question, None)
            self._show_message("")

    def _show_message(self, text: str) -> None:
        self._message.value = f'<p role="status" aria-live="polite">{html.escape(text)}</p>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Return the box, and the question as text for viewers without widgets."""
        bundle: dict[str, Any] = self.widget._repr_mimebundle_()
        return {**bundle, "text/plain": self.question}
