"""The common parts of checks: a check prints its result and never stops a notebook.

It reports an exercise that is not solved yet (None or …); otherwise a judge function finds and explains the mistake. If
the answer is an explorer, its state is judged.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")


class Mistake(Exception):
    """The explanation of what is wrong with an answer, without the final full stop."""


def exercise(judge: Callable[Concatenate[Any, Arguments], str]) -> Callable[Concatenate[Any, Arguments], None]:
    """Turn a judge into a check that prints "Not solved yet", "Not yet" with the mistake found, or "Right"."""

    @wraps(judge)
    def check(answer: Any, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        print(answered(answer, lambda given: judge(given, *args, **kwargs)))

    return cast(Callable[Concatenate[Any, Arguments], None], check)


def answered(answer: Any, judge: Callable[[Any], str]) -> str:
    """Return what a check says: that there is no answer yet, what a right one is told, or the mistake found."""
    if answer is None or answer is ...:
        return "Not solved yet."
    try:
        if _is_empty(answer):
            raise Mistake(f"this {type(answer).__name__} is empty")
        return f"Right. {judge(answer)}"
    except Mistake as mistake:
        return f"Not yet: {mistake}."


def sentence(text: str) -> str:
    """Capitalise the first letter of a text."""
    return f"{text[0].upper()}{text[1:]}"


def as_numbers(answer: Any, shape: tuple[int, ...]) -> Tensor:
    """Return the answer as numbers of this shape; a single row may be given without its first axis."""
    try:
        given = torch.as_tensor(answer, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise Mistake(f"a tensor of numbers is wanted, and this is of type {type(answer).__name__}") from None
    if shape[0] == 1 and given.shape == shape[1:]:
        given = given[None]
    if given.shape != shape:
        raise Mistake(f"a tensor of shape {[*shape]} is wanted, and this has {[*given.shape]}")
    if given.isnan().any():
        raise Mistake("some numbers are nan. Rounding can make c² exceed 1: use .clamp_min(0) before .sqrt()")
    return given


def as_mask(answer: Any, shape: tuple[int, int]) -> Tensor:
    """Return the answer as a boolean mask of this shape; a single row may be given without its first axis."""
    try:
        given = torch.as_tensor(answer).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise Mistake(f"true or false for each key is wanted, and this is of type {type(answer).__name__}") from None
    if given.dtype != torch.bool:
        kind = str(given.dtype).removeprefix("torch.")
        raise Mistake(f"true or false for each key is wanted, as a comparison gives, and this holds {kind}")
    if shape[0] == 1 and given.shape == shape[1:]:
        given = given[None]
    if given.shape == shape[::-1] != shape:
        raise Mistake("rows and columns are the other way round: one row per anchor, one column per key")
    if given.shape != shape:
        raise Mistake(f"a mask of shape {[*shape]} is wanted, and this has {[*given.shape]}")
    return given


def as_number(answer: Any) -> float:
    """Return the answer as one number."""
    try:
        number = float(answer)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise Mistake(f"one number is wanted, and this is of type {type(answer).__name__}") from None
    if not math.isfinite(number):
        raise Mistake(f"{number} is no number to work with")
    return number


def same(given: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are equal up to the rounding of float32."""
    return given.shape == other.shape and torch.allclose(given, other.double(), rtol=1e-3, atol=1e-7)


def _is_empty(answer: Any) -> bool:
    try:
        return len(answer) == 0
    except TypeError:  # an answer without a length is not empty
        return False
