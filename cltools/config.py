"""Everything that decides a run, in one frozen dataclass, and its JSON.

The settings stand beside the code that reads them; those of training and evaluation stand here, because an `Experiment`
composes them and both come after it. In JSON a rule is `{"rule": "RankBand", …}`, found by class name among the
subclasses of `NegativeRule` or `PositiveRule`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import described, unknown
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, AugmentedView, NearestKeys, NegativeRule, PositiveRule
from cltools.mining.rules import rule_class
from cltools.views import ViewSettings

Mode = Literal["moco", "simclr"]


@dataclass(frozen=True)
class TrainingSettings:
    """How the encoder is trained (MoCo's CIFAR recipe by default: SGD, warm-up, cosine to 0)."""

    mode: Mode = "moco"
    """Where keys come from: a queue of a momentum copy (MoCo), or the batch itself (SimCLR)."""
    symmetric: bool = True
    """MoCo: both views are anchors in turn, against the same queue."""
    epochs: int = 200
    """Passes over the training images."""
    batch: int = 256
    """Images a step; a smaller last batch is dropped."""
    queue_size: int = 4096
    """Keys the queue holds (MoCo)."""
    momentum: float = 0.99
    """Of the momentum copy: the share of itself it keeps each step (MoCo)."""
    learning_rate: float = 0.06
    """At batch 256; scaled with the batch."""
    warmup_epochs: float = 5.0
    """Epochs of linear growth of the learning rate from 0."""
    sgd_momentum: float = 0.9
    """Of the optimiser."""
    weight_decay: float = 5e-4
    """Of the optimiser, on every parameter."""
    device: str = "auto"
    """"auto" is CUDA where there is one; else "cpu", "cuda" or "cuda:1"."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder's passes; "auto" is bfloat16 on CUDA and float32 on the CPU. Similarities are always float32."""
    compile: bool = False
    """Compile the encoder's pass with torch.compile: minutes of waiting at first, faster steps afterwards."""
    cuda_graph: bool = False
    """Record the step as a CUDA graph and replay it, while rules rest and the queue is full: a small encoder otherwise
    waits for Python. One GPU, `chunk=None`; what an own backbone decides in Python is decided once."""
    chunk: int | None = None
    """Anchors compared with the keys at a time, computed again in the backward pass, to save memory; None for all."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch always has one."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        _known_choices(self)
        _at_least(self, epochs=1, batch=2, queue_size=1, checkpoint_every=1)
        _at_least(self, learning_rate=0, warmup_epochs=0, sgd_momentum=0, weight_decay=0, momentum=0)
        if self.chunk is not None:
            _at_least(self, chunk=1)
        if self.momentum > 1:
            raise ValueError(f"TrainingSettings: momentum is {self.momentum}; it must lie between 0 and 1.")
        if self.mode == "moco" and self.queue_size < self.batch:
            raise ValueError(
                f"TrainingSettings: the queue holds {self.queue_size} keys and a batch brings {self.batch}; "
                "make queue_size at least batch."
            )

    @property
    def keys(self) -> int:
        """Keys an anchor is compared with once the queue is filled."""
        return self.queue_size if self.mode == "moco" else 2 * self.batch

    @property
    def views(self) -> int:
        """Anchors of an image a step: 2 where both views are, else 1."""
        return 2 if self.symmetric or self.mode == "simclr" else 1


@dataclass(frozen=True)
class EvaluationSettings:
    """How an encoder is judged while and after training."""

    every: int = 10
    """Epochs between kNN evaluations while training; the last epoch always has one."""
    protocol: Literal["knn200", "knn10"] = "knn200"
    """Of the kNN evaluation while training."""
    probe: bool = True
    """Whether a report fits a linear probe."""
    probe_l2: float = 1e-3
    """The probe's penalty on the mean loss (scikit-learn's C is 1/(probe_l2·N)); fixed, so that no run gains by it."""
    test_limit: int | None = None
    """Test images at most, the same for every seed; None for all."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        _known_choices(self)
        _at_least(self, every=1, probe_l2=0)
        if self.test_limit is not None:
            _at_least(self, test_limit=1)


_OWN_SETTINGS = (
    "This experiment cannot be saved. The fields of an own rule, a frozen dataclass, may be numbers, text, truth "
    "values, None, and tuples of these."
)


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run."""

    data: DataSettings = field(default_factory=DataSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    positives: PositiveRule = field(default_factory=AugmentedView)
    negatives: NegativeRule = field(default_factory=AllNegatives)
    loss: LossSettings = field(default_factory=LossSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 0
    """Of weights, order, views and draws; one seed repeats a CPU run bit for bit."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        for name, base in (("positives", PositiveRule), ("negatives", NegativeRule)):
            rule = getattr(self, name)
            if not isinstance(rule, base):
                raise ValueError(f"Experiment: {name} is {described(rule)}; give a {base.__name__}.")
        keys = self.training.keys
        if isinstance(self.positives, NearestKeys) and self.positives.k > keys:
            k = self.positives.k
            raise ValueError(f"Experiment: positives.k is {k}, but an anchor has only {keys} keys; lower k.")
        batch, group = self.training.batch, self.encoder.bn_group
        if group is not None and batch % group:
            raise ValueError(
                f"Experiment: training.batch is {batch}, which does not divide into batch-norm groups of {group}; "
                "make it a multiple of encoder.bn_group, or set that to None."
            )

    def to_json(self) -> str:
        """The experiment as JSON, two spaces a level.

        Raises:
            ValueError: a setting of an own rule does not come back from JSON as it was.
        """
        try:
            text = json.dumps(to_plain(self), indent=2) + "\n"
            same = Experiment.from_json(text) == self
        except (TypeError, ValueError) as error:
            raise ValueError(f"{_OWN_SETTINGS} {error}") from error
        if not same:
            raise ValueError(f"{_OWN_SETTINGS} It comes back from JSON as another one.")
        return text

    @classmethod
    def from_json(cls, text: str) -> "Experiment":
        """The experiment of a JSON text.

        Raises:
            ValueError: not JSON; an unknown key or rule (with the nearest names); a missing one; a value of another
                type.
        """
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"The experiment is not valid JSON: {error}.") from None
        return from_plain(cls, plain)


