"""Base classes of negative and positive rules, the context passed to them, and mixins that bands share.

A rule is a frozen dataclass. Subclass `NegativeRule` and define `judge`, or `PositiveRule` and define `mine`; the rule
can then be trained, saved, loaded and chosen in the explorer by its class name. `cltools.testing.check_rule` checks the
requirements on every rule.

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
"""State of a learning rule, by name: tensors on the device, saved in checkpoints."""
NO_GRADIENT = "It gets no gradient; if it is a learned parameter, give float(temperature)."


def check_temperature(temperature: Any) -> float:
    """Return the temperature of a loss as a float; raise ValueError if it is invalid or requires a gradient."""
    return float(check_number("The temperature", temperature, "above 0, a number from 1e-6 to 1e6", ".", NO_GRADIENT))


@dataclass(frozen=True)
class Context:
    """The arguments of a rule's methods besides the similarities.

    Attributes:
        eligible: bool [B, K], true where a key is not the anchor's own and, once positives are mined, not mined.
        temperature: temperature of the loss.
        generator: random generator for rules that draw; None for torch's default.
        state: state of a learning rule; None if there is none, as for embeddings without a saved training state.

    Example:
        >>> from cltools import Context, CosineBand, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> context = Context(eligible=~s.own, temperature=0.2)
        >>> CosineBand(above=0.2, below=0.9, by="anchor").judge(s, context)  # 3 is HARD, 2 POTENTIAL and 1 EASY
        tensor([[3, 2, 2, 2, 1, 1, 1, 1]], dtype=torch.int8)
    """

    eligible: Tensor
    temperature: float
    generator: torch.Generator | None = None
    state: State | None = None


@dataclass(frozen=True)
class Estimate(Settings):
    """How the negatives' mass is estimated from the kept ones (`cltools.losses.negative_mass`).

    Attributes:
        beta: tilt towards similar negatives, at least 0 (HCL, arXiv:2010.04592, eq. 4); 0 is none.
        tau_plus: assumed share of false negatives, in [0, 1) (debiased, arXiv:2007.00224, eq. 8); 0 corrects nothing.
        detach: detach the tilt, so that no gradient flows through it.

    Example:
        >>> from cltools import Estimate, negative_mass
        >>> for estimate in Estimate(), Estimate(beta=1.0), Estimate(tau_plus=0.1):
        ...     log_mass, _ = negative_mass([[0.9]], [[0.8, 0.2, -0.4]], temperature=0.5, estimate=estimate)
        ...     print(round(float(log_mass), 2))
        1.93
        2.46
        1.73
    """

    beta: Annotated[float, "at least 0 and finite"] = 0.0
    tau_plus: Annotated[float, "at least 0 and below 1"] = 0.0
    detach: bool = True


NEUTRAL = Estimate()


@dataclass(frozen=True)
class Rule(Settings):
    """Base class of negative and positive rules."""

    @property
    def reads(self) -> frozenset[str]:
        """The optional fields of `Similarities` that are read: "positive_keys", "same_class", "vectors", "ids".

        Other optional fields are not computed, and reading one is an error. A class may set `reads = frozenset({…})`.

        Example:
            >>> from cltools import OracleNegatives, RankBand
            >>> RankBand(by="positive").reads, RankBand(by="anchor").reads
            (frozenset({'positive_keys'}), frozenset())
            >>> OracleNegatives().reads
            frozenset({'same_class'})
        """
        return READS_NOTHING


@dataclass(frozen=True)
class NegativeRule(Rule):
    """Base class of rules that choose which keys are kept as negatives; a rule must define `judge`.

    A rule that learns during training defines `new_state`, `measure` and `learn`: `judge` and `measure` only read the
    state (`Context.state`), and `learn` changes it once per step, after the backward pass.

    Raises:
        TypeError: a class defines a method of the other kind of rule, or a hook with other arguments.
        ValueError: a setting is outside the limits that its type states.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from cltools import AugmentedView, Band, NegativeRule, select, similarities
        >>> @dataclass(frozen=True)
        ... class FartherThan(NegativeRule):
        ...     cosine: float = 0.7
        ...     def judge(self, s, context):
        ...         return torch.where(s.anchor_keys < self.cosine, Band.POTENTIAL, Band.HARD).to(torch.int8)
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), FartherThan(0.5)).negative_weight
        tensor([[0., 0., 0., 1., 1., 1., 1., 1.]])
    """

    softens: ClassVar[bool] = False
    """True if kept keys with a weight below 1 get the code SOFTENED."""

    def __init_subclass__(cls) -> None:
        """Refuse a class that defines a method that is never called."""
        super().__init_subclass__()
        _check_methods(cls, NegativeRule, FOR_NEGATIVES, foreign=FOR_POSITIVES)

    def at(self, progress: float) -> "NegativeRule":
        """Return the rule in force at this share of training, with schedules resolved."""
        return self

    def judge(self, s: Similarities, context: Context) -> Int8[Tensor, "B K"]:
        """Return the code of each key, int8 [B, K]: EASY, POTENTIAL, HARD or OTHER of `Band`.

        `select` assigns the codes of own and mined keys, whatever is returned for these. As in all hooks of a rule, a
        row must not depend on the other anchors: they may be in another chunk.

        Args:
            s: the cosines, and those optional fields that the rule `reads`.
            context: which keys are eligible, the temperature, the generator of draws, and the state.

        Raises:
            ValueError: the class does not define this method.

        Example:
            >>> from cltools import Context, MarginBand, similarities
            >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
            >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
            >>> MarginBand(margin=0.2).judge(s, Context(~s.own, temperature=0.2))  # 3 is HARD, 2 POTENTIAL
            tensor([[3, 3, 2, 2, 2, 2, 2, 2]], dtype=torch.int8)
        """
        raise chooses_nothing(self, "judge")

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"] | None:
        """Return the weights [B, K] of the keys, of which those of kept keys count; None for ones.

        Args:
            s: as in `judge`.
            kept: bool [B, K], true where the code is POTENTIAL. A kept key whose weight is 0 is dropped.
            context: as in `judge`.

        Example:
            >>> from dataclasses import dataclass
            >>> from cltools import AllNegatives, AugmentedView, select, similarities
            >>> @dataclass(frozen=True)
            ... class ByDistance(AllNegatives):
            ...     def weigh(self, s, kept, context):
            ...         return 1 - s.anchor_keys.detach()
            >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
            >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
            >>> select(s, AugmentedView(), ByDistance()).negative_weight
            tensor([[0.0400, 0.2000, 0.4000, 0.7200, 1.0000, 1.6000, 1.8000, 2.0000]])
        """
        return None

    def synthesise(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B S d"] | None:
        """Return synthetic negatives [B, S, d] of unit length; None for none. The arguments are those of `weigh`.

        Example:
            >>> from dataclasses import dataclass
            >>> from torch.nn.functional import normalize
            >>> from cltools import AllNegatives, AugmentedView, select, similarities
            >>> @dataclass(frozen=True)
            ... class WithAntipode(AllNegatives):
            ...     reads = frozenset({"vectors"})
            ...     def synthesise(self, s, kept, context):
            ...         return normalize(-s.vectors[0], dim=1)[:, None]  # −z, of unit length also after half precision
            >>> s = similarities([[0.6, 0.8]], [[0.8, 0.6]], [[0, 1], [1, 0]], own=[[False, False]])
            >>> select(s, AugmentedView(), WithAntipode()).synthetic
            tensor([[[-0.6000, -0.8000]]])
        """
        return None

    def estimate(self) -> Estimate:
        """Return how the negatives' mass is estimated; the default is their weighted sum.

        Example:
            >>> from cltools import AllNegatives, HardnessWeighted
            >>> AllNegatives().estimate()
            Estimate(beta=0.0, tau_plus=0.0, detach=True)
            >>> HardnessWeighted(beta=2.0, tau_plus=0.1).estimate()
            Estimate(beta=2.0, tau_plus=0.1, detach=True)
        """
        return NEUTRAL

    def weigh_anchors(self, s: Similarities, context: Context) -> Float[Tensor, " B"] | None:
        """Return the weight of each anchor in the mean of the loss, float32 [B], at least 0; None for equal weights.

        Example:
            >>> from dataclasses import dataclass
            >>> from cltools import AllNegatives, AugmentedView, select, similarities
            >>> @dataclass(frozen=True)
            ... class OnlyAlikeViews(AllNegatives):
            ...     def weigh_anchors(self, s, context):
            ...         return (s.anchor_positive.detach() > 0.5).float()
            >>> s = similarities([[0.6, 0.8], [0, 1]], [[0.8, 0.6], [1, 0]], [[1, 0]], own=[[False], [False]])
            >>> select(s, AugmentedView(), OnlyAlikeViews()).anchor_weight  # z·z' is 0.96 and 0
            tensor([1., 0.])
        """
        return None

    def new_state(self, ids: Int[Tensor, " N"], device: torch.device) -> State | None:
        """Return the initial state, tensors by name, for N training images; None for a rule that does not learn.

        Args:
            ids: int64 [N], ids of the training images.
            device: device of the state.
        """
        return None

    def measure(self, s: Similarities, context: Context) -> Float[Tensor, " B"] | None:
        """Return the statistic that `learn` uses, float32 [B], a number per anchor; None for none."""
        return None

    def learn(self, state: State, ids: Int[Tensor, " B"], measured: Float[Tensor, " B"]) -> None:
        """Update the state in place, without waiting for the device.

        Args:
            state: the state, from `new_state`.
            ids: int64, ids of the batch's images on all ranks, each once.
            measured: float32, the mean of `measure` over each image's anchors.
        """


FOR_POSITIVES = ("mine",)
FOR_NEGATIVES = ("judge", "weigh", "synthesise", "estimate", "weigh_anchors", "new_state", "measure", "learn")


@dataclass(frozen=True)
class Mined:
    """The positives that a rule mines, at full strength.

    Attributes:
        index: int64 [B, P], the keys that are candidates; no key twice in a row of the matrix.
        weight: float32 [B, 1+P], rows sum to 1; column 0 is the augmented view. An own key has weight 0.

    Example:
        >>> from cltools import Context, NearestKeys, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> NearestKeys(k=2, skip=1, weighting="uniform").mine(s, Context(~s.own, temperature=0.2))
        Mined(index=tensor([[1, 2]]), weight=tensor([[0.5000, 0.2500, 0.2500]]))
    """

    index: Tensor
    weight: Tensor


@dataclass(frozen=True)
class PositiveRule(Rule):
    """Base class of rules that mine positives besides the augmented view and weight them; a rule must define `mine`.

    This class implements the warm-up: before `start` nothing is mined, then the mined weight grows linearly.

    Raises:
        TypeError: a class defines a method of the other kind of rule, or a hook with other arguments.
        ValueError: a setting is outside the limits that its type states.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from cltools import AllNegatives, Mined, PositiveRule, select, similarities
        >>> @dataclass(frozen=True)
        ... class Nearest(PositiveRule):
        ...     def mine(self, s, context):
        ...         index = s.anchor_keys.masked_fill(s.own, -2).argmax(1, keepdim=True)
        ...         mined = 0.2 * ~s.own.gather(1, index)  # 0 for an own key, which is taken if there is no other
        ...         return Mined(index, torch.cat([1 - mined, mined], dim=1))
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, Nearest(), AllNegatives())
        >>> chosen.positive_index, chosen.positive_weight
        (tensor([[0]]), tensor([[0.8000, 0.2000]]))
    """

    start: Annotated[float, "a number between 0 and 1"] = field(default=0.1, kw_only=True)
    """Share of training to finish before any mining."""
    ramp: Annotated[float, "a number between 0 and 1"] = field(default=0.05, kw_only=True)
    """Share of training over which the mined weight then grows to its full value."""
    strength: Annotated[float, "a number between 0 and 1"] = field(default=1.0, kw_only=True)
    """Factor applied to the mined weight, on top of `start` and `ramp`."""

    def __init_subclass__(cls) -> None:
        """Refuse a class that defines a method that is never called."""
        super().__init_subclass__()
        _check_methods(cls, PositiveRule, FOR_POSITIVES, foreign=FOR_NEGATIVES)

    def at(self: "P", progress: float) -> "P":
        """Return the rule in force at this share of training, with `start` and `ramp` resolved into `strength`."""
        grown = 1.0 if self.ramp == 0 else min(1.0, (progress - self.start) / self.ramp)
        return replace(self, start=0.0, ramp=0.0, strength=self.strength * grown if progress >= self.start else 0.0)

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Return candidates and the weights of the augmented view and of each candidate, at full strength.

        Args:
            s: the cosines, and those optional fields that the rule `reads`.
            context: which keys are eligible, the temperature, and the generator of draws.

        Raises:
            ValueError: the class does not define this method.
        """
        raise chooses_nothing(self, "mine")


