"""TinyImageNet: 200 classes of 64×64 pictures, from the official tree or its checked archive."""

from pathlib import Path

from cltools.datasets.archives import Archive, obtain
from cltools.datasets.folder import look, read_listed
from cltools.datasets.image_set import DataSettings, ImageSet, data_root
from cltools.errors import CltoolsError
from cltools.files import reading

ARCHIVE = Archive(
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    file="tiny-imagenet-200.zip",
    folder="tiny-imagenet-200",
)


def load_tinyimagenet(split: str, data: DataSettings) -> ImageSet:
    """TinyImageNet from `root/tiny-imagenet-200`; its pictures are decoded once and kept as pixels in `root/decoded`.

    Validation images may have been sorted into class folders.
    The labels of the official test images were never published, so split "test" is the official validation folder.

    Raises:
        FileNotFoundError: Nothing is there and `download` is off, or a part of the tree is missing.
        ValueError: The archive is truncated or altered, or a list in the tree does not fit its images.
        RuntimeError: The download failed.
    """
    root = data_root(data.root)
    folder = obtain(ARCHIVE, root, data.download)
    wnids = sorted(read_lines(folder / "wnids.txt"))
    number = {wnid: label for label, wnid in enumerate(wnids)}
    part = "train" if split == "train" else "val"
    if any((folder / part / wnid).is_dir() for wnid in wnids) or split == "train":
        files = [(path, number[wnid]) for wnid in wnids for path in class_pictures(folder, part, wnid)]
    else:
        files = annotated(folder / "val", number)
    return read_listed(files, class_names(folder, wnids), split, data, folder, root)


def class_pictures(folder: Path, part: str, wnid: str) -> list[Path]:
    """The images of one class in "train", or in a "val" that was sorted."""
    here = folder / part / wnid
    if here.is_dir() and (found := look(here).all_pictures()):
        return found
    raise FileNotFoundError(f"No images in {here}. {_again(folder)}")


def annotated(folder: Path, number: dict[str, int]) -> list[tuple[Path, int]]:
    """The validation images with the labels that `val_annotations.txt` gives them: name, tab, wnid, tab, a box."""
    listing, images, pairs = folder / "val_annotations.txt", folder / "images", []
    present = {path.name: path for path in look(images).all_pictures()} if images.is_dir() else {}
    for row, line in enumerate(read_lines(listing), start=1):
        name, wnid, *_ = [*line.split("\t"), "", ""]
        if wnid not in number:
            raise CltoolsError(f"Line {row} of {listing} names no known class: {line!r}. {_again(folder.parent)}")
        if name not in present:
            raise FileNotFoundError(f"{images / name} is missing. {_again(folder.parent)}")
        pairs.append((present[name], number[wnid]))
    return pairs


def class_names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """Readable names from `words.txt` ("goldfish"), with the wnid where that alone is missing or not unique."""
    lines = read_lines(folder / "words.txt") if (folder / "words.txt").is_file() else []
    words = {wnid: names.split(",")[0].strip() for wnid, _, names in (line.partition("\t") for line in lines)}
    plain = [words.get(wnid, wnid) for wnid in wnids]
    pairs = zip(plain, wnids, strict=True)
    return tuple(name if plain.count(name) == 1 else f"{name} ({wnid})" for name, wnid in pairs)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that is part of the tree, empty ones left out."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {_again(path.parent)}")
    with reading(f"{path} is no text in UTF-8", _again(path.parent)):  # with or without the mark that some editors add
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _again(folder: Path) -> str:
    return f"Move {folder} away and load tinyimagenet again to unpack a fresh copy of {ARCHIVE.file}."
