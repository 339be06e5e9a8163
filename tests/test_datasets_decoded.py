"""Pixels kept on disk: the same as decoded ones, made again whenever they should be, and never in anybody's way."""

import errno
import io
import json
import os
import shutil
import signal
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_datasets_archives import TINY, contents, publish
from torch import Tensor

from cltools.datasets import ImageSet, decoded, decoding, load_images, pictures
from cltools.datasets.decoding import Target, decode_all, serve
from cltools.datasets.pixel_file import PAGE, Layout, UnusableError, read_pixels, write_head

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
    monkeypatch.setattr(decoded, "KEEP_FROM", 0.0)
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "cache"))
    decoded.say.cache_clear()
    grow(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the picture files decoded in this process."""
    names: list[str] = []
    read = pictures.read_picture

    def counted(path: Path) -> np.ndarray:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(pictures, "read_picture", counted)
    return names


def load(root: Path, limit: int | None = None, size: int | None = None) -> ImageSet:
    return load_images("tinyimagenet", root=root, download=False, limit=limit, size=size)


def fresh(root: Path, size: int | None = None) -> Tensor:
    """The training pictures as they are decoded without any kept pixels."""
    return pictures.read_pictures(sorted((root / "tiny-imagenet-200" / "train").rglob("*.JPEG")), size)


def kept(root: Path) -> Path:
    return root / "decoded" / "tinyimagenet-train.pixels"


class TestKept:
    def test_kept_pixels_are_the_decoded_ones_and_nothing_is_decoded_twice(self, root: Path, opened: list[str]) -> None:
        first, right = load(root), fresh(root)
        assert len(opened) == 7 + 7  # the first of them once more, for its shape
        second = load(root)
        assert len(opened) == 14
        for images in (first, second):
            assert torch.equal(images.images, right) and images.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert torch.equal(right[1, 0], right[1, 1]), "a grayscale picture"
        assert [path.name for path in (root / "decoded").iterdir()] == [kept(root).name]

    def test_the_map_is_private(self, root: Path) -> None:
        before = load(root).images.clone()
        load(root).images.zero_()
        assert torch.equal(load(root).images, before)

    def test_it_is_a_map_of_the_file(self, root: Path) -> None:
        load(root)
        images = load(root).images
        with kept(root).open("r+b") as file:  # seen through a private map until the page is written to
            file.seek(Layout((6, 3, 64, 64)).pixels)
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
        assert sorted(path.name for path in (root / "decoded").iterdir()) == [
            "tinyimagenet-test.pixels", "tinyimagenet-train-32.pixels", "tinyimagenet-train.pixels",
        ]  # fmt: skip

    def test_it_moves_with_the_data(self, root: Path, opened: list[str]) -> None:
        load(root)
        opened.clear()
        assert torch.equal(load(root.rename(root.with_name("moved"))).images, load(root.with_name("moved")).images)
        assert opened == []

    def test_from_the_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
        monkeypatch.setattr(decoded, "KEEP_FROM", 0.0)
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
        assert (root / "decoded" / "cifar10-train.pixels").is_file()
        own = shutil.copytree(root / "cifar10", tmp_path / "own")
        before = contents(own)
        images = load_images(str(own))
        opened.clear()
        assert torch.equal(load_images(str(own)).images, images.images) and opened == []
        assert contents(own) == before
        assert [path.name[:4] for path in (tmp_path / "cache" / "decoded").iterdir()] == ["own-"]


class TestLimit:
    def test_a_small_part_keeps_nothing_and_uses_what_is_kept(self, root: Path, opened: list[str]) -> None:
        part = load(root, limit=2)
        assert len(opened) == 2 + 1 and not kept(root).exists()
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

    def test_only_the_pictures_wanted_are_checked(self, root: Path, opened: list[str]) -> None:
        load(root)
        ids = load(root, limit=2).ids.tolist()
        other = next(row for row in range(6) if row not in ids)
        layout = Layout((6, 3, 64, 64))
        flip(kept(root), layout.pixels + other * layout.row)
        opened.clear()
        load(root, limit=2)
        assert opened == []
        assert torch.equal(load(root).images, fresh(root)) and len(opened) == 7 + 7


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)


class TestMadeAgain:
    @pytest.mark.parametrize("change", ["touched", "replaced", "added", "removed", "renamed"])
    def test_when_the_pictures_change(self, root: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
        load(root)
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
        capsys.readouterr()
        assert torch.equal(load(root).images, fresh(root))
        said = capsys.readouterr().out
        assert f"{kept(root)} was made from other files than there are now: the pictures are decoded again." in said
        load(root)
        assert capsys.readouterr().out == "", "it fits again"

    @pytest.mark.parametrize(
        "place",
        [0, 10, 15, 20, 40, 90, 100, PAGE, PAGE + 23, 2 * PAGE, 2 * PAGE + 12288 * 6 - 1, *range(85, 130, 3)],
    )
    def test_when_a_byte_is_wrong(self, root: Path, place: int, opened: list[str]) -> None:
        right = load(root).images.clone()
        whole = kept(root).read_bytes()
        flip(kept(root), place)
        opened.clear()
        assert torch.equal(load(root).images, right)
        assert len(opened) == 7
        if place >= 15:  # in the name before, it is no longer known to be ours
            assert kept(root).read_bytes() == whole

    @pytest.mark.parametrize("length", [0, 5, 100, PAGE, PAGE + 10, 2 * PAGE + 1, 2 * PAGE + 12288 * 6 - 1])
    def test_when_it_is_cut_off(self, root: Path, length: int) -> None:
        right = load(root).images.clone()
        whole = kept(root).read_bytes()
        kept(root).write_bytes(whole[:length])
        assert torch.equal(load(root).images, right)
        assert kept(root).read_bytes() == whole

    def test_when_it_is_of_another_tree(self, root: Path, tmp_path: Path) -> None:
        load(root)
        grow(tmp_path / "other", per_class=3)
        shutil.copytree(root / "decoded", tmp_path / "other" / "decoded")
        assert torch.equal(load(tmp_path / "other").images, fresh(tmp_path / "other"))

    def test_a_file_that_is_nobodys_pixels_is_left(self, root: Path, tmp_path: Path, opened: list[str]) -> None:
        kept(root).parent.mkdir()
        kept(root).write_bytes(b"a person's own")
        assert torch.equal(load(root).images, fresh(root))
        opened.clear()
        load(root)
        assert opened == [] and len(list((tmp_path / "cache" / "decoded").iterdir())) == 1
        assert kept(root).read_bytes() == b"a person's own"


class TestNowhereToKeep:
    @pytest.fixture(params=["in the way", "read-only", "full", "full on the way", "full at the end"])
    def nowhere(self, request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Neither the data folder nor the cache takes the pixels; a word of why."""

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        if request.param == "in the way":
            (root / "decoded").touch()
            monkeypatch.setenv("CLTOOLS_CACHE", str(root / "decoded"))
            return "Not a directory|exists"
        if request.param == "read-only":
            denied = PermissionError(errno.EACCES, "Permission denied")
            monkeypatch.setattr(Path, "touch", lambda *_, **__: (_ for _ in ()).throw(denied))
            return "Permission denied"
        if request.param == "full":
            usage = namedtuple("usage", "free")
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
            return "more than half of the 0 free"
        if request.param == "full on the way":
            monkeypatch.setattr(Target, "decode", refuse)
        else:
            monkeypatch.setattr(os, "fsync", refuse)
        return "No space left"

    def test_it_works_without_and_says_so_once(
        self, root: Path, tmp_path: Path, nowhere: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(root)
        for _ in range(2):
            assert torch.equal(load(root).images, fresh(root))
        said = [line for line in capsys.readouterr().out.splitlines() if "decoded at each load" in line]
        assert len(said) == 1
        assert any(reason in said[0] for reason in nowhere.split("|"))
        assert contents(root) == before and (nowhere.startswith("Not a") or not (root / "decoded").exists())
        assert not (tmp_path / "cache").exists()

    def test_the_users_cache_serves_data_that_cannot_be_written(self, root: Path, opened: list[str]) -> None:
        (root / "decoded").touch()
        assert torch.equal(load(root).images, fresh(root))
        opened.clear()
        load(root)
        assert opened == []

    def test_a_user_without_a_home(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoded, "cache_folder", lambda: Path("~nobody_of_that_name").expanduser())
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
            read = decoding.read_like

            def stop(path: Path, *rest: object) -> Tensor:
                if path.name == "n02_1.JPEG":
                    raise error
                return read(path, *rest)  # type: ignore[arg-type]

            patch.setattr(decoding, "read_like", stop)
            with pytest.raises(type(error)):
                load(root)
        assert contents(root) == before and not (root / "decoded").exists()
        assert torch.equal(load(root).images, fresh(root))

    def test_a_picture_that_cannot_be_read_is_named_and_leaves_the_old_file(self, root: Path) -> None:
        load(root)
        whole = kept(root).read_bytes()
        bad = root / "tiny-imagenet-200" / "train" / "n02" / "images" / "n02_0.JPEG"
        bad.write_bytes(b"broken")
        with pytest.raises(ValueError, match=r"Cannot read .*n02_0\.JPEG as an image"):
            load(root)
        bad.write_bytes(noise(0, side=32))
        with pytest.raises(ValueError, match=r"n01_0\.JPEG is 64×64 and .*n02_0\.JPEG is 32×32.*size="):
            load(root)
        assert [p.name for p in (root / "decoded").iterdir()] == [kept(root).name]
        assert kept(root).read_bytes() == whole

    def test_two_at_once_do_not_meet(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []
        found: list[ImageSet] = []
        decode = decode_all

        def meanwhile(*given: object) -> np.ndarray:
            sums = decode(*given)  # type: ignore[arg-type]
            calls.append(1)
            if len(calls) == 1:
                found.append(load(root))  # another builds the same, and is done before this one is
            return sums

        monkeypatch.setattr(decoded, "decode_all", meanwhile)
        outer = load(root)
        assert torch.equal(outer.images, fresh(root)) and torch.equal(found[0].images, outer.images)
        assert torch.equal(load(root).images, outer.images) and len(calls) == 2
        assert [path.name for path in (root / "decoded").iterdir()] == [kept(root).name]


class TestFile:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path) -> None:
        layout, rng = Layout((3, 3, 5, 7)), np.random.default_rng(0)
        pixels = rng.integers(0, 256, (3, 3, 5, 7), dtype=np.uint8)
        sums = np.array([decoding.checksum(picture) for picture in pixels], np.uint32)
        path = tmp_path / "a.pixels"
        path.write_bytes(b"\0" * layout.pixels + pixels.tobytes())
        write_head(path, layout, "source", sums)
        assert path.stat().st_size == layout.length == 2 * PAGE + pixels.nbytes
        assert np.array_equal(read_pixels(path, "source", 3).numpy(), pixels)
        rows = torch.tensor([2, 0])
        assert np.array_equal(read_pixels(path, "source", 3, rows).numpy(), pixels[[2, 0]])
        for source, count in (("other", 3), ("source", 4)):
            with pytest.raises(UnusableError, match="other files"):
                read_pixels(path, source, count)


@pytest.fixture
def target(root: Path, tmp_path: Path) -> Target:
    """Where the six training pictures go, from byte 10 of a file on."""
    (tmp_path / "file").touch()
    first = root / "tiny-imagenet-200" / "train" / "n01" / "images" / "n01_0.JPEG"
    return Target(tmp_path / "file", 10, first, (3, 64, 64), None)


def trained_on(root: Path) -> list[Path]:
    return sorted((root / "tiny-imagenet-200" / "train").rglob("*.JPEG"))


class TestProcesses:
    def test_what_another_process_does(
        self, root: Path, target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(sys, "stdout", answers := io.StringIO())
        paths = [str(path) for path in trained_on(root)]
        broken = root / "broken.png"
        broken.touch()
        job = {**vars(target), "file": str(target.file), "first": str(target.first)}
        lines = [job, {"row": 2, "paths": paths[2:]}, {"row": 0, "paths": paths[:2]}]
        lines += [{"row": 0, "paths": [str(broken)]}]
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(line) + "\n" for line in lines)))
        serve()
        last, first, unreadable = map(json.loads, answers.getvalue().splitlines())
        pixels = fresh(root).numpy()
        assert target.file.read_bytes()[10:] == pixels.tobytes()
        assert first["sums"] + last["sums"] == [decoding.checksum(picture) for picture in pixels]
        assert "broken.png" in unreadable["unreadable"]

    @pytest.mark.parametrize("python", ["/no/python/here", shutil.which("true") or "/bin/true"])
    def test_where_none_starts_the_work_is_done_here(
        self, root: Path, target: Target, python: str, monkeypatch: pytest.MonkeyPatch, opened: list[str]
    ) -> None:
        monkeypatch.setattr(sys, "executable", python)
        monkeypatch.setattr(decoding, "CHUNK", 2)
        sums = decode_all(target, trained_on(root), 2)
        assert len(opened) == 6
        assert target.file.read_bytes()[10:] == fresh(root).numpy().tobytes()
        assert sums.tolist() == [decoding.checksum(picture) for picture in fresh(root).numpy()]

    def test_answers_become_errors(self, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = decoding.Worker(target)
        for answer, error in (
            ({"unreadable": "Cannot read a.png"}, ValueError),
            ({"unwritable": [errno.ENOSPC, "No space left on device"]}, OSError),
        ):
            monkeypatch.setattr(worker, "_ask", lambda _, answer=answer: answer)
            with pytest.raises(error, match=r"Cannot read|No space"):
                worker.decode(0, [target.first])


@pytest.fixture(scope="module")
def two_thousand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("many")
    grow(root, per_class=667)
    yield root
    shutil.rmtree(root)


@pytest.mark.slow
def test_two_processes_build_what_one_does(
    two_thousand: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(decoded, "KEEP_FROM", 0.0)
    alone = load(two_thousand).images
    assert len(opened) == 2001 + 1
    whole = kept(two_thousand).read_bytes()
    kept(two_thousand).unlink()
    opened.clear()
    monkeypatch.setattr(decoded, "SHARE_FROM", 0.0)
    monkeypatch.setattr(decoded, "processors", lambda: 2)
    shared = load(two_thousand).images
    assert len(opened) == 1, "only the one for its shape: the others were decoded elsewhere"
    assert torch.equal(shared, alone) and kept(two_thousand).read_bytes() == whole
    bad = two_thousand / "tiny-imagenet-200" / "train" / "n03" / "images" / "n03_5.JPEG"
    bad.write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"Cannot read .*n03_5\.JPEG as an image"):
        load(two_thousand)
    assert [path.name for path in (two_thousand / "decoded").iterdir()] == [kept(two_thousand).name]
