"""One control moved: the state after it. What `Explorer.set` and the page's controls both do."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from cltools.config import from_plain, rule_class, to_plain
from cltools.errors import unknown
from cltools.explorer.controls import BAND_OWN, HIDDEN
from cltools.explorer.edges import converted, moved
from cltools.explorer.judgement import Judgement
from cltools.explorer.state import Side, State
from cltools.mining import BandNegatives, NegativeRule, PositiveRule
from cltools.mining.negatives import Unit, lowest_edge

OF_STATE = ("anchor", "active", "colour", "scope", "map", "truth", "doubtful")
OF_SIDE = ("temperature", "epoch")
OF_POSITIVES = tuple(f.name for f in fields(PositiveRule) if f.name not in HIDDEN | {"temperature"})
ONE_UNIT: dict[str, Unit] = {"margin": "cosine", "gradient": "rank"}
"""References whose edges can be of one unit only."""
EDGES = ("closest", "beyond")

Judge = Callable[[Side], Judgement]
Remember = Callable[[str], NegativeRule]


def changed(state: State, name: str, value: Any, *, keys: int, judge: Judge, remember: Remember) -> State:
    """The state with one control moved.

    Args:
        state: before.
        name: of a control: a field of the state, "compare", "rule", "temperature", "epoch", "closest", "beyond",
            "band" (both), or "positives.FIELD" and "negatives.FIELD". A bare FIELD is one of the positive rule, else
            of the negative.
        value: of the field's type.
        keys: how many there are.
        judge: judges the state's anchor by a side, to keep a band in place where its unit or reference changes.
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
    if name == "rule":
        return state.with_side(replace(side, negatives=remember(str(value))))
    if name in EDGES or name == "band":
        return state.with_side(replace(side, negatives=_edge_moved(side, name, value, keys)))
    if name in ("reference", "unit", "negatives.reference", "negatives.unit") and isinstance(
        side.negatives, BandNegatives
    ):
        return state.with_side(_re_expressed(side, name.removeprefix("negatives."), value, judge))
    if name in ("positives", "negatives"):
        return state.with_side(_with_fields(side, name, value))
    part, field = _field(side, name)
    return state.with_side(_with_fields(side, part, {field: value}))


def remembered(name: str) -> NegativeRule:
    """The rule of a class name at its defaults, at full strength.

    Raises:
        ValueError: no such rule, or one that has a setting without a default.
    """
    kind = rule_class(name)
    try:
        rule: NegativeRule = kind()
    except TypeError as error:
        raise ValueError(f"{name} cannot be chosen here: every setting of a rule needs a default ({error}).") from error
    return rule.at(1.0)


def _compared(state: State, compare: bool) -> State:
    if compare == (state.b is not None):
        return state
    if compare:
        return replace(state, b=state.a, active="B", colour="difference")
    colour = "band" if state.colour == "difference" else state.colour
    return replace(state, b=None, active="A", colour=colour)


def _edge_moved(side: Side, name: str, value: Any, keys: int) -> BandNegatives:
    """One edge, or both at once for "band", as the pair of "closest" and "beyond".

    The page says in which unit it means the value, {"unit": …, "value": …}: the unit may have changed on the way.
    """
    rule = side.negatives
    if not isinstance(rule, BandNegatives):
        raise ValueError(f'{type(rule).__name__} has no edges; choose rule="BandNegatives".')
    if isinstance(value, dict):
        if value["unit"] != rule.unit:
            raise ValueError(f"The edge was moved by {value['unit']}, and edges are by {rule.unit} now: move it again.")
        value = value["value"]
    if name != "band":
        return moved(rule, name, float(value), keys)
    wide = replace(rule, lower=lowest_edge(rule.unit, rule.reference), upper=1.0)
    return moved(moved(wide, "closest", float(value[0]), keys), "beyond", float(value[1]), keys)


def _re_expressed(side: Side, name: str, value: Any, judge: Judge) -> Side:
    """Another unit, or another reference, without moving the band: as many keys as now on either side of each edge."""
    rule, edges = side.negatives, judge(side).edges
    assert isinstance(rule, BandNegatives) and edges is not None
    reference = value if name == "reference" else rule.reference
    unit: Unit = value if name == "unit" else rule.unit
    if name == "unit" and value == "cosine" and reference == "gradient":
        raise ValueError("A force is no cosine: rank by the positive or the anchor first.")
    if name == "unit" and value == "rank" and reference == "margin":
        raise ValueError("A margin has cosine edges only: rank by the positive or the anchor first.")
    unit = ONE_UNIT.get(reference, unit)
    free = replace(rule, lower=lowest_edge(unit, reference), upper=1.0, unit=unit, reference=reference)
    return replace(side, negatives=converted(free, edges, unit, judge(replace(side, negatives=free)).ranked))


def _with_fields(side: Side, part: str, values: dict[str, Any]) -> Side:
    """The side with some fields of one of its rules. A gate goes where the weighting takes none."""
    rule = getattr(side, part)
    if part == "positives" and values.get("weighting") in ("none", "soft"):
        values = values | {"threshold": None, "min_share": None}
    return replace(side, **{part: from_plain(type(rule), to_plain(rule) | values, part)})


def _field(side: Side, name: str) -> tuple[str, str]:
    """Which rule a name means, and which of its fields."""
    part, _, field = name.rpartition(".")
    negative = {f.name for f in fields(side.negatives)}
    if not part:
        part = "positives" if field in OF_POSITIVES else "negatives"
    known = {f.name for f in fields(PositiveRule)} if part == "positives" else negative
    if part not in ("positives", "negatives") or field not in known:
        every = [*OF_STATE, "compare", "rule", *OF_SIDE, *EDGES, *OF_POSITIVES, *sorted(negative | BAND_OWN)]
        here = f" {type(side.negatives).__name__} has {', '.join(sorted(negative)) or 'no settings'}."
        raise ValueError(f"{unknown('control', name, every)}{here}")
    return part, field
