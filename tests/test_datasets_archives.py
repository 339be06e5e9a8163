"""CIFAR and TinyImageNet from small archives built here: what is read, and that nothing of a person's is touched."""

import errno
import hashlib
import http.server
import io
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cltools.datasets import archives, load, load_images
from cltools.datasets.archives import Archive, fetch, obtain, unpack
from cltools.errors import CltoolsError

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make_tar(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return md5(path.read_bytes())


def make_zip(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return md5(path.read_bytes())


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published CIFAR-10 of 10 training and 10 test images, offered under a file address; its archive's path."""
    from torchvision import datasets

    rng = np.random.default_rng(0)
    batches = {
        name: pickle.dumps(
            {"data": rng.integers(0, 256, (10, 3072), dtype=np.uint8), "labels": list(range(9, -1, -1))}, protocol=2
        )
        for name in ("data_batch_1", "test_batch")
    }
    batches["batches.meta"] = pickle.dumps({"label_names": list(NAMES)}, protocol=2)
    store = tmp_path / "server" / "cifar-10-python.tar.gz"
    store.parent.mkdir()
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "tgz_md5", make_tar(store, {f"cifar-10-batches-py/{n}": c for n, c in batches.items()}))
    monkeypatch.setattr(kind, "url", store.as_uri())
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", md5(batches["data_batch_1"])]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5(batches["test_batch"])]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(batches["batches.meta"])})
    return store


class TestCifar:
    def test_downloads_unpacks_and_reads(self, cifar: Path, tmp_path: Path) -> None:
        root = tmp_path / "data"
        images = load_images("cifar10", "test", root=root)
        assert images.images.shape == (10, 3, 32, 32) and images.classes == NAMES
        assert images.labels.tolist() == list(range(9, -1, -1)) and images.split == "test"
        assert sorted(p.name for p in root.iterdir()) == ["cifar-10-batches-py", cifar.name]
        cifar.unlink()  # from now on without the network
        assert torch.equal(load_images("cifar10", "test", root=root, download=False).images, images.images)

    def test_an_archive_already_there_is_unpacked_without_network(self, cifar: Path, tmp_path: Path) -> None:
        root = tmp_path / "data"
        root.mkdir()
        cifar.rename(root / cifar.name)
        assert len(load_images("cifar10", root=root, download=False, limit=4)) == 4

    def test_the_folder_itself_is_no_root(self, cifar: Path, tmp_path: Path) -> None:
        load_images("cifar10", root=tmp_path / "data")
        with pytest.raises(CltoolsError, match=r"cifar-10-batches-py is the image folder itself"):
            load_images("cifar10", root=tmp_path / "data" / "cifar-10-batches-py")

    def test_missing_says_where_it_looked(self, cifar: Path, tmp_path: Path) -> None:
        with pytest.raises(
            FileNotFoundError, match=r"Found neither .*cifar-10-batches-py nor .*tar\.gz.*download=True"
        ):
            load_images("cifar10", root=tmp_path / "data", download=False)

    @pytest.mark.parametrize("damage", ["cut", "altered"])
    def test_damaged_archive_is_named_and_left(self, cifar: Path, tmp_path: Path, damage: str) -> None:
        root = tmp_path / "data"
        root.mkdir()
        whole = cifar.read_bytes()
        (root / cifar.name).write_bytes(whole[:-20] if damage == "cut" else whole[:-1] + b"?")
        before = contents(root)
        with pytest.raises(
            ValueError, match=r"tar\.gz is truncated or altered: expected md5 .* Move it away"
        ) as caught:
            load_images("cifar10", root=root)
        assert md5(whole) in str(caught.value)
        assert contents(root) == before

    def test_damaged_batch_is_named_and_left(self, cifar: Path, tmp_path: Path) -> None:
        root = tmp_path / "data"
        load_images("cifar10", root=root)
        bad = root / "cifar-10-batches-py" / "test_batch"
        bad.write_bytes(bad.read_bytes()[:100])
        before = contents(root)
        with pytest.raises(ValueError, match=r"test_batch is truncated.*Move .*cifar-10-batches-py away"):
            load_images("cifar10", root=root)
        assert contents(root) == before
        bad.unlink()
        with pytest.raises(FileNotFoundError, match=r"test_batch is missing"):
            load_images("cifar10", root=root)

    def test_no_network(self, cifar: Path, tmp_path: Path) -> None:
        cifar.unlink()
        with pytest.raises(ValueError, match=r"Could not download .*'digits' and 'shapes' need no network"):
            load_images("cifar10", root=tmp_path / "data")
        assert not (tmp_path / "data").exists()

    def test_a_folder_tree_comes_first_and_has_the_official_order(self, cifar: Path, tmp_path: Path) -> None:
        for number, name in enumerate(NAMES):
            path = tmp_path / "cifar10" / "train" / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
        images = load_images("cifar10", root=tmp_path)
        assert images.classes == NAMES and images.images[:, 0, 0, 0].tolist() == images.labels.tolist()
        # That tree has no test images: these come from the archive.
        assert load_images("cifar10", "test", root=tmp_path).classes == images.classes
        assert len(load_images("cifar10", "test", root=tmp_path)) == 10

    def test_a_tree_that_lacks_classes(self, cifar: Path, tmp_path: Path) -> None:
        for name in ("cat", "dog"):
            path = tmp_path / "cifar10" / "train" / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(path)
        with pytest.raises(ValueError, match=r"lacks class folders: cifar10 has 10"):
            load_images("cifar10", root=tmp_path)


def jpeg(value: int, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (64, 64), value if mode == "L" else (value,) * 3).save(stream, "JPEG")
    return stream.getvalue()


TINY = {
    "wnids.txt": b"n03\nn01\nn02\n",
    "words.txt": b"n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane, bird\nn09\tunused\n",
    "val/val_annotations.txt": b"val_1.JPEG\tn03\t0\t0\t62\t62\nval_0.JPEG\tn01\t1\t2\t3\t4\n",
    "val/images/val_0.JPEG": jpeg(100),
    "val/images/val_1.JPEG": jpeg(200, "L"),
    "test/images/test_0.JPEG": jpeg(0),
    **{f"train/{n}/images/{n}_{i}.JPEG": jpeg(20 * i + int(n[1:])) for n in ("n01", "n02", "n03") for i in range(2)},
    "train/n01/n01_boxes.txt": b"n01_0.JPEG\t0\t0\t1\t1\n",
}


def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Path:
    store = tmp_path / "server" / "tiny-imagenet-200.zip"
    store.parent.mkdir(exist_ok=True)
    digest = make_zip(store, {f"tiny-imagenet-200/{name}": content for name, content in files.items()})
    monkeypatch.setattr(load, "ARCHIVE", replace(load.ARCHIVE, url=store.as_uri(), md5=digest))
    return tmp_path / "data"


class TestTinyImageNet:
    def test_train_and_validation(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = publish(tmp_path, monkeypatch, TINY)
        train = load_images("tinyimagenet", root=root)
        assert train.images.shape == (6, 3, 64, 64) and train.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert train.classes == ("goldfish", "crane (n02)", "crane (n03)")
        test = load_images("tinyimagenet", "test", root=root, download=False)
        assert test.labels.tolist() == [2, 0] and test.images[:, 0, 0, 0].tolist() == [200, 100]
        val = load_images("tinyimagenet", "val", root=root, download=False)
        assert val.split == test.split == "test" and torch.equal(val.images, test.images)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"wnids.txt": None}, FileNotFoundError, "wnids.txt is missing"),
            ({"val/images/val_0.JPEG": None}, FileNotFoundError, "val_0.JPEG is missing"),
            ({"val/val_annotations.txt": b"val_0.JPEG\n"}, ValueError, "Line 1 of .* names no known class"),
            ({"val/val_annotations.txt": b"val_0.JPEG\tn77\n"}, ValueError, "Line 1 of .* names no known class"),
            ({f"train/n02/images/n02_{i}.JPEG": None for i in range(2)}, FileNotFoundError, "No images in .*n02"),
        ],
    )
    def test_incomplete_tree(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        change: dict[str, bytes | None],
        error: type[Exception],
        message: str,
    ) -> None:
        files = {name: content for name, content in (TINY | change).items() if content is not None}
        root = publish(tmp_path, monkeypatch, files)

        def load() -> None:
            for split in ("train", "test"):
                load_images("tinyimagenet", split, root=root)

        with pytest.raises(error, match=message + r".*Move .*tiny-imagenet-200 away"):
            load()

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
    def test_lists_in_other_encodings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        words = "n01\tpoisson doré\nn02\tgrue\nn03\tcrane\n".encode(encoding)
        wnids = TINY["wnids.txt"].decode().encode(encoding)
        root = publish(tmp_path, monkeypatch, TINY | {"words.txt": words, "wnids.txt": wnids})
        if encoding == "utf-8-sig":
            assert load_images("tinyimagenet", root=root).classes == ("poisson doré", "grue", "crane")
            return
        with pytest.raises(CltoolsError, match=r"(wnids|words)\.txt is not UTF-8 text: .*Move "):
            load_images("tinyimagenet", root=root)

    @pytest.mark.parametrize("form", ["val/{}/{}.JPEG", "val/{}/images/{}.JPEG"])
    def test_validation_images_that_were_sorted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
    ) -> None:
        files = {name: content for name, content in TINY.items() if not name.startswith("val/images")}
        files |= {form.format(wnid, i): jpeg(10 * i) for i, wnid in enumerate(("n02", "n01", "n03", "n01"))}
        test = load_images("tinyimagenet", "test", root=publish(tmp_path, monkeypatch, files))
        assert test.labels.tolist() == [0, 0, 1, 2] and test.images[:, 0, 0, 0].tolist() == [10, 30, 0, 20]
        (tmp_path / "data" / "tiny-imagenet-200" / "val" / "n03").rename(tmp_path / "n03")
        with pytest.raises(FileNotFoundError, match=r"No images in .*val/n03"):
            load_images("tinyimagenet", "test", root=tmp_path / "data")

    def test_truncated_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = publish(tmp_path, monkeypatch, TINY)
        root.mkdir()
        whole = (tmp_path / "server" / "tiny-imagenet-200.zip").read_bytes()
        (root / "tiny-imagenet-200.zip").write_bytes(whole[:1000])
        with pytest.raises(ValueError, match=r"tiny-imagenet-200.zip is truncated or altered"):
            load_images("tinyimagenet", root=root)
        assert contents(root) == {"tiny-imagenet-200.zip": whole[:1000]}


