"""The images of the experiments: training images, pictures held out for validation, and other ways to label them."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cltools.datasets import ImageSet, draw, load_images
from cltools.errors import CltoolsError
from cltools.snapshot import content_key

SUPERCLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
"""The fine classes of CIFAR-100 by superclass (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
2009)."""


@dataclass(frozen=True)
class Pictures:
    """The images of one experiment.

    Attributes:
        described: what they are, in words.
        train: images to train on, with the labels that oracles read.
        bank: the same images with the labels of the evaluation.
        judged: images that the encoder is judged on, with the labels of the evaluation.
        groups: groups of the bank's and of the judged images, if each image is judged within its group.
    """

    described: str
    train: ImageSet
    bank: ImageSet
    judged: ImageSet
    groups: tuple[Tensor, Tensor] | None = None

    def digest(self) -> str:
        """Return a digest of the pixels, ids and labels of all images."""
        sets = (self.train, self.bank, self.judged)
        return content_key(*(getattr(each, name).numpy() for each in sets for name in ("images", "ids", "labels")))[:16]


def loaded(name: str, split: str, root: Path | None) -> ImageSet:
    """Load a split of an image set by its name, or from the folder of that name below `root` if there is one."""
    folder = root / name if root is not None else None
    if folder is not None and (folder / split).is_dir():
        return replace(load_images(folder, split), name=name)
    return load_images(name, split, root)


def pictures(
    name: str, root: Path | None, *, count: int, judge: str, labels: str = "fine", judged: int = 10_000
) -> Pictures:
    """Return the images of an experiment, drawn without regard to their labels; equal for equal arguments.

    Args:
        name: "shapes", "cifar10" or "cifar100".
        root: folder of the image sets.
        count: number of training images.
        judge: "val", training images that are not trained on, or "test".
        labels: what oracles read: "fine" classes, or "coarse", the superclasses of CIFAR-100.
        judged: maximum number of images that the encoder is judged on.

    Raises:
        ValueError: there are too few images.
    """
    whole = loaded(name, "train", root)
    held_out = judged if judge == "val" else 0
    if count + held_out > len(whole):
        raise CltoolsError(f"{name} has {len(whole)} training images; {count} and {held_out} held out are too many.")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    chosen = whole.select(order[:count])
    if judge == "val":
        others = replace(whole.select(order[len(order) - judged :]), split="val")
    else:
        others = loaded(name, "test", root)
        others = others.select(draw(len(others), judged))
    described = f"{name}: {count:,} training images, {labels} labels; judged on {len(others):,} of {judge}"
    return Pictures(described, coarse(chosen) if labels == "coarse" else chosen, chosen, others)


def within_superclasses(root: Path | None, *, count: int, judged: int = 10_000) -> Pictures:
    """Return images of CIFAR-100 that oracles know by superclass only, judged by fine class within each superclass."""
    images = pictures("cifar100", root, count=count, judge="test", labels="coarse", judged=judged)
    groups = images.train.labels, superclass_of(images.judged)[images.judged.labels]
    return replace(images, described=f"{images.described} within superclasses", groups=groups)


def other_classes(root: Path | None, *, count: int, judged: int = 10_000) -> Pictures:
    """Return images of every second class of CIFAR-10, judged by images of the other classes, bank included.

    Raises:
        ValueError: there are too few images.
    """
    train, test = loaded("cifar10", "train", root), loaded("cifar10", "test", root)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    trained, bank = (order[train.labels[order] % 2 == half] for half in (0, 1))
    if count > min(len(trained), len(bank)):
        raise CltoolsError(f"Half of the classes of cifar10 have {len(trained)} training images; {count} are too many.")
    test = test.select((test.labels % 2 == 1).nonzero()[:, 0])
    test = test.select(draw(len(test), judged))
    described = f"cifar10: {count:,} training images of five classes; judged on {len(test):,} of test of the others"
    return Pictures(described, train.select(trained[:count]), train.select(bank[:count]), test)


def coarse(images: ImageSet) -> ImageSet:
    """Return images of CIFAR-100 labelled by superclass."""
    names = tuple(SUPERCLASSES)
    return replace(images, labels=superclass_of(images)[images.labels], classes=names)


def superclass_of(images: ImageSet) -> Tensor:
    """Return the superclass of each fine class, int64 [100], of images of CIFAR-100."""
    by_fine = {fine: index for index, group in enumerate(SUPERCLASSES.values()) for fine in group.split()}
    return torch.tensor([by_fine[name.replace(" ", "_")] for name in images.classes])
