"""Image folders: layouts, and every way in which they can be wrong."""

import errno
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cltools.datasets import decoding, load_images
from cltools.datasets.image_set import draw


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
            picture(tmp_path / name / "0.jpg")
            picture(tmp_path / name / "deeper" / "0.jpg")
        (tmp_path / "empty").mkdir()
        (tmp_path / ".hidden").mkdir()
        assert load_images(str(tmp_path)).classes == ("plane", "train")
        with pytest.raises(FileNotFoundError, match=r"only the splits train .*; there is no 'test'"):
            load_images(str(tmp_path), "test")

    def test_without_classes_labels_are_unknown(self, tmp_path: Path) -> None:
        picture(tmp_path / "b.png")
        picture(tmp_path / "a.JPG", (200, 0, 0))
        (tmp_path / "._a.jpg").write_bytes(b"left by macOS")
        (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
        images = load_images(str(tmp_path))
        assert images.labels.tolist() == [-1, -1] and images.classes == ()
        assert images.images[0, 0, 0, 0] > 150

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
        with pytest.raises(ValueError, match=r"loose.png lies beside class folders; move it into one"):
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
        with pytest.raises(ValueError, match=r"Cannot read 1 of 6 images:\n.*1\.png: .*\nReplace or move them"):
            load_images(str(tmp_path))
        assert bad.read_bytes() == broken

    def test_mixed_sizes_ask_for_size(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png", size=(8, 8))
        picture(tmp_path / "b.png", size=(12, 6))
        with pytest.raises(ValueError, match=r"a\.png is 8×8 and .*b\.png is 12×6.*size="):
            load_images(str(tmp_path))
        assert load_images(str(tmp_path), size=6).images.shape == (2, 3, 6, 6)


def spoil(folder: Path) -> dict[str, str]:
    """Bad pictures of every kind in a folder, and what is said of each."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "circle.png").symlink_to("circle.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # as the system limits the length of its name
        try:
            listening.bind("socket.png")
        finally:
            os.chdir(here)
    return {
        "circle": "Too many levels", "cut": "truncated", "device": "not a regular file", "empty": "cannot identify",
        "gone": "No such file", "pipe": "not a regular file", "socket": "not a regular file", "text": "cannot identify",
    }  # fmt: skip


class TestBadPictures:
    def test_all_are_told_at_once(self, tmp_path: Path) -> None:
        said = spoil(tree(tmp_path) / "train" / "cat")
        with pytest.raises(ValueError, match="Cannot read 8 of 14 images:\n") as caught:
            load_images(str(tmp_path))
        lines = str(caught.value).splitlines()[1:-1]
        assert len(lines) == len(said)
        for line, (name, why) in zip(lines, said.items(), strict=True):
            assert re.search(rf"/{name}\.(png|jpg): .*{why}", line) and line.count(str(tmp_path)) == 1

    def test_of_many_the_first_ten(self, tmp_path: Path) -> None:
        tree(tmp_path)
        for i in range(30):
            (tmp_path / "train" / "cat" / f"bad{i:02}.png").touch()
        with pytest.raises(ValueError, match="Cannot read 30 of 36 images:") as caught:
            load_images(str(tmp_path))
        assert str(caught.value).count("/bad") == 10 and "/bad09.png: " in str(caught.value)

    def test_a_file_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tree(tmp_path)
        real = Image.open

        def denied(path: Path, **given: object) -> Image.Image:
            if path.name == "1.png":
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, **given)

        monkeypatch.setattr(Image, "open", denied)
        with pytest.raises(ValueError, match=r"Cannot read 2 of 6 images:\n.*ant/1\.png: Permission denied\n"):
            load_images(str(tmp_path))

    @pytest.mark.parametrize("kept", [False, True])
    def test_without_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kept: bool
    ) -> None:
        monkeypatch.setattr(decoding, "CACHE_FROM", 0.0 if kept else 1e9)
        monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "cache"))
        whole = load_images(str(tree(tmp_path / "set")))
        spoil(tmp_path / "set" / "train" / "cat")
        for limit in (None, None, 13, 3):
            decoding.say.cache_clear()
            capsys.readouterr()
            images = load_images(str(tmp_path / "set"), limit=limit, skip_bad=True)
            drawn = torch.arange(14) if limit is None else draw(14, limit)
            # The files of "cat" are 0, 1 and 2, before all others by name.
            assert images.ids.tolist() == [row for row in drawn.tolist() if row < 6]
            assert torch.equal(images.images, whole.images[images.ids])
            assert torch.equal(images.labels, whole.labels[images.ids])
            told = [line for line in capsys.readouterr().err.splitlines() if "(train)" in line]
            assert len(told) == 1
            assert f"(train): {(drawn > 5).sum()} of {len(drawn)} images cannot be read" in told[0]
        with pytest.raises(ValueError, match="Cannot read 8 of 14 images"):
            load_images(str(tmp_path / "set"))
        if kept:
            (tmp_path / "set" / "train" / "cat" / "gone.png").unlink()
            picture(tmp_path / "set" / "train" / "cat" / "gone.png", (1, 2, 3))
            assert len(load_images(str(tmp_path / "set"), skip_bad=True)) == 7

    def test_where_none_is_good(self, tmp_path: Path) -> None:
        spoil(tmp_path)
        for kept in (1e9, 0.0):
            for skip_bad in (False, True):
                with (
                    pytest.MonkeyPatch.context() as patch,
                    pytest.raises(ValueError, match="Cannot read 8 of 8") as caught,
                ):
                    patch.setattr(decoding, "CACHE_FROM", kept)
                    load_images(str(tmp_path), skip_bad=skip_bad)
                assert str(caught.value).endswith("\nReplace or move them.")  # as to go on without them is not possible


class TestLarge:
    @pytest.fixture
    def deep(self, tmp_path: Path) -> Iterator[Path]:
        """Two classes whose pictures lie deeper than Python calls functions, as that which removes a folder."""
        for name in ("cat", "dog"):
            folder = tmp_path / "deep" / name
            subprocess.run(["mkdir", "-p", str(folder.joinpath(*["d"] * 1100))], check=True)
            Image.new("RGB", (8, 8)).save(folder.joinpath(*["d"] * 1100, "0.png"))
        yield tmp_path / "deep"
        subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)

    @pytest.mark.slow
    def test_deep_trees(self, deep: Path) -> None:
        assert len(load_images(str(deep))) == 2
        with pytest.raises(ValueError, match=r"'d' would be the only class.* load .*(/d){1100}\."):
            load_images(str(deep / "cat"))

    @pytest.mark.slow
    def test_many_files(self, tmp_path: Path) -> None:
        one = picture(tmp_path / "one.png")
        for name in ("cat", "dog"):
            (tmp_path / "set" / name).mkdir(parents=True)
            for i in range(50_000):
                os.link(one, tmp_path / "set" / name / f"{i}.png") if i < 30_000 else os.mknod(
                    tmp_path / "set" / name / f"{i}.txt"
                )
        assert len(load_images(str(tmp_path / "set"), limit=5)) == 5

    def test_many_links_to_each_other(self, tmp_path: Path) -> None:
        names = [f"c{i}" for i in range(6)]
        for name in names:
            picture(tmp_path / name / "0.png")
            for other in names:
                (tmp_path / name / f"to-{other}").symlink_to(f"../{other}")
        assert set(load_images(str(tmp_path)).labels.tolist()) == set(range(6))