class TestUnpacking:
    @pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/evil", "C:/evil", "..\\evil"])
    @pytest.mark.parametrize("make", [make_tar, make_zip])
    def test_nothing_is_written_outside_the_folder(
        self, tmp_path: Path, make: Callable[[Path, dict[str, bytes]], str], name: str
    ) -> None:
        root = tmp_path / "data"
        root.mkdir()
        archive = Archive("unused:", make(root / "set.bin", {"set/a": b"a", name: b"evil"}), "set.bin", "set")
        try:
            obtain(archive, root, download=False)
            assert "a" in contents(root / "set")
        except ValueError as error:
            assert "cannot be unpacked" in str(error)
        assert all(path in ("set.bin", "set") for path in (p.name for p in root.iterdir()))
        assert [p.name for p in tmp_path.iterdir()] == ["data"] and not Path("/evil").exists()

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_links_and_devices(self, tmp_path: Path, kind: bytes) -> None:
        with tarfile.open(tmp_path / "set.tar", "w") as archive:
            info = tarfile.TarInfo("set/link")
            info.type, info.linkname = kind, "/etc"
            archive.addfile(info)
        with pytest.raises(ValueError, match=r"set\.tar cannot be unpacked"):
            unpack(tmp_path / "set.tar", tmp_path / "set")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["set.tar"]

    def test_no_archive_at_all_and_another_folder(self, tmp_path: Path) -> None:
        (tmp_path / "set.tar").write_bytes(b"just text" * 100)
        with pytest.raises(ValueError, match=r"set\.tar cannot be unpacked"):
            unpack(tmp_path / "set.tar", tmp_path / "set")
        make_tar(tmp_path / "other.tar", {"other/a": b"a"})
        with pytest.raises(ValueError, match=r"does not hold the folder set"):
            unpack(tmp_path / "other.tar", tmp_path / "set")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["other.tar", "set.tar"]


