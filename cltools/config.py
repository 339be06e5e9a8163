"""Everything that decides a run, in one frozen dataclass, and its JSON.

The settings stand beside the code that reads them; those of training and evaluation stand here, because an `Experiment`
composes them and both come after it. In JSON a rule is `{"rule": "RankBand", …}`, found by class name among the
subclasses of `NegativeRule` or `PositiveRule`.
"""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from importlib import import_module
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import SEED, CltoolsError, Settings, described, shown, unknown
from cltools.files import leaves, parsed
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, AugmentedView, NearestKeys, NegativeRule, PositiveRule
from cltools.mining.rules import check_chooses, rule_class
from cltools.views import ViewSettings

Mode = Literal["moco", "simclr"]


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How the encoder is trained (MoCo's CIFAR recipe by default: SGD, warm-up, cosine to 0)."""

    mode: Mode = "moco"
    """Where keys come from: a queue of a momentum copy (MoCo), or the batch itself (SimCLR)."""
    symmetric: bool = True
    """MoCo: both views are anchors in turn, against the same queue."""
    epochs: Annotated[int, "a whole number of at least 1"] = 200
    """Passes over the training images."""
    batch: Annotated[int, "a whole number of at least 2"] = 256
    """Images per step; a smaller last batch is dropped."""
    queue_size: Annotated[int, "a whole number of at least 1"] = 4096
    """Keys the queue holds (MoCo)."""
    momentum: Annotated[float, "a number between 0 and 1"] = 0.99
    """Share of itself that the momentum copy keeps each step (MoCo)."""
    learning_rate: Annotated[float, "at least 0 and finite"] = 0.06
    """Peak learning rate at a batch of 256; it is multiplied by batch/256."""
    warmup_epochs: Annotated[float, "at least 0 and finite"] = 5.0
    """Epochs of linear growth of the learning rate from 0."""
    sgd_momentum: Annotated[float, "at least 0 and finite"] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, "at least 0 and finite"] = 5e-4
    """Weight decay of SGD, on every parameter."""
    device: str = field(default="auto", metadata={"decides": False})
    """"auto" is CUDA where there is one; else "cpu", "cuda" or "cuda:1"."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the encoder's passes; "auto" is bfloat16 on CUDA, float32 on the CPU. Similarities are float32."""
    compile: bool = False
    """Compile the encoder's pass with torch.compile: minutes of waiting at first, faster steps afterwards."""
    cuda_graph: bool = field(default=False, metadata={"decides": False})
    """Record the step as a CUDA graph and replay it, while rules rest and the queue is full: a small encoder otherwise
    waits for Python. One GPU, `chunk=None`; what an own backbone decides in Python is decided once."""
    chunk: Annotated[int | None, "a whole number of at least 1"] = None
    """Number of anchors that are compared with the keys at once, which bounds memory. None compares all at once on a
    GPU, and on a CPU as many as suit its cache."""
    checkpoint_every: Annotated[int, "a whole number of at least 1"] = field(default=1, metadata={"decides": False})
    """Epochs between checkpoints; the last epoch always has one."""

    def __post_init__(self) -> None:
        """Refuse a queue that a batch would overfill."""
        super().__post_init__()
        if self.mode == "simclr" and self.chunk is not None:
            raise CltoolsError("TrainingSettings: chunk is for keys of a queue, and simclr has none; leave it out.")
        if self.mode == "moco" and self.queue_size < self.batch:
            raise CltoolsError(f"TrainingSettings: queue_size {self.queue_size} must be at least batch, {self.batch}.")

    @property
    def keys(self) -> int:
        """Keys an anchor is compared with once the queue is filled."""
        return self.queue_size if self.mode == "moco" else 2 * self.batch

    @property
    def anchors_per_image(self) -> int:
        """Anchors of an image per step: 2 where both views are, else 1."""
        return 2 if self.symmetric or self.mode == "simclr" else 1


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """How an encoder is judged while and after training."""

    every: Annotated[int, "a whole number of at least 1"] = 10
    """Epochs between kNN evaluations while training; the last epoch always has one."""
    protocol: Literal["knn200", "knn10"] = "knn200"
    """Protocol of the kNN evaluation while training."""
    probe: bool = True
    """Whether a report fits a linear probe."""
    probe_l2: Annotated[float, "at least 0 and finite"] = 1e-3
    """The probe's penalty on the mean loss (scikit-learn's C is 1/(probe_l2·N)); fixed, so that no run gains by it."""
    test_limit: Annotated[int | None, "a whole number of at least 1"] = None
    """Test images at most, the same for every seed; None for all."""


