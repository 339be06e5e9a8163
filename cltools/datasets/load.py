"""The registry of image sets, the loaders of downloaded sets, and `load_images`, which loads images of any source."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cltools.datasets.archives import Archive, check, obtain
from cltools.datasets.built_in import load_digits, load_shapes
from cltools.datasets.decoding import kinds, resize
from cltools.datasets.folder import innermost, load_folder, look, read_listed, split_folders
from cltools.datasets.image_set import DataSettings, ImageSet, data_root, draw
from cltools.errors import CltoolsError, unknown
from cltools.files import reading
from cltools.mining.handed_in import enough_memory

CLASSES = {"cifar10": 10, "cifar100": 100}
TINY = "tiny-imagenet-200"
ARCHIVE = Archive(f"http://cs231n.stanford.edu/{TINY}.zip", "90528d7ca1a48142e341f4ef8d21d0de", f"{TINY}.zip", TINY)


def load_cifar(split: str, data: DataSettings) -> ImageSet:
    """Load CIFAR images from `root/NAME/{train,test}/CLASS/*.png|jpg`, else from the official archive.

    Both number the classes alphabetically, which is the official order. The folder tree may contain fewer images than
    the original.

    Raises:
        FileNotFoundError: No data exist and `download` is False, or a file of the official set is missing.
        ValueError: The archive or a batch is truncated or altered, or the folder tree lacks classes.
        RuntimeError: The download failed.
    """
    root = data_root(data.root)
    folder = root / data.name
    if os.path.isdir(folder / split):
        images = load_folder(folder, split, data, root)
        if len(images.classes) != CLASSES[data.name]:
            raise CltoolsError(f"{folder} lacks class folders: {data.name} has {CLASSES[data.name]}; complete it.")
        return images
    return official(data.name, split, root, data.download)


def official(name: str, split: str, root: Path, download: bool) -> ImageSet:
    """Load a whole split of the official archive, after checking every file against torchvision's list."""
    from torchvision import datasets

    kind: Any = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = obtain(Archive(kind.url, kind.tgz_md5, kind.filename, kind.base_folder), root, download)
    advice = f"Move {folder} away and load {name} again to unpack a fresh copy"
    files = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
    for file, md5 in files:  # before torchvision's check, which does not say which file is wrong
        check(folder / file, md5, advice)
    source = kind(str(root), train=split == "train", download=False)
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(source.targets, dtype=torch.int64)
    return ImageSet(images, labels, torch.arange(len(labels)), tuple(source.classes), name, split)


def load_tinyimagenet(split: str, data: DataSettings) -> ImageSet:
    """Load TinyImageNet from `root/tiny-imagenet-200`; its images are decoded once and cached in `root/decoded`.

    Validation images may have been sorted into class folders.
    The labels of the official test images were never published, so split "test" is the official validation folder.

    Raises:
        FileNotFoundError: No data exist and `download` is False, or a part of the tree is missing.
        ValueError: The archive is truncated or altered, or a list in the tree does not match its images.
        RuntimeError: The download failed.
    """
    root = data_root(data.root)
    folder = obtain(ARCHIVE, root, data.download)
    wnids = sorted(read_lines(folder / "wnids.txt"))
    number = {wnid: label for label, wnid in enumerate(wnids)}
    part = "train" if split == "train" else "val"
    if any((folder / part / wnid).is_dir() for wnid in wnids) or split == "train":
        files = [(path, number[wnid]) for wnid in wnids for path in class_images(folder, part, wnid)]
    else:
        files = annotated(folder / "val", number)
    return read_listed(files, class_names(folder, wnids), split, data, folder, root)


def class_images(folder: Path, part: str, wnid: str) -> list[Path]:
    """Return the images of one class in "train", or in a "val" that was sorted into class folders."""
    path = folder / part / wnid
    if path.is_dir() and (images := look(path).all_images()):
        return images
    raise FileNotFoundError(f"No images in {path}. {_again(folder)}")


def annotated(folder: Path, number: dict[str, int]) -> list[tuple[Path, int]]:
    """Return the validation images with their labels from `val_annotations.txt`: name, tab, wnid, tab, a box."""
    listing, images, pairs = folder / "val_annotations.txt", folder / "images", []
    present = {path.name: path for path in look(images).all_images()} if images.is_dir() else {}
    for row, line in enumerate(read_lines(listing), start=1):
        name, wnid, *_ = [*line.split("\t"), "", ""]
        if wnid not in number:
            raise CltoolsError(f"Line {row} of {listing} names no known class: {line!r}. {_again(folder.parent)}")
        if name not in present:
            raise FileNotFoundError(f"{images / name} is missing. {_again(folder.parent)}")
        pairs.append((present[name], number[wnid]))
    return pairs


def class_names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """Return readable names from `words.txt` ("goldfish"); the wnid replaces a missing and follows a duplicate name."""
    lines = read_lines(folder / "words.txt") if (folder / "words.txt").is_file() else []
    words = {wnid: names.split(",")[0].strip() for wnid, _, names in (line.partition("\t") for line in lines)}
    plain = [words.get(wnid, wnid) for wnid in wnids]
    pairs = zip(plain, wnids, strict=True)
    return tuple(name if plain.count(name) == 1 else f"{name} ({wnid})" for name, wnid in pairs)


