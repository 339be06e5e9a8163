"""`load_images`: one call for every source of images, and the split that is held out for choosing."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cltools.datasets.cifar import load_cifar
from cltools.datasets.digits import load_digits
from cltools.datasets.folder import load_folder, split_folders
from cltools.datasets.image_set import ImageSet, draw
from cltools.datasets.pictures import resize
from cltools.datasets.shapes import load_shapes
from cltools.datasets.tinyimagenet import load_tinyimagenet
from cltools.errors import unknown

NAMES = ("digits", "shapes", "cifar10", "cifar100", "tinyimagenet")


@dataclass(frozen=True)
class DataSettings:
    """Which images a run uses.

    Attributes:
        name: A name from `image_sets()` or the path of a folder with images.
        root: Where downloads and trees lie; None for the variable CLTOOLS_DATA, else the folder `data`.
        download: Whether missing archives may be downloaded.
        limit: Train on at most this many images, drawn at random.
        size: Scale the shorter side to this and cut the centre square; None keeps the images as they are.
        holdout: Share of the training images kept out as split "val": the only images anything is chosen on.
    """

    name: str = "cifar10"
    root: str | None = field(default=None, metadata={"decides": False})
    download: bool = field(default=True, metadata={"decides": False})
    limit: int | None = None
    size: int | None = None
    holdout: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what could only fail after the images were loaded."""
        _check_counts(self.limit, self.size)
        _check_share(self.holdout)


def image_sets() -> tuple[str, ...]:
    """The names `load_images` knows; anything else is taken for the path of a folder."""
    return NAMES


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Where data lie: `root`, else the variable CLTOOLS_DATA, else `data` in the project (or the working folder)."""
    if root is not None:
        return Path(root).expanduser()
    if given := os.environ.get("CLTOOLS_DATA"):
        return Path(given).expanduser()
    # Notebooks run in `notebooks/`, so the working folder alone would scatter downloads over the clone.
    project = Path(__file__).resolve().parents[2]
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / "data"


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
        name: "digits", "shapes", "cifar10", "cifar100", "tinyimagenet", or the path of a folder: with `train` and
            `test` inside, or one split; with a sub-folder for each class, or plain images (labels -1).
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
    _check_counts(limit, size)
    name = os.fspath(name)
    if name not in NAMES:
        return load_folder(_folder(name), split, name, limit, size)
    if name == "tinyimagenet" and split == "val":
        split = "test"
    if split not in ("train", "test"):
        raise ValueError(
            f"{name} has the splits 'train' and 'test', not {split!r}. "
            "For a validation split hold out a share of the training images: DataSettings(holdout=0.1)."
        )
    images = _named(name, split, data_root(root), download, limit, size)
    if limit is not None and len(images) > limit:
        images = images.select(draw(len(images), limit))
    return images if size is None else replace(images, images=resize(images.images, size))


def has_test(name: str) -> bool:
    """Whether there is a test split: of every named set, and of a folder that has one."""
    return name in NAMES or "test" in split_folders(_folder(name))


def split_holdout(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training images without, and the held-out "val" images with, a seeded share drawn by id.

    Which images are held out depends on ids and seed alone, neither on their order nor on labels.

    Raises:
        ValueError: `share` is outside [0, 1), or would leave one of the two without images.
    """
    _check_share(share)
    count = round(share * len(images))
    if share > 0 and not 0 < count < len(images):
        raise ValueError(
            f"A holdout of {share} keeps {count} of {len(images)} images. "
            "Choose a share that leaves images on both sides."
        )
    by_id = torch.argsort(images.ids.cpu(), stable=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(images), dtype=torch.bool)
    held[by_id[order[:count]]] = True
    held = held.to(images.ids.device)
    return images.select(~held), replace(images.select(held), split="val")


def _named(name: str, split: str, root: Path, download: bool, limit: int | None, size: int | None) -> ImageSet:
    if name == "digits":
        return load_digits(split)
    if name == "shapes":
        return load_shapes(split)
    if name == "tinyimagenet":
        return load_tinyimagenet(split, root, download, limit, size)
    return load_cifar(name, split, root, download, limit, size)


def _folder(name: str) -> Path:
    """The folder a person means by a name that is not in the table; a plain word is more likely a typing mistake."""
    path = Path(name).expanduser()
    if not name or (not path.is_dir() and path.name == name):
        raise unknown("image set", name, NAMES)
    return path


def _check_counts(limit: int | None, size: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1, or None for all images.")
    if size is not None and size < 1:
        raise ValueError(f"size is {size}; it must be at least 1 pixel, or None to keep the images as they are.")


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise ValueError(f"holdout is {share}; it must be a share of the training images, at least 0 and below 1.")
