"""A question before an experiment: the box keeps the reader's guess, and shows it beside the outcome later.

Nothing waits for an answer: a notebook that runs from top to bottom leaves every box empty, and that is ordinary.
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
"""What was answered, by question: a cell that runs again, as all do in Run All, finds the guess it had."""
THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")


@dataclass(frozen=True, repr=False)
class Outcome:
    """A guess beside what it was a guess of; folded where there is no guess yet, so that it gives nothing away.

    Attributes:
        guess: in words, or None.
        value: in words.
        sentence: what it means; may be empty.
    """

    guess: str | None
    value: str
    sentence: str

    def __repr__(self) -> str:
        said = "You did not answer; it was" if self.guess is None else f"You said {self.guess}; it was"
        return f"{said} {self.value}. {self.sentence}".rstrip()

    def _repr_html_(self) -> str:
        value, sentence = html.escape(self.value), html.escape(self.sentence)
        if self.guess is None:
            folded = "<summary>You did not answer. Open to see what it was.</summary>"
            return f"<details>{folded}<p>It was <b>{value}</b>. {sentence}</p></details>"
        return f"<p>You said <b>{html.escape(self.guess)}</b>; it was <b>{value}</b>. {sentence}</p>"


class Predict:
    """A question with a place for a guess: `guess = Predict("How many?", unit="%")`, and later `guess.reveal(value)`.

    Attributes:
        control: the ipywidgets control that holds the guess.
        widget: the whole box.
    """

    def __init__(self, question: str, *, choices: Sequence[str] | None = None, unit: str | None = None) -> None:
        """An empty box, or one with the guess that the same question had before.

        Args:
            question: what is asked; its text is also what the guess is kept under.
            choices: answers to choose from; or
            unit: of the number that is asked for, such as "%" (then from 0 to 100) or "keys".

        Raises:
            ValueError: both choices and unit, or neither.
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
        """The guess: one of the choices or a number; None without one that can be read."""
        written = self.control.value
        if self.choices is not None or written is None:
            return written if written is None else str(written)
        try:
            return self._read(written)
        except ValueError:
            return None

    def reveal(self, value: float | str, sentence: str = "") -> Outcome:
        """The guess beside the outcome; the box shows both from now on, also to who answers later.

        Args:
            value: the number in the box's unit, or one of its choices.
            sentence: what the outcome means.

        Raises:
            ValueError: the outcome is none of the choices.
        """
        if self.choices is not None and value not in self.choices:
            raise CltoolsError(f"Predict: the outcome {value!r} is none of the choices {[*self.choices]}.")
        self._value, self._sentence = self._said(value), sentence
        self._answered()
        return self._outcome()

    def _outcome(self) -> Outcome:
        assert self._value is not None
        answer = self.answer
        return Outcome(None if answer is None else self._said(answer), self._value, self._sentence)

    def _said(self, value: float | str) -> str:
        if isinstance(value, str):
            return value
        decimals = 1 if abs(value) >= 10 else 2
        return f"{value:,.{decimals}f}".rstrip("0").rstrip(".") + f" {self.unit}"

    def _read(self, written: str) -> float:
        """The number that was written.

        Raises:
            ValueError: none was; the message is for the reader.
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
        """Keep the guess, and say what became of it."""
        answer = self.answer
        if answer is not None:
            _guesses[self.question] = answer
            kept = f"Kept: {self._said(answer)}. Click the next cell and run it."
            self._say(str(self._outcome()) if self._value else kept)
        elif self.choices is None and self.control.value.strip():
            try:
                self._read(self.control.value)
            except ValueError as error:
                self._say(str(error))
        else:
            _guesses.pop(self.question, None)
            self._say("")

    def _say(self, text: str) -> None:
        self._message.value = f'<p role="status" aria-live="polite">{html.escape(text)}</p>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """The box, and for viewers without widgets its question."""
        bundle: dict[str, Any] = self.widget._repr_mimebundle_()
        return {**bundle, "text/plain": self.question}
