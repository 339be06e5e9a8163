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

from cltools.datasets.decoding import kinds, places, read_kept, say
from cltools.datasets.image_set import DataSettings, ImageSet, draw
from cltools.errors import CltoolsError

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
}  # fmt: skip
"""The split that a folder is by its name, in small or capital letters."""
ALIKE = re.compile(rf"(^|[^a-z])({'|'.join(SPLITS)})(set|data|[a-z])?($|[^a-z])")
"""What the name of a folder contains that is likely a split: `seg_train`, `testSet`, `val2017`, `trainA`."""
NO_CLASSES = {"images", "imgs", "img", "jpegimages"}  # names of folders that hold pictures of all classes
BY_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}  # folders that systems make, with pictures that are nobody's
Classes = dict[str | None, list[Path]]
"""The pictures of each class; the key None holds those of a folder without classes."""


def load_folder(folder: Path, split: str, data: DataSettings, root: Path | None = None) -> ImageSet:
    """Images of a folder tree; classes are the sub-folders in alphabetical order, the same for every split.

    Where all images lie in one folder within, that is read. Without split folders it is one split, "train". Without
    class folders all labels are -1. Decoded pixels are kept below `root`, or, if that is None, in the user's cache. One
    line says what is left out.

    Raises:
        FileNotFoundError: The folder or the split does not exist, or holds no images.
        ValueError: It is unclear what is a split and what a class; there is one class alone, or a split of other
            classes than "train"; images are unreadable, or sizes differ and `size` is missing.
    """
    given, split = look(folder), SPLITS.get(str(split).casefold(), split)
    top = innermost(given)
    if (top.path / "wnids.txt").is_file():
        raise CltoolsError(f"{top.path} is TinyImageNet; load tinyimagenet with the root that holds tiny-imagenet-200.")
    splits = split_folders(top)
    if split not in splits:
        if splits == {"train": top}:
            check_nested(top)  # into splits within class folders
        undivided = " (which is the whole folder)" * (splits == {"train": top})
        wrong = f"{top.path} has only the splits {', '.join(splits)}{undivided}; there is no {split!r} with images."
        raise FileNotFoundError(f"{wrong} Take another split (--split), or put the images in {top.path / split}.")
    listed = {key: by_class(each) for key, each in splits.items()}
    told = left_out(given, splits, split)
    if not listed[split]:
        wrong = f"No images in {splits[split].path}{'; ' * len(told)}{''.join(told)}."
        raise FileNotFoundError(f"{wrong} Put image files ({', '.join(sorted(kinds()))}) or class folders in it.")
    classes = sorted({label for found in listed.values() for label in found if label is not None})
    told += check_classes(classes, splits, split)
    number: dict[str | None, int] = {None: -1} | {label: i for i, label in enumerate(classes)}
    files = [(path, number[label]) for label, found in listed[split].items() for path in found]
    if (within := len({path.parent for path, _ in files})) > (of := len(listed[split])):
        told.append(f"the images of {within:,} folders are read as of {of:,} class{'es' * (of > 1)}")
    return read_listed(files, classes, split, data, folder, root, told)


def read_listed(
    files: list[tuple[Path, int]], classes: Sequence[str], split: str, data: DataSettings, base: Path,
    root: Path | None, told: Sequence[str] = (),
) -> ImageSet:  # fmt: skip
    """Reads the files, each with its label, or `data.limit` of them drawn before any is opened.

    Ids are places in the full list. All files lie below `base`. Their pixels are kept below `root`, or, if that is
    None, in the user's cache. What is to be told of them is told in one line.
    """
    paths, labels = [path for path, _ in files], torch.tensor([label for _, label in files])
    drawn = torch.arange(len(paths)) if data.limit is None else draw(len(paths), data.limit)
    kept = places(base, data.name, split, data.size, root)
    images, ids = read_kept(paths, data.size, base, kept, drawn, data.skip_bad)
    bad = [f"{len(drawn) - len(ids):,} of {len(drawn):,} images cannot be read"] if len(ids) < len(drawn) else []
    if told or bad:
        say(f"{base} ({split}): {'; '.join([*told, *bad])}.")
    return ImageSet(images, labels[ids], ids, tuple(classes), data.name, split)


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder as it was found.

    Attributes:
        path: where it lies.
        pictures: directly in it, in no order.
        left: the kind of everything else directly in it, such as the ending of a file.
        folders: directly in it, by name.
    """

    path: Path
    pictures: list[Path] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    folders: dict[str, "Folder"] = field(default_factory=dict)

    def every(self, without: Iterable["Folder"] = ()) -> Iterator["Folder"]:
        """The folder itself and all below it, but for some and what is below these."""
        waiting = [self]
        while waiting:
            yield (folder := waiting.pop())
            waiting += [inner for inner in folder.folders.values() if inner not in without]

    def all_pictures(self) -> list[Path]:
        """Those in it and below it, sorted."""
        return sorted(path for folder in self.every() for path in folder.pictures)

    def full(self) -> dict[str, "Folder"]:
        """The folders directly in it that have pictures, in them or below, in alphabetical order."""
        return {name: each for name, each in sorted(self.folders.items()) if any(f.pictures for f in each.every())}


def look(path: Path) -> Folder:
    """All that lies in a folder, of which no file is opened. Links are followed, and hidden folders left out.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: a folder may not be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}. Check the path, or create it with your images in it.")
    top, real = Folder(path), cache(os.path.realpath)
    found: list[tuple[Folder, tuple[str, ...]]] = [(top, (real(path),))]
    for folder, way in found:  # which grows meanwhile; `way` is where it lies, and where each link to it was followed
        for entry in os.scandir(folder.path):
            here = folder.path / entry.name
            if entry.name.startswith(".") or entry.name in BY_SYSTEMS:
                folder.left.append("hidden")
            elif not (os.path.isdir(here) if entry.is_symlink() else entry.is_dir()):
                kind = here.suffix.lower()
                folder.pictures.append(here) if kind in kinds() else folder.left.append(kind or "without an ending")
            else:
                inner = os.path.join(way[-1], entry.name)
                on = (*way, real(inner)) if entry.is_symlink() else (*way[:-1], inner)
                if len(on) > 4 or any(os.path.join(at, "").startswith(os.path.join(on[-1], "")) for at in on[:-1]):
                    folder.left.append("behind links that lead in a circle or on to a fourth link")
                else:
                    folder.folders[entry.name] = Folder(here)
                    found.append((folder.folders[entry.name], on))
    return top