P = TypeVar("P", bound=PositiveRule)


def reads_now(positive_rule: PositiveRule, negative_rule: NegativeRule) -> frozenset[str]:
    """Return the fields that both rules read; a positive rule of strength 0 is not called and reads nothing."""
    return negative_rule.reads | (positive_rule.reads if positive_rule.strength > 0 else READS_NOTHING)


def learns(rule: type[NegativeRule]) -> bool:
    """Return True if rules of this class have a state that training updates."""
    return rule.new_state is not NegativeRule.new_state


def chooses_nothing(rule: object, hook: str) -> CltoolsError:
    """Return the error for a rule without its required method."""
    return CltoolsError(f"{type(rule).__name__} has no {hook}(self, s, context); define it to choose keys.")


def check_chooses(rule: object) -> None:
    """Raise ValueError for a rule without its required method: `judge` for negatives, `mine` for positives."""
    base, hook = (NegativeRule, "judge") if isinstance(rule, NegativeRule) else (PositiveRule, "mine")
    if getattr(type(rule), hook) is getattr(base, hook):
        raise chooses_nothing(rule, hook)


def check_rules(positive_rule: object, negative_rule: object) -> None:
    """Raise TypeError for rules in the wrong order or objects that are not rules, ValueError as `check_chooses`."""
    if not isinstance(positive_rule, PositiveRule):
        raise foreign(positive_rule, "A positive rule such as NearestKeys(), and after it a negative rule,")
    if not isinstance(negative_rule, NegativeRule):
        raise foreign(negative_rule, "A negative rule such as RankBand(), after the positive rule,")
    check_chooses(positive_rule)
    check_chooses(negative_rule)


