"""All settings that determine a run, in one frozen dataclass, and their JSON.

Settings are defined beside the code that reads them, except those of training and evaluation: these are defined here,
because `Experiment` contains them and those packages import this module. In JSON a rule is `{"rule": "RankBand", …}`,
found by class name among the subclasses of `NegativeRule` or `PositiveRule`.
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
from cltools.errors import SEED, CltoolsError, NotFound, Settings, described, shown, unknown
from cltools.files import leaves, parsed
from cltools.losses import LossSettings
from cltools.mining import AllNegatives, AugmentedView, NearestKeys, NegativeRule, PositiveRule
from cltools.mining.rules import check_chooses, rule_class
from cltools.views import ViewSettings

Mode = Literal["moco", "simclr"]


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Settings of training (MoCo's CIFAR recipe by default: SGD, warm-up, cosine to 0).

    Raises:
        ValueError: a value outside its limits, a queue smaller than a batch, or chunks without a queue.

    Example:
        >>> from cltools import TrainingSettings
        >>> moco, simclr = TrainingSettings(queue_size=4096), TrainingSettings(mode="simclr", batch=256)
        >>> moco.keys, simclr.keys, moco.anchors_per_image
        (4096, 512, 2)
    """

    mode: Mode = "moco"
    """Source of the keys: a queue filled by a momentum copy (MoCo), or the batch itself (SimCLR)."""
    symmetric: bool = True
    """True: both views serve as anchors in turn, against the same queue (MoCo)."""
    epochs: Annotated[int, "a whole number of at least 1"] = 200
    """Number of passes over the training images."""
    batch: Annotated[int, "a whole number of at least 2"] = 256
    """Number of images per step; a smaller last batch is dropped."""
    queue_size: Annotated[int, "a whole number of at least 1"] = 4096
    """Number of keys in the queue (MoCo)."""
    momentum: Annotated[float, "a number between 0 and 1"] = 0.99
    """Weight of the momentum copy's old parameters in each update (MoCo)."""
    learning_rate: Annotated[float, "at least 0 and finite"] = 0.06
    """Peak learning rate at a batch of 256; it is multiplied by batch/256."""
    warmup_epochs: Annotated[float, "at least 0 and finite"] = 5.0
    """Number of epochs over which the learning rate grows linearly from 0."""
    sgd_momentum: Annotated[float, "at least 0 and finite"] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, "at least 0 and finite"] = 5e-4
    """Weight decay of SGD, on every parameter."""
    device: str = field(default="auto", metadata={"decides": False})
    """Device: "auto" (CUDA if available, else the CPU), "cpu", "cuda", or an index such as "cuda:1"."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the encoder's passes; "auto" is bfloat16 on CUDA, float32 on the CPU. Similarities are float32."""
    compile: bool = False
    """Compile the encoder's pass with torch.compile: it takes minutes at first, and steps are faster afterwards."""
    cuda_graph: bool = field(default=False, metadata={"decides": False})
    """Record the step as a CUDA graph and replay it while rules are constant and the queue is full; faster for small
    encoders. Needs one GPU and --chunk None; a custom backbone's Python branches are frozen when recorded."""
    chunk: Annotated[int | None, "a whole number of at least 1"] = None
    """Maximum number of anchors compared with the keys at once, to save memory. None means all of them on a GPU, or as
    many as fit the cache on a CPU."""
    shuffle_block: Annotated[int | None, "a whole number of at least 1"] = None
    """Number of consecutive images in a block, for images in a memory map that is larger than the memory: blocks are
    shuffled, then the images of every 16 blocks. None shuffles all images, which are moved to the device."""
    checkpoint_every: Annotated[int, "a whole number of at least 1"] = field(default=1, metadata={"decides": False})
    """Number of epochs between checkpoints; the last epoch always has one."""

    def __post_init__(self) -> None:
        """Refuse a queue smaller than a batch."""
        super().__post_init__()
        if self.mode == "simclr" and self.chunk is not None:
            raise CltoolsError("TrainingSettings: chunk is for keys of a queue, and simclr has none; leave it out.")
        if self.mode == "moco" and self.queue_size < self.batch:
            raise CltoolsError(f"TrainingSettings: queue_size {self.queue_size} must be at least batch, {self.batch}.")

    @property
    def keys(self) -> int:
        """Number of keys with which an anchor is compared once the queue is full."""
        return self.queue_size if self.mode == "moco" else 2 * self.batch

    @property
    def anchors_per_image(self) -> int:
        """Number of anchors per image and step: 2 if both views are anchors, else 1."""
        return 2 if self.symmetric or self.mode == "simclr" else 1


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """Settings of evaluation during and after training.

    Example:
        >>> from dataclasses import replace
        >>> from cltools import EvaluationSettings, preset
        >>> experiment = replace(preset("digits-moco"), evaluation=EvaluationSettings(every=1, protocol="knn10"))
        >>> experiment.evaluation.protocol, experiment.evaluation.probe
        ('knn10', True)
    """

    every: Annotated[int, "a whole number of at least 1"] = 10
    """Number of epochs between kNN evaluations during training; the last epoch always has one."""
    protocol: Literal["knn200", "knn10"] = "knn200"
    """Protocol of the kNN evaluation during training."""
    probe: bool = True
    """True: fit a linear probe in each report."""
    probe_l2: Annotated[float, "at least 0 and finite"] = 1e-3
    """L2 penalty of the probe on the mean loss (scikit-learn's C is 1/(probe_l2·N)), the same for every run."""
    test_limit: Annotated[int | None, "a whole number of at least 1"] = None
    """Maximum number of test images, the same images for every seed; None for all."""


