"""The controls as data, whatever draws them: name, kind, label, value and range; and the state after one is moved."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.explorer.edges import BANDS, FIELDS, Band, converted, moved, placed, stops, widened
from cltools.explorer.judgement import Judgement
from cltools.explorer.sentence import of_edge
from cltools.explorer.state import Colour, Scope, Side, State, unlabelled
from cltools.mining import CosineBand, MarginBand, NegativeRule, PositiveRule, RankBand
from cltools.mining.rules import lacks, rule_class, rule_classes
from cltools.snapshot import Snapshot

Kind = Literal["select", "check", "number", "range", "edge"]

HIDDEN = {"start", "ramp", "strength", "anneal"}
"""Schedules: an explorer shows a moment, at full strength."""
HELP = {
    "active": "The side whose rules the controls change.",
    "rule": "How negatives are chosen: the rule's class in code.",
    "positive_rule": "How positives are mined: the rule's class in code.",
    "by": "What keys are ranked by: closeness to the positive, closeness to the anchor, or the force on the anchor.",
    "colour": "What the colours on the map mean.",
    "scope": "Whether the sentence and the counts are about this anchor or about all.",
    "map": "Which map of the same embeddings; each keeps other neighbours.",
    "epoch": "The moment of training at which the encoder was asked.",
    "truth": "Labels are shown, never used to select.",
    "doubtful": "Points that have less than a fifth of their 15 true neighbours among their 15 on the map.",
    "compare": "Two sides, A and B, with rules of their own for the same anchor.",
    "closest": "Keys closer than this edge are suspected to be false negatives, and dropped.",
    "beyond": "Keys farther than this edge are too easy, and dropped.",
    "temperature": "What the loss divides cosines by. It changes forces, and what is chosen only where force decides.",
}
BELOW = re.compile(r'^ +(\w+): [^\n]+\n +"""(.+?)"""', re.MULTILINE | re.DOTALL)
"""A field of a class, and the text below it."""
TEMPERATURES = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0]


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes:
        name: what `Explorer.set` calls it.
        kind: what it looks like.
        label: its accessible name.
        value: as it stands.
        where: "bar", "edges" or "more".
        options: values to choose from, or the stops of a range, ascending.
        names: what the options are called.
        text: the value in words with its unit.
        help: a longer explanation.
        disabled: why it cannot be moved; empty if it can.
        optional: whether it may be empty.
    """

    name: str
    kind: Kind
    label: str
    value: Any
    where: str
    options: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    text: str = ""
    help: str = ""
    disabled: str = ""
    optional: bool = False


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


def controls(state: State, snapshots: tuple[Snapshot, ...], j: Judgement) -> tuple[Control, ...]:
    """All controls of a state; `j` is the active side's judgement of its anchor."""
    found = (*_bar(state, snapshots), *_edges(state, j), *_more(state))
    return tuple(control if control.help else replace(control, help=HELP[control.name]) for control in found)


def _select(name: str, label: str, value: Any, options: Any, where: str = "bar", help: str = "") -> Control:
    return Control(name, "select", label, value, where, tuple(options), tuple(map(str, options)), help=help)


def _bar(state: State, snapshots: tuple[Snapshot, ...]) -> list[Control]:
    side, first = state.side, snapshots[0]
    snapshot = snapshots[-1] if state.active == "B" else first
    colours = [c for c in get_args(Colour) if (c != "difference" or state.b) and (c != "class" or state.truth)]
    rules, scopes = rule_names(NegativeRule, labelled=first.labelled), ("this anchor", "all anchors")
    found = [] if state.b is None else [_select("active", "controls move side", state.active, ("A", "B"))]
    found.append(_select("rule", "rule", type(side.negatives).__name__, rules))
    if isinstance(side.negatives, RankBand | CosineBand):
        options = get_args(_hints(type(side.negatives))["by"])  # type: ignore[arg-type]  # a class has a hash
        found.append(_select("by", "rank by", side.negatives.by, options))
    found.append(_select("colour", "colour by", state.colour, colours))
    found.append(Control("scope", "select", "tell about", state.scope, "bar", get_args(Scope), scopes))
    found.append(_select("map", "map", state.map, first.map_names))
    if len(snapshot.epochs) > 1:
        epoch = side.epoch
        found.append(Control("epoch", "range", "epoch", epoch, "bar", snapshot.epochs, text=f"epoch {epoch}"))
    found.append(Control("truth", "check", "show true classes", state.truth, "bar", disabled=unlabelled(first)))
    found.append(Control("doubtful", "check", "mark misplaced points", state.doubtful, "bar"))
    if len(snapshots) == 1:
        found.append(Control("compare", "check", "compare two choices", state.b is not None, "bar"))
    return found


