"""The register of all image sets, and `load_images`: one call for every source of images."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from cltools.datasets.built_in import load_digits, load_shapes
from cltools.datasets.cifar import load_cifar
from cltools.datasets.decoding import resize
from cltools.datasets.folder import load_folder, split_folders
from cltools.datasets.image_set import DataSettings, ImageSet, draw
from cltools.datasets.tinyimagenet import ARCHIVE, load_tinyimagenet
from cltools.errors import CltoolsError, unknown

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Stored:
    """Where the parts of a set that has to be downloaded lie below the data root; nothing of them is read.

    Attributes:
        archive: as it is downloaded.
        unpacked: the folder that it unpacks to.
        tree: a folder of picture files that is read in its place; None where there is none.
    """

    archive: str
    unpacked: str
    tree: str | None = None

    def found(self, root: Path) -> dict[str, bool]:
        """What is there in words, in the order in which it is looked for, and whether both splits can be read of it."""
        splits = [split for split in SPLITS if self.tree is not None and (root / self.tree / split).is_dir()]
        there = {f"folder tree ({', '.join(splits)})": splits == [*SPLITS]} if splits else {}
        there |= {f"unpacked ({self.unpacked})": True} if (root / self.unpacked).is_dir() else {}
        return there | ({f"archive ({self.archive})": True} if (root / self.archive).is_file() else {})

    def whole(self, root: Path) -> bool:
        """Whether both splits can be loaded without a download."""
        return any(self.found(root).values())


CIFAR = dict.fromkeys(("cifar10", "cifar100"), load_cifar)
SOURCES = {"digits": load_digits, "shapes": load_shapes, **CIFAR, "tinyimagenet": load_tinyimagenet}
"""How a set is loaded, given "train" or "test" and the settings that ask for it.

A loader that reads picture files heeds limit and size itself, so that no file is opened in vain; to any other
`load_images` applies them.
"""

# CIFAR's names are torchvision's, which is not imported to look whether a file is there.
STORED = {
    "cifar10": Stored("cifar-10-python.tar.gz", "cifar-10-batches-py", "cifar10"),
    "cifar100": Stored("cifar-100-python.tar.gz", "cifar-100-python", "cifar100"),
    "tinyimagenet": Stored(ARCHIVE.file, ARCHIVE.folder),
}
"""Where a set lies that has to be downloaded."""


def image_sets() -> tuple[str, ...]:
    """The names `load_images` knows; anything else is taken for the path of a folder."""
    return tuple(SOURCES)


def load_images(
    name: str,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    limit: int | None = None,
    size: int | None = None,
) -> ImageSet:
    """Images by name or from a folder.

    Args:
        name: A name from `image_sets()`, or the path of a folder: with `train` and `test` inside, or one split; with a
            sub-folder for each class, or plain images (labels -1).
        split: "train" or "test"; a folder may also have "val". For tinyimagenet "test" and "val" both mean the
            official validation images, because the labels of its test images were never published.
        root: Where downloads and trees lie; None for the variable CLTOOLS_DATA, else the folder `data`.
        download: Whether a missing archive may be downloaded.
        limit: At most this many images, the same ones each time, drawn without a look at the labels.
        size: Scale the shorter side to this many pixels, then cut the centre. Needed where sizes differ.

    Returns:
        The split, uint8 [N, 3, H, W]; `ids` are places in the whole split.

    Raises:
        ValueError: Unknown name (with the nearest) or split, altered archive, unreadable image, mixed sizes.
        FileNotFoundError: A folder or file is missing, or a folder holds no images.
        RuntimeError: A download failed.
    """
    data = DataSettings(os.fspath(name), None if root is None else os.fspath(root), download, limit, size)
    if data.name not in SOURCES:
        return load_folder(_folder(data.name), split, data)
    if data.name == "tinyimagenet" and split == "val":
        split = "test"
    if split not in SPLITS:
        raise CltoolsError(
            f"{name} has the splits 'train' and 'test', not {split!r}. "
            "For a validation split hold out a share of the training images: DataSettings(holdout=0.1)."
        )
    images = SOURCES[data.name](split, data)
    if limit is not None and len(images) > limit:
        images = images.select(draw(len(images), limit))
    return images if size is None else replace(images, images=resize(images.images, size))


def has_test(name: str) -> bool:
    """Whether there is a test split: of every named set, and of a folder that has one."""
    return name in SOURCES or "test" in split_folders(_folder(name))


def _folder(name: str) -> Path:
    """The folder a person means by a name that is not in the register; a plain word is more likely a typing mistake."""
    path = Path(name).expanduser()
    if not name or (not path.is_dir() and path.name == name):
        raise unknown("image set", name, SOURCES)
    return path