@dataclass(frozen=True)
class OutsideSettings(Settings):
    """Custom parts of a run, each named as "module:callable"; None uses cltools' own.

    A run whose parts are named here can be repeated from its config as long as the modules do not change. They are
    imported from Python's module path when the run is trained or loaded. `fit` accepts the same parts as objects.

    Raises:
        ValueError: a name is not of the form "module:callable", or of the form "module" for rules.

    Example:
        >>> from dataclasses import replace
        >>> from cltools import OutsideSettings, preset
        >>> outside = OutsideSettings(optimizer="torch.optim:AdamW", rules=("my_rules",))
        >>> replace(preset("digits-moco"), outside=outside).outside.optimizer
        'torch.optim:AdamW'
    """

    images: str | None = None
    """Zero-argument callable returning the `ImageSet` to train on, in place of the usual one."""
    backbone: str | None = None
    """Class or zero-argument function returning the backbone, a module [B, 3, H, W] → [B, D]."""
    views: str | None = None
    """Function `views(images, generator=…)`, or a class whose instances are called so; it replaces `augment`."""
    optimizer: str | None = None
    """Called as `optimizer(parameters)` in place of SGD; for example, "torch.optim:AdamW"."""
    protocols: str | None = None
    """Zero-argument callable returning a dict: extra history column → function from run to number."""
    rules: tuple[str, ...] = ()
    """Modules that define rules, such as "my_rules" for my_rules.py; imported before a run's rules are looked up."""

    def __post_init__(self) -> None:
        """Refuse names that are not of the required form."""
        super().__post_init__()
        names = [(part, name) for part, name in vars(self).items() if part != "rules" and name is not None]
        for part, name in [*names, *(("rules", name) for name in self.rules)]:
            if not re.fullmatch(_DOTTED if part == "rules" else f"{_DOTTED}:{_DOTTED}", name):
                example = "a module (my_rules)" if part == "rules" else "module:callable (torch.optim:AdamW)"
                raise CltoolsError(f"OutsideSettings: {part} is {name!r}; write {example}.")


