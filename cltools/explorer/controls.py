"""One control moved: what `Explorer.set` does by the names that the page's controls have too."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.explorer.edges import BANDS, FIELDS, Band, converted, moved, placed, widened
from cltools.explorer.judgement import Judgement
from cltools.explorer.state import Side, State
from cltools.mining import CosineBand, NegativeRule, PositiveRule, RankBand
from cltools.mining.rules import lacks, rule_class, rule_classes

HIDDEN = {"start", "ramp", "strength", "anneal"}
"""Schedules: an explorer shows a moment, at full strength."""
OF_STATE = ("anchor", "active", "colour", "scope", "map", "truth", "doubtful")
OF_SIDE = ("temperature", "epoch")
EDGES = ("closest", "beyond")

Judge = Callable[[Side], Judgement]
Rule = NegativeRule | PositiveRule
RULES: dict[str, type[NegativeRule] | type[PositiveRule]] = {"rule": NegativeRule, "positive_rule": PositiveRule}
"""Controls that choose a rule, and its kind."""


def changed(state: State, name: str, value: Any, *, judge: Judge, rules: Mapping[str, Rule]) -> State:
    """The state with one control moved.

    Args:
        state: before.
        name: of a control: a field of the state, "compare", "rule", "positive_rule", "temperature", "epoch", "closest",
            "beyond", "band" (both), or "positives.FIELD" and "negatives.FIELD". A bare FIELD is one of the positive
            rule, else of the negative; a bare "by" is the negative rule's where it has one.
        value: of the field's type.
        judge: judges the state's anchor by a side, to keep a band in place where it is measured otherwise.
        rules: as they last stood, by class name.

    Raises:
        ValueError: no such control for the rules as they are, or a value that it cannot have.
    """
    if name in OF_STATE:
        hidden = {"colour": "band"} if name == "truth" and not value and state.colour == "class" else {}
        return from_plain(State, to_plain(state) | {name: value} | hidden, "state")
    if name == "compare":
        return _compared(state, bool(value))
    side = state.side
    if name in OF_SIDE:
        return state.with_side(from_plain(Side, to_plain(side) | {name: value}, "state"))
    if name in RULES:
        return state.with_side(_with_rule(side, _rule(RULES[name], str(value), rules), judge))
    if name in EDGES or name == "band":
        return state.with_side(replace(side, negatives=_edge_moved(side, name, value, judge)))
    if name in ("by", "negatives.by") and isinstance(side.negatives, BANDS) and hasattr(side.negatives, "by"):
        other = from_plain(type(side.negatives), to_plain(side.negatives) | {"by": value}, "negatives")
        return state.with_side(_in_place(side, other, judge))
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


def _compared(state: State, compare: bool) -> State:
    if compare == (state.b is not None):
        return state
    if compare:
        return replace(state, b=state.a, active="B", colour="difference")
    colour = "band" if state.colour == "difference" else state.colour
    return replace(state, b=None, active="A", colour=colour)


def _with_rule(side: Side, rule: Rule, judge: Judge) -> Side:
    """The side with another rule; one band in place of another keeps as many keys on either side of each edge."""
    old = side.negatives
    if isinstance(rule, PositiveRule):
        return replace(side, positives=rule)
    if not isinstance(rule, BANDS) or not isinstance(old, BANDS) or type(rule) is type(old):
        return replace(side, negatives=rule)
    by = getattr(old, "by", None)
    if isinstance(rule, RankBand | CosineBand) and by in ("positive", "anchor"):
        rule = replace(rule, by=by)
    return _in_place(side, rule, judge)


def _edge_moved(side: Side, name: str, value: Any, judge: Judge) -> Band:
    """One edge, or both at once for "band", as the pair of "closest" and "beyond"."""
    rule, edges = side.negatives, judge(side).edges
    if not isinstance(rule, BANDS) or edges is None:
        raise CltoolsError(f'{type(rule).__name__} has no edges; choose rule="RankBand".')
    if name != "band":
        return moved(rule, name, float(value), edges)
    return placed(rule, float(value[0]), float(value[1]), edges.keys)


def _in_place(side: Side, rule: Band, judge: Judge) -> Side:
    """Another band, whose edges keep as many keys as now."""
    edges, free = judge(side).edges, widened(rule)
    assert edges is not None
    return replace(side, negatives=converted(free, edges, judge(replace(side, negatives=free)).ranked))


def _setting(side: Side, name: str, value: Any) -> tuple[str, dict[str, Any]]:
    """Which rule a name means, and which of its fields, with the value."""
    part, _, field = name.rpartition(".")
    settings = {each: {f.name for f in fields(getattr(side, each))} - HIDDEN for each in ("positives", "negatives")}
    if not part:
        ours = field in settings["positives"] and not (field == "by" and "by" in settings["negatives"])
        part = "positives" if ours else "negatives"
    if part not in settings or field not in settings[part]:
        every = [*OF_STATE, "compare", *RULES, *OF_SIDE, *EDGES, *sorted({*FIELDS}.union(*settings.values()))]
        here = " ".join(
            f"{type(getattr(side, each)).__name__} has {', '.join(sorted(names)) or 'no settings'}."
            for each, names in settings.items()
        )
        raise CltoolsError(f"{unknown('control', name, every)} {here}")
    return part, {field: value}


def rule_names(base: type[NegativeRule] | type[PositiveRule], *, labelled: bool = True) -> list[str]:
    """Every rule of a kind that can be chosen, a reader's own included: it chooses, and each setting has a default.

    Where images are not `labelled` it also reads no classes.
    """
    found = []
    for name, rule in rule_classes(base).items():
        made = not lacks(rule) and all(f.default is not MISSING for f in fields(rule))
        if made and (labelled or "same_class" not in rule().reads):
            found.append(name)
    return found


BELOW = re.compile(r'^ +(\w+): [^\n]+\n +"""(.+?)"""', re.MULTILINE | re.DOTALL)
"""A field of a class, and the text below it."""


@cache
def words_of(rule: type) -> dict[str, str]:
    """What stands below each field of a class and of its bases in their source; nothing where there is no source."""
    words: dict[str, str] = {}
    for base in reversed(rule.__mro__):
        with suppress(OSError, TypeError):
            words |= {name: " ".join(text.split()) for name, text in BELOW.findall(inspect.getsource(base))}
    return words
