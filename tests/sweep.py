"""Every control of an explorer through its range, as `set` moves it; for tests and for kernels of notebooks."""

from contextlib import suppress
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cltools.errors import CltoolsError
from cltools.explorer.state import HIDDEN, Colour, Scope
from cltools.mining import NegativeRule, PositiveRule
from cltools.mining.rules import rule_classes

KINDS: dict[str, Any] = {"rule": NegativeRule, "positive_rule": PositiveRule}
PARTS = {"rule": "negatives", "positive_rule": "positives"}


def sweep(explorer: Any) -> set[str]:
    """Set every control to values of its range, with every rule; returns the names of those that moved.

    A setting takes every word, or a few numbers around the one it has; what a rule refuses in words is passed over. The
    explorer is left as it was found.
    """
    found, swept = explorer.state, set[str]()

    def move(name: str, value: Any) -> None:
        before = explorer.state
        explorer.set({name: value})
        if explorer.state != before:
            swept.add(name)
        assert explorer.sentence and len(explorer.selection.band[0]) == len(explorer.snapshot("A"))

    def back(state: Any) -> None:
        explorer.restore(state.to_json())

    _move_view(explorer, move)
    back(found)
    for choosing, base in KINDS.items():
        for name, rule in rule_classes(base).items():
            if not rule.__module__.startswith("cltools."):
                continue  # those of tests
            try:
                move(choosing, name)
            except ValueError as error:
                assert "learns while training" in str(error) or "reads same_class" in str(error)
                continue
            here = explorer.state
            for setting, value in _settings(explorer, PARTS[choosing]):
                with suppress(CltoolsError):
                    move(setting, value)
                back(here)
            back(found)
    back(found)
    return swept


def _move_view(explorer: Any, move: Any) -> None:
    """What is no rule's: anchors, truth, colours, maps, epochs, temperature, sides."""
    ids, first = explorer.snapshots[0].ids, explorer.snapshots[0]
    state = explorer.state
    for place in (0, len(ids) // 2, -1):
        move("anchor", int(ids[place]))
    if first.labelled:
        for value in (True, False, True):
            move("truth", value)
    for value in (True, False):
        move("doubtful", value)
    for name in first.map_names:
        move("map", name)
    for epoch in explorer.snapshot(explorer.state.active).epochs:
        move("epoch", epoch)
    for temperature in (0.01, 0.2, 5.0):
        move("temperature", temperature)
    if len(explorer.snapshots) == 1:
        move("compare", state.b is None)
        move("compare", state.b is not None)
        move("compare", True)
    for side in ("A", "B", "A"):
        move("active", side)
    for colour in get_args(Colour):
        if colour != "class" or first.labelled:
            move("colour", colour)
    if len(first) <= 1500:
        for scope in reversed(get_args(Scope)):
            move("scope", scope)


def _settings(explorer: Any, part: str) -> list[tuple[str, Any]]:
    """Every setting of a rule with values to try."""
    rule = explorer.rules[part == "negatives"]
    hints = get_type_hints(type(rule))
    return [
        (f"{part}.{field.name}", value)
        for field in fields(rule)
        if field.name not in HIDDEN
        for value in _values(hints[field.name], getattr(rule, field.name))
    ]


def _values(hint: Any, now: Any) -> list[Any]:
    """Values of a type around one."""
    if hint is bool:
        return [not now]
    if get_origin(hint) is Literal:
        return [*get_args(hint)]
    found: list[Any] = []
    for each in get_args(hint) or (hint,):
        if each is type(None):
            found.append(None)
        elif get_origin(each) is Literal:
            found += get_args(each)
        elif each is int:
            found += [1, 2, 7] if not isinstance(now, int) else [max(now // 2, 1), now, now + 1]
        elif each is float:
            found += [0.0, 0.05, 0.5, 1.0]
    return found
