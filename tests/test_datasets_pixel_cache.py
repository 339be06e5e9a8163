"""Pixels kept on disk: the same as decoded ones, made again whenever they should be, and never in anybody's way."""

import errno
import io
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_datasets_archives import TINY, contents, publish
from torch import Tensor

from cltools.datasets import ImageSet, decoding, load_images
from cltools.errors import CltoolsError

HEAD, PICTURE = 128, 3 * 64 * 64  # bytes before the pixels of a small NumPy file; of a picture
MODES = ("RGB", "L", "CMYK", "P", "RGB", "RGB")


def noise(seed: int, mode: str = "RGB", side: int = 64) -> bytes:
    """A picture of its own in one of the modes JPEG and PNG have."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "PNG" if mode == "P" else "JPEG")
    return stream.getvalue()


def grow(root: Path, per_class: int = 2) -> Path:
    """An official tree with pictures of every kind; its folder."""
    tree = {name: content for name, content in TINY.items() if "images" not in name}
    tree |= {f"val/images/val_{i}.JPEG": noise(90 + i) for i in range(2)}
    for n, wnid in enumerate(("n01", "n02", "n03")):
        for i in range(per_class):
            seed = n * per_class + i
            tree[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = noise(seed, MODES[seed % len(MODES)])
    folder = root / "tiny-imagenet-200"
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with TinyImageNet, whose pixels are kept however few they are; no word has been said yet."""
    monkeypatch.setattr(decoding, "CACHE_FROM", 0.0)
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "cache"))
    decoding.say.cache_clear()
    grow(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the picture files decoded in this process."""
    names: list[str] = []
    read = decoding.read_image

    def counted(path: Path, size: int | None) -> Tensor:
        names.append(path.name)
        return read(path, size)

    monkeypatch.setattr(decoding, "read_image", counted)
    return names


def load(root: Path, limit: int | None = None, size: int | None = None) -> ImageSet:
    return load_images("tinyimagenet", root=root, download=False, limit=limit, size=size)


def fresh(root: Path, size: int | None = None) -> Tensor:
    """The training pictures as they are decoded without any kept pixels."""
    return decoding.read_images(sorted((root / "tiny-imagenet-200" / "train").rglob("*.JPEG")), size)[0]


def kept(root: Path) -> Path:
    (file,) = (root / "decoded").glob(f"tinyimagenet-train-{'[0-9a-f]' * 16}.npy")
    return file


class TestKept:
    def test_kept_pixels_are_the_decoded_ones_and_nothing_is_decoded_twice(self, root: Path, opened: list[str]) -> None:
        first, right = load(root), fresh(root)
        assert len(opened) == 7 + 7  # the first of them once more, for its shape
        second = load(root)
        assert len(opened) == 14
        for images in (first, second):
            assert torch.equal(images.images, right) and images.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert torch.equal(right[1, 0], right[1, 1]), "a grayscale picture"
        assert [*(root / "decoded").iterdir()] == [kept(root)]
        assert np.array_equal(np.load(kept(root), mmap_mode="r"), right), "a file of NumPy's"

    def test_the_map_is_private(self, root: Path) -> None:
        before = load(root).images.clone()
        load(root).images.zero_()
        assert torch.equal(load(root).images, before)

    def test_it_is_a_map_of_the_file(self, root: Path) -> None:
        load(root)
        images = load(root).images
        with kept(root).open("r+b") as file:  # seen through a private map until the page is written to
            file.seek(HEAD)
            file.write(bytes([images[0, 0, 0, 0] ^ 255]))
        assert images[0, 0, 0, 0] == fresh(root)[0, 0, 0, 0] ^ 255

    def test_few_pictures_are_not_kept(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        load(root)
        assert not (root / "decoded").exists()

    def test_each_split_and_size_has_its_own(self, root: Path, opened: list[str]) -> None:
        assert torch.equal(load(root, size=32).images, fresh(root, 32))
        assert load(root).images.shape[2:] == (64, 64)
        load_images("tinyimagenet", "test", root=root)
        opened.clear()
        assert load(root, size=32).images.shape[2:] == (32, 32) and load(root).images.shape[2:] == (64, 64)
        assert opened == []
        names = {path.stem.rpartition("-")[0] for path in (root / "decoded").iterdir()}
        assert names == {f"tinyimagenet-{part}" for part in ("test", "train-32", "train")}

    def test_it_moves_with_the_data(self, root: Path, opened: list[str]) -> None:
        load(root)
        opened.clear()
        assert torch.equal(load(root.rename(root.with_name("moved"))).images, load(root.with_name("moved")).images)
        assert opened == []

    def test_from_the_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
        monkeypatch.setattr(decoding, "CACHE_FROM", 0.0)
        root = publish(tmp_path, monkeypatch, TINY)
        images = load_images("tinyimagenet", root=root)
        assert len(opened) == 7
        assert torch.equal(load_images("tinyimagenet", root=root).images, images.images) and len(opened) == 7

    def test_a_cifar_tree_is_kept_with_the_data_and_a_folder_of_ones_own_is_not_touched(
        self, root: Path, tmp_path: Path, opened: list[str]
    ) -> None:
        for n in range(10):
            path = root / "cifar10" / "train" / f"c{n}" / "0.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(noise(n, side=32))
        load_images("cifar10", root=root)
        assert len([*(root / "decoded").glob("cifar10-train-*.npy")]) == 1
        own = shutil.copytree(root / "cifar10", tmp_path / "own")
        before = contents(own)
        images = load_images(str(own))
        opened.clear()
        assert torch.equal(load_images(str(own)).images, images.images) and opened == []
        assert contents(own) == before
        assert [path.name[:4] for path in (tmp_path / "cache" / "decoded").iterdir()] == ["own-"]

    def test_a_folder_whose_name_is_a_pattern_keeps_one_file(self, root: Path, tmp_path: Path) -> None:
        own = tmp_path / "own [1]*"
        own.mkdir()
        for seed in (1, 2):
            (own / "0.png").write_bytes(noise(seed))
            load_images(str(own))
        assert len([*(tmp_path / "cache" / "decoded").iterdir()]) == 1


class TestLimit:
    def test_a_small_part_keeps_nothing_and_uses_what_is_kept(self, root: Path, opened: list[str]) -> None:
        part = load(root, limit=2)
        assert len(opened) == 2 + 1 and not (root / "decoded").exists()
        load(root)
        opened.clear()
        again = load(root, limit=2)
        assert opened == [] and torch.equal(again.images, part.images) and torch.equal(again.ids, part.ids)
        assert torch.equal(part.images, fresh(root)[part.ids])

    def test_a_large_part_keeps_all(self, root: Path, opened: list[str]) -> None:
        part = load(root, limit=4)
        assert torch.equal(part.images, fresh(root)[part.ids])
        opened.clear()
        assert torch.equal(load(root).images[part.ids], part.images) and opened == []


class TestMadeAgain:
    @pytest.mark.parametrize("change", ["touched", "replaced", "added", "removed", "renamed"])
    def test_when_the_pictures_change(self, root: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
        load(root)
        former = kept(root)
        picture = root / "tiny-imagenet-200" / "train" / "n02" / "images" / "n02_0.JPEG"
        if change == "touched":
            os.utime(picture, ns=(0, 1))
        elif change == "replaced":
            picture.write_bytes(noise(77))
        elif change == "added":
            picture.with_name("n02_7.JPEG").write_bytes(noise(77))
        elif change == "removed":
            picture.unlink()
        else:
            picture.rename(picture.with_name("n02_9.JPEG"))
        assert torch.equal(load(root).images, fresh(root))
        assert kept(root) != former, "the former file is deleted"
        capsys.readouterr()
        load(root)
        assert capsys.readouterr() == ("", ""), "it fits again"

    @pytest.mark.parametrize("length", [0, 5, 100, HEAD, HEAD + 1, HEAD + 6 * PICTURE - 1])
    def test_when_the_file_is_cut_off(self, root: Path, length: int, capsys: pytest.CaptureFixture[str]) -> None:
        right, whole = load(root).images.clone(), kept(root).read_bytes()
        kept(root).write_bytes(whole[:length])
        assert torch.equal(load(root).images, right)
        assert kept(root).read_bytes() == whole
        assert "the images are decoded again" in capsys.readouterr().err

    def test_when_it_is_of_another_tree(self, root: Path, tmp_path: Path) -> None:
        load(root)
        grow(tmp_path / "other", per_class=3)
        shutil.copytree(root / "decoded", tmp_path / "other" / "decoded")
        assert torch.equal(load(tmp_path / "other").images, fresh(tmp_path / "other"))

    def test_other_files_are_left(self, root: Path) -> None:
        (root / "decoded").mkdir()
        own = [root / "decoded" / name for name in ("tinyimagenet-train.npy", "tinyimagenet-train-mine.npy")]
        for path in own:
            path.write_bytes(b"a person's own")
        assert torch.equal(load(root).images, fresh(root))
        assert kept(root).exists() and all(path.read_bytes() == b"a person's own" for path in own)


class TestNowhereToKeep:
    @pytest.fixture(params=["in the way", "read-only", "full", "full on the way", "full at the end"])
    def nowhere(self, request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Neither the data folder nor the cache takes the pixels; a word of why."""

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def denied(path: Path, mode: str = "r", *given: Any, **named: Any) -> IO[Any]:
            if mode == "wb":
                raise PermissionError(errno.EACCES, "Permission denied")
            return open(path, mode, *given, **named)

        if request.param == "in the way":
            (root / "decoded").touch()
            monkeypatch.setenv("CLTOOLS_CACHE", str(root / "decoded"))
            return "Not a directory|exists"
        if request.param == "read-only":
            monkeypatch.setattr(Path, "open", denied)
            return "Permission denied"
        if request.param == "full":
            usage = namedtuple("usage", "free")
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
            return "more than half of the 0 free"
        if request.param == "full on the way":
            monkeypatch.setattr(np.lib.format, "write_array_header_1_0", refuse)
        else:
            monkeypatch.setattr(os, "fsync", refuse)
        return "No space left"

    def test_it_works_without_and_says_so_once(
        self, root: Path, tmp_path: Path, nowhere: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(root)
        for _ in range(2):
            assert torch.equal(load(root).images, fresh(root))
        said = [line for line in capsys.readouterr().err.splitlines() if "decoded at each load" in line]
        assert len(said) == 1
        assert any(reason in said[0] for reason in nowhere.split("|"))
        assert contents(root) == before and contents(tmp_path / "cache") == {}

    def test_the_users_cache_serves_data_that_cannot_be_written(self, root: Path, opened: list[str]) -> None:
        (root / "decoded").touch()
        assert torch.equal(load(root).images, fresh(root))
        opened.clear()
        load(root)
        assert opened == []

    def test_a_user_without_a_home(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "cache_folder", lambda: Path("~nobody_of_that_name").expanduser())
        assert torch.equal(load(root).images, fresh(root)) and kept(root).exists()
        (root / "single").mkdir()
        (root / "single" / "a.png").write_bytes(noise(0))
        assert len(load_images(str(root / "single"))) == 1


class TestBuilding:
    @pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
    def test_an_interrupted_one_leaves_nothing(
        self, root: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = contents(root)
        with monkeypatch.context() as patch:
            read = decoding.read_image

            def stop(path: Path, size: int | None) -> Tensor:
                if path.name == "n02_1.JPEG":
                    raise error
                return read(path, size)

            patch.setattr(decoding, "read_image", stop)
            with pytest.raises((KeyboardInterrupt, CltoolsError)):
                load(root)
        assert contents(root) == before
        assert torch.equal(load(root).images, fresh(root))

    def test_a_picture_that_cannot_be_read_is_named_and_leaves_the_old_file(self, root: Path) -> None:
        load(root)
        before = contents(root / "decoded")
        bad = root / "tiny-imagenet-200" / "train" / "n02" / "images" / "n02_0.JPEG"
        bad.write_bytes(b"broken")
        with pytest.raises(ValueError, match=r"Cannot read 1 of 6 images:\n.*n02_0\.JPEG: "):
            load(root)
        bad.write_bytes(noise(0, side=32))
        with pytest.raises(ValueError, match=r"n01_0\.JPEG is 64×64 and .*n02_0\.JPEG is 32×32.*size="):
            load(root)
        assert contents(root / "decoded") == before

    def test_two_at_once_do_not_meet(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[ImageSet] = []
        replacing, calls = decoding.replacing, list[Path]()

        def meanwhile(path: Path) -> AbstractContextManager[Path]:
            calls.append(path)
            if len(calls) == 1:
                found.append(load(root))  # another builds the same, and is done before this one is
            return replacing(path)

        monkeypatch.setattr(decoding, "replacing", meanwhile)
        outer = load(root)
        assert torch.equal(outer.images, fresh(root)) and torch.equal(found[0].images, outer.images)
        assert torch.equal(load(root).images, outer.images) and len(calls) == 2
        assert [*(root / "decoded").iterdir()] == [kept(root)]


KILLED = """
import os, signal, sys
from pathlib import Path
from cltools.datasets import decoding, load_images

def dying(function, number):
    def count(*given, **named):
        nonlocal number
        number -= 1
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*given, **named)
    return count

decoding.CACHE_FROM, decoding.BLOCK = 0.0, 2
load = lambda: load_images("tinyimagenet", root=sys.argv[1], download=False)
print(load().images.long().sum().item(), flush=True)
for target, name, number in ((decoding, "read_image", 5), (Path, "replace", 1)):
    picture = sorted(Path(sys.argv[1]).rglob("n01_0.JPEG"))[0]
    os.utime(picture, ns=(number, number + len(name)))  # the kept pixels are out of date
    child = os.fork()
    if child == 0:
        setattr(target, name, dying(getattr(target, name), number))
        load()
        os._exit(0)
    died = os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    print(died, load().images.long().sum().item(), flush=True)
os.utime(picture, ns=(0, 0))
children = []
for _ in range(4):
    children.append(os.fork())
    if children[-1] == 0:
        os._exit(0 if load().images.long().sum() == int(sys.argv[2]) else 1)
print(*(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.slow
def test_killed_while_writing_and_four_at_once(root: Path) -> None:
    """In another process, which has no threads when it forks: whoever comes later reads the right pixels."""
    right = int(fresh(root).long().sum())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(right)],
        capture_output=True, encoding="utf-8", check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if "pictures" not in line]
    assert said == [str(right), *[f"True {right}"] * 2, "0 0 0 0"], done.stdout + done.stderr
