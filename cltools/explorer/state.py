"""What an explorer shows, as one frozen value: a line of JSON, in and out."""

import json
from dataclasses import dataclass, replace
from typing import Literal

from cltools.config import from_plain, to_plain
from cltools.errors import CltoolsError, unknown
from cltools.files import parsed
from cltools.mining import LearnedThreshold, NegativeRule, PositiveRule
from cltools.mining.rules import check_temperature, learns
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
