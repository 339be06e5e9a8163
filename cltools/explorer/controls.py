"""One control moved: what `Explorer.set` does by the names that the page's controls have too."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.explorer.state import Side, State
from cltools.mining import NegativeRule, PositiveRule
from cltools.mining.rules import rule_class

HIDDEN = {"start", "ramp", "strength", "anneal"}
"""Schedules: an explorer shows a moment, at full strength."""
EDGES = ("drop_closest", "keep_within", "above", "below", "margin", "relative", "within")
"""Settings of bands that are edges."""
OF_STATE = ("anchor", "active", "colour", "scope", "map", "truth", "doubtful")
OF_SIDE = ("temperature", "epoch")

Rule = NegativeRule | PositiveRule
RULES = {"rule": ("negatives", NegativeRule), "positive_rule": ("positives", PositiveRule)}
"""Controls that choose a rule: the part of a side, and its kind."""


def changed(state: State, name: str, value: Any, rules: Mapping[str, Rule]) -> State:
    """The state with one control moved.

    Args:
        state: before.
        name: of a control: a field of the state, "compare", "rule", "positive_rule", "temperature", "epoch", or
            "positives.FIELD" and "negatives.FIELD". A bare FIELD is one of the positive rule, else of the negative; a
            bare "by" is the negative rule's where it has one.
        value: of the field's type.
        rules: as they last stood, by class name.

    Raises:
        ValueError: no such control for the rules as they are, or a value that it cannot have.
    """
    if name in OF_STATE:
        hidden = {"colour": "band"} if name == "truth" and not value and state.colour == "class" else {}
        return from_plain(State, to_plain(state) | {name: value} | hidden, "state")
    if name == "compare":
        if value:
            return state if state.b else replace(state, b=state.a, active="B", colour="difference")
        return replace(state, b=None, active="A", colour="band" if state.colour == "difference" else state.colour)
    side = state.side
    if name in OF_SIDE:
        return state.with_side(from_plain(Side, to_plain(side) | {name: value}, "state"))
    if name in RULES:
        part, base = RULES[name]
        chosen: dict[str, Any] = {part: _rule(base, str(value), rules)}
        return state.with_side(replace(side, **chosen))
    part, settings = (name, value) if name in ("positives", "negatives") else _setting(side, name, value)
    rule = getattr(side, part)
    return state.with_side(replace(side, **{part: from_plain(type(rule), to_plain(rule) | settings, part)}))


def _rule(base: type[Rule], name: str, rules: Mapping[str, Rule]) -> Rule:
    """The rule of a class name as it last stood, of the class as it is now; else at its defaults and full strength."""
    kind = rule_class(name, base)
    if name in rules:
        with suppress(ValueError):  # the class has lost a setting since
            known: Rule = from_plain(base, to_plain(rules[name]))
            return known
    try:
        made: Rule = kind().at(1.0)
    except TypeError as error:
        raise CltoolsError(f"{name} cannot be chosen: every setting of a rule needs a default ({error}).") from error
    return made


def _setting(side: Side, name: str, value: Any) -> tuple[str, dict[str, Any]]:
    """Which rule a name means, and which of its fields, with the value."""
    part, _, field = name.rpartition(".")
    settings = {each: {f.name for f in fields(getattr(side, each))} - HIDDEN for each in ("positives", "negatives")}
    if not part:
        ours = field in settings["positives"] and not (field == "by" and "by" in settings["negatives"])
        part = "positives" if ours else "negatives"
    if part not in settings or field not in settings[part]:
        every = [*OF_STATE, "compare", *RULES, *OF_SIDE, *sorted({*EDGES}.union(*settings.values()))]
        here = " ".join(
            f"{type(getattr(side, each)).__name__} has {', '.join(sorted(names)) or 'no settings'}."
            for each, names in settings.items()
        )
        raise CltoolsError(f"{unknown('control', name, every)} {here}")
    return part, {field: value}
