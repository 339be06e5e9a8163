"""The register of all image sets, and `load_images`: one call for every source of images."""

import os
from dataclasses import replace
from pathlib import Path

from cltools.datasets.built_in import load_digits, load_shapes
from cltools.datasets.cifar import load_cifar
from cltools.datasets.decoding import kinds, resize
from cltools.datasets.folder import innermost, load_folder, look, split_folders
from cltools.datasets.image_set import DataSettings, ImageSet, draw
from cltools.datasets.tinyimagenet import ARCHIVE, load_tinyimagenet
from cltools.errors import CltoolsError, unknown

SPLITS = ("train", "test")


CIFAR = dict.fromkeys(("cifar10", "cifar100"), load_cifar)
SOURCES = {"digits": load_digits, "shapes": load_shapes, **CIFAR, "tinyimagenet": load_tinyimagenet}
"""How a set is loaded, given "train" or "test" and the settings that ask for it.

A loader that reads picture files heeds limit and size itself, so that no file is opened in vain; to any other
`load_images` applies them.
"""

# CIFAR's names are torchvision's, which is not imported to look whether a file is there.
STORED = {
    "cifar10": (("cifar10/train", "cifar10/test"), ("cifar-10-batches-py",), ("cifar-10-python.tar.gz",)),
    "cifar100": (("cifar100/train", "cifar100/test"), ("cifar-100-python",), ("cifar-100-python.tar.gz",)),
    "tinyimagenet": ((ARCHIVE.folder,), (ARCHIVE.file,)),
}
"""Where a set that has to be downloaded may lie below the data root: as a tree of pictures, unpacked, or packed."""


def stored(name: str, root: Path) -> list[str]:
    """Of these what is there, so that both splits load without a download; nothing of it is read."""
    return [", ".join(paths) for paths in STORED[name] if all((root / path).exists() for path in paths)]


READERS = {
    ".zip .tar .gz .tgz .bz2 .xz .7z .rar": "Unpack it, and load the folder.",
    ".csv .tsv .txt": "Labels in a table are not read; sort the images into a folder for each class.",
    ".npz .npy .parquet": "Snapshots are read by load_snapshot and shown by explore, embeddings by read_embeddings.",
    ".json .pt .pth .safetensors": "Of a run, Run.load reads the folder; read_record reads a record alone.",
    ".h5 .hdf5 .mat .pkl .pickle .bin .lmdb .tfrecord": "Read it with what made it; of arrays make an ImageSet.",
}
"""By the endings of files, what reads them where a folder of images is meant."""


def image_sets() -> tuple[str, ...]:
    """The names `load_images` knows; anything else is taken for the path of a folder."""
    return tuple(SOURCES)


def load_images(
    name: str | bytes | os.PathLike[str],
    split: str = "train",
    root: str | bytes | os.PathLike[str] | None = None,
    download: bool = True,
    limit: int | None = None,
    size: int | None = None,
    skip_bad: bool = False,
) -> ImageSet:
    """Images by name or from a folder.

    Args:
        name: A name from `image_sets()`, or the path of a folder: with `train` and `test` inside, or one split; with a
            sub-folder for each class, or plain images (labels -1).
        split: "train" or "test"; a folder may also have "val", and any name that its folders may have will do, such as
            "valid". For tinyimagenet "test" and "val" both mean the official validation images, because the labels of
            its test images were never published.
        root: Where downloads and trees lie; None for the variable CLTOOLS_DATA, else the folder `data`.
        download: Whether a missing archive may be downloaded.
        limit: At most this many images, the same ones each time, drawn without a look at the labels.
        size: Scale the shorter side to this many pixels, then cut the centre. Needed where sizes differ.
        skip_bad: Leave out files of a folder that cannot be read, and say how many; without it they are an error, which
            names them all at once, or the first ten.

    Returns:
        The split, uint8 [N, 3, H, W]; `ids` are places in the whole split.

    Raises:
        ValueError: Unknown name (with the nearest) or split, altered archive, unreadable image, mixed sizes.
        FileNotFoundError: A folder or file is missing, or a folder holds no images.
        RuntimeError: A download failed.
    """
    data = DataSettings(
        os.fsdecode(name), None if root is None else os.fsdecode(root), download, limit, size, skip_bad=skip_bad
    )
    if data.name not in SOURCES:
        return load_folder(_folder(data.name), split, data)
    if data.name == "tinyimagenet" and split == "val":
        split = "test"
    if split not in SPLITS:
        raise CltoolsError(
            f"{data.name} has the splits 'train' and 'test', not {split!r}. "
            "For a validation split hold out a share of the training images: DataSettings(holdout=0.1)."
        )
    images = SOURCES[data.name](split, data)
    if limit is not None and len(images) > limit:
        images = images.select(draw(len(images), limit))
    return images if size is None else replace(images, images=resize(images.images, size))


def splits_of(name: str) -> tuple[str, ...]:
    """The splits that can be loaded: of a named set train and test, of a folder those that have images."""
    if name in SOURCES:
        return SPLITS
    return tuple(split_folders(innermost(look(_folder(name)))))


def _folder(name: str) -> Path:
    """The folder a person means by a name that is not in the register; a plain word is more likely a typing mistake.

    Raises:
        ValueError: a name that is not known, or a file.
    """
    path = Path(name).expanduser()
    if not name or (not path.exists() and path.name == name):
        raise unknown("image set", name, SOURCES)
    if path.exists() and not path.is_dir():
        hints = {**READERS, " ".join(kinds()): f"Give the folder that it lies in: {path.absolute().parent}"}
        hint = next((what for endings, what in hints.items() if path.suffix.lower() in endings.split()), "")
        raise CltoolsError(f"{path} is a file, and a folder of images is wanted. {hint}".rstrip())
    return path
