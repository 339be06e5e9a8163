"""Checks as data: cases that are tried in turn, by Python in a notebook and by a script on a page of the site alike."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec

from IPython.display import display

from cltools.explorer.session import Session
from course.exercises.asking import Mistake, answered, as_number, sentence
from course.exercises.exploring import as_explorer
from course.exercises.measures import MEASURES

Arguments = ParamSpec("Arguments")
Bound = float | str | None
Bounds = tuple[Bound, Bound]
"""The least and the largest number that is accepted, or names of numbers; None for no bound."""
Where = Mapping[str, Bounds]
"""Bounds of numbers by name."""


@dataclass(frozen=True)
class Case:
    """What a reader is told if each of these numbers lies within its bounds.

    Attributes:
        words: without a capital and the final full stop; "{name:.1f}" stands for a number.
        where: bounds of numbers by name.
        right: whether the answer is right, or a mistake.
    """

    words: str
    where: Where = field(default_factory=dict)
    right: bool = False


@dataclass(frozen=True)
class Cases:
    """A check whose answer is a number or the state of an explorer.

    Attributes:
        cases: tried in turn; the first that holds is told, and the last always holds.
        measures: the numbers of the explorer by name, each the name of a function of `measures` and its arguments.
        unit: of the number that the reader gives, which cases call "answer"; empty if the explorer is the answer.
        explorer: the explorer that is measured besides such a number.
    """

    cases: tuple[Case, ...]
    measures: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    unit: str = ""
    explorer: Session | None = None

    def judge(self, answer: Any) -> str:
        """Return what a right answer is told.

        Raises:
            Mistake: the answer is of another type or wrong; explains the mistake.
        """
        known: dict[str, Any] = {"answer": as_number(answer)} if self.unit else {}
        session = self.explorer if self.unit else as_explorer(answer)

        def number(name: str) -> Any:
            if name not in known:
                measure, *arguments = self.measures[name]
                known[name] = MEASURES[measure](session, *arguments)
            return known[name]

        def within(name: str, bounds: Bounds) -> bool:
            low, high = (number(bound) if isinstance(bound, str) else bound for bound in bounds)
            return (low is None or number(name) >= low) and (high is None or number(name) <= high)

        case = next(case for case in self.cases if all(within(*named) for named in case.where.items()))
        told = case.words.format_map({name: number(name) for name in (*self.measures, *known) if name in case.words})
        if not case.right:
            raise Mistake(told)
        return f"{sentence(told)}."


@dataclass(frozen=True, repr=False)
class Checked:
    """An answer and its check; displayed as what the check says."""

    answer: Any
    cases: Cases

    def __repr__(self) -> str:
        return answered(self.answer, self.cases.judge)


def exercise_by_cases(make: Callable[Arguments, Cases]) -> Callable[..., None]:
    """Turn a function that makes cases into a check of an answer, its first argument."""

    @wraps(make)
    def check(answer: Any, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        display(Checked(answer, make(*args, **kwargs)))  # type: ignore[no-untyped-call]

    answer = inspect.Parameter("answer", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any)
    given = inspect.signature(make)
    check.__signature__ = given.replace(parameters=[answer, *given.parameters.values()], return_annotation=None)  # type: ignore[attr-defined]
    return check


def about(value: float, relative: float) -> Bounds:
    """Return the bounds around a value."""
    margin = abs(value) * relative
    return value - margin, value + margin
