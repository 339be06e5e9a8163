"""The layouts of image folders that people have, made of small pictures, with what is expected of each in one table."""

# ruff: noqa: E501 (each layout is a line)

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cltools.datasets import decoding, load_images
from cltools.datasets.decoding import kinds
from cltools.errors import CltoolsError


@dataclass(frozen=True)
class Layout:
    """What lies in a folder, and what comes of loading it.

    Attributes:
        name: of the layout.
        files: their paths, separated by blanks; `{a,b}` stands for each. What ends like a picture is one, what ends in
            `/` is a folder, a path with `->` is a link, `|` makes a pipe, all else is text.
        read: of each split N images and its classes; an asterisk where no image has a label.
        told: in the one line that each load writes; None for no line.
        refused: words of the error, by the split that is asked for.
        given: the path that is loaded, below the folder.
    """

    name: str
    files: str
    read: dict[str, tuple[int, str]] = field(default_factory=dict)
    told: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    given: str = ""


TRAIN = "{train,test}/{cat,dog}/{0,1}.png"
TWO = {"train": (4, "cat dog"), "test": (4, "cat dog")}
FLAT = {"train": (2, "*")}
ONE = {"train": (4, "cat dog")}
DIVIDED = "would be divided again, into "
ONE_CLASS = "would be the only class; tables are not read. Make a folder for each class"
NO_FOLDER = "is a file, but a folder of images is needed. "
TINY = "train/{n01,n02}/images/{0,1}.JPEG train/n01/boxes.txt"
TINY_NAMED = dict.fromkeys(("train", "val"), "is TinyImageNet; load tinyimagenet with the root")