_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def imported(module: str, source: str) -> ModuleType:
    """Import a user's module from Python's module path.

    Raises:
        ValueError: no such module; `source`, the beginning of the message, says what names it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise CltoolsError(f"{source}, which imports {error.name!r}, which is not installed.") from error
        wrong = f"{source}, but Python finds no module {error.name!r}."
        raise NotFound(f"{wrong} Start in the folder that contains it, or add that to PYTHONPATH.") from None


def import_rules(modules: Iterable[str]) -> None:
    """Import modules that define rules, so that rules are found by class name; ValueError for an unknown module."""
    for name in modules:
        if name.endswith(".py"):
            raise CltoolsError(f"--import takes the name of a module: {name.removesuffix('.py')}, without .py.")
        imported(name, f"outside.rules names {shown(name)}")


_OWN = (
    "For parts of your own, call fit(experiment, images=…, backbone=…, views=…, optimizer=…, protocols=…), or name "
    "them in outside. A loss of your own needs your own training loop, with similarities and select."
)


@dataclass(frozen=True)
class Experiment(Settings):
    """All settings that determine a run.

    Raises:
        ValueError: a value that is not settings or a rule, or settings that contradict each other.

    Example:
        >>> from cltools import DataSettings, Experiment, NearestKeys, RankBand, TrainingSettings
        >>> experiment = Experiment(
        ...     data=DataSettings("digits"), positives=NearestKeys(k=5), negatives=RankBand(drop_closest=0.1),
        ...     training=TrainingSettings(epochs=20, batch=128, queue_size=512), seed=1,
        ... )
        >>> Experiment.from_json(experiment.to_json()) == experiment
        True
    """

    data: DataSettings = field(default_factory=DataSettings)
    """The images."""
    views: ViewSettings = field(default_factory=ViewSettings)
    """The random views of each image."""
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """The architecture of the encoder."""
    positives: PositiveRule = field(default_factory=AugmentedView)
    """The rule that mines positives."""
    negatives: NegativeRule = field(default_factory=AllNegatives)
    """The rule that keeps or weights negatives."""
    loss: LossSettings = field(default_factory=LossSettings)
    """Temperature and form of the loss."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Mode, length and optimizer of the training."""
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    """How and how often the encoder is evaluated."""
    outside: OutsideSettings = field(default_factory=OutsideSettings)
    """Parts of the user's own, by name."""
    seed: Annotated[int, SEED] = 0
    """Seed of weights, order, views and draws; a CPU run with the same seed is identical bit for bit."""

    def __post_init__(self) -> None:
        """Refuse contradictory settings, and settings that are never read.

        Raises:
            ValueError: a value that is not settings or a rule, settings of a subclass with additional fields, or
                settings that contradict each other.
        """
        super().__post_init__()
        for name in ("data", "views", "encoder", "loss", "training", "evaluation", "outside"):
            value, kind = getattr(self, name), _types_of(Experiment)[name]
            if not isinstance(value, kind) or len(fields(value)) > len(fields(kind)):
                wrong = f"Experiment: {name} is {described(value)}, but only fields of {kind.__name__} are read."
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
        """Return the rules in force at this share of training."""
        return self.positives.at(progress), self.negatives.at(progress)

    def to_json(self) -> str:
        """Return the experiment as JSON, indented by two spaces.

        Raises:
            ValueError: a setting of a custom rule cannot be restored from JSON.
        """
        try:
            text = json.dumps(to_plain(self), indent=2) + "\n"
            if Experiment.from_json(text) != self:
                raise CltoolsError("Loading it from JSON gives another one.")
        except (TypeError, ValueError) as error:
            able = "The fields of a custom rule may be numbers, text, booleans, None, and tuples of these."
            raise CltoolsError(f"This experiment cannot be saved: {error} {able}") from error
        return text

    @classmethod
    def from_json(cls, text: str, *, own_rules: bool = False) -> "Experiment":
        """Load an experiment from JSON.

        Args:
            text: JSON as written by `to_json`.
            own_rules: import the modules named in `outside.rules` first, for a run that is trained or loaded. For a
                record or a snapshot, which may be untrusted, nothing is imported.

        Raises:
            ValueError: not JSON; an unknown key or rule (similar names are suggested); a missing key; or a value of a
                wrong type.
        """
        plain = parsed(text, "The experiment")
        if own_rules and isinstance(plain, dict) and isinstance(outside := plain.get("outside"), dict):
            import_rules(from_plain(OutsideSettings, outside, "experiment.outside").rules)
        return from_plain(cls, plain)


ABSENT = "absent"
"""The value of a setting that one of two experiments lacks."""


