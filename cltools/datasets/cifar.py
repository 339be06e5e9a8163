"""CIFAR-10 and CIFAR-100: an image-folder tree if there is one, else the official batches through torchvision."""

import os
from pathlib import Path
from typing import Any

import torch

from cltools.datasets.archives import Archive, check, obtain
from cltools.datasets.folder import load_folder
from cltools.datasets.image_set import DataSettings, ImageSet, data_root
from cltools.errors import CltoolsError

CLASSES = {"cifar10": 10, "cifar100": 100}


def load_cifar(split: str, data: DataSettings) -> ImageSet:
    """CIFAR images from `root/NAME/{train,test}/CLASS/*.png|jpg`, else from the official archive.

    Both number the classes alphabetically, which is the official order. The folder tree may hold fewer images than
    the original; it is read as it is.

    Raises:
        FileNotFoundError: Nothing is there and `download` is off, or a file of the official set is missing.
        ValueError: The archive or a batch is truncated or altered, or the folder tree lacks classes.
        RuntimeError: The download failed.
    """
    root = data_root(data.root)
    folder = root / data.name
    if os.path.isdir(folder / split):
        images = load_folder(folder, split, data, root)
        if len(images.classes) != CLASSES[data.name]:
            raise CltoolsError(
                f"{folder} has {len(images.classes)} class folders, {data.name} has {CLASSES[data.name]}. Complete the "
                "tree, or load the folder by its path to use it as a set of its own."
            )
        return images
    return official(data.name, split, root, data.download)


def official(name: str, split: str, root: Path, download: bool) -> ImageSet:
    """The whole split of the official archive, every file of it checked against torchvision's list."""
    from torchvision import datasets

    kind: Any = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = obtain(Archive(kind.url, kind.tgz_md5, kind.filename, kind.base_folder), root, download)
    advice = f"Move {folder} away and load {name} again to unpack a fresh copy"
    files = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
    for file, md5 in files:  # before torchvision looks: it would not say which file is wrong
        check(folder / file, md5, advice)
    source = kind(str(root), train=split == "train", download=False)
    images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(source.targets, dtype=torch.int64)
    return ImageSet(images, labels, torch.arange(len(labels)), tuple(source.classes), name, split)
