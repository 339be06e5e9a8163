"""Messages for what a person may mistype or mix up, and the checks of settings that are made in several parts."""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from functools import cache, wraps
from numbers import Real
from os import PathLike, fspath
from typing import Any, Literal, get_args, get_origin, get_type_hints


class CltoolsError(ValueError):
    """An error that a person can mend: its message says what is wrong and what to do."""


def unknown(kind: str, name: object, known: Iterable[str], *, otherwise: str | None = None) -> CltoolsError:
    """The error for a `name` that is not among the `known` ones.

    Names the nearest, or the few that begin with what was typed; where none is near, many begin so, or it is no text,
    it says `otherwise`, by default all that are known.
    """
    names, near = sorted(known), list[str]()
    if isinstance(name, str):
        begun = [each for each in names if name and each.casefold().startswith(name.casefold())]
        near = begun or get_close_matches(name, names, n=3, cutoff=0.5)
        near = near if len(near) <= 3 else []
    otherwise = otherwise or f"Known: {', '.join(names) or 'none'}."
    hint = f"Did you mean {' or '.join(near)}?" if near else otherwise
    return CltoolsError(f"Unknown {kind} {name!r}. {hint}")


def foreign(value: Any, wanted: str) -> TypeError:
    """The error for a `value` of another kind than the `wanted` one, which is named with an article and an example."""
    return TypeError(f"{wanted} is wanted here, and this is {described(value)}.")


def described(value: Any) -> str:
    """What a value is, where something else is wanted; a class is told from an object of it."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


def is_number(value: object) -> bool:
    """Whether it is a real number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_least(settings: object, **minima: float) -> None:
    """Raise ValueError for a field that is below its minimum or no finite number, whole where its type says so.

    None passes as a default.
    """
    hints = get_type_hints(type(settings))
    for name, minimum in minima.items():
        value, optional = getattr(settings, name), getattr(type(settings), name) is None
        whole = float not in (hints[name], *get_args(hints[name]))
        fits = is_number(value) and minimum <= value < float("inf") and not (whole and value != int(value))
        if not (value is None and optional) and not fits:
            bound = "finite" if value == float("inf") else f"at least {minimum}"
            kind = " and a whole number" * (whole and isinstance(value, float))
            otherwise = ", or None" if optional else ""
            raise CltoolsError(f"{type(settings).__name__}: {name} is {value}; it must be {bound}{kind}{otherwise}.")


class Settings:
    """A base of frozen dataclasses whose fields become Python's own values, which JSON holds.

    So NumPy's numbers, truth values and texts are, tensors of one number, arrays and lists, which become tuples, and
    paths where a text is wanted. A field whose type is a `Literal` must be one of its words.
    """

    def __init_subclass__(cls) -> None:
        """Let this come before what a class checks itself."""
        super().__init_subclass__()
        if check := vars(cls).get("__post_init__"):

            @wraps(check)
            def __post_init__(settings: Any) -> None:
                Settings.__post_init__(settings)
                check(settings)

            cls.__post_init__ = __post_init__  # type: ignore[assignment, method-assign]

    def __post_init__(self) -> None:
        """Make values Python's own.

        Raises:
            ValueError: a word that is not known.
        """
        for field in fields(self):  # type: ignore[arg-type]
            value = plain(getattr(self, field.name))
            text = isinstance(value, PathLike) and "str" in str(field.type)
            object.__setattr__(self, field.name, fspath(value) if text else value)
        for name, known in _words(type(self)).items():  # type: ignore[arg-type]
            if (value := getattr(self, name)) not in known:
                raise unknown(f"{type(self).__name__} {name}", value if isinstance(value, str) else str(value), known)


def plain(value: Any) -> Any:
    """A value as one of Python's own, if there is one; what learns (`requires_grad`) stays what it is."""
    if hasattr(value, "tolist") and not getattr(value, "requires_grad", False):
        value = value.tolist()
    return tuple(plain(each) for each in value) if isinstance(value, list | tuple) else value


@cache
def _words(settings: type) -> dict[str, tuple[str, ...]]:
    """The words that fields may be; of no field where a type cannot be read."""
    try:
        hints = get_type_hints(settings)
    except NameError:
        return {}
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