def _edges(state: State, j: Judgement) -> list[Control]:
    rule = state.side.negatives
    if not isinstance(rule, BANDS) or j.edges is None:
        return []
    if isinstance(rule, RankBand):
        options: tuple[float, ...] = tuple(stops(j.edges.keys))
        values: tuple[float, float] = (j.edges.closest, j.edges.beyond)
        codes = ("drop_closest, a rank share", "keep_within, a rank share")
    else:
        most = 2 if isinstance(rule, MarginBand) else 1
        options = tuple(i / 100 for i in range(-100 * most, 100 * most + 1))
        values = (min(j.edges.closest_score, most), max(j.edges.beyond_score, -most))
        codes = ("below, a cosine", "above, a cosine")
        if isinstance(rule, MarginBand):
            codes = ("margin, with the sign turned", "margin and within")
    found = []
    labels = ("drop the closest", "drop beyond")
    for name, label, value, code in zip(("closest", "beyond"), labels, values, codes, strict=True):
        text, words = of_edge(name, j.edges), f"{HELP[name]} In code: {code}"
        found.append(Control(name, "edge", label, value, "edges", options, text=text, help=words))
    return found


def _more(state: State) -> list[Control]:
    side = state.side
    tau, hidden = side.temperature, HIDDEN
    if isinstance(side.negatives, BANDS):
        hidden = HIDDEN | {*FIELDS, "by"}  # which have controls of their own
    taus = tuple(sorted({*TEMPERATURES, tau}))
    return [
        Control("temperature", "range", "temperature τ", tau, "more", taus, text=f"τ = {tau:g}"),
        _select("positive_rule", "positives", type(side.positives).__name__, rule_names(PositiveRule), "more"),
        *_settings("positives", side.positives, HIDDEN),
        *_settings("negatives", side.negatives, hidden),
    ]


@cache
def _hints(rule: type) -> dict[str, Any]:
    return get_type_hints(rule)


@cache
def _words(rule: type) -> dict[str, str]:
    """What stands below each field of a class and of its bases in their source; nothing where there is no source."""
    words: dict[str, str] = {}
    for base in reversed(rule.__mro__):
        with suppress(OSError, TypeError):
            words |= {name: " ".join(text.split()) for name, text in BELOW.findall(inspect.getsource(base))}
    return words


def _settings(prefix: str, rule: Any, hidden: set[str]) -> list[Control]:
    """A control for each field of a rule, by its type."""
    hints, found = _hints(type(rule)), []  # type: ignore[arg-type]  # a class has a hash, whatever mypy says
    for f in fields(rule):
        if f.name in hidden or f.name.endswith("_from"):
            continue
        name, hint, value = f"{prefix}.{f.name}", hints[f.name], getattr(rule, f.name)
        label = f"{'mined ' if prefix == 'positives' else ''}{f.name.replace('_', ' ')}"
        below = _words(type(rule)).get(f.name, "")  # type: ignore[arg-type]  # a class has a hash
        words = f"{below} In code: {f.name}".lstrip()
        optional = get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)
        if get_origin(hint) is Literal:
            found.append(_select(name, label, value, get_args(hint), "more", help=words))
        elif hint is bool:
            found.append(Control(name, "check", label, value, "more", help=words))
        else:
            text = "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)
            found.append(Control(name, "number", label, value, "more", text=text, help=words, optional=optional))
    return found


# one control moved: what `Explorer.set` and the page's controls both do

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
    """One edge, or both at once for "band", as the pair of "closest" and "beyond".

    The page says in which unit it means the value, {"unit": …, "value": …}: the rule may have changed on the way.
    """
    rule, edges = side.negatives, judge(side).edges
    if not isinstance(rule, BANDS) or edges is None:
        raise CltoolsError(f'{type(rule).__name__} has no edges; choose rule="RankBand".')
    if isinstance(value, dict):
        unit, value = value["unit"], value["value"]
        if unit != edges.unit:
            raise CltoolsError(f"The edge was moved by {unit}, and edges are by {edges.unit} now: move it again.")
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
