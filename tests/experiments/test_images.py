"""Images that are dialled by one labelling and judged by another, on folders with CIFAR's class names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cltools.config import EvaluationSettings
from cltools.encoders import build_encoder
from cltools.errors import CltoolsError
from cltools.presets import TINY
from experiments.images import SUPERCLASSES, other_classes, within_superclasses
from experiments.run import judged

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = sorted(name for group in SUPERCLASSES.values() for name in group.split())


def folder(root: Path, classes: list[str], train: int, test: int) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
    return root.parent


def cifar100_like(root: Path, train: int, test: int) -> Path:
    return folder(root / "cifar100", FINE, train, test)


def test_superclasses_are_read_and_fine_classes_are_judged_within_them(tmp_path: Path) -> None:
    images = within_superclasses(cifar100_like(tmp_path, 2, 1), count=150)
    assert len(images.train.classes) == 20 and len(images.bank.classes) == 100 and images.groups is not None
    for of, groups in zip((images.bank, images.judged), images.groups, strict=True):
        for label, group in zip(of.labels.tolist(), groups.tolist(), strict=True):
            assert of.classes[label] in [*SUPERCLASSES.values()][group].split()
    assert torch.equal(images.train.ids, images.bank.ids) and len(images.judged) == 100


def test_figures_within_groups_are_means_over_images_and_above_those_over_all(tmp_path: Path) -> None:
    images = within_superclasses(cifar100_like(tmp_path, 2, 1), count=200)
    measured = judged(build_encoder(TINY, None), images, EvaluationSettings())
    assert all(0 <= value <= 100 for value in measured.values())
    assert measured["knn10"] == pytest.approx(round(measured["knn10"]), abs=1e-6)  # of 100 images each counts 1 %
    assert measured["knn10"] > 8  # chance is 20 %, and 1 % among all classes


def test_no_class_that_judges_is_trained_on(tmp_path: Path) -> None:
    root = folder(tmp_path / "cifar10", CIFAR10, 20, 10)
    images = other_classes(root, count=100)
    trained, bank, test = ({*each.labels.tolist()} for each in (images.train, images.bank, images.judged))
    assert trained == {0, 2, 4, 6, 8} and bank == test == {1, 3, 5, 7, 9} and len(images.judged) == 50
    with pytest.raises(CltoolsError, match="100 training images; 101 are too many"):
        other_classes(root, count=101)