@dataclass(frozen=True)
class OutsideSettings(Settings):
    """Parts of a run that come from outside of cltools, each by a name "module:callable"; None takes the recipe's own.

    A run whose parts are named here repeats from its config, as long as the modules do. They are imported when the run
    is trained or loaded, from the folders where Python looks for modules. `fit` takes the same parts as objects.
    """

    images: str | None = None
    """Called without arguments, returns the `ImageSet` to train on in place of that of `data`."""
    backbone: str | None = None
    """A class or function, called without arguments, whose module [B, 3, H, W] → [B, D] replaces the backbone."""
    views: str | None = None
    """A function called as `views(images, generator=…)`, or a class of such objects, in place of `augment`."""
    optimizer: str | None = None
    """Called as `optimizer(parameters)`, such as "torch.optim:AdamW", in place of SGD."""
    protocols: str | None = None
    """Called without arguments, returns the protocols {column of the history: function of the run → number}."""
    rules: tuple[str, ...] = ()
    """Modules that define rules, such as "my_rules" for my_rules.py: imported before a run's rules are looked up."""

    def __post_init__(self) -> None:
        """Refuse what is no name."""
        super().__post_init__()
        names = [(part, name) for part, name in vars(self).items() if part != "rules" and name is not None]
        for part, name in [*names, *(("rules", name) for name in self.rules)]:
            if not re.fullmatch(_DOTTED if part == "rules" else f"{_DOTTED}:{_DOTTED}", name):
                example = "a module (my_rules)" if part == "rules" else "module:callable (torch.optim:AdamW)"
                raise CltoolsError(f"OutsideSettings: {part} is {name!r}; write {example}.")