def innermost(folder: Folder, split: str | None = None) -> Folder:
    """The folder, or that within in which all its images lie, if it is neither split nor class.

    Of the folder of a split it is one that is named as that split again.
    """
    while len(full := folder.full()) == 1 and not folder.pictures:
        ((name, inner),) = full.items()
        if SPLITS.get(name.casefold()) != split or (inner.pictures and split is None):
            break
        folder = inner
    return folder


def split_folders(top: Folder) -> dict[str, Folder]:
    """The folder of each split that has images; the whole folder as "train" if it is not divided.

    One lone `train` with images of its own, beside other folders, is taken for a class (the vehicle).

    Raises:
        ValueError: it is unclear which folders are splits.
    """
    full = top.full()
    found = [(SPLITS[name.casefold()], each) for name, each in full.items() if name.casefold() in SPLITS]
    alike = [name for name in full if ALIKE.search(name.casefold())]
    lone = len(found) == 1 < len(full)
    if lone and found[0][0] == "train" and found[0][1].pictures:
        return {"train": top}
    if lone or len(dict(found)) < len(found) or (not found and 1 < len(alike) >= len(full) / 2):
        wrong = f"It is unclear which folders in {top.path} are splits and which are classes: {', '.join([*full][:9])}."
        raise CltoolsError(f"{wrong} Name splits train, test and val, one each, or load the folder of one by its path.")
    divided = dict(found)
    return {key: innermost(divided[key], key) for key in ("train", "test", "val") if key in divided} or {"train": top}


def by_class(folder: Folder) -> Classes:
    """The pictures of each class, in alphabetical order.

    Raises:
        ValueError: pictures lie beside class folders, or two folders are of one class.
    """
    classes: Classes = {None: sorted(folder.pictures)} if folder.pictures else {}
    for name, each in folder.full().items():
        if folder.pictures:
            raise CltoolsError(f"{min(folder.pictures)} lies beside class folders; move it into one or out of the way.")
        if (clean := class_name(name)) in classes:
            raise CltoolsError(f"Two folders in {folder.path} are {clean!r} but for blanks or encoding; rename one.")
        classes[clean] = each.all_pictures()
    return classes


def class_name(folder: str) -> str:
    """The class of a folder's name, which other systems may write with other bytes or a stray blank, as UTF-8 can."""
    return normalize("NFC", os.fsencode(folder).decode("utf-8", "replace")).strip() or folder


def left_out(given: Folder, splits: Mapping[str, Folder], split: str) -> list[str]:
    """What else than its images there is in a folder, other splits aside, counted by kind; nothing if there is none."""
    others = [each for key, each in splits.items() if key != split]
    left = Counter(kind for each in given.every(others) for kind in each.left)
    if given not in splits.values():
        outside = sum(len(each.pictures) for each in given.every(splits.values()))
        left[f"image{'s' * (outside > 1)} outside of the splits"] = outside
    said = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left.items()) if count)
    return [f"left out: {said}"] if said else []


def check_classes(classes: Sequence[str], splits: Mapping[str, Folder], split: str) -> list[str]:
    """Refuse classes that can only be a mistake, as by them figures would come out that mean nothing.

    What need not be a mistake is returned in words.
    """
    named = {key: {class_name(name): each.path for name, each in top.full().items()} for key, top in splits.items()}
    train, mine = named.get("train", {}), named[split]
    only = [*(train or classes)] * (len(train or classes) == 1)
    if odd := only or [name for name in classes if name.casefold() in NO_CLASSES]:
        place = next(found[odd[0]] for found in (mine, *named.values()) if odd[0] in found)
        wrong = f"By its folders {odd[0]!r} would be {'the only class' if only else 'a class'}; tables are not read."
        raise CltoolsError(f"{wrong} Make a folder for each class; or, to read images without labels, load {place}.")
    for each in splits.values():
        check_nested(each)
    new = ", ".join([name for name in mine if name not in train][:9])
    if train and mine and not train.keys() & mine:
        raise CltoolsError(f"No class of the split {split!r} occurs in 'train'; name its folders alike ({new}).")
    return [f"'train' has no image of {new}"] if train and new else []


def check_nested(folder: Folder) -> None:
    """Refuse class folders that hold splits, or all the same folders, as what these hold would be of one class."""
    inner = [{*innermost(each).full()} for each in folder.full().values()]
    same = set.intersection(*inner) if len(inner) > 1 else set()
    below = ((name, each) for each in folder.every() for name in each.folders)
    parts = {name for name, each in below if SPLITS.get(name.casefold(), "train") != "train" and name in each.full()}
    if parts or len(same) > 1:
        wrong = f"The classes in {folder.path} would be divided again, into {', '.join(sorted(same | parts)[:9])}."
        raise CltoolsError(f"{wrong} Load one of them by its path, or put splits outermost and classes into them.")
