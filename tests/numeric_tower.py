"""The run-time checker of the tests: beartype, to which an int is a float, as it is to mypy and to Python."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check every call, except of functions within functions.

    These would be made ready for it at every call of the outer one. They say no shapes, and mypy sees their types.
    """
    return function if "<locals>" in function.__qualname__ else _checked(function)