class Server(http.server.ThreadingHTTPServer):
    """Offers one file, and misbehaves as it is told; it notes the ranges that were asked for."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges, self.wrong = content, list[str](), dict[str, Any]()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/set.zip"

    def handle_error(self, *_: object) -> None:
        """Clients hang up as they please."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wrong, body, start = self.server.wrong, self.server.content, 0
        asked = self.headers.get("Range")
        if asked is not None:
            self.server.ranges.append(asked)
            if not wrong.get("whole"):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if "length" not in wrong:
            self.send_header("Content-Length", str(len(body) - start))
        elif wrong["length"] is not None:
            self.send_header("Content-Length", str(wrong["length"]))
        self.end_headers()
        body = body[start:][: wrong.get("after")]
        for at in range(0, len(body), 10_000):
            self.wfile.write(body[at : at + 10_000])
            time.sleep(wrong.get("pause", 0))
        if wrong.get("silent"):
            time.sleep(wrong["silent"])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    content = np.random.default_rng(0).bytes(100_000)
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def of(server: Server) -> Archive:
    return Archive(server.url, md5(server.content), "set.zip", "set")


def obtaining(archive: Archive, root: Path) -> subprocess.Popen[bytes]:
    """A process that downloads and unpacks it."""
    code = f"from cltools.datasets.archives import *; obtain({archive!r}, Path({str(root)!r}), True)"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def refused(server: Server, folder: Path, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fetch(of(server), folder / "set.zip")
    assert not (folder / "set.zip").exists()


class TestGoingOn:
    def test_what_came_is_kept_and_gone_on_with(self, server: Server, tmp_path: Path) -> None:
        for after, kept in ((60_000, 60_000), (30_000, 90_000)):
            server.wrong = {"after": after}
            refused(server, tmp_path, "the connection ended .* before the end.* The partial download is kept")
            (part,) = tmp_path.iterdir()
            assert part.read_bytes() == server.content[:kept]
        server.wrong = {}
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content}
        assert server.ranges == ["bytes=60000-", "bytes=90000-"]

    def test_a_server_that_knows_no_ranges_sends_all_again(self, server: Server, tmp_path: Path) -> None:
        server.wrong = {"after": 60_000}
        refused(server, tmp_path, "the connection ended")
        server.wrong = {"whole": True}
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content} and len(server.ranges) == 1

    @pytest.mark.parametrize("size", [60_000, 100_000, 200_000])
    def test_what_was_of_another_file_is_removed_and_begun_anew(
        self, size: int, server: Server, tmp_path: Path
    ) -> None:
        (tmp_path / "set.zip.part").write_bytes(bytes(size))
        refused(server, tmp_path, "did not arrive intact")
        assert contents(tmp_path) == {}
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content} and len(server.ranges) == 1

    def test_ctrl_c_keeps_what_came(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(archives.tqdm, "update", stop)
            fetch(of(server), tmp_path / "set.zip")
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content} and len(server.ranges) <= 1

    def test_a_part_that_is_whole_is_used(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(archives, "check", lambda *_: (_ for _ in ()).throw(OSError("stopped")))
            refused(server, tmp_path, "stopped.* The partial download is kept")
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content} and server.ranges == ["bytes=100000-"]

    @pytest.mark.slow
    def test_a_kill_keeps_what_came(self, server: Server, tmp_path: Path) -> None:
        server.wrong = {"pause": 0.05}
        for number, before in ((signal.SIGTERM, 0), (signal.SIGKILL, 60_000)):
            process = obtaining(of(server), tmp_path)
            while not any(part.stat().st_size > before for part in tmp_path.glob("*.part")):
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait() == -number
        server.wrong = {}
        with pytest.raises(ValueError, match="cannot be unpacked"):  # it is no archive
            obtain(of(server), tmp_path, True)
        assert contents(tmp_path) == {"set.zip": server.content} and len(server.ranges) == 2

    @pytest.mark.slow
    def test_several_processes_fetch_and_unpack_it_once(self, server: Server, tmp_path: Path) -> None:
        make_zip(tmp_path / "made.zip", {"set/a": np.random.default_rng(1).bytes(50_000)})
        server.content = (tmp_path / "made.zip").read_bytes()
        server.wrong = {"pause": 0.02}
        started = [obtaining(of(server), tmp_path / "data") for _ in range(3)]
        assert [process.wait() for process in started] == [0, 0, 0]
        assert sorted(contents(tmp_path / "data")) == ["set.zip", "set/a"]

    def test_what_a_killed_process_has_unpacked_is_removed(self, tmp_path: Path) -> None:
        left = tmp_path / "set.0a1b2c3d.part"
        (left / "set").mkdir(parents=True)
        archive = Archive("unused:", make_zip(tmp_path / "set.zip", {"set/a": b"a"}), "set.zip", "set")
        obtain(archive, tmp_path, download=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.zip"]


class TestLimits:
    def test_more_than_announced(self, server: Server, tmp_path: Path) -> None:
        server.wrong = {"length": 50_000}
        refused(server, tmp_path, "its 50,000 bytes have")
        assert contents(tmp_path) == {}

    def test_without_a_length(self, server: Server, tmp_path: Path) -> None:
        server.wrong = {"length": None}
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content}

    @pytest.mark.parametrize("length", ["many", 1 << 62])
    def test_a_length_that_cannot_be(self, server: Server, tmp_path: Path, length: object) -> None:
        server.wrong = {"length": length}
        refused(server, tmp_path, "MB are free|invalid literal|did not arrive intact|ended")
        assert sum(map(len, contents(tmp_path).values())) <= len(server.content)

    def test_a_full_disk_is_told(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(source: object, part: Path, have: int) -> None:
            part.write_bytes(server.content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(archives, "append", full)
        refused(server, tmp_path, "No space left on device. The partial download is kept")

    def test_no_byte_for_a_while(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "PATIENCE", 0.2)
        server.wrong = {"after": 40_000, "silent": 2}
        refused(server, tmp_path, "timed out.* The partial download is kept")
        server.wrong = {"pause": 0.05}  # slow, and never silent for long
        fetch(of(server), tmp_path / "set.zip")
        assert contents(tmp_path) == {"set.zip": server.content} and server.ranges == ["bytes=40000-"]


class TestDownload:
    def test_altered_download_leaves_nothing(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"not what was published")
        with pytest.raises(ValueError, match=r"truncated or altered.*did not arrive intact"):
            fetch(Archive(source.as_uri(), md5(b"published"), "set.zip", "set"), tmp_path / "set.zip")
        assert [*contents(tmp_path)] == ["source"]

    def test_what_somebody_puts_there_meanwhile_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, target = tmp_path / "source", tmp_path / "set.zip"
        source.write_bytes(b"new")
        real = archives.check
        monkeypatch.setattr(archives, "check", lambda *given: real(*given) or target.write_bytes(b"old"))
        fetch(Archive(source.as_uri(), md5(b"new"), "set.zip", "set"), target)
        assert contents(tmp_path) == {"set.zip": b"old", "source": b"new"}

    def test_an_archive_that_another_fetches_for_too_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archives, "HOUR", 0)
        code = "import sys\nfrom pathlib import Path\nfrom cltools.datasets.archives import alone\n"
        code += "with alone(Path(sys.argv[1])):\n    print(flush=True)\n    sys.stdin.read()"
        command = [sys.executable, "-c", code, str(tmp_path / "set.zip")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None and other.stdout.readline()
            with pytest.raises(ValueError, match=r"set\.zip is in use by process .* fetching or unpacking set\.zip"):
                fetch(Archive("unused:", "", "set.zip", "set"), tmp_path / "set.zip")

    def test_neither_an_old_part_nor_a_taken_name_is_touched(self, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "set.zip"
        source.write_bytes(b"new")
        target.write_bytes(b"old")
        (tmp_path / "set.zip.part").write_bytes(b"half")
        fetch(Archive(source.as_uri(), md5(b"new"), "set.zip", "set"), target)
        assert contents(tmp_path) == {"set.zip": b"old", "set.zip.part": b"half", "source": b"new"}

    @pytest.mark.parametrize("error", [BadStatusLine("captive portal"), IncompleteRead(b"half")])
    def test_a_broken_reply_is_named(self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def urlopen(request: object, timeout: float) -> None:
            raise error

        monkeypatch.setattr("cltools.datasets.archives.urlopen", urlopen)
        with pytest.raises(ValueError, match=f"Could not download http://nowhere: {type(error).__name__}"):
            fetch(Archive("http://nowhere", "0" * 32, "set.zip", "set"), tmp_path / "set.zip")
        assert contents(tmp_path) == {}
