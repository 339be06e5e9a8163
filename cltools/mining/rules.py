"""What a rule is: the base classes for negatives and for positives, what both are asked with, and what bands share.

A rule is a frozen dataclass. Subclass `NegativeRule` with `judge`, or `PositiveRule` with `mine`, and it trains, saves,
loads and appears in the explorer by its class name. `cltools.testing.check_rule` tests what every rule must hold.

Legend: B anchors, K keys, P mined candidates, S synthetic negatives, d embedding.
"""

import inspect
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from cltools.errors import CltoolsError, Settings, check_number, foreign, unknown
from cltools.mining.similarities import Similarities

READS_NOTHING: frozenset[str] = frozenset()
State = dict[str, Tensor]
"""What a rule that learns knows, by name: tensors on the device, which a checkpoint holds."""


NO_GRADIENT = "It gets no gradient, so give float(temperature) of one that learns."


def check_temperature(temperature: Any) -> float:
    """The temperature of a loss as a number; raises ValueError for what it cannot be, and for one that learns."""
    return float(check_number("The temperature", temperature, "above 0, a number from 1e-6 to 1e6", ".", NO_GRADIENT))


@dataclass(frozen=True)
class Context:
    """What rules are asked with, beside the similarities.

    Attributes:
        eligible: bool [B, K], true where a key is not the anchor's own and, once positives are mined, not mined.
        temperature: of the loss.
        generator: for rules that draw; None for torch's own.
        state: of a rule that learns; None where there is none, as on embeddings that no training left a state for.
    """

    eligible: Tensor
    temperature: float
    generator: torch.Generator | None = None
    state: State | None = None


@dataclass(frozen=True)
class Estimate(Settings):
    """How the negatives' mass is estimated from the kept ones (`cltools.losses.negative_mass`).

    Attributes:
        beta: tilt towards similar negatives (HCL, arXiv:2010.04592); 0 is none.
        tau_plus: assumed share of false negatives (debiased, arXiv:2007.00224); 0 corrects nothing.
        detach: keep the gradient from flowing through the tilt.
    """

    beta: Annotated[float, "at least 0 and finite"] = 0.0
    tau_plus: Annotated[float, "at least 0 and below 1"] = 0.0
    detach: bool = True


NEUTRAL = Estimate()


@dataclass(frozen=True)
class Rule(Settings):
    """What negative and positive rules share."""

    @property
    def reads(self) -> frozenset[str]:
        """Which optional fields of `Similarities` are read: "positive_keys", "same_class", "vectors", "ids".

        What is not named is not computed, and reading it is an error. A class may set it: `reads = frozenset({…})`.
        """
        return READS_NOTHING


