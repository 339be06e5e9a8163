"""The container of images used throughout the package, and the settings that select images.

Shapes: N images, H and W their height and width.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cltools.errors import CltoolsError, Settings, check_number
from cltools.files import CLONE
from cltools.mining.handed_in import as_ids, as_tensor, check_listed, seeded


@dataclass(frozen=True)
class DataSettings(Settings):
    """The images that a run uses.

    Attributes:
        name: A name from `image_sets()` or the path of a folder with images.
        root: Folder of downloads and image folders; None means $CLTOOLS_DATA or, if unset, `data`.
        download: True: download missing archives.
        limit: Maximum number of training images, drawn at random; None for all.
        size: Scale the shorter side to this many pixels and crop the centre square; None keeps the images unchanged.
        holdout: Share of the training images held out as split "val", on which you then choose all settings.
        skip_bad: Skip unreadable files in a folder, and report how many.

    Example:
        >>> from cltools import DataSettings
        >>> DataSettings("my/photographs", size=64, holdout=0.2)
        DataSettings(name='my/photographs', root=None, download=True, limit=None, size=64, holdout=0.2, skip_bad=False)
    """

    name: str = "cifar10"
    root: str | None = field(default=None, metadata={"decides": False})
    download: bool = field(default=True, metadata={"decides": False})
    limit: Annotated[int | None, "a whole number of at least 1"] = None
    size: Annotated[int | None, "a whole number from 2 to 4096"] = None
    holdout: Annotated[float, "at least 0 and below 1"] = 0.0
    skip_bad: bool = False


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the data folder: `root`, else the variable CLTOOLS_DATA, else `data` in the clone (or working folder)."""
    if root == "":
        raise CltoolsError("root is empty, perhaps from an unset shell variable; name a folder, or leave it out.")
    given = root if root is not None else os.environ.get("CLTOOLS_DATA") or None
    if given is not None:
        return Path(os.fsdecode(given)).expanduser()
    # Notebooks run in `notebooks/`, so the working folder alone would scatter downloads over the clone.
    return (CLONE or Path.cwd()) / "data"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with what is known about them; arrays are converted to tensors.

    Attributes:
        images: uint8 [N, 3, H, W], RGB, 0 to 255.
        labels: int64 [N]. Index into `classes`, -1 if unknown. For evaluation, diagnosis and the oracle only.
        ids: int64 [N]. Index of the image in the full split. A subset keeps the ids, so they still identify images.
        classes: Class names in the order of the labels; empty without labels.
        name: Name of the set, as given to `load_images`.
        split: "train", "test" or "val" (held out of the training images).

    Raises:
        ValueError: images of another shape or dtype, labels or ids that are not one per image, ids that are not
            distinct, or a label without a class name.

    Example:
        >>> import torch
        >>> from cltools import ImageSet
        >>> pixels = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> labels = torch.tensor([0, 1, 1, -1])  # the last is unknown
        >>> images = ImageSet(pixels, labels, torch.arange(4), ("cat", "dog"), name="mine", split="train")
        >>> dogs = images.select(images.labels == 1)
        >>> len(images), images.labelled, dogs.ids
        (4, True, tensor([1, 2]))
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]
    name: str
    split: str

    def __post_init__(self) -> None:
        """Convert arrays, and refuse those that do not match, which would otherwise fail much later and unclearly."""
        check_listed("classes", self.classes)
        images, labels, ids = as_tensor("images", self.images), as_ids("labels", self.labels), as_ids("ids", self.ids)
        vars(self).update(images=images, labels=labels, ids=ids, classes=tuple(map(str, self.classes)))
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise CltoolsError(f"images are {images.dtype} {[*images.shape]}; give RGB, uint8 [N, 3, H, W].")
        if {labels.shape, ids.shape} != {images.shape[:1]}:
            raise CltoolsError(f"There are {len(self)} images, {len(labels)} labels and {len(ids)} ids; give one each.")
        if self.ids.device.type == "cpu" and (distinct := len(torch.unique(self.ids))) < len(self):
            raise CltoolsError(f"{len(self)} images have {distinct} ids; give distinct ones, such as torch.arange(N).")
        # On an accelerator, reading the largest label would make the host wait; it was checked before the move.
        if self.labels.device.type == "cpu" and len(self) and int(self.labels.max()) >= len(self.classes):
            raise CltoolsError(f"labels go up to {int(self.labels.max())}; name each class, or give -1 for unknown.")

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def labelled(self) -> bool:
        """True if the class of any image is known. Waits for the device."""
        return bool((self.labels >= 0).any())

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the same images with all tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), ids=self.ids.to(device))

    def select(self, index: Int[Tensor, " M"] | Bool[Tensor, " N"] | slice) -> "ImageSet":
        """Return the images at `index` (positions, a mask or a slice), with their labels and ids, in that order."""
        return replace(self, images=self.images[index], labels=self.labels[index], ids=self.ids[index])

    def subset(self, n: int, seed: int = 0) -> "ImageSet":
        """Return at most `n` images, drawn without replacement by the seed, in their present order.

        Raises:
            ValueError: `n` is not positive.
        """
        return self.select(draw(len(self), n, seed).to(self.images.device))


def draw(total: int, n: int, seed: int = 0) -> Int[Tensor, " M"]:
    """Draw `min(n, total)` distinct positions below `total`, ascending; every subset of a set is chosen this way.

    Positions are random rather than the first `n`, because folders list their images by class; and labels are not
    used, because labels must not influence what is trained on.

    Raises:
        ValueError: `n` is not positive.
    """
    check_number("The number of images to take", n, "a whole number of at least 1")
    return torch.randperm(total, generator=seeded(seed), device="cpu")[:n].sort().values


def split_holdout(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split off a share of the images, drawn by id: return the training images and the held-out "val" images.

    Which images are held out depends only on ids and seed, not on their order or labels.

    Raises:
        ValueError: `share` is outside [0, 1), or would leave one of the two without images.
    """
    count = round(share * len(images))
    if share != 0 and not 0 < count < len(images):
        raise CltoolsError(f"A holdout of {share} keeps {count} of {len(images)} images; leave images on both sides.")
    by_id = torch.argsort(images.ids.cpu(), stable=True)
    order = torch.randperm(len(images), generator=seeded(seed), device="cpu")
    held_out = torch.zeros(len(images), dtype=torch.bool, device="cpu")
    held_out[by_id[order[:count]]] = True
    held_out = held_out.to(images.ids.device)
    return images.select(~held_out), replace(images.select(held_out), split="val")
