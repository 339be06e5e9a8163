"""What an explorer shows, as one frozen value: a line of JSON, in and out; and what each control makes of it."""

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
    """One choice of samples: rules at full strength, the loss's temperature, and the epoch whose embeddings are read.

    With two snapshots side A reads the first and side B the other; with one, both read it.
    """

    positives: PositiveRule
    negatives: NegativeRule
    temperature: float
    epoch: int


@dataclass(frozen=True)
class State:
    """All that decides what an explorer shows, but the snapshots.

    Attributes:
        anchor: id of the image whose keys are judged.
        a: the choice that is shown.
        b: another beside it, or None.
        active: which of the two the controls move.
        colour: what colours tell on the map.
        scope: whether the sentence speaks of this anchor or of all.
        map: name of one of the snapshot's maps.
        truth: whether classes may be seen.
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
        """Refuse what contradicts itself."""
        if self.b is None and (self.active == "B" or self.colour == "difference"):
            raise CltoolsError("There is no side B: set compare=True first, which sets a copy of side A beside it.")

    @property
    def side(self) -> Side:
        """The side that the controls move."""
        return self.of(self.active)

    def of(self, name: Name) -> Side:
        """The side of a name; A where there is no other."""
        return self.b if name == "B" and self.b is not None else self.a

    def with_side(self, side: Side) -> "State":
        """The same with another active side."""
        return replace(self, a=side) if self.active == "A" else replace(self, b=side)

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        return json.dumps(to_plain(self))

    @classmethod
    def from_json(cls, text: str) -> "State":
        """Read what `to_json` wrote.

        Raises:
            ValueError: no JSON, or not of a state; the message names the setting.
        """
        return from_plain(cls, parsed(text, "This is no line of a state: it"), "state")


def first_state(snapshot: Snapshot, other: Snapshot | None = None) -> State:
    """The run's own rules at full strength, at the last epoch; with two snapshots both runs' side by side."""
    b = None if other is None else _side_of(other)
    colour: Colour = "band" if b is None else "difference"
    return State(int(snapshot.anchor_ids[0]), _side_of(snapshot), b, colour=colour, map=snapshot.map_names[0])


def _side_of(snapshot: Snapshot) -> Side:
    run = snapshot.experiment
    return Side(run.positives.at(1.0), run.negatives.at(1.0), run.loss.temperature, snapshot.epochs[-1])


def check(state: State, snapshots: tuple[Snapshot, ...]) -> None:
    """Raise ValueError where a state names what the snapshots do not have."""
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
            raise CltoolsError(f"{rule.__name__} learns while training; take a snapshot of a run that trained with it.")
    if not first.labelled and (state.truth or state.colour == "class"):
        raise CltoolsError(f"These {first.noun}s have no labels, so there are no classes to show.")
    if state.colour == "class" and not state.truth:
        raise CltoolsError("Classes are hidden: set truth=True first, which shows them.")


# one control moved: what `Explorer.set` does by the names that the page's controls have too

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
            return from_plain(base, to_plain(rules[name]))
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
        rules = " and ".join(type(getattr(side, each)).__name__ for each in settings)
        raise CltoolsError(f"{unknown('control', name, every)} The rules are {rules}.")
    return part, {field: value}
