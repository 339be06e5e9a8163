"""Where downloaded sets lie, found without reading them."""

from pathlib import Path

import pytest

from cltools.datasets import image_sets
from cltools.datasets.stored import STORED, Stored
from cltools.datasets.tinyimagenet import ARCHIVE


def test_names_are_those_that_loading_looks_for() -> None:
    from torchvision import datasets

    for name, kind in {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}.items():
        assert STORED[name] == Stored(kind.filename, kind.base_folder, name)
    assert STORED["tinyimagenet"] == Stored(ARCHIVE.file, ARCHIVE.folder, None)
    assert {*image_sets()} == {*STORED, "digits", "shapes"}


@pytest.mark.parametrize(
    ("paths", "parts", "whole"),
    [
        ([], [], False),
        (["cifar10/train/"], ["folder tree (train)"], False),
        (["cifar10/train/", "cifar10/test/"], ["folder tree (train, test)"], True),
        (["cifar10/train/", "cifar-10-batches-py/"], ["folder tree (train)", "unpacked (cifar-10-batches-py)"], True),
        (["cifar-10-python.tar.gz"], ["archive (cifar-10-python.tar.gz)"], True),
        (["cifar-10-batches-py"], [], False),  # a file of the folder's name
    ],
)
def test_what_is_there(paths: list[str], parts: list[str], whole: bool, tmp_path: Path) -> None:
    for path in paths:
        (tmp_path / path).mkdir(parents=True) if path.endswith("/") else (tmp_path / path).touch()
    assert STORED["cifar10"].parts(tmp_path) == parts and STORED["cifar10"].whole(tmp_path) == whole
    assert STORED["tinyimagenet"].parts(tmp_path) == [] and not STORED["tinyimagenet"].whole(tmp_path)
