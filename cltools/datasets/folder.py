"""Image folders: `DIR/{train,test,val}/CLASS/*.png`, `DIR/CLASS/*.png` or just `DIR/*.png`."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unicodedata import normalize

import torch

from cltools.datasets.decoding import cache_paths, kinds, read_cached, say
from cltools.datasets.image_set import DataSettings, ImageSet, draw
from cltools.errors import CltoolsError

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
}  # fmt: skip
"""The split of a folder by its name, in lower or upper case."""
ALIKE = re.compile(rf"(^|[^a-z])({'|'.join(SPLITS)})(set|data|[a-z])?($|[^a-z])")
"""Pattern of names of folders that are likely a split: `seg_train`, `testSet`, `val2017`, `trainA`."""
NO_CLASSES = {"images", "imgs", "img", "jpegimages"}  # names of folders that contain images of all classes
BY_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}  # folders that operating systems create, with images to ignore
Classes = dict[str | None, list[Path]]
"""The images of each class; the key None holds those of a folder without classes."""


def load_folder(folder: Path, split: str, data: DataSettings, root: Path | None = None) -> ImageSet:
    """Load images from a folder tree; classes are the subfolders in alphabetical order, the same for every split.

    If all images are in one subfolder, that is read. A tree without split folders is one split, "train". Without class
    folders all labels are -1. Decoded pixels are cached below `root`, or, if that is None, in the user's cache. What is
    left out is reported in one line.

    Raises:
        FileNotFoundError: The folder or the split does not exist, or contains no images.
        ValueError: It is unclear which folders are splits and which are classes; there is only one class, or a split
            has other classes than "train"; images are unreadable, or sizes differ and `size` is missing.
    """
    given, split = look(folder), SPLITS.get(str(split).casefold(), split)
    top = innermost(given)
    if (top.path / "wnids.txt").is_file():
        raise CltoolsError(f"{top.path} is TinyImageNet; load tinyimagenet with the root that holds tiny-imagenet-200.")
    splits = split_folders(top)
    if split not in splits:
        if splits == {"train": top}:
            check_nested(top)  # refuses splits within class folders
        undivided = " (which is the whole folder)" * (splits == {"train": top})
        wrong = f"{top.path} has only the splits {', '.join(splits)}{undivided}; there is no {split!r} with images."
        raise FileNotFoundError(f"{wrong} Take another split (--split), or put the images in {top.path / split}.")
    listed = {key: by_class(each) for key, each in splits.items()}
    notes = left_out(given, splits, split)
    if not listed[split]:
        wrong = f"No images in {splits[split].path}{'; ' * len(notes)}{''.join(notes)}."
        raise FileNotFoundError(f"{wrong} Put image files ({', '.join(sorted(kinds()))}) or class folders in it.")
    classes = sorted({label for each in listed.values() for label in each if label is not None})
    notes += check_classes(classes, splits, split)
    number: dict[str | None, int] = {None: -1} | {label: i for i, label in enumerate(classes)}
    files = [(path, number[label]) for label, paths in listed[split].items() for path in paths]
    if (folders := len({path.parent for path, _ in files})) > (count := len(listed[split])):
        notes.append(f"the images of {folders:,} folders are read as {count:,} class{'es' * (count > 1)}")
    return read_listed(files, classes, split, data, folder, root, notes)


def read_listed(
    files: list[tuple[Path, int]], classes: Sequence[str], split: str, data: DataSettings, base: Path,
    root: Path | None, notes: Sequence[str] = (),
) -> ImageSet:  # fmt: skip
    """Read files, each with its label, or `data.limit` of them, drawn before any is opened.

    Ids are indices into the full list. All files are below `base`. Their pixels are cached below `root`, or, if that is
    None, in the user's cache. `notes` are printed in one line.
    """
    paths, labels = [path for path, _ in files], torch.tensor([label for _, label in files])
    drawn = torch.arange(len(paths)) if data.limit is None else draw(len(paths), data.limit)
    cached = cache_paths(base, data.name, split, data.size, root)
    images, ids = read_cached(paths, data.size, base, cached, drawn, data.skip_bad)
    bad = [f"{len(drawn) - len(ids):,} of {len(drawn):,} images cannot be read"] if len(ids) < len(drawn) else []
    if notes or bad:
        say(f"{base} ({split}): {'; '.join([*notes, *bad])}.")
    return ImageSet(images, labels[ids], ids, tuple(classes), data.name, split)


@dataclass(frozen=True, eq=False)
class Folder:
    """The contents of a folder.

    Attributes:
        path: path of the folder.
        images: image files directly in it, unordered.
        others: kinds of all other entries directly in it, such as a file's extension.
        folders: subfolders directly in it, by name.
    """

    path: Path
    images: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: dict[str, "Folder"] = field(default_factory=dict)

    def every(self, without: Iterable["Folder"] = ()) -> Iterator["Folder"]:
        """Iterate over the folder and all folders below it, skipping the subtrees of `without`."""
        waiting = [self]
        while waiting:
            yield (folder := waiting.pop())
            waiting += [inner for inner in folder.folders.values() if inner not in without]

    def all_images(self) -> list[Path]:
        """Return the image files in the folder and below it, sorted."""
        return sorted(path for folder in self.every() for path in folder.images)

    def full(self) -> dict[str, "Folder"]:
        """Return the direct subfolders that contain images at any depth, in alphabetical order."""
        return {name: each for name, each in sorted(self.folders.items()) if any(f.images for f in each.every())}


def look(path: Path) -> Folder:
    """Scan a folder tree without opening files. Links are followed; hidden entries are left out.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: a folder is not readable.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}. Check the path, or create it with your images in it.")
    top, real = Folder(path), cache(os.path.realpath)
    scanned: list[tuple[Folder, tuple[str, ...]]] = [(top, (real(path),))]
    for folder, route in scanned:  # grows in the loop; `route` is where each link was followed, and the real path
        for entry in os.scandir(folder.path):
            path = folder.path / entry.name
            if entry.name.startswith(".") or entry.name in BY_SYSTEMS:
                folder.others.append("hidden")
            elif not (os.path.isdir(path) if entry.is_symlink() else entry.is_dir()):
                kind = path.suffix.lower()
                folder.images.append(path) if kind in kinds() else folder.others.append(kind or "without extension")
            else:
                inner = os.path.join(route[-1], entry.name)
                on = (*route, real(inner)) if entry.is_symlink() else (*route[:-1], inner)
                if len(on) > 4 or any(os.path.join(at, "").startswith(os.path.join(on[-1], "")) for at in on[:-1]):
                    folder.others.append("behind links that form a loop or a chain of more than three")
                else:
                    folder.folders[entry.name] = Folder(path)
                    scanned.append((folder.folders[entry.name], on))
    return top


