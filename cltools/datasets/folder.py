"""Image folders: `DIR/{train,test}/CLASS/*.png`, `DIR/CLASS/*.png` or just `DIR/*.png`."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from cltools.datasets.decoding import ENDINGS, is_picture
from cltools.datasets.image_set import DataSettings, ImageSet, draw
from cltools.datasets.pixel_cache import places, read_kept
from cltools.errors import CltoolsError

SPLITS = ("train", "test", "val")
LOOKALIKES = {*SPLITS, "valid", "validation", "dev", "eval", "training", "testing"}


def load_folder(folder: Path, split: str, data: DataSettings, root: Path | None = None) -> ImageSet:
    """Images of a folder tree; classes are the sub-folders in alphabetical order, the same for every split.

    A folder without split folders is one split, "train". Without class folders all labels are -1. Decoded pixels are
    kept below `root`, or, if that is None, in the user's cache.

    Raises:
        FileNotFoundError: The folder or the split does not exist, or holds no images.
        ValueError: Images lie beside class folders, an image is unreadable, or sizes differ and `size` is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Check the path, or create it with your images in it.")
    splits = split_folders(folder)
    if split not in splits:
        have = f"only the splits {', '.join(splits)}"
        if splits == {"train": folder}:
            have = "no split folders, so it is one split, 'train'"
        wrong = f"{folder} has {have}; there is no {split!r}."
        raise FileNotFoundError(f"{wrong} Load another split, or put the images in {folder / split}.")
    listed = {key: list_classes(path) for key, path in splits.items()}
    classes = sorted({label for found in listed.values() for label in found if label is not None})
    here = listed[split]
    if not here:
        wrong = f"No images in {splits[split]}. Put image files ({', '.join(sorted(ENDINGS))}) in it,"
        raise FileNotFoundError(f"{wrong} or in one sub-folder for each class.")
    number: dict[str | None, int] = {None: -1} | {label: i for i, label in enumerate(classes)}
    files = [(path, number[label]) for label, found in here.items() for path in found]
    return read_listed(files, classes, split, data, folder, root)


def read_listed(
    files: list[tuple[Path, int]], classes: Sequence[str], split: str, data: DataSettings, base: Path, root: Path | None
) -> ImageSet:
    """Reads the files, each with its label, or `data.limit` of them drawn before any is opened.

    Ids are places in the full list. All files lie below `base`. Their pixels are kept below `root`, or, if that is
    None, in the user's cache.
    """
    paths, labels = [path for path, _ in files], torch.tensor([label for _, label in files])
    ids = torch.arange(len(paths)) if data.limit is None else draw(len(paths), data.limit)
    kept = places(base, data.name, split, data.size, root)
    images = read_kept(paths, data.size, base, kept, ids if len(ids) < len(paths) else None)
    return ImageSet(images, labels[ids], ids, tuple(classes), data.name, split)


def split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split; the whole folder as "train" if it is not divided.

    One lone `train` beside other folders is taken for a class (the vehicle), two split names are not.

    Raises:
        ValueError: folders that look like splits of other names, which would be taken for classes.
    """
    names = {path.name for path in sub_folders(folder)}
    found = names.intersection(SPLITS)
    strange = {name for name in names - found if name.lower() in LOOKALIKES}
    if strange and "train" in {name.lower() for name in names}:
        wrong = f"{folder} has the folders {', '.join(sorted(strange | found))}."
        raise CltoolsError(f"{wrong} Splits are named {', '.join(SPLITS)}, in small letters: rename them.")
    if len(found) >= 2 or (found and found == names):
        return {split: folder / split for split in SPLITS if split in found}
    return {"train": folder}


def list_classes(folder: Path) -> dict[str | None, list[Path]]:
    """The image files of each class in natural alphabetical order; the key None holds a folder without classes.

    Folders without images are no classes.
    """
    loose = sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_file() and is_picture(entry.name))
    every = {path.name: list_pictures(path) for path in sub_folders(folder)}
    classes: dict[str | None, list[Path]] = {name: found for name, found in every.items() if found}
    if loose and classes:
        wrong = f"{loose[0]} lies beside the class folders {', '.join(map(str, list(classes)[:3]))},"
        raise CltoolsError(f"{wrong} so its class is unclear. Move loose images into a class folder or out of the way.")
    return {None: loose} if loose else classes


def list_pictures(folder: Path) -> list[Path]:
    """All image files below `folder`, sorted; hidden folders are left out."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(path, file) for file in files if is_picture(file)]
    return sorted(found)


def sub_folders(folder: Path) -> list[Path]:
    """Folders directly inside, by name, hidden ones left out."""
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