@dataclass(frozen=True)
class NegativeRule(Rule):
    """Which keys are kept as negatives. The base judges nothing; `judge` is the one method that a rule must have.

    A rule that learns while it trains has `new_state`, `measure` and `learn`: `judge` and `measure` only read the state
    (`Context.state`), and `learn` changes it once per step, after the backward pass.
    """

    softens: ClassVar[bool] = False
    """Whether a kept key of weight below 1 is one of a softened band, and gets the code SOFTENED."""

    def __init_subclass__(cls) -> None:
        """Refuse a class that overrides what is never called."""
        super().__init_subclass__()
        _check_methods(cls, NegativeRule, FOR_NEGATIVES, foreign=FOR_POSITIVES)

    def at(self, progress: float) -> "NegativeRule":
        """The rule in force at this share of training; a rule with schedules resolves them here."""
        return self

    def judge(self, s: Similarities, context: Context) -> Int8[Tensor, "B K"]:
        """The band of each key: EASY, POTENTIAL, HARD or OTHER. Own and mined keys get their codes from `select`."""
        raise chooses_nothing(self, "judge")

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"] | None:
        """Weights of the kept keys; None for ones."""
        return None

    def synthesise(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B S d"] | None:
        """New negatives of unit length; None for none."""
        return None

    def estimate(self) -> Estimate:
        """How the mass of the negatives is estimated."""
        return NEUTRAL

    def weigh_anchors(self, s: Similarities, context: Context) -> Float[Tensor, " B"] | None:
        """How much each anchor counts in the mean of the loss, at least 0; None for all alike."""
        return None

    def new_state(self, ids: Int[Tensor, " N"], device: torch.device) -> State | None:
        """The state of a rule that learns, for training images of these ids; None for one that does not."""
        return None

    def measure(self, s: Similarities, context: Context) -> Float[Tensor, " B"] | None:
        """What is learned from, one number per anchor; None where nothing is."""
        return None

    def learn(self, state: State, ids: Int[Tensor, " B"], measured: Float[Tensor, " B"]) -> None:
        """Change the state in place, without waiting for the device.

        Args:
            state: of `new_state`.
            ids: of the batch's images, of all ranks; none twice.
            measured: the mean of `measure` over each image's anchors.
        """


FOR_POSITIVES = ("mine",)
FOR_NEGATIVES = ("judge", "weigh", "synthesise", "estimate", "weigh_anchors", "new_state", "measure", "learn")


@dataclass(frozen=True)
class Mined:
    """What a positive rule mines, at full strength.

    Attributes:
        index: int64 [B, P], which keys are candidates; no key twice in a row.
        weight: float32 [B, 1+P], rows sum to 1; column 0 is the augmented view. An own key has weight 0.
    """

    index: Tensor
    weight: Tensor


@dataclass(frozen=True)
class PositiveRule(Rule):
    """Which keys are positives beside the augmented view, and with what weight. A rule must have `mine`.

    The warm-up belongs to this base: before `start` nothing is mined, then the mined weight grows.
    """

    start: Annotated[float, "a number between 0 and 1"] = field(default=0.1, kw_only=True)
    """Share of training before which nothing is mined."""
    ramp: Annotated[float, "a number between 0 and 1"] = field(default=0.05, kw_only=True)
    """Share of training over which the mined weight then grows to its full value."""
    strength: Annotated[float, "a number between 0 and 1"] = field(default=1.0, kw_only=True)
    """Share of the mined weight that is applied; `at` resolves `start` and `ramp` to it."""

    def __init_subclass__(cls) -> None:
        """Refuse a class that overrides what is never called."""
        super().__init_subclass__()
        _check_methods(cls, PositiveRule, FOR_POSITIVES, foreign=FOR_NEGATIVES)

    def at(self: "P", progress: float) -> "P":
        """The rule in force at this share of training, `start` and `ramp` resolved into `strength`."""
        grown = 1.0 if self.ramp == 0 else min(1.0, (progress - self.start) / self.ramp)
        return replace(self, start=0.0, ramp=0.0, strength=self.strength * grown if progress >= self.start else 0.0)

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Candidates and the weights of the augmented view and of each candidate, at full strength."""
        raise chooses_nothing(self, "mine")


P = TypeVar("P", bound=PositiveRule)


def reads_now(positive_rule: PositiveRule, negative_rule: NegativeRule) -> frozenset[str]:
    """What both rules read; a positive rule without strength reads nothing, as it is not asked."""
    return negative_rule.reads | (positive_rule.reads if positive_rule.strength > 0 else READS_NOTHING)


def learns(rule: type[NegativeRule]) -> bool:
    """Whether rules of this class have a state that training changes."""
    return rule.new_state is not NegativeRule.new_state


def chooses_nothing(rule: object, hook: str) -> CltoolsError:
    """The error for a rule without the method that makes it one."""
    return CltoolsError(f"{type(rule).__name__} has no {hook}(self, s, context), which says which keys it takes.")


def check_chooses(rule: object) -> None:
    """Raise ValueError for a rule without the method that makes it one: `judge` for negatives, `mine` for positives."""
    base, hook = (NegativeRule, "judge") if isinstance(rule, NegativeRule) else (PositiveRule, "mine")
    if getattr(type(rule), hook) is getattr(base, hook):
        raise chooses_nothing(rule, hook)


def check_rules(positive_rule: object, negative_rule: object) -> None:
    """Raise TypeError for rules in another order, something else in their place, or a rule that chooses nothing."""
    if not isinstance(positive_rule, PositiveRule):
        raise foreign(positive_rule, "A positive rule such as NearestKeys(), and after it a negative rule,")
    if not isinstance(negative_rule, NegativeRule):
        raise foreign(negative_rule, "A negative rule such as RankBand(), after the positive rule,")
    check_chooses(positive_rule)
    check_chooses(negative_rule)


def rule_classes(base: type[Any]) -> dict[str, type[Any]]:
    """Every subclass of a base by its class name; of two classes of one name the later."""
    found: dict[str, type[Any]] = {}
    for rule in base.__subclasses__():
        found |= {rule.__name__: rule} | rule_classes(rule)
    return found


def rule_class(name: str, base: type[Any]) -> type[Any]:
    """The rule of that class name, a reader's own included once its class is defined.

    Raises:
        ValueError: no such rule of this kind; the message names the nearest.
    """
    known = rule_classes(base)
    if name not in known:
        kind = "positive rule" if base is PositiveRule else "negative rule"
        raise CltoolsError(f"{unknown(kind, name, known)} One of your own is known once its module is imported.")
    return known[name]


def _check_methods(cls: type[Any], base: type[Any], hooks: tuple[str, ...], foreign: tuple[str, ...]) -> None:
    """Refuse a class that defines methods which nobody would call, or hooks with another signature."""
    for name, value in vars(cls).items():
        if name in foreign:
            raise TypeError(f"{cls.__name__}.{name} is never called: it belongs to the other kind of rule.")
        hook = getattr(base, name, None)
        if name.startswith("_") or not inspect.isfunction(value):
            continue
        near = [] if hook else get_close_matches(name, ("at", *hooks), 1, cutoff=0.85)
        if near and near[0] not in vars(cls):
            raise TypeError(f"{cls.__name__}.{name} is no hook; did you mean {near[0]}? Call a helper otherwise.")
        if not inspect.isfunction(hook):
            continue
        wanted = [*inspect.signature(hook).parameters]
        try:
            inspect.signature(value).bind(*wanted)
        except TypeError:
            raise TypeError(f"{cls.__name__}.{name} is called as {name}({', '.join(wanted[1:])}).") from None


def annealed(first: float, last: float, done: float) -> float:
    """From `first` to `last` in a straight line; `done` is the share of the way, and above 1 the setting rests."""
    return last if done >= 1 else first + (last - first) * done


class Rescalable:
    """For rules whose kept keys may stand for all, so that a smaller sum is not what is measured.

    No rule itself, and no dataclass: a rule names it before `NegativeRule`, and has the field where it wants it.
    """

    rescale: bool

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"] | None:
        """If `rescale`, K/M: (keys neither own nor mined) / (keys kept)."""
        if not self.rescale:
            return None
        return kept * (context.eligible.sum(1, keepdim=True).float() / kept.sum(1, keepdim=True).clamp_min(1))


M = TypeVar("M", bound="Moving")


class Moving(Rule):
    """For rules with edges that may start elsewhere: each edge has a field `<edge>_from`, and all share `anneal`.

    No rule itself, and no dataclass, as `Rescalable`.
    """

    EDGES: ClassVar[tuple[str, ...]]
    ORDERED: ClassVar[tuple[str, ...]] = ()
    """Two edges, rank shares or cosines, of which the first stays below the second."""
    anneal: float

    def __post_init__(self) -> None:
        """Check fields and schedule.

        Raises:
            ValueError: a field that is not what its type says, a schedule of nothing, an edge that starts somewhere and
                ends nowhere, or edges that cross, where they end or where they start.
        """
        super().__post_init__()
        name, moving = type(self).__name__, [edge for edge in self.EDGES if getattr(self, f"{edge}_from") is not None]
        if not moving and self.anneal != type(self).anneal:  # as far as that can be told from the default
            edges = " or ".join(f"{edge}_from" for edge in self.EDGES)
            raise CltoolsError(f"{name}: anneal is {self.anneal}, but nothing moves; give {edges} or leave anneal out.")
        for edge in moving:
            if getattr(self, edge) is None:
                raise CltoolsError(f"{name}: {edge}_from is given without {edge}; say where it ends.")
        if self.ORDERED:
            first, second = self.ORDERED
            low, high = getattr(self, first), getattr(self, second)
            if not (-1.0 if low is None else low) < (1.0 if high is None else high):
                raise CltoolsError(f"{name}: {first}={low} must be below {second}={high}, where they start too.")
        if moving:
            Moving.at(self, 0.0)  # which is refused where its edges cross

    moved = staticmethod(annealed)
    """Where an edge is on its way."""

    def at(self: "M", progress: float) -> "M":
        """The rule in force at this share of training, its edges moved over `anneal`."""
        now: dict[str, Any] = {"anneal": type(self).anneal}
        for edge in self.EDGES:
            if (first := getattr(self, f"{edge}_from")) is not None:
                now |= {edge: self.moved(first, getattr(self, edge), progress / self.anneal), f"{edge}_from": None}
        return replace(self, **now)
