"""The inputs of a training: the images of its experiment, and the parts that users provide.

Legend: B images, H and W height and width.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from cltools.config import Experiment, imported
from cltools.datasets import ImageSet, draw, load_images, split_holdout, splits_of
from cltools.errors import CltoolsError, described, foreign
from cltools.views import ViewSettings, augment

if TYPE_CHECKING:
    from cltools.training.run import Run

Views = Callable[..., Tensor]
"""Called as `views(images, generator=…)`: uint8 [B, 3, H, W] → one view of each image, uint8, or float in [0, 1]."""
OptimizerOf = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Protocol = Callable[["Run"], float]


DIGEST = 16  # bytes


@dataclass(frozen=True)
class Parts:
    """The user's parts that replace those of the recipe; None, or no protocol, keeps the recipe's.

    Attributes:
        backbone: module [B, 3, H, W] → [B, D].
        views: see `Views`.
        optimizer: a function that returns the optimizer of the encoder's parameters.
        protocols: functions by the name of their history column.
        given: descriptions, by name, of those parts and images that were passed to `fit` as objects. The config cannot
            name them, so with any of them the config alone does not reproduce the run.
    """

    backbone: nn.Module | None = None
    views: Views | None = None
    optimizer: OptimizerOf | None = None
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, *, images: ImageSet | None = None, **objects: Any) -> "Parts":
        """Return the parts that were passed as objects; of the images, only a description is kept.

        Raises:
            TypeError: a part has the wrong type.
            ValueError: the experiment names the same part.
        """
        given = {name: value for name, value in {"images": images, **objects}.items() if value is not None}
        for name, value in given.items():
            if (named := getattr(experiment.outside, name)) is not None:
                raise CltoolsError(f"Both {name}= and outside.{name} ({named}) are given; leave one of them out.")
            _check_kind(name, value, f"{name}=")
        parts = {name: value for name, value in given.items() if name != "images"}
        return cls(**parts, given={name: _description(value) for name, value in given.items()})

    def resolved(self, experiment: Experiment, *wanted: str) -> "Parts":
        """Add those of the wanted parts that the experiment names; a named backbone is initialised by the seed.

        Torch's default generator keeps its state.

        Raises:
            TypeError, ValueError: a name refers to nothing, or to an object of the wrong type.
        """
        parts: dict[str, Any] = {}
        for part in wanted:
            if (name := getattr(experiment.outside, part)) is None:
                continue
            value: Any = named(part, name)
            if part in ("backbone", "protocols") or (part == "views" and isinstance(value, type)):
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(experiment.seed)
                    value = value()
            _check_kind(part, value, f"outside.{part}")
            parts[part] = value
        return replace(self, **parts)


RECIPE = Parts()
"""The recipe without any of the user's parts."""


def named(part: str, name: str) -> Callable[..., Any]:
    """Import the module of a name "module:callable" and return the callable.

    Raises:
        ValueError: there is no such module, or no callable of that name in it.
    """
    module, _, path = name.partition(":")
    found: Any = imported(module, f"outside.{part} is {name!r}")
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise CltoolsError(f"outside.{part} is {name!r}, and {module} has no {path!r}.")
        found = getattr(found, attribute)
    if not callable(found):
        raise CltoolsError(f"outside.{part} is {name!r}, which is {described(found)} and cannot be called.")
    return found  # type: ignore[no-any-return]


@torch.no_grad()
def drawn_view(
    images: Tensor, settings: ViewSettings, views: Views | None, *, generator: Generator, share: slice | None = None
) -> Tensor:
    """One view of each image: float in [0, 1], or uint8, [b, 3, H, W].

    Args:
        images: uint8 [B, 3, H, W].
        settings: settings of `augment`, which is used unless `views` is given.
        views: the user's function. It is called on all images, and the share is taken from its result, so that several
            processes see the same views as a single one.
        generator: generator on the images' device.
        share: which images of the batch; None for all.

    Raises:
        ValueError: the user's views return something else.
    """
    share = slice(0, len(images)) if share is None else share
    if views is None:
        return augment(images[share], settings, generator=generator, among=(share.start, len(images)))
    view = views(images, generator=generator)
    if not isinstance(view, Tensor) or view.ndim != 4 or view.shape[:2] != images.shape[:2]:
        result = [*view.shape] if isinstance(view, Tensor) else f"a value that is {described(view)}"
        raise CltoolsError(f"views returned {result} for images {[*images.shape]}; it must return one view of each.")
    return view[share]


