"""Image folders: layouts, and every way in which they can be wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cltools.datasets import load_images


def picture(path: Path, colour: tuple[int, ...] = (10, 20, 30), size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def tree(folder: Path, classes: tuple[str, ...] = ("cat", "ant"), splits: tuple[str, ...] = ("train", "test")) -> Path:
    for split in splits:
        for number, name in enumerate(classes):
            for i in range(3):
                picture(folder / split / name / f"{i}.png", (number * 50, i * 20, len(split)))
    return folder


class TestLayouts:
    def test_splits_and_classes_in_alphabetical_order(self, tmp_path: Path) -> None:
        images = load_images(str(tree(tmp_path)), "test")
        assert images.classes == ("ant", "cat") and images.split == "test"
        assert images.labels.tolist() == [0, 0, 0, 1, 1, 1] and images.ids.tolist() == list(range(6))
        assert images.images[0, :, 0, 0].tolist() == [50, 0, 4]  # "ant" was drawn second

    def test_labels_mean_the_same_in_every_split(self, tmp_path: Path) -> None:
        tree(tmp_path, ("ant", "bee", "cat"), ("train",))
        picture(tmp_path / "test" / "cat" / "0.png")
        images = load_images(str(tmp_path), "test")
        assert images.classes == ("ant", "bee", "cat") and images.labels.tolist() == [2]

    def test_without_splits_it_is_one(self, tmp_path: Path) -> None:
        for name in ("train", "plane"):  # one lone "train" is the vehicle
            picture(tmp_path / name / "deeper" / "0.jpg")
        (tmp_path / "empty").mkdir()
        (tmp_path / ".hidden").mkdir()
        assert load_images(str(tmp_path)).classes == ("plane", "train")
        with pytest.raises(FileNotFoundError, match=r"one split, 'train'; there is no 'test'"):
            load_images(str(tmp_path), "test")

    def test_without_classes_labels_are_unknown(self, tmp_path: Path) -> None:
        picture(tmp_path / "b.png")
        picture(tmp_path / "a.JPG", (200, 0, 0))
        (tmp_path / "._a.jpg").write_bytes(b"left by macOS")
        (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
        images = load_images(str(tmp_path))
        assert images.labels.tolist() == [-1, -1] and images.classes == ()
        assert images.images[0, 0, 0, 0] > 150

    @pytest.mark.parametrize("names", [("train", "valid"), ("Train", "Test"), ("train", "validation", "test")])
    def test_folders_that_look_like_splits_of_other_names_are_no_classes(
        self, names: tuple[str, ...], tmp_path: Path
    ) -> None:
        for name in names:
            picture(tmp_path / name / "cat" / "0.png")
        with pytest.raises(ValueError, match="Splits are named train, test, val, in small letters: rename them"):
            load_images(str(tmp_path))

    def test_symbolic_link_to_a_class_folder(self, tmp_path: Path) -> None:
        picture(tmp_path / "store" / "0.png")
        (tmp_path / "set").mkdir()
        os.symlink(tmp_path / "store", tmp_path / "set" / "cat")
        assert load_images(str(tmp_path / "set")).classes == ("cat",)

    def test_missing_split_names_those_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"only the splits train, test; there is no 'val'"):
            load_images(str(tree(tmp_path)), "val")

    def test_limit_opens_only_the_drawn_files(self, tmp_path: Path) -> None:
        for i in range(20):
            picture(tmp_path / f"{i:02}.png", (i, 0, 0))
        part = load_images(str(tmp_path), limit=5)
        assert part.images[:, 0, 0, 0].tolist() == part.ids.tolist()
        for i in set(range(20)) - set(part.ids.tolist()):
            (tmp_path / f"{i:02}.png").write_bytes(b"broken")
        assert torch.equal(load_images(str(tmp_path), limit=5).images, part.images)


class TestErrors:
    @pytest.mark.parametrize("folders", [(), ("train", "test"), ("train/cat", "train/dog")])
    def test_no_images(self, tmp_path: Path, folders: tuple[str, ...]) -> None:
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"No images in .*\.png"):
            load_images(str(tmp_path))

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"There is no folder .*absent"):
            load_images(str(tmp_path / "absent"))

    def test_loose_images_beside_classes(self, tmp_path: Path) -> None:
        picture(tmp_path / "train" / "loose.png")
        tree(tmp_path)
        with pytest.raises(ValueError, match=r"loose.png lies beside the class folders ant, cat"):
            load_images(str(tmp_path))

    @pytest.mark.parametrize("damage", ["text", "cut", "empty"])
    def test_unreadable_image_is_named_and_left(self, tmp_path: Path, damage: str) -> None:
        tree(tmp_path)
        bad = tmp_path / "train" / "cat" / "1.png"
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(bad)
        whole = bad.read_bytes()
        broken = {"text": b"not an image", "cut": whole[: len(whole) // 2], "empty": b""}[damage]
        bad.write_bytes(broken)
        with pytest.raises(ValueError, match=r"Cannot read .*1\.png.*Replace the file"):
            load_images(str(tmp_path))
        assert bad.read_bytes() == broken

    def test_mixed_sizes_ask_for_size(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", size=(8, 8))
        picture(tmp_path / "b.png", size=(12, 6))
        with pytest.raises(ValueError, match=r"a\.png is 8×8 and .*b\.png is 12×6.*size="):
            load_images(str(tmp_path))
        assert load_images(str(tmp_path), size=6).images.shape == (2, 3, 6, 6)