def innermost(folder: Folder, split: str | None = None) -> Folder:
    """Descend from a folder while a single subfolder contains all images and is neither a split nor a class.

    From the folder of a split, descend only into subfolders named like that split.
    """
    while len(full := folder.full()) == 1 and not folder.images:
        ((name, inner),) = full.items()
        if SPLITS.get(name.casefold()) != split or (inner.images and split is None):
            break
        folder = inner
    return folder


def split_folders(top: Folder) -> dict[str, Folder]:
    """Return the folder of each split that has images; the whole folder as "train" if it is not divided.

    A single `train` that contains images directly, beside other folders, is taken for a class (the vehicle).

    Raises:
        ValueError: it is unclear which folders are splits.
    """
    full = top.full()
    named = [(SPLITS[name.casefold()], each) for name, each in full.items() if name.casefold() in SPLITS]
    alike = [name for name in full if ALIKE.search(name.casefold())]
    lone = len(named) == 1 < len(full)
    if lone and named[0][0] == "train" and named[0][1].images:
        return {"train": top}
    if lone or len(dict(named)) < len(named) or (not named and 1 < len(alike) >= len(full) / 2):
        wrong = f"It is unclear which folders in {top.path} are splits and which are classes: {', '.join([*full][:9])}."
        raise CltoolsError(f"{wrong} Name splits train, test and val, one each, or load the folder of one by its path.")
    divided = dict(named)
    return {key: innermost(divided[key], key) for key in ("train", "test", "val") if key in divided} or {"train": top}