def _check_kind(name: str, value: Any, where: str) -> None:
    """Raise an error if a part has the wrong type."""
    fits, wanted = _KINDS[name]
    if not fits(value):
        raise foreign(value, f"{where}: {wanted},")


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "images": (lambda x: isinstance(x, ImageSet), "an ImageSet, such as load_images('digits')"),
    "backbone": (lambda x: isinstance(x, nn.Module), "a torch.nn.Module, [B, 3, H, W] to [B, D]"),
    "views": (callable, "a callable, views(images, generator=…)"),
    "optimizer": (callable, "a function of the encoder's parameters, such as torch.optim.AdamW"),
    "protocols": (
        lambda x: isinstance(x, Mapping) and all(isinstance(name, str) and callable(x[name]) for name in x),
        "a mapping of names to functions of a run, {'mine': lambda run: 1.0}",
    ),
}
"""For each part, a check of its type and a description of that type."""


def _description(value: Any) -> str:
    """Describe an object in words: the name of a function, class or image set, or the names of protocols."""
    if isinstance(value, ImageSet):
        return value.name
    if isinstance(value, Mapping):
        return ", ".join(sorted(value))
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class TrainedOn:
    """The identity of the training images, their ids, labels and order, as stored in a checkpoint.

    Attributes:
        name: name of the set.
        count: number of images.
        given: whether they were passed to `fit(images=…)` instead of being the experiment's.
        pixels: digest of all images in order, with their size.
        pictures: digest of all images regardless of order, to recognise the same images in another order.
        ids: digest of the ids in order.
        labels: digest of the labels in order.

    Digests are empty in records of the first edition, which stored a sum of pixels.
    """

    name: str
    count: int
    given: bool
    pixels: str = ""
    pictures: str = ""
    ids: str = ""
    labels: str = ""

    @classmethod
    def of(cls, images: ImageSet, *, given: bool) -> "TrainedOn":
        """Compute the identity of these images."""
        array = images.images.cpu().contiguous().numpy()
        shape = f"{array.dtype} {array.shape}".encode()
        each = bytearray()  # objects of Python would take ten times the memory
        for image in array:  # reads a mapped file in order
            each += blake2b(image, digest_size=DIGEST).digest()
        digests = [_digest(shape, each), _digest(shape, np.sort(np.frombuffer(each, f"S{DIGEST}")).tobytes())]
        digests += [_digest(known.cpu().contiguous().numpy().tobytes()) for known in (images.ids, images.labels)]
        return cls(images.name, len(images), given, *digests)

    def difference(self, other: "TrainedOn") -> str:
        """Return a sentence that says how other images differ from these; empty if they are the same."""
        if (self.name, self.count, self.given) != (other.name, other.count, other.given):
            return f"These are {other}."
        if self.pixels != other.pixels and self.pictures == other.pictures:
            return "These are the same images in another order."
        parts = [part for part in ("pixels", "ids", "labels") if getattr(self, part) != getattr(other, part)]
        return f"These have other {' and '.join(parts)}." if parts else ""

    def __str__(self) -> str:
        origin = "given by images=" if self.given else "the experiment's own"
        return f"{self.count:,} images of {self.name!r} ({origin})"


def _digest(*parts: bytes | bytearray) -> str:
    return blake2b(b"".join(parts), digest_size=DIGEST).hexdigest()


def training_images(experiment: Experiment, images: ImageSet | None = None) -> tuple[ImageSet, ImageSet | None]:
    """Return the images to train on (`images` or else the experiment's) and those of split "val".

    The latter are held out of the former, or, without `data.holdout`, come from a folder's own split; else None.
    """
    data = experiment.data
    if images is not None:
        train = images
    elif experiment.outside.images is not None:
        train = named("images", experiment.outside.images)()
        _check_kind("images", train, "outside.images")
    else:
        train = _load(experiment, "train", data.limit)
    if data.limit is not None and len(train) > data.limit:
        train = train.select(draw(len(train), data.limit))
    if data.holdout > 0:
        return split_holdout(train, data.holdout, experiment.seed)
    own = images is None and experiment.outside.images is None and "val" in splits_of(data.name)
    return train, _load(experiment, "val", None) if own else None


def evaluation_images(experiment: Experiment) -> ImageSet:
    """Return all test images.

    Raises:
        ValueError: the experiment names the user's images, which have no test split.
    """
    if experiment.outside.images is not None:
        raise CltoolsError('Your own images have no test split; use "val" (data.holdout) or cltools.evaluate.')
    return _load(experiment, "test", None)


def _load(experiment: Experiment, split: str, limit: int | None) -> ImageSet:
    data = experiment.data
    return load_images(data.name, split, data.root, data.download, limit, data.size, data.skip_bad)