_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def imported(module: str, told: str) -> ModuleType:
    """A module of a reader's own, from the folders where Python looks for modules.

    Raises:
        ValueError: no such module; `told` says who names it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise CltoolsError(f"{told}, which imports {error.name!r}, and that is not installed.") from error
        wrong = f"{told}, and Python finds no module {error.name!r}."
        raise CltoolsError(f"{wrong} Start from the folder it lies in, or put that folder into PYTHONPATH.") from None


def import_rules(modules: Iterable[str]) -> None:
    """Import modules that define rules, so that these are found by their class names; ValueError for none such."""
    for name in modules:
        imported(name, f"outside.rules names {shown(name)}")


_OWN = (
    "For parts of your own, call fit(experiment, images=…, backbone=…, views=…, optimizer=…, protocols=…), or name "
    "them in outside. A loss of your own takes a training loop of your own, around similarities and select."
)


@dataclass(frozen=True)
class Experiment(Settings):
    """Everything that decides a run."""

    data: DataSettings = field(default_factory=DataSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    positives: PositiveRule = field(default_factory=AugmentedView)
    negatives: NegativeRule = field(default_factory=AllNegatives)
    loss: LossSettings = field(default_factory=LossSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    outside: OutsideSettings = field(default_factory=OutsideSettings)
    seed: Annotated[int, SEED] = 0
    """Seed of weights, order, views and draws; one seed repeats a CPU run bit for bit."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other, and settings that nothing would read.

        Raises:
            ValueError: something else in the place of settings or of a rule, settings of a class of one's own with
                fields of its own, or settings that contradict each other.
        """
        super().__post_init__()
        for name in ("data", "views", "encoder", "loss", "training", "evaluation", "outside"):
            value, kind = getattr(self, name), get_type_hints(Experiment)[name]
            if not isinstance(value, kind) or len(fields(value)) > len(fields(kind)):
                wrong = f"Experiment: {name} is {described(value)}, and nothing reads more than {kind.__name__} says."
                raise CltoolsError(f"{wrong} {_OWN}")
        for name, base in (("positives", PositiveRule), ("negatives", NegativeRule)):
            rule = getattr(self, name)
            if not isinstance(rule, base):
                raise CltoolsError(f"Experiment: {name} is {described(rule)}; give a {base.__name__}.")
            check_chooses(rule)
        k, keys = self.positives.k if isinstance(self.positives, NearestKeys) else 0, self.training.keys
        if k > keys:
            raise CltoolsError(f"Experiment: positives.k is {k}, but an anchor has only {keys} keys; lower k.")
        batch, group = self.training.batch, self.encoder.bn_group
        if group is not None and batch % group:
            raise CltoolsError(f"Experiment: training.batch {batch} must be a multiple of encoder.bn_group, {group}.")

    def rules_at(self, progress: float) -> tuple[PositiveRule, NegativeRule]:
        """The rules in force at this share of training."""
        return self.positives.at(progress), self.negatives.at(progress)

    def to_json(self) -> str:
        """The experiment as JSON, two spaces per level.

        Raises:
            ValueError: a setting of an own rule does not come back from JSON as it was.
        """
        try:
            text = json.dumps(to_plain(self), indent=2) + "\n"
            if Experiment.from_json(text) != self:
                raise CltoolsError("It comes back from JSON as another one.")
        except (TypeError, ValueError) as error:
            able = "The fields of an own rule may be numbers, text, truth values, None, and tuples of these."
            raise CltoolsError(f"This experiment cannot be saved: {error} {able}") from error
        return text

    @classmethod
    def from_json(cls, text: str, *, own_rules: bool = False) -> "Experiment":
        """The experiment of a JSON text.

        Args:
            text: as `to_json` writes it.
            own_rules: first import the modules that it names in `outside.rules`: of a run that is trained or loaded.
                A record or a snapshot, which may be a stranger's, imports nothing.

        Raises:
            ValueError: not JSON; an unknown key or rule (with the nearest names); a missing one; a value of another
                type.
        """
        plain = parsed(text, "The experiment")
        if own_rules and isinstance(plain, dict) and isinstance(outside := plain.get("outside"), dict):
            import_rules(from_plain(OutsideSettings, outside, "experiment.outside").rules)
        return from_plain(cls, plain)


class _Absent:
    """The value of a setting that one of two experiments does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