IMMATERIAL = ("data.root:", "data.download:", "training.device:", "training.cuda_graph:", "training.checkpoint_every:")
"""How lines of `differences` begin that change no result: where data lie, where and how it computes, when it saves."""


def differences(a: Experiment, b: Experiment) -> list[str]:
    """What differs between two experiments, a line each: `training.epochs: 20 → 30`."""
    return plain_differences(to_plain(a), to_plain(b))


def plain_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs between two experiments as `to_plain` gives them, whose rules need not be known."""
    left, right = dict(_leaves(a)), dict(_leaves(b))
    names = [*left, *(name for name in right if name not in left)]
    pairs = [(name, left.get(name, "absent"), right.get(name, "absent")) for name in names]
    return [f"{name}: {was} → {now}" for name, was, now in pairs if was != now]


def to_plain(value: Any) -> Any:
    """Nested dataclasses as dicts and lists that JSON can hold; a rule carries its class name."""
    if is_dataclass(value):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return {"rule": type(value).__name__, **plain} if isinstance(value, RULES) else plain
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


RULES = (NegativeRule, PositiveRule)
T = TypeVar("T")


def from_plain(cls: type[T], plain: object, path: str = "experiment") -> T:
    """The dataclass of a dict made by `to_plain`; left-out keys take their defaults."""
    if not isinstance(plain, Mapping):
        raise ValueError(f"{path} must be an object of settings, not {plain!r}.")
    plain = dict(plain)
    if issubclass(cls, RULES):
        cls = _rule_of(plain, cls, path)
    hints, known = get_type_hints(cls), {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in plain:
        if key not in known:
            raise unknown(f"setting in {path}", str(key), known)
    for name, f in known.items():
        if name not in plain and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{path} lacks {name!r}, which has no default.")
    return cls(**{key: _convert(hints[key], value, f"{path}.{key}") for key, value in plain.items()})


def _rule_of(plain: dict[str, Any], cls: type[Any], path: str) -> type[Any]:
    """The class that `plain["rule"]` names, which is taken out; a class that is a rule itself needs no name."""
    base: type[Any] = NegativeRule if issubclass(cls, NegativeRule) else PositiveRule
    name = plain.pop("rule", None if cls is base else cls.__name__)
    if name is None:
        example = "RankBand" if base is NegativeRule else "NearestKeys"
        raise ValueError(f'{path} must name its rule, as in {{"rule": "{example}"}}.')
    if not isinstance(name, str):
        raise ValueError(f"{path}.rule must be the class name of a rule, not {name!r}.")
    return rule_class(name, base)


def _convert(hint: Any, value: object, path: str) -> Any:
    """`value` as the type of a field, or a ValueError that names the field."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _convert_to_one_of(args, value, path)
    if origin is Literal:
        if value not in args:
            raise unknown(f"value of {path}", str(value), map(str, args))
        return value
    if origin is tuple and args[1:] == (...,):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path} must be a list, not {value!r}.")
        return tuple(_convert(args[0], v, path) for v in value)
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(args):
            raise ValueError(f"{path} must be a list of {len(args)} numbers, not {value!r}.")
        return tuple(_convert(a, v, path) for a, v in zip(args, value, strict=True))
    if is_dataclass(hint):
        return from_plain(hint, value, path)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(hint, type):
        raise ValueError(f"{path} has the type {hint}, which settings cannot have in JSON.")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{path} must be of type {hint.__name__}, not {value!r}.")
    return value


def _convert_to_one_of(hints: tuple[Any, ...], value: object, path: str) -> Any:
    """`value` as the first of several types that takes it; the error is that of the last."""
    if value is None and type(None) in hints:
        return None
    *others, last = (hint for hint in hints if hint is not type(None))
    for hint in others:
        try:
            return _convert(hint, value, path)
        except ValueError:
            pass
    return _convert(last, value, path)


def _leaves(plain: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _at_least(settings: object, **minima: float) -> None:
    for name, minimum in minima.items():
        value = getattr(settings, name)
        if not minimum <= value < math.inf:
            bound = "finite" if value == math.inf else f"at least {minimum}"
            raise ValueError(f"{type(settings).__name__}: {name} is {value}; it must be {bound}.")


def _known_choices(settings: object) -> None:
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is Literal and getattr(settings, name) not in get_args(hint):
            raise unknown(f"{type(settings).__name__} {name}", str(getattr(settings, name)), get_args(hint))