def rule_classes(base: type[Any]) -> dict[str, type[Any]]:
    """Return all subclasses of a base by class name; if two have the same name, the later one."""
    classes: dict[str, type[Any]] = {}
    for rule in base.__subclasses__():
        classes |= {rule.__name__: rule} | rule_classes(rule)
    return classes


def rule_class(name: str, base: type[Any]) -> type[Any]:
    """Return the rule class of that name, including custom rules once their class is defined.

    Raises:
        ValueError: no such rule of this kind; the message suggests similar names.
    """
    known = rule_classes(base)
    if name not in known:
        kind = "positive rule" if base is PositiveRule else "negative rule"
        raise CltoolsError(f"{unknown(kind, name, known)} A rule of your own is known once its module is imported.")
    return known[name]


def _check_methods(cls: type[Any], base: type[Any], hooks: tuple[str, ...], foreign: tuple[str, ...]) -> None:
    """Refuse a class that defines methods that are never called, or hooks with a wrong signature."""
    for name, value in vars(cls).items():
        if name in foreign:
            raise TypeError(f"{cls.__name__}.{name} is never called: it belongs to the other kind of rule.")
        hook = getattr(base, name, None)
        if name.startswith("_") or not inspect.isfunction(value):
            continue
        near = [] if hook else get_close_matches(name, ("at", *hooks), 1, cutoff=0.85)
        if near and near[0] not in vars(cls):
            raise TypeError(f"{cls.__name__}.{name} is not a hook; did you mean {near[0]}? If not, rename it.")
        if not inspect.isfunction(hook):
            continue
        wanted = [*inspect.signature(hook).parameters]
        try:
            inspect.signature(value).bind(*wanted)
        except TypeError:
            raise TypeError(f"{cls.__name__}.{name} is called as {name}({', '.join(wanted[1:])}).") from None