def by_class(folder: Folder) -> Classes:
    """Return the images of each class, in alphabetical order.

    Raises:
        ValueError: there are images beside class folders, or two folders have the same class name.
    """
    classes: Classes = {None: sorted(folder.images)} if folder.images else {}
    for name, each in folder.full().items():
        if folder.images:
            raise CltoolsError(f"{min(folder.images)} lies beside class folders; move it into one or elsewhere.")
        if (clean := class_name(name)) in classes:
            raise CltoolsError(f"Two folders in {folder.path} are {clean!r} up to blanks or encoding; rename one.")
        classes[clean] = each.all_images()
    return classes


def class_name(folder: str) -> str:
    """Normalise a folder's name to a class name, since systems differ in Unicode form, encoding and stray blanks."""
    return normalize("NFC", os.fsencode(folder).decode("utf-8", "replace")).strip() or folder


def left_out(given: Folder, splits: Mapping[str, Folder], split: str) -> list[str]:
    """Report what a folder contains besides images, without other splits, counted by kind; empty if there is none."""
    others = [each for key, each in splits.items() if key != split]
    left = Counter(kind for each in given.every(others) for kind in each.others)
    if given not in splits.values():
        outside = sum(len(each.images) for each in given.every(splits.values()))
        left[f"image{'s' * (outside > 1)} outside of the splits"] = outside
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left.items()) if count)
    return [f"left out: {listed}"] if listed else []


def check_classes(classes: Sequence[str], splits: Mapping[str, Folder], split: str) -> list[str]:
    """Refuse classes that can only be a mistake, because results by them would be meaningless.

    Return warnings about what may or may not be a mistake.
    """
    named = {key: {class_name(name): each.path for name, each in top.full().items()} for key, top in splits.items()}
    train, mine = named.get("train", {}), named[split]
    only = [*(train or classes)] * (len(train or classes) == 1)
    if odd := only or [name for name in classes if name.casefold() in NO_CLASSES]:
        path = next(paths[odd[0]] for paths in (mine, *named.values()) if odd[0] in paths)
        wrong = f"By its folders {odd[0]!r} would be {'the only class' if only else 'a class'}; tables are not read."
        raise CltoolsError(f"{wrong} Make a folder for each class; or, to read images without labels, load {path}.")
    for each in splits.values():
        check_nested(each)
    new = ", ".join([name for name in mine if name not in train][:9])
    if train and mine and not train.keys() & mine:
        raise CltoolsError(f"No class of the split {split!r} occurs in 'train'; name its folders alike ({new}).")
    return [f"'train' has no image of {new}"] if train and new else []


def check_nested(folder: Folder) -> None:
    """Refuse class folders that contain splits, or all the same folders, since these would be merged into one class."""
    inner = [{*innermost(each).full()} for each in folder.full().values()]
    same = set.intersection(*inner) if len(inner) > 1 else set()
    below = ((name, each) for each in folder.every() for name in each.folders)
    parts = {name for name, each in below if SPLITS.get(name.casefold(), "train") != "train" and name in each.full()}
    if parts or len(same) > 1:
        wrong = f"The classes in {folder.path} would be divided again, into {', '.join(sorted(same | parts)[:9])}."
        raise CltoolsError(f"{wrong} Load one of them by its path, or put splits outermost and classes into them.")
