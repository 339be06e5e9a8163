"""Image folders: layouts, picture formats, and every way in which they can be wrong."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cltools.datasets import load_images
from cltools.datasets.pictures import read_picture, resize


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
        (tmp_path / "notes.txt").write_text("no image")
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


class TestPictures:
    def test_sixteen_bit_grayscale_is_scaled(self, tmp_path: Path) -> None:
        values = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").tolist() == [[[0] * 3, [0] * 3, [1] * 3, [255] * 3]]

    def test_eight_bit_grayscale_and_black_and_white(self, tmp_path: Path) -> None:
        Image.new("L", (2, 2), 77).save(tmp_path / "gray.png")
        Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
        assert np.unique(read_picture(tmp_path / "gray.png")) == [77]
        assert np.unique(read_picture(tmp_path / "bits.png")) == [255]

    def test_palette(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4), (9, 99, 199)).quantize(4).save(tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png")[0, 0].tolist() == [9, 99, 199]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
    def test_transparent_becomes_white(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "a.png"
        if mode == "RGBA":
            Image.new("RGBA", (2, 2), (200, 0, 0, 0)).save(path)
        elif mode == "LA":
            Image.new("LA", (2, 2), (0, 0)).save(path)
        else:
            Image.new(mode, (2, 2)).save(path, transparency=0 if mode == "P" else (0, 0, 0))
        assert (read_picture(path) == 255).all()

    @pytest.mark.parametrize("ending", ["png", "jpg"])
    def test_orientation_is_applied(self, tmp_path: Path, ending: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: shown upright after a quarter turn
        path = tmp_path / f"a.{ending}"
        Image.new("RGB", (8, 4), (1, 2, 3)).save(path, exif=exif)
        assert read_picture(path).shape == (8, 4, 3)

    def test_floating_point_is_refused_by_name(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"a\.tif.*floating-point"):
            read_picture(tmp_path / "a.tif")

    @pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8), (5, 9), (31, 7)])
    def test_resize_scales_the_shorter_side_and_cuts_the_centre(self, height: int, width: int) -> None:
        ramp = torch.linspace(0, 255, width).round().to(torch.uint8).expand(1, 3, height, width).contiguous()
        small = resize(ramp, 4)
        assert small.shape == (1, 3, 4, 4)
        middle = small.float().mean() - ramp.float().mean()
        assert middle.abs() < 255 / width

    def test_symbolic_link_to_a_class_folder(self, tmp_path: Path) -> None:
        picture(tmp_path / "store" / "0.png")
        (tmp_path / "set").mkdir()
        os.symlink(tmp_path / "store", tmp_path / "set" / "cat")
        assert load_images(str(tmp_path / "set")).classes == ("cat",)