def annealed(first: float, last: float, done: float) -> float:
    """Interpolate linearly from `first` to `last`; `done` is the share of the way, and from 1 on `last` is returned."""
    return last if done >= 1 else first + (last - first) * done


class Rescalable:
    """Mixin for rules that may scale the weights of the kept keys to sum to the number of eligible keys.

    Comparisons then do not measure the effect of a smaller sum. It is neither a rule nor a dataclass: list it before
    `NegativeRule`, and declare the field in the rule.
    """

    rescale: bool

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"] | None:
        """Return the weight K/M, (keys neither own nor mined) / (keys kept), if `rescale` is set."""
        if not self.rescale:
            return None
        return kept * (context.eligible.sum(1, keepdim=True).float() / kept.sum(1, keepdim=True).clamp_min(1))


M = TypeVar("M", bound="Moving")


class Moving(Rule):
    """Mixin for rules with edges that may move: each edge has a field `<edge>_from`, and all share `anneal`.

    It is neither a rule nor a dataclass, like `Rescalable`.
    """

    EDGES: ClassVar[tuple[str, ...]]
    ORDERED: ClassVar[tuple[str, ...]] = ()
    """Two edges, rank shares or cosines, of which the first must be below the second."""
    anneal: float

    def __post_init__(self) -> None:
        """Check fields and schedule.

        Raises:
            ValueError: a field that violates its type, `anneal` without a moving edge, an edge with an initial but no
                final value, or edges that cross at the start or at the end.
        """
        super().__post_init__()
        name, moving = type(self).__name__, [edge for edge in self.EDGES if getattr(self, f"{edge}_from") is not None]
        if not moving and self.anneal != type(self).anneal:  # an explicit default cannot be noticed
            edges = " or ".join(f"{edge}_from" for edge in self.EDGES)
            raise CltoolsError(f"{name}: anneal is {self.anneal}, but nothing moves; give {edges} or leave anneal out.")
        for edge in moving:
            if getattr(self, edge) is None:
                raise CltoolsError(f"{name}: {edge}_from is given without {edge}; give its final value, too.")
        if self.ORDERED:
            first, second = self.ORDERED
            low, high = getattr(self, first), getattr(self, second)
            if not (-1.0 if low is None else low) < (1.0 if high is None else high):
                raise CltoolsError(f"{name}: {first}={low} must be below {second}={high}, also at the start.")
        if moving:
            Moving.at(self, 0.0)  # raises if the edges cross at the start

    moved = staticmethod(annealed)
    """The interpolation of an edge between its initial and final value."""

    def at(self: "M", progress: float) -> "M":
        """Return the rule in force at this share of training, with its edges moved."""
        now: dict[str, Any] = {"anneal": type(self).anneal}
        for edge in self.EDGES:
            if (first := getattr(self, f"{edge}_from")) is not None:
                now |= {edge: self.moved(first, getattr(self, edge), progress / self.anneal), f"{edge}_from": None}
        return replace(self, **now)