def read_lines(path: Path) -> list[str]:
    """Return the non-empty lines of a text file of the tree."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {_again(path.parent)}")
    with reading(f"{path} is not UTF-8 text", _again(path.parent)):  # with or without a byte order mark
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _again(folder: Path) -> str:
    return f"Move {folder} away and load tinyimagenet again to unpack a fresh copy of {ARCHIVE.file}."


SPLITS = ("train", "test")


CIFAR = dict.fromkeys(("cifar10", "cifar100"), load_cifar)
SOURCES = {"digits": load_digits, "shapes": load_shapes, **CIFAR, "tinyimagenet": load_tinyimagenet}
"""The loader of each set, called with "train" or "test" and the data settings.

A loader of image files applies limit and size itself, so that no file is opened needlessly; for the others
`load_images` applies them.
"""

READERS = {
    ".zip .tar .gz .tgz .bz2 .xz .7z .rar": "Unpack it, and load the folder.",
    ".csv .tsv .txt": "Labels in a table are not read; sort the images into a folder for each class.",
    ".npz .npy .parquet": "Snapshots are read by load_snapshot and shown by explore, embeddings by read_embeddings.",
    ".json .pt .pth .safetensors": "Run.load reads the folder of a run; read_record reads a single record.",
    ".h5 .hdf5 .mat .pkl .pickle .bin .lmdb .tfrecord": "Read it with its own library; make an ImageSet from arrays.",
}
"""Hints by extension for files given where a folder of images is expected."""


def what_reads(path: Path) -> str:
    """Return a sentence that says what reads a file of this name; "" if that is unknown."""
    return next((what for endings, what in READERS.items() if path.suffix.lower() in endings.split()), "")


def image_sets() -> tuple[str, ...]:
    """Return the names of sets that `load_images` knows; any other name is the path of a folder."""
    return tuple(SOURCES)


def load_images(
    name: str | bytes | os.PathLike[str], split: str = "train", root: str | bytes | os.PathLike[str] | None = None,
    download: bool = True, limit: int | None = None, size: int | None = None, skip_bad: bool = False,
) -> ImageSet:  # fmt: skip
    """Load images by name or from a folder.

    Args:
        name: A name from `image_sets()`, or the path of a folder: with `train` and `test` inside, or a single split;
            with a subfolder per class, or images alone (labels -1).
        split: "train" or "test"; a folder may also have "val". Other common names of split folders, such as "valid",
            are accepted, too. For tinyimagenet "test" and "val" both mean the official validation images, because the
            labels of its test images were never published.
        root: Folder of downloads and image trees; None for the variable CLTOOLS_DATA, else the folder `data`.
        download: Whether a missing archive may be downloaded.
        limit: At most this many images, the same ones each time, drawn independently of the labels.
        size: Scale the shorter side to this many pixels, then crop the centre. Required if sizes differ.
        skip_bad: Skip files of a folder that cannot be read, and report how many; otherwise they are an error that
            names up to ten of them.

    Returns:
        The split, uint8 [N, 3, H, W]; `ids` are indices in the whole split.

    Raises:
        ValueError: Unknown name (similar ones are suggested) or split, altered archive, unreadable image, mixed sizes.
        FileNotFoundError: A folder or file is missing, or a folder contains no images.
        RuntimeError: A download failed.

    Example:
        >>> from cltools import load_images
        >>> images = load_images("digits", "test", limit=100)
        >>> images.images.shape, images.images.dtype, len(images.classes)
        (torch.Size([100, 3, 16, 16]), torch.uint8, 10)
    """
    texts: list[Any] = [os.fsdecode(x) if isinstance(x, bytes | os.PathLike) else x for x in (name, root)]
    data = DataSettings(texts[0], texts[1], download, limit, size, skip_bad=skip_bad)
    with enough_memory(f"The images of {data.name}", "Give a smaller size, or a limit of images."):
        return _loaded(data, split)


def _loaded(data: DataSettings, split: str) -> ImageSet:
    if data.name not in SOURCES:
        return load_folder(_folder(data.name), split, data)
    if data.name == "tinyimagenet" and split == "val":
        split = "test"
    if split not in SPLITS:
        raise CltoolsError(f"{data.name} has the splits 'train' and 'test', not {split!r}; for 'val' set a holdout.")
    images = SOURCES[data.name](split, data)
    if data.limit is not None and len(images) > data.limit:
        images = images.select(draw(len(images), data.limit))
    return images if data.size is None else replace(images, images=resize(images.images, data.size))


def splits_of(name: str) -> tuple[str, ...]:
    """Return the splits that can be loaded: train and test for a named set, those with images for a folder."""
    if name in SOURCES:
        return SPLITS
    return tuple(split_folders(innermost(look(_folder(name)))))


def _folder(name: str) -> Path:
    """Return the folder for a name that is not in the registry; a single word without a folder is an unknown name.

    Raises:
        ValueError: an unknown name, or a file.
    """
    path = Path(name).expanduser()
    if not name or (not path.exists() and path.name == name):
        raise unknown("image set", name, SOURCES)
    if path.exists() and not path.is_dir():
        outer = f"Give the folder that contains it: {path.absolute().parent}"
        hint = outer if path.suffix.lower() in kinds() else what_reads(path)
        raise CltoolsError(f"{path} is a file, but a folder of images is needed. {hint}".rstrip())
    return path
