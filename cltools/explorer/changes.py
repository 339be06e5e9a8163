"""One control moved: the state after it. What `Explorer.set` and the page's controls both do."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.explorer.controls import HIDDEN
from cltools.explorer.edges import BANDS, FIELDS, Band, converted, moved, placed, unit_of, widened
from cltools.explorer.judgement import Judgement
from cltools.explorer.state import Side, State
from cltools.mining import NegativeRule, PositiveRule
from cltools.mining.rules import rule_class, rule_classes

OF_STATE = ("anchor", "active", "colour", "scope", "map", "truth", "doubtful")
OF_SIDE = ("temperature", "epoch")
EDGES = ("closest", "beyond")

Judge = Callable[[Side], Judgement]
Remember = Callable[[str], NegativeRule | PositiveRule]
RULES: dict[str, type[NegativeRule] | type[PositiveRule]] = {"rule": NegativeRule, "positive_rule": PositiveRule}
"""Controls that choose a rule, and its kind."""


def changed(state: State, name: str, value: Any, *, keys: int, judge: Judge, remember: Remember) -> State:
    """The state with one control moved.

    Args:
        state: before.
        name: of a control: a field of the state, "compare", "rule", "positive_rule", "temperature", "epoch", "closest",
            "beyond", "band" (both), or "positives.FIELD" and "negatives.FIELD". A bare FIELD is one of the positive
            rule, else of the negative; a bare "by" is the negative rule's where it has one.
        value: of the field's type.
        keys: how many there are.
        judge: judges the state's anchor by a side, to keep a band in place where it is measured otherwise.
        remember: the rule of a class name as it last stood.

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
        return state.with_side(_with_rule(side, remember(_rule_name(name, value)), judge))
    if name in EDGES or name == "band":
        return state.with_side(replace(side, negatives=_edge_moved(side, name, value, judge)))
    if name in ("by", "negatives.by") and isinstance(side.negatives, BANDS) and hasattr(side.negatives, "by"):
        other = from_plain(type(side.negatives), to_plain(side.negatives) | {"by": value}, "negatives")
        return state.with_side(_in_place(side, other, judge))
    if name in ("positives", "negatives"):
        return state.with_side(_with_fields(side, name, value))
    part, field = _field(side, name)
    return state.with_side(_with_fields(side, part, {field: value}))


def remembered(name: str) -> NegativeRule | PositiveRule:
    """The rule of a class name, negative or positive, at its defaults and at full strength.

    Raises:
        ValueError: no such rule, or one that has a setting without a default.
    """
    kind = rule_class(name, PositiveRule if name in rule_classes(PositiveRule) else NegativeRule)
    try:
        rule: NegativeRule | PositiveRule = kind()
    except TypeError as error:
        raise CltoolsError(
            f"{name} cannot be chosen here: every setting of a rule needs a default ({error})."
        ) from error
    return rule.at(1.0)


def _compared(state: State, compare: bool) -> State:
    if compare == (state.b is not None):
        return state
    if compare:
        return replace(state, b=state.a, active="B", colour="difference")
    colour = "band" if state.colour == "difference" else state.colour
    return replace(state, b=None, active="A", colour=colour)


def _rule_name(control: str, value: Any) -> str:
    """The class name of a rule of the kind that the control chooses."""
    return rule_class(str(value), RULES[control]).__name__


def _with_rule(side: Side, rule: NegativeRule | PositiveRule, judge: Judge) -> Side:
    """The side with another rule; one band in place of another keeps as many keys on either side of each edge."""
    old = side.negatives
    if isinstance(rule, BANDS) and isinstance(old, BANDS) and type(rule) is not type(old):
        plain, by = to_plain(rule), getattr(old, "by", None)
        if by in ("positive", "anchor") and "by" in plain:
            rule = from_plain(type(rule), plain | {"by": by}, "negatives")
        return _in_place(side, rule, judge)
    return replace(side, negatives=rule) if isinstance(rule, NegativeRule) else replace(side, positives=rule)


def _edge_moved(side: Side, name: str, value: Any, judge: Judge) -> Band:
    """One edge, or both at once for "band", as the pair of "closest" and "beyond".

    The page says in which unit it means the value, {"unit": …, "value": …}: the rule may have changed on the way.
    """
    rule, edges = side.negatives, judge(side).edges
    if not isinstance(rule, BANDS) or edges is None:
        raise CltoolsError(f'{type(rule).__name__} has no edges; choose rule="RankBand".')
    if isinstance(value, dict):
        unit = unit_of(rule)
        if value["unit"] != unit:
            raise CltoolsError(f"The edge was moved by {value['unit']}, and edges are by {unit} now: move it again.")
        value = value["value"]
    if name != "band":
        return moved(rule, name, float(value), edges)
    return placed(rule, float(value[0]), float(value[1]), edges.keys)


def _in_place(side: Side, rule: Band, judge: Judge) -> Side:
    """Another band, whose edges keep as many keys as now."""
    edges, free = judge(side).edges, widened(rule)
    assert edges is not None and isinstance(free, BANDS)
    return replace(side, negatives=converted(free, edges, judge(replace(side, negatives=free)).ranked))


def _with_fields(side: Side, part: str, values: dict[str, Any]) -> Side:
    """The side with some fields of one of its rules."""
    rule = getattr(side, part)
    return replace(side, **{part: from_plain(type(rule), to_plain(rule) | values, part)})


def _field(side: Side, name: str) -> tuple[str, str]:
    """Which rule a name means, and which of its fields."""
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
    return part, field
