"""What a training is given: the images of its experiment, and the parts that come from outside of cltools.

Legend: B images, H and W height and width.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

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
    """What stands in place of the recipe's own parts; None, or no protocol, for those that are the recipe's.

    Attributes:
        backbone: module [B, 3, H, W] → [B, D].
        views: see `Views`.
        optimizer: makes the optimizer of the encoder's parameters.
        protocols: by column of the history.
        given: which of these, or of the images, `fit` was given as objects, and what each was. No config names them, so
            that a run with any does not repeat from its config alone.
    """

    backbone: nn.Module | None = None
    views: Views | None = None
    optimizer: OptimizerOf | None = None
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, *, images: ImageSet | None = None, **objects: Any) -> "Parts":
        """The parts that were given as objects; the images are only told of.

        Raises:
            TypeError: a part of another kind than is wanted.
            ValueError: the experiment names the same part.
        """
        given = {name: value for name, value in {"images": images, **objects}.items() if value is not None}
        for name, value in given.items():
            if (named := getattr(experiment.outside, name)) is not None:
                raise CltoolsError(f"Both {name}= and outside.{name} ({named}) are given; leave one of them out.")
            _check_kind(name, value, f"{name}=")
        parts = {name: value for name, value in given.items() if name != "images"}
        return cls(**parts, given={name: _said(value) for name, value in given.items()})

    def resolved(self, experiment: Experiment, *wanted: str) -> "Parts":
        """With these parts as the experiment names them, if it does; a named backbone has the seed's weights.

        Torch's generator is left as it was.

        Raises:
            TypeError, ValueError: a name under which nothing is found, or something of another kind than is wanted.
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
"""Nothing in place of the recipe's parts."""


def named(part: str, name: str) -> Callable[..., Any]:
    """What is called by the name "module:callable"; its module is imported.

    Raises:
        ValueError: no such module, or nothing in it that can be called by that name.
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
        settings: of `augment`, which draws where there are no views of one's own.
        views: one's own. They view all images, of which the share is then taken, so that several processes see the
            views that one would see.
        generator: of the draws, on the images' device.
        share: which images of the batch; None for all.

    Raises:
        ValueError: views of one's own that return something else.
    """
    share = slice(0, len(images)) if share is None else share
    if views is None:
        return augment(images[share], settings, generator=generator, among=(share.start, len(images)))
    made = views(images, generator=generator)
    if not isinstance(made, Tensor) or made.ndim != 4 or made.shape[:2] != images.shape[:2]:
        found = [*made.shape] if isinstance(made, Tensor) else described(made)
        raise CltoolsError(f"views made {found} of images {[*images.shape]}; it must return one view of each.")
    return made[share]


def _check_kind(name: str, value: Any, where: str) -> None:
    """Refuse a part that cannot be what it is given as."""
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
"""By the part: whether an object can be one, and what is wanted."""


def _said(value: Any) -> str:
    """What an object is, for people: a function's or a class's name, the names of images and of protocols."""
    if isinstance(value, ImageSet):
        return value.name
    if isinstance(value, Mapping):
        return ", ".join(sorted(value))
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


@dataclass(frozen=True)
class TrainedOn:
    """What a checkpoint remembers of the training images, to recognise them, their ids and labels, and their order.

    Attributes:
        name: of the set.
        count: how many images.
        given: whether they were given to `fit(images=…)` in place of the experiment's.
        pixels: digest of all pictures in their order, with their size.
        pictures: digest of all pictures whatever their order, by which the same ones in another order are known.
        ids: digest of the ids in order.
        labels: digest of the labels in order.

    Digests are empty in records of the first edition, which kept a sum of pixels.
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
        """What to remember of these images."""
        array = images.images.cpu().contiguous().numpy()
        shape = f"{array.dtype} {array.shape}".encode()
        each = [blake2b(picture, digest_size=DIGEST).digest() for picture in array]  # a map is read once, in order
        digests = [_digest(shape, *each), _digest(shape, *sorted(each))]
        digests += [_digest(known.cpu().contiguous().numpy().tobytes()) for known in (images.ids, images.labels)]
        return cls(images.name, len(images), given, *digests)

    def difference(self, other: "TrainedOn") -> str:
        """What tells other images from these, as a sentence; empty where they are the same."""
        if (self.name, self.count, self.given) != (other.name, other.count, other.given):
            return f"These are {other}."
        if self.pixels != other.pixels and self.pictures == other.pictures:
            return "These are the same pictures in another order."
        parts = [part for part in ("pixels", "ids", "labels") if getattr(self, part) != getattr(other, part)]
        return f"These have other {' and '.join(parts)}." if parts else ""

    def __str__(self) -> str:
        origin = "given by images=" if self.given else "the experiment's own"
        return f"{self.count:,} images of {self.name!r} ({origin})"


def _digest(*parts: bytes) -> str:
    return blake2b(b"".join(parts), digest_size=DIGEST).hexdigest()


def training_images(experiment: Experiment, images: ImageSet | None = None) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on (`images`, if given, in place of the experiment's), and those of split "val".

    These are held out of them, or, where no share is, those that a folder has in a split of its own.
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
    """The test images, all of them.

    Raises:
        ValueError: the experiment names images of one's own, of which there is no test split.
    """
    if experiment.outside.images is not None:
        raise CltoolsError('Own images have no test split; judge on "val" (data.holdout), or call cltools.evaluate.')
    return _load(experiment, "test", None)


def _load(experiment: Experiment, split: str, limit: int | None) -> ImageSet:
    data = experiment.data
    return load_images(data.name, split, data.root, data.download, limit, data.size, data.skip_bad)
