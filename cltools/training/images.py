"""The images of an experiment: to train on, to choose by, to report on; and how those trained on are recognised."""

from dataclasses import dataclass
from hashlib import blake2b

from cltools.config import Experiment
from cltools.datasets import ImageSet, load_images, split_holdout

DIGEST = 16  # bytes


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
    """

    name: str
    count: int
    given: bool
    pixels: str
    pictures: str
    ids: str
    labels: str

    @classmethod
    def of(cls, images: ImageSet, *, given: bool) -> "TrainedOn":
        """What to remember of these images."""
        array = images.images.cpu().contiguous().numpy()
        shape = f"{array.dtype} {array.shape}".encode()
        each = [blake2b(picture, digest_size=DIGEST).digest() for picture in array]  # a map is read once, in order
        ids, labels = (tensor.cpu().contiguous().numpy() for tensor in (images.ids, images.labels))
        return cls(
            images.name,
            len(images),
            given,
            pixels=_digest(shape, *each),
            pictures=_digest(shape, *sorted(each)),
            ids=_digest(ids.tobytes()),
            labels=_digest(labels.tobytes()),
        )

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
    """Images to train on (`images`, if given, in place of the experiment's), and those held out as split "val"."""
    data = experiment.data
    train = images if images is not None else _load(experiment, "train", data.limit)
    if data.holdout > 0:
        return split_holdout(train, data.holdout, experiment.seed)
    return train, None


def evaluation_images(experiment: Experiment) -> ImageSet:
    """The test images, all of them."""
    return _load(experiment, "test", None)


def labelled(images: ImageSet) -> bool:
    """Whether the class of every image is known."""
    return bool((images.labels >= 0).all())


def _load(experiment: Experiment, split: str, limit: int | None) -> ImageSet:
    data = experiment.data
    return load_images(data.name, split, root=data.root, download=data.download, limit=limit, size=data.size)
