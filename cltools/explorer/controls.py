"""The controls as data: name, kind, label, value and range of each, whatever draws them."""

import ast
import inspect
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache
from itertools import pairwise
from textwrap import dedent
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cltools.explorer.edges import BANDS, FIELDS, stops
from cltools.explorer.judgement import Judgement
from cltools.explorer.sentence import of_edge
from cltools.explorer.state import Colour, Scope, State, unlabelled
from cltools.mining import CosineBand, MarginBand, NegativeRule, PositiveRule, RankBand
from cltools.mining.rules import rule_classes
from cltools.snapshot import Snapshot

Kind = Literal["select", "check", "number", "range", "edge"]

HIDDEN = {"start", "ramp", "strength", "anneal"}
"""Schedules: an explorer shows a moment, at full strength."""
BAND_OWN = {*FIELDS, "by"}
"""Settings of bands that have controls of their own."""
LABELS = {
    "positives.k": "candidates k",
    "positives.weighting": "mined weights",
    "positives.augmented_share": "augmented share",
    "positives.temperature": "soft weights' τ",
    "positives.min_cosine": "gate: cosine from",
    "positives.min_weight": "gate: soft weight from",
    "positives.by": "mined near",
    "positives.pick": "pick at random",
}
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
    "positives.k": "How many of the closest keys may be mined.",
    "positives.weighting": "softmax: the accepted by a softmax of their cosines; uniform: the accepted alike.",
    "positives.augmented_share": "The other view's weight, the mined have the rest; empty: as one among them.",
    "positives.temperature": "Of the softmax that weighs the mined.",
    "positives.min_cosine": "Candidates of a smaller cosine are not accepted; empty: no such gate.",
    "positives.min_weight": "Candidates of a smaller soft weight are not accepted; mean: 1/k; empty: no such gate.",
    "positives.by": "Whose closest keys are mined: the positive's, the anchor's, or by the larger of both cosines.",
    "positives.pick": "That many of the candidates, drawn at random; empty: all.",
}
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
    hook, found = "judge" if base is NegativeRule else "mine", []
    for name, rule in rule_classes(base).items():
        chooses = getattr(rule, hook) is not getattr(base, hook)
        made = chooses and all(f.default is not MISSING for f in fields(rule))
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
    tau, hidden = side.temperature, HIDDEN | BAND_OWN if isinstance(side.negatives, BANDS) else HIDDEN
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
        try:
            body = ast.parse(dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError, SyntaxError):
            continue
        for field, below in pairwise(body):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
                words[field.target.id] = " ".join(text.split())
    return words


def _settings(prefix: str, rule: Any, hidden: set[str]) -> list[Control]:
    """A control for each field of a rule, by its type."""
    hints, found = _hints(type(rule)), []  # type: ignore[arg-type]  # a class has a hash, whatever mypy says
    for f in fields(rule):
        if f.name in hidden or f.name.endswith("_from"):
            continue
        name, hint, value = f"{prefix}.{f.name}", hints[f.name], getattr(rule, f.name)
        label = LABELS.get(name, f.name.replace("_", " "))
        below = _words(type(rule)).get(f.name, "")  # type: ignore[arg-type]  # a class has a hash
        words = f"{HELP.get(name) or below} In code: {f.name}".lstrip()
        optional = get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint)
        if get_origin(hint) is Literal:
            found.append(_select(name, label, value, get_args(hint), "more", help=words))
        elif hint is bool:
            found.append(Control(name, "check", label, value, "more", help=words))
        else:
            text = "none" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)
            found.append(Control(name, "number", label, value, "more", text=text, help=words, optional=optional))
    return found