LAYOUTS = (
    # The forms that the documentation names.
    Layout("splits and classes", TRAIN, TWO),
    Layout("three splits", f"{TRAIN} val/cat/0.png", {**TWO, "val": (1, "cat dog")}),
    Layout("classes alone", "{cat,dog}/{0,1}.png", ONE, refused={"test": r"only the splits train \(which is the whole folder\); there is no 'test'"}),
    Layout("plain pictures", "{0,1}.png", FLAT),
    Layout("a single picture", "0.png", {"train": (1, "*")}),
    Layout("splits of plain pictures", "{train,test}/{0,1}.png", {"train": (2, "*"), "test": (2, "*")}),
    Layout("a test split without labels", "train/{cat,dog}/0.png test/{0,1}.png", {"train": (2, "cat dog"), "test": (2, "cat dog*")}),
    Layout("a train split alone", "train/{cat,dog}/{0,1}.png", ONE, refused={"test": "only the splits train; there is no 'test'"}),
    # Folders too many.
    Layout("one folder too many", "set-1.0/{train,test}/{cat,dog}/{0,1}.png", TWO),
    Layout("three folders too many", "a/b/c/{cat,dog}/{0,1}.png", ONE),
    Layout("a folder too many beside a readme", "set/{train,test}/{cat,dog}/{0,1}.png README.md", TWO, r"left out: 1 \.md\.$"),
    Layout("a folder of the archive's name twice", "data/data/{train,test}/{cat,dog}/{0,1}.png", TWO),
    Layout("ImageNet", "ILSVRC/Data/CLS-LOC/train/{n01,n02}/{0,1}.JPEG ILSVRC/Data/CLS-LOC/{val,test}/{0,1}.JPEG ILSVRC/Annotations/n01/0.xml ILSVRC/ImageSets/a.txt LOC_synset_mapping.txt",
           {"train": (4, "n01 n02"), "val": (2, "n01 n02*"), "test": (2, "n01 n02*")}, r"left out: 2 \.txt, 1 \.xml\.$"),
    Layout("YOLO", "images/{train,val}/{0,1}.jpg labels/{train,val}/{0,1}.txt data.yaml", {"train": (2, "*"), "val": (2, "*")}, r"left out: 4 \.txt, 1 \.yaml\.$"),
    # What is no class.
    Layout("Kaggle", "images/{0,1}.png train.csv", refused={"train": rf"'images' {ONE_CLASS}; or, to read images without labels, load .*images\."}),
    Layout("Kaggle, by the folder of its pictures", "images/{0,1}.png train.csv", FLAT, given="images"),
    Layout("Kaggle with tables and splits", "{train,test}_images/{0,1}.png train.csv", refused={"train": r"unclear which folders in .* are splits and which are classes: test_images, train_images\."}),
    Layout("Kaggle's intel", "seg_{train,test}/seg_{train,test}/{a,b}/0.jpg seg_pred/seg_pred/0.jpg", refused={"train": "Name splits train, test and val"}),
    Layout("Kaggle's cats and dogs", "{training,test}_set/{cats,dogs}/0.jpg", refused={"train": "Name splits train, test and val"}),
    Layout("COCO", "{train,val}2017/{0,1}.jpg annotations/a.json", refused={"train": "Name splits train, test and val"}),
    Layout("CycleGAN", "{trainA,trainB,testA,testB}/{0,1}.jpg", refused={"train": "Name splits train, test and val"}),
    Layout("MNIST as pictures", "{trainingSet,testSet,trainingSample}/{0,1}/0.jpg", refused={"train": "Name splits train, test and val"}),
    Layout("images and masks", "{images,masks}/{0,1}.png", refused={"train": "By its folders 'images' would be a class"}),
    Layout("images in splits", "{train,test}/images/{0,1}.png", refused={"train": ONE_CLASS, "test": ONE_CLASS}),
    Layout("one class", "cat/{0,1}.png", refused={"train": rf"'cat' {ONE_CLASS}.*load .*cat\."}),
    Layout("one class in train", "train/cat/{0,1}.png test/{cat,dog}/0.png", refused={"train": rf"'cat' {ONE_CLASS}.*load .*train.cat\.", "test": f"'cat' {ONE_CLASS}"}),
    Layout("a folder of images and another, each of classes", "CUB/{images,segmentations}/{cat,dog}/0.jpg", refused={"train": r"'images' would be a class;.*load .*CUB.images\.$"}),
    Layout("a folder of images in each split", "{train,test}/JPEGImages/{cat,dog}/0.jpg", refused={"train": r"'JPEGImages' would be the only class;.*load .*train.JPEGImages\.$", "test": r"load .*test.JPEGImages\.$"}),
    Layout("one class of nested folders", "test/cat/{a,b}/0.png", refused={"test": r"'cat' would be the only class;.*load .*test.cat\.$"}),
    Layout("one class in splits", "{train,test}/cat/{0,1}.png", refused={"train": f"'cat' {ONE_CLASS}"}),
    Layout("an empty class leaves one", "cat/{0,1}.png dog/", refused={"train": f"'cat' {ONE_CLASS}"}),
    Layout("an empty class among others", "{cat,dog}/{0,1}.png emu/", ONE),
    # Splits of other names, and what looks like one.
    Layout("capital letters", "{Train,TEST}/{cat,dog}/{0,1}.PNG", TWO),
    Layout("training, validation and testing", "{training,validation,testing}/{cat,dog}/{0,1}.JPG", {**TWO, "val": (4, "cat dog")}),
    Layout("train and valid", "{train,valid}/{cat,dog}/{0,1}.png", {each: (4, "cat dog") for each in ("train", "val", "valid", "Validation", "dev")}, refused={"test": "only the splits train, val; there is no 'test'"}),
    Layout("two of one split", "{val,valid,train}/{cat,dog}/0.png", refused={"train": "unclear which folders"}),
    Layout("the vehicle", "{train,plane}/{0,1}.png", {"train": (4, "plane train")}, refused={"test": "the whole folder"}),
    Layout("a lone train beside unlabelled pictures", "train/{cat,dog}/0.png unlabeled/{0,1}.png", refused={"train": r"unclear which folders .*: train, unlabeled\."}),
    Layout("test beside classes", "{cat,dog,test}/{0,1}.png", refused={"train": r"unclear which folders .*: cat, dog, test\."}),
    Layout("a picture beside splits", f"{TRAIN} preview.png", TWO, r"left out: 1 image outside of the splits\.$"),
    Layout("pictures beside splits", f"{TRAIN} preview.png docs/{{0,1}}.png", TWO, "left out: 3 images outside of the splits"),
    Layout("an empty split", "train/{cat,dog}/{0,1}.png test/cat/", ONE, refused={"test": "there is no 'test' with images"}),
    # Classes that differ.
    Layout("a split of other classes", "train/{cat,dog}/0.png test/{emu,fox}/0.png", {"train": (2, "cat dog emu fox")}, refused={"test": r"No class of the split 'test' occurs in 'train'; name its folders alike \(emu, fox\)"}),
    Layout("fewer classes in test", "train/{cat,dog,emu}/0.png test/cat/{0,1}.png", {"train": (3, "cat dog emu"), "test": (2, "cat dog emu")}),
    Layout("a class that train lacks", "train/{cat,dog}/0.png test/{cat,dog,emu}/0.png", {"test": (3, "cat dog emu")}, "'train' has no image of emu"),
    Layout("blanks around a class", "train/{cat,dog}/{0,1}.png test/{cat~,~dog}/{0,1}.png", TWO),
    Layout("two ways to write an accent", "train/{caf\u00e9,dog}/0.png test/{cafe\u0301,dog}/0.png", {"train": (2, "caf\u00e9 dog"), "test": (2, "caf\u00e9 dog")}),
    Layout("one class in two folders", "{cat,cat~,dog}/0.png", refused={"train": r"Two folders in .* are .cat. up to blanks"}),
    Layout("bytes that are no UTF-8", "{c\udce9t,dog}/0.png", {"train": (2, "c\ufffdt dog")}),
    Layout("escapes in a name", "{\x1b[31mcat,dog}/0.png", {"train": (2, "\x1b[31mcat dog")}),
    # What lies among the pictures.
    Layout("a file among class folders", "{cat,dog}/{0,1}.png labels.csv", ONE, r"left out: 1 \.csv\.$"),
    Layout("a picture among class folders", "{cat,dog}/{0,1}.png logo.png", refused={"train": "logo.png lies beside class folders; move it"}),
    Layout("files of other kinds", "{cat,dog}/{0,1}.png cat/{a.heic,b.HEIC,c.txt,d.svg,e.pdf,f.mp4,README} .DS_Store dog/._0.png", ONE,
           r"left out: 2 \.heic, 1 \.mp4, 1 \.pdf, 1 \.svg, 1 \.txt, 2 hidden, 1 without extension\.$"),
    Layout("what systems leave", "{cat,dog}/{0,1}.png __MACOSX/cat/._0.png .ipynb_checkpoints/0-checkpoint.png @eaDir/0.jpg cat/.hidden/0.png", ONE, "left out: 4 hidden"),
    Layout("kinds that Pillow reads", "{cat,dog}/a.{png,jpg,jpeg,jfif,bmp,webp,gif,tif,tiff,ppm,pgm,pbm,jp2,tga,ico}", {"train": (30, "cat dog")}),
    Layout("nested class folders", "cat/{a,b}/{0,1}.png dog/0.png", {"train": (5, "cat dog")}, "the images of 3 folders are read as 2 classes"),
    Layout("nested class folders of one class", "train/{cat,dog}/0.png test/cat/{a,b}/0.png", {"test": (2, "cat dog")}, "the images of 2 folders are read as 1 class\\.$"),
    Layout("superclasses", "animals/{cat,dog}/0.png vehicles/{car,train}/0.png", {"train": (4, "animals vehicles")}, "the images of 4 folders are read as 2 classes\\.$"),
    Layout("a folder of each class with folders of one name", "{cat,dog}/images/{a,b}.png dog/more/0.png", {"train": (5, "cat dog")}, "the images of 3 folders"),
    # Classes that are divided again.
    Layout("domains", "{real,sketch}/{cat,dog}/0.png", refused={"train": r"The classes in .* would be divided again, into cat, dog\. Load one"}),
    Layout("domains, by the path of one", "{real,sketch}/{cat,dog}/{0,1}.png", ONE, given="sketch"),
    Layout("folds", "fold{1,2,3}/{cat,dog}/0.png", refused={"train": f"{DIVIDED}cat, dog"}),
    Layout("folds of which one lacks a class", "fold{1,2}/{cat,dog,emu}/0.png fold3/{cat,dog}/0.png", refused={"train": f"{DIVIDED}cat, dog"}),
    Layout("folds in a split", "train/fold{1,2}/{cat,dog}/0.png test/{cat,dog}/0.png", refused={"train": f"{DIVIDED}cat, dog", "test": f"{DIVIDED}cat, dog"}),
    Layout("folds with a folder too many", "fold{1,2}/data/{cat,dog}/images/0.png", refused={"train": f"{DIVIDED}cat, dog"}),
    Layout("splits in classes", "{cat,dog}/{train,test}/0.png", refused=dict.fromkeys(("train", "test"), f"{DIVIDED}test, train")),
    Layout("splits in classes, in capital letters", "{cat,dog}/{Training,Validation}/0.png", refused={"train": f"{DIVIDED}Training, Validation"}),
    Layout("splits in one class", "cat/{train,test}/0.png dog/0.png", refused={"train": f"{DIVIDED}test"}),
    Layout("a test split within classes", "{cat,dog}/{0,test/0}.png", refused={"train": f"{DIVIDED}test"}),
    Layout("an empty test split within classes", "{cat,dog}/{0,1}.png cat/test/", ONE),
    Layout("splits of splits", "train/{train,test}/{cat,dog}/0.png", refused={"train": f"{DIVIDED}cat, dog, test"}),
    Layout("two sets", "{a,b}/{train,test}/{cat,dog}/0.png", refused={"train": f"{DIVIDED}test, train"}),
    Layout("two sets, by the path of one", "{a,b}/{train,test}/{cat,dog}/{0,1}.png", TWO, given="a"),
    # Splits that are named twice.
    Layout("a split in its own name", "{train/train,test/test}/{cat,dog}/{0,1}.png", TWO),
    Layout("a split in another of its names", "{Train/training,valid/validation}/{cat,dog}/{0,1}.png", {"train": (4, "cat dog"), "val": (4, "cat dog")}),
    Layout("Kaggle's dogs against cats", "{train/train,test/test}/{0,1}.jpg", {"train": (2, "*"), "test": (2, "*")}),
    Layout("a train split alone in its own name", "train/train/{cat,dog}/{0,1}.png", ONE, refused={"test": "only the splits train; there is no 'test'"}),
    Layout("class folders with a folder each", "{cat,dog}/images/{0,1}.png", ONE),
    Layout("labels in the names of files", "{cat,dog}.{0,1}.jpg", {"train": (4, "*")}),
    Layout("CIFAR as a tree", "{train,test}/{airplane,automobile,bird}/000{1,2}.png", {"train": (6, "airplane automobile bird"), "test": (6, "airplane automobile bird")}),
    # TinyImageNet by its path.
    Layout("TinyImageNet", f"{TINY} val/images/{{a,b}}.JPEG test/images/0.JPEG val/val_annotations.txt wnids.txt", refused=TINY_NAMED),
    Layout("TinyImageNet, a folder too many", f"tiny/{{{TINY.replace(' ', ',')}}} tiny/val/n01/0.JPEG tiny/val/n02/images/1.JPEG tiny/wnids.txt", refused=TINY_NAMED),
    Layout("TinyImageNet, val sorted", f"{TINY} val/{{n01,n02}}/0.JPEG wnids.txt", refused=TINY_NAMED),
    Layout("TinyImageNet, val sorted and nested", f"{TINY} val/{{n01,n02}}/images/0.JPEG val/images/ wnids.txt", refused=TINY_NAMED),
    Layout("TinyImageNet without its list", f"{TINY} val/images/{{a,b}}.JPEG", refused={"val": "'images' would be a class"}),
    # Links.
    Layout("links to files", "{cat,dog}/0.png cat/1.png->../dog/0.png", {"train": (3, "cat dog")}),
    Layout("a link to a folder in a class", "set/{cat,dog}/0.png store/{1,2}.png set/cat/more->../../store", {"train": (4, "cat dog")}, "the images of 3 folders", given="set"),
    Layout("links to class folders", "store/{a,b}/0.png set/cat->../store/a set/dog->../store/b", {"train": (2, "cat dog")}, given="set"),
    Layout("one folder linked into both splits", "store/{cat,dog}/0.png set/train->../store set/test->../store", {"train": (2, "cat dog"), "test": (2, "cat dog")}, given="set"),
    Layout("a link to the folder above", "{cat,dog}/{0,1}.png cat/up->.. dog/here->.", ONE, "left out: 2 behind links that form a loop"),
    Layout("links to each other", "{cat,dog}/0.png cat/other->../dog dog/other->../cat", {"train": (4, "cat dog")}, "left out: 2 behind links.*; the images of 4 folders"),
    Layout("a link to itself", "{cat,dog}/{0,1}.png cat/self->self", ONE, "left out: 1 without extension"),
    Layout("a dangling link", "{cat,dog}/{0,1}.png cat/2.png->gone.png", refused={"train": r"Cannot read 1 of 5 images:\n.*2\.png: No such file or directory\n.*skip_bad"}),
    Layout("a pipe", "{cat,dog}/{0,1}.png cat/2.png|", refused={"train": r"Cannot read 1 of 5 images:\n.*2\.png: it is not a regular file\n"}),
    # Files where a folder is meant, and folders of what is no picture.
    Layout("a zip", "set.zip", refused={"train": f"{NO_FOLDER}Unpack it"}, given="set.zip"),
    Layout("a tar", "set.tar.gz", refused={"train": f"{NO_FOLDER}Unpack it"}, given="set.tar.gz"),
    Layout("a snapshot", "x.npz", refused={"train": f"{NO_FOLDER}Snapshots are read by load_snapshot"}, given="x.npz"),
    Layout("an array", "x.npy", refused={"train": f"{NO_FOLDER}.*embeddings by read_embeddings"}, given="x.npy"),
    Layout("a table of embeddings", "x.parquet", refused={"train": f"{NO_FOLDER}.*embeddings by read_embeddings"}, given="x.parquet"),
    Layout("a table of labels", "train.csv", refused={"train": f"{NO_FOLDER}Labels in a table"}, given="train.csv"),
    Layout("a record", "record.json", refused={"train": f"{NO_FOLDER}Run.load.*read_record"}, given="record.json"),
    Layout("weights", "encoder.safetensors", refused={"train": f"{NO_FOLDER}.*Run.load"}, given="encoder.safetensors"),
    Layout("a checkpoint", "checkpoint.pt", refused={"train": f"{NO_FOLDER}.*Run.load"}, given="checkpoint.pt"),
    Layout("an array of HDF5", "x.h5", refused={"train": f"{NO_FOLDER}.*ImageSet"}, given="x.h5"),
    Layout("a picture", "cat/0.png", refused={"train": f"{NO_FOLDER}Give the folder that contains it: .*cat$"}, given="cat/0.png"),
    Layout("WebDataset", "00000{0,1}.tar", refused={"train": r"No images in .*; left out: 2 \.tar\."}),
    Layout("CIFAR's batches", "cifar/data_batch_{1,2} cifar/batches.meta", refused={"train": r"No images in .*left out: 1 \.meta, 2 without extension"}),
    Layout("an empty folder", "a/", refused={"train": "No images in"}),
    Layout("no folder", "a/0.png", refused={"train": "There is no folder"}, given="b/c"),
)  # fmt: skip