@dataclass(frozen=True)
class Difference:
    """A setting in which two experiments differ; as text, `training.epochs: 20 → 30`.

    Attributes:
        path: sections and name of the setting, separated by dots.
        before: its value in the first experiment; ABSENT if that lacks the setting.
        now: its value in the second experiment; ABSENT if that lacks the setting.
    """

    path: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.before} → {self.now}"

    @property
    def decides(self) -> bool:
        """True if the setting affects results, unlike the data folder or the interval between checkpoints."""
        return self.path not in undeciding()

    def to_plain(self) -> dict[str, Any]:
        """Return the difference as a JSON object, without the side that lacks the setting."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not ABSENT}


def differences(a: Experiment | Mapping[str, Any], b: Experiment | Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return the differences between two experiments, given as such or as the result of `to_plain`.

    A setting that is missing in one, because it was added later, has its default there; unknown rules are compared as
    written.
    """
    left, right = (dict(leaves(to_plain(completed(each)))) for each in (a, b))
    pairs = ((path, left.get(path, ABSENT), right.get(path, ABSENT)) for path in {**left, **right})
    return tuple(Difference(path, before, now) for path, before, now in pairs if before != now)


def completed(experiment: Experiment | Mapping[str, Any]) -> Experiment | Mapping[str, Any]:
    """Return the experiment of a result of `to_plain`; the mapping itself if it has an unknown rule or setting."""
    if isinstance(experiment, Mapping):
        with suppress(TypeError, ValueError):  # from another version, or with an unknown rule
            return from_plain(Experiment, experiment)
    return experiment


@cache
def undeciding() -> frozenset[str]:
    """Return the paths of the settings that do not affect results (fields with `metadata={"decides": False}`)."""
    return frozenset(
        f"{section}.{f.name}"
        for section, settings in _types_of(Experiment).items()
        if is_dataclass(settings)
        for f in fields(settings)
        if not f.metadata.get("decides", True)
    )


def to_plain(value: Any) -> Any:
    """Convert nested dataclasses to dicts and lists for JSON; a rule gets an entry with its class name."""
    if is_dataclass(value):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return {"rule": type(value).__name__, **plain} if isinstance(value, RULES) else plain
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


_types_of = cache(get_type_hints)
RULES = (NegativeRule, PositiveRule)
T = TypeVar("T")


def from_plain(cls: type[T], plain: object, path: str = "experiment") -> T:
    """Create a dataclass from a dict made by `to_plain`; missing keys take their defaults.

    Raises:
        ValueError: an unknown key, a missing key without a default, or a value of a wrong type; the message names its
            path.
    """
    if not isinstance(plain, Mapping):
        raise CltoolsError(f"{path} must be an object of settings, not {shown(plain)}.")
    plain = dict(plain)
    if issubclass(cls, RULES):
        cls = _rule_of(plain, cls, path)
    hints, known = _types_of(cls), {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in plain:
        if key not in known:
            raise unknown(f"setting in {path}", str(key), known)
    for name, f in known.items():
        if name not in plain and f.default is MISSING and f.default_factory is MISSING:
            raise CltoolsError(f"{path} lacks {name!r}, which has no default.")
    return cls(**{key: _convert(hints[key], value, f"{path}.{key}") for key, value in plain.items()})


def _rule_of(plain: dict[str, Any], cls: type[Any], path: str) -> type[Any]:
    """Remove `plain["rule"]` and return the class that it names; if `cls` is a rule itself, the name is optional."""
    base: type[Any] = NegativeRule if issubclass(cls, NegativeRule) else PositiveRule
    name = plain.pop("rule", None if cls is base else cls.__name__)
    if not isinstance(name, str):
        raise CltoolsError(f'{path} must name its rule, as in {{"rule": "RankBand"}}, not {shown(name)}.')
    return rule_class(name, base)


def _convert(hint: Any, value: object, path: str) -> Any:
    """Convert a value to the type of a field; a ValueError names the field.

    If the field has several types, the first that accepts the value is used, and an error is that of the last.
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
    if origin is Mapping:  # dict is not supported, because it would make a rule unhashable
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
"""Pattern of a field of a class, and of the text below it."""


def words_of(settings: type) -> dict[str, str]:
    """Return the text below each field of a class and its bases in the source; empty if there is no source."""
    return {name: text for base in reversed(settings.__mro__) for name, text in _words_in(base).items()}


@cache
def _words_in(base: type) -> dict[str, str]:
    with suppress(OSError, TypeError):
        return {name: " ".join(text.split()) for name, text in BELOW.findall(inspect.getsource(base))}
    return {}
