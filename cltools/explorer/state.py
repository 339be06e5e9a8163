"""The explorer's state, a frozen value that can be read from and written to a line of JSON, and its controls."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.files import parsed
from cltools.mining import LearnedThreshold, NegativeRule, PositiveRule
from cltools.mining.rules import check_temperature, learns, rule_class
from cltools.snapshot import Snapshot

Colour = Literal["band", "class", "similarity", "gradient", "difference"]
Scope = Literal["anchor", "all"]
Name = Literal["A", "B"]
SIDES: tuple[Name, Name] = ("A", "B")


@dataclass(frozen=True)
class Side:
    """The settings of one side: rules at full strength, the loss's temperature, and the epoch of the embeddings.

    With two snapshots, side A reads the first and side B the second; with one, both read it.
    """

    positives: PositiveRule
    negatives: NegativeRule
    temperature: float
    epoch: int


@dataclass(frozen=True)
class State:
    """Everything that determines what an explorer shows, except the snapshots.

    Attributes:
        anchor: id of the image whose keys are judged.
        a: side A.
        b: side B for comparison, or None.
        active: the side that the controls change.
        colour: the meaning of colours on the map.
        scope: whether the sentence is about this anchor or all anchors.
        map: name of one of the snapshot's maps.
        truth: whether classes are shown.
        doubtful: whether points whose neighbours the map does not keep are marked.
    """

    anchor: int
    a: Side
    b: Side | None = None
    active: Name = "A"
    colour: Colour = "band"
    scope: Scope = "anchor"
    map: str = "PCA"
    truth: bool = False
    doubtful: bool = False

    def __post_init__(self) -> None:
        """Raise an error if fields contradict each other."""
        if self.b is None and (self.active == "B" or self.colour == "difference"):
            raise CltoolsError("There is no side B: set compare=True first, which copies side A to side B.")

    @property
    def side(self) -> Side:
        """The side that the controls change."""
        return self.of(self.active)

    def of(self, name: Name) -> Side:
        """Return the side of a name; side A if there is no side B."""
        return self.b if name == "B" and self.b is not None else self.a

    def with_side(self, side: Side) -> "State":
        """Return the state with the active side replaced."""
        return replace(self, a=side) if self.active == "A" else replace(self, b=side)

    def to_json(self) -> str:
        """Return a line of JSON that `from_json` reads."""
        return json.dumps(to_plain(self))

    @classmethod
    def from_json(cls, text: str) -> "State":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is not JSON, or not that of a state; the message names the setting.
        """
        return from_plain(cls, parsed(text, "This is not a state: it"), "state")


def first_state(snapshot: Snapshot, other: Snapshot | None = None) -> State:
    """Return the initial state: the run's rules at full strength and the last epoch; side B for a second snapshot."""
    b = None if other is None else _side_of(other)
    colour: Colour = "band" if b is None else "difference"
    return State(int(snapshot.anchor_ids[0]), _side_of(snapshot), b, colour=colour, map=snapshot.map_names[0])


def _side_of(snapshot: Snapshot) -> Side:
    run = snapshot.experiment
    return Side(run.positives.at(1.0), run.negatives.at(1.0), run.loss.temperature, snapshot.epochs[-1])


def check(state: State, snapshots: tuple[Snapshot, ...]) -> None:
    """Raise ValueError if a state refers to something that the snapshots do not have."""
    first = snapshots[0]
    ids = first.anchor_ids
    if not (ids == state.anchor).any():
        raise CltoolsError(f"No {first.anchor_noun} has the id {state.anchor}; ids go from {ids.min()} to {ids.max()}.")
    if state.map not in first.map_names:
        raise unknown("map", state.map, first.map_names)
    if len(snapshots) == 2 and state.b is None:
        raise CltoolsError("Two snapshots are shown side by side; the state needs a side B.")
    for side, snapshot in zip((state.a, state.of("B")), (first, snapshots[-1]), strict=True):
        if side.epoch not in snapshot.epochs:
            raise unknown("epoch", str(side.epoch), [*map(str, snapshot.epochs)])
        check_temperature(side.temperature)
        rule = type(side.negatives)
        if learns(rule) and (snapshot.thresholds is None or not issubclass(rule, LearnedThreshold)):
            raise CltoolsError(f"{rule.__name__} learns while training; take a snapshot of a run trained with it.")
    if not first.labelled and (state.truth or state.colour == "class"):
        raise CltoolsError(f"These {first.noun}s have no labels, so there are no classes to show.")
    if state.colour == "class" and not state.truth:
        raise CltoolsError("Classes are hidden; set truth=True first to show them.")


# changes by one control, for `Explorer.set`, with the names of the page's controls

HIDDEN = {"start", "ramp", "strength", "anneal"}
"""Settings of schedules, which have no control: an explorer shows rules at full strength."""
EDGES = ("drop_closest", "keep_within", "above", "below", "margin", "relative", "within")
"""Settings of bands that set an edge."""
OF_STATE = ("anchor", "active", "colour", "scope", "map", "truth", "doubtful")
OF_SIDE = ("temperature", "epoch")

Rule = NegativeRule | PositiveRule
RULES = {"rule": ("negatives", NegativeRule), "positive_rule": ("positives", PositiveRule)}
"""Controls that choose a rule, with the field of a side and the rule's base class."""


def changed(state: State, name: str, value: Any, rules: Mapping[str, Rule]) -> State:
    """Return the state after one control was changed.

    Args:
        state: the state before.
        name: name of the control: a field of the state, "compare", "rule", "positive_rule", "temperature", "epoch",
            "positives.FIELD" or "negatives.FIELD". FIELD alone refers to the positive rule if it has this field, else
            to the negative rule; "by" alone refers to the negative rule if it has this field.
        value: a value of the field's type.
        rules: the last used rule of each class, by class name.

    Raises:
        ValueError: there is no such control for the present rules, or the value is invalid.
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
        return state.with_side(replace(side, **{part: _rule(base, str(value), rules)}))
    part, settings = (name, value) if name in ("positives", "negatives") else _setting(side, name, value)
    rule = getattr(side, part)
    return state.with_side(replace(side, **{part: from_plain(type(rule), to_plain(rule) | settings, part)}))


def _rule(base: type[Rule], name: str, rules: Mapping[str, Rule]) -> Any:
    """Return the last used rule of a class name, built from the present class; else a new one at full strength."""
    kind = rule_class(name, base)
    if name in rules:
        with suppress(ValueError):  # the class may have lost a setting since
            return from_plain(base, to_plain(rules[name]))
    try:
        return kind().at(1.0)
    except TypeError as error:
        raise CltoolsError(f"{name} cannot be chosen: every setting of a rule needs a default ({error}).") from error


def _setting(side: Side, name: str, value: Any) -> tuple[str, dict[str, Any]]:
    """Return the rule ("positives" or "negatives") that a name refers to, and the field with its value."""
    part, _, field = name.rpartition(".")
    settings = {each: {f.name for f in fields(getattr(side, each))} - HIDDEN for each in ("positives", "negatives")}
    if not part:
        positive = field in settings["positives"] and not (field == "by" and "by" in settings["negatives"])
        part = "positives" if positive else "negatives"
    if part not in settings or field not in settings[part]:
        every = [*OF_STATE, "compare", *RULES, *OF_SIDE, *sorted({*EDGES}.union(*settings.values()))]
        rules = " and ".join(type(getattr(side, each)).__name__ for each in settings)
        raise CltoolsError(f"{unknown('control', name, every)} The rules are {rules}.")
    return part, {field: value}