def expanded(pattern: str) -> list[str]:
    """Each path of a pattern, the innermost braces first."""
    inner = re.search(r"\{([^{}]*)\}", pattern)
    if inner is None:
        return [pattern]
    before, after = pattern[: inner.start()], pattern[inner.end() :]
    return [path for choice in inner[1].split(",") for path in expanded(before + choice + after)]


def picture(path: Path, seed: int) -> None:
    """A picture of 8×8 of the kind of its ending."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mode = {".pgm": "L", ".pbm": "1"}.get(path.suffix, "RGB")
    Image.fromarray(pixels).convert(mode).save(path, kinds()[path.suffix.lower()])


def make(layout: Layout, folder: Path) -> Path:
    """The layout below a folder; the path to load."""
    for seed, each in enumerate(path for pattern in layout.files.split() for path in expanded(pattern)):
        name, _, target = each.replace("~", " ").partition("->")
        path = folder / name.rstrip("|")
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        elif name.endswith("|"):
            os.mkfifo(path)
        elif path.suffix.lower() in kinds() and not path.name.startswith("."):
            picture(path, seed)
        else:
            path.write_text("text", encoding="utf-8")
    return folder / layout.given


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layout(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoding.say.cache_clear()
    path = str(make(layout, tmp_path))
    for split, (count, classes) in layout.read.items():
        images = load_images(path, split)
        assert (len(images), " ".join(images.classes)) == (count, classes.rstrip("*"))
        assert (images.labels < 0).tolist() == [classes.endswith("*")] * count
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == bool(told.err)
        if layout.told is None:
            assert told.err == ""
        elif split == next(iter(layout.read)):
            assert re.search(layout.told, told.err.strip())
    for split, words in layout.refused.items():
        with pytest.raises((CltoolsError, FileNotFoundError), match=words):
            load_images(path, split)