@dataclass(frozen=True)
class Difference:
    """A setting in which two experiments differ; as text, `training.epochs: 20 → 30`.

    Attributes:
        path: sections and name of the setting, separated by dots.
        before: its value in the first experiment; ABSENT where that has no such setting.
        now: its value in the second.
    """

    path: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.before} → {self.now}"

    @property
    def decides(self) -> bool:
        """Whether the setting decides a result; where data lie, or how often a run is saved, does not."""
        return self.path not in undeciding()

    def to_plain(self) -> dict[str, Any]:
        """The difference as an object of JSON, without the side that lacks the setting."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not ABSENT}


def differences(a: Experiment | Mapping[str, Any], b: Experiment | Mapping[str, Any]) -> tuple[Difference, ...]:
    """What differs between two experiments, or between what `to_plain` gave of them.

    A setting that one was written without, as it is newer, has its default there; rules that are not known are compared
    as they were written.
    """
    left, right = dict(leaves(_completed(a))), dict(leaves(_completed(b)))
    pairs = ((path, left.get(path, ABSENT), right.get(path, ABSENT)) for path in {**left, **right})
    return tuple(Difference(path, before, now) for path, before, now in pairs if before != now)


def _completed(experiment: Experiment | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(experiment, Mapping):
        try:
            return _completed(from_plain(Experiment, experiment))
        except (TypeError, ValueError):  # of another version, or a rule that is not known here
            return experiment
    plain: Mapping[str, Any] = to_plain(experiment)
    return plain


@cache
def undeciding() -> frozenset[str]:
    """The paths of the settings that decide no result, as their fields say (`metadata={"decides": False}`)."""
    return frozenset(
        f"{section}.{f.name}"
        for section, settings in get_type_hints(Experiment).items()
        if is_dataclass(settings)
        for f in fields(settings)
        if not f.metadata.get("decides", True)
    )


def to_plain(value: Any) -> Any:
    """Nested dataclasses as dicts and lists that JSON can hold; a rule carries its class name."""
    if is_dataclass(value):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return {"rule": type(value).__name__, **plain} if isinstance(value, RULES) else plain
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


RULES = (NegativeRule, PositiveRule)
T = TypeVar("T")


def from_plain(cls: type[T], plain: object, path: str = "experiment") -> T:
    """The dataclass of a dict made by `to_plain`; left-out keys take their defaults.

    Raises:
        ValueError: an unknown key, one missing that has no default, or a value of another type; `path` and its names
            say where.
    """
    if not isinstance(plain, Mapping):
        raise CltoolsError(f"{path} must be an object of settings, not {shown(plain)}.")
    plain = dict(plain)
    if issubclass(cls, RULES):
        cls = _rule_of(plain, cls, path)
    hints, known = get_type_hints(cls), {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in plain:
        if key not in known:
            raise unknown(f"setting in {path}", str(key), known)
    for name, f in known.items():
        if name not in plain and f.default is MISSING and f.default_factory is MISSING:
            raise CltoolsError(f"{path} lacks {name!r}, which has no default.")
    return cls(**{key: _convert(hints[key], value, f"{path}.{key}") for key, value in plain.items()})


def _rule_of(plain: dict[str, Any], cls: type[Any], path: str) -> type[Any]:
    """The class that `plain["rule"]` names, which is taken out; a class that is a rule itself needs no name."""
    base: type[Any] = NegativeRule if issubclass(cls, NegativeRule) else PositiveRule
    name = plain.pop("rule", None if cls is base else cls.__name__)
    if not isinstance(name, str):
        raise CltoolsError(f'{path} must name its rule, as in {{"rule": "RankBand"}}, and not by {shown(name)}.')
    return rule_class(name, base)


def _convert(hint: Any, value: object, path: str) -> Any:
    """`value` as the type of a field, or a ValueError that names the field.

    Of several types the first that takes it; the error is that of the last.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or (value is None and NoneType in args):
        return value
    if origin in (Union, UnionType):
        *others, last = (each for each in args if each is not NoneType)
        for other in others:
            with suppress(ValueError):
                return _convert(other, value, path)
        return _convert(last, value, path)
    if origin is Literal:
        if value not in args:
            raise unknown(f"value of {path}", str(value), map(str, args))
        return value
    if is_dataclass(hint):
        return from_plain(hint, value, path)  # type: ignore[arg-type]
    if origin is tuple:
        kinds = args[:1] * len(value) if args[1:] == (...,) and isinstance(value, list | tuple) else args
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise CltoolsError(f"{path} must be a list{f' of {len(args)}' * (... not in args)}, not {shown(value)}.")
        return tuple(_convert(kind, v, path) for kind, v in zip(kinds, value, strict=True))
    if origin is Mapping:  # and no dict, which would make a rule that cannot be hashed
        if not isinstance(value, Mapping) or not all(isinstance(name, args[0]) for name in value):
            raise CltoolsError(f"{path} must be an object, not {shown(value)}.")
        return {name: _convert(args[1], each, f"{path}.{name}") for name, each in value.items()}
    if hint is float and type(value) is int:
        with suppress(OverflowError):
            return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise CltoolsError(f"{path} must be of type {hint.__name__}, not {shown(value)}.")
    return value


BELOW = re.compile(r'^ +(\w+): [^\n]+\n +"""(.+?)"""', re.MULTILINE | re.DOTALL)
"""A field of a class, and the text below it."""


def words_of(settings: type) -> dict[str, str]:
    """What stands below each field of a class and of its bases in their source; nothing where there is no source."""
    found: dict[str, str] = {}
    for base in reversed(settings.__mro__):
        with suppress(OSError, TypeError):
            found |= {name: " ".join(text.split()) for name, text in BELOW.findall(_source(base))}
    return found


_source = cache(inspect.getsource)
