"""From picture files to pixels: formats and modes, and threads that keep the order."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from cltools.datasets import decoding
from cltools.datasets.decoding import decode, kinds, read_image, read_images, resize
from cltools.errors import CltoolsError


def noise(height: int = 33, width: int = 47, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


class TestFormats:
    def test_sixteen_bit_grayscale_is_scaled(self, tmp_path: Path) -> None:
        values = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").tolist() == [[[0, 0, 1, 255]]] * 3

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("a.png", np.array([[0, 3, 252]], np.uint16)),
            ("a.tif", np.array([[0, 3, 252]], np.int32)),
            ("a.tif", np.array([[0, 65536]], np.int32)),
            ("a.tif", np.array([[-1, 30_000]], np.int32)),
        ],
    )
    def test_numbers_that_do_not_use_sixteen_bits_are_refused(
        self, name: str, values: np.ndarray, tmp_path: Path
    ) -> None:
        """They became black pictures."""
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(CltoolsError, match=rf"go from {values.min()} to {values.max()}.*save it with 8 bits"):
            read_image(tmp_path / name)
        Image.fromarray(0 * values).save(tmp_path / name)
        assert not read_image(tmp_path / name).any(), "a black picture is one"

    def test_eight_bit_grayscale_and_black_and_white(self, tmp_path: Path) -> None:
        Image.new("L", (2, 2), 77).save(tmp_path / "gray.png")
        Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
        assert read_image(tmp_path / "gray.png").unique().tolist() == [77]
        assert read_image(tmp_path / "bits.png").unique().tolist() == [255]

    def test_palette(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4), (9, 99, 199)).quantize(4).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [9, 99, 199]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
    def test_transparent_becomes_white(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "a.png"
        if mode in ("RGBA", "LA"):
            Image.new(mode, (2, 2), (200, 0, 0, 0) if mode == "RGBA" else (0, 0)).save(path)
        else:
            Image.new(mode, (2, 2)).save(path, transparency=0 if mode == "P" else (0, 0, 0))
        assert (read_image(path) == 255).all()

    @pytest.mark.parametrize(("ending", "note"), [("png", "exif"), ("jpg", "exif"), ("jpg", "xmp")])
    def test_orientation_is_applied(self, tmp_path: Path, ending: str, note: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: shown upright after a quarter turn
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        path = tmp_path / f"a.{ending}"
        noise(4, 8).save(path, **({"exif": exif} if note == "exif" else {"xmp": xmp}))
        assert read_image(path).shape == (3, 8, 4)

    def test_floating_point_is_refused_by_name(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"floating-point"):
            read_image(tmp_path / "a.tif")

    @pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8), (5, 9), (31, 7)])
    def test_resize_scales_the_shorter_side_and_cuts_the_centre(self, height: int, width: int) -> None:
        ramp = torch.linspace(0, 255, width).round().to(torch.uint8).expand(1, 3, height, width).contiguous()
        small = resize(ramp, 4)
        assert small.shape == (1, 3, 4, 4)
        middle = small.float().mean() - ramp.float().mean()
        assert middle.abs() < 255 / width


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Small pictures for several blocks, one more than fill them."""
    paths = [tmp_path / f"{n:04}.jpg" for n in range(decoding.BLOCK * 6 + 1)]
    for n, path in enumerate(paths):
        path.write_bytes(encoded(Image.new("RGB", (8, 8), (n % 256, n // 256, 0)), "JPEG", quality=100, subsampling=0))
    return paths


class TestThreads:
    def test_the_order_is_kept(self, many: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        right = torch.stack([read_image(path) for path in many])
        monkeypatch.setattr(decoding, "usable_processors", lambda: 4)
        monkeypatch.setattr(decoding, "LARGE", 0)
        assert torch.equal(read_images(many)[0], right)

    def test_blocks_are_smaller_where_pictures_are_large(
        self, many: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decoding, "BLOCK_BYTES", 3 * 8 * 8 * 5 + 1)
        assert {len(block) for block in list(decode(many, None, False, {}))[:-1]} == {5}

    def test_after_an_error_and_for_a_reader_that_stops_the_rest_is_left(
        self, many: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[Path] = []
        monkeypatch.setattr(decoding, "read_image", lambda path, size: opened.append(path) or read_image(path))
        blocks = decode(many, None, False, {})
        next(blocks)
        blocks.close()
        assert len(opened) <= 1 + 4 * decoding.BLOCK
        many[0].write_bytes(b"broken")
        with pytest.raises(ValueError, match=r"1 of 385 images:\n.*0000\.jpg: cannot identify image file\n"):
            read_images(many)
        many[1].write_bytes(encoded(noise(8, 9), "JPEG"))
        with pytest.raises(ValueError, match=r"0002\.jpg is 8×8 and .*0001\.jpg is 9×8"):
            read_images(many[2:] + many[1:2])


PEAK = """
import resource, sys
from pathlib import Path
from PIL import Image
from cltools.datasets.decoding import read_images

folder, size = Path(sys.argv[1]), int(sys.argv[2])
read_images([folder / "small.png"], size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(folder.iterdir()):
    try:
        print(path.name, *read_images([path], size)[0].shape)
    except ValueError as error:
        print(path.name, "more than 25,000,000 pixels" in str(error))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
MADE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from PIL import Image

folder = Path(sys.argv[1])
Image.new("RGB", (40, 30)).save(folder / "small.png")
Image.new("RGB", (30_000, 1)).save(folder / "long.png")
Image.new("L", (13_000, 13_000)).save(folder / "square.png")
Image.new("L", (13_000, 13_000)).save(folder / "square.jpg")
Image.new("L", (6_000, 6_000)).save(folder / "progressive.jpg", progressive=True)
Image.new("L", (20_000, 20_000)).save(folder / "larger.png")
Image.new("LA", (5_000, 5_000)).save(folder / "transparent.png")
"""


@pytest.mark.slow
def test_one_picture_takes_a_few_hundred_megabytes_at_most(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", MADE, str(tmp_path)], check=True)
    run = [sys.executable, "-W", "error::PIL.Image.DecompressionBombWarning", "-c", PEAK, str(tmp_path), "64"]
    *said, peak = subprocess.run(run, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    assert said == [
        "larger.png True", "long.png 1 3 64 64", "progressive.jpg True", "small.png 1 3 64 64",
        "square.jpg 1 3 64 64", "square.png True", "transparent.png 1 3 64 64",
    ]  # fmt: skip
    assert int(peak) < 500


@given(st.integers(1, 12), st.integers(1, 400), st.integers(2, 9))
def test_of_a_long_picture_the_middle_alone_is_scaled(short: int, long: int, size: int) -> None:
    for height, width in ((short, long), (long, short)):
        picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, height, width), dtype=np.uint8))
        small, most = resize(picture, size), decoding.LONGEST * min(height, width)
        top, left = max(0, (height - most) // 2), max(0, (width - most) // 2)
        assert small.shape == (1, 3, size, size)
        assert torch.equal(small, resize(picture[:, :, top : top + most, left : left + most], size))


def test_a_large_jpeg_is_scaled_while_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(400, 600)
    picture.save(tmp_path / "a.jpg", quality=95)
    picture.save(tmp_path / "a.png")
    whole = read_image(tmp_path / "a.jpg", 32)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 30_000)
    part = read_image(tmp_path / "a.jpg", 32)
    assert part.shape == whole.shape and (part.int() - whole.int()).abs().float().mean() < 4
    for path, size in ((tmp_path / "a.jpg", None), (tmp_path / "a.jpg", 200), (tmp_path / "a.png", 32)):
        with pytest.raises(ValueError, match="pixels; scale it down"):
            read_image(path, size)


def test_a_progressive_jpeg_is_not_scaled_while_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(400, 600).save(tmp_path / "p.jpg", progressive=True)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 30_000)
    with pytest.raises(CltoolsError, match="load a JPEG, not a progressive one, with a size"):
        read_image(tmp_path / "p.jpg", 32)


def test_a_picture_that_pillow_takes_for_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise(400, 600).save(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    assert read_image(tmp_path / "a.jpg").shape == (3, 400, 600)  # a warning of Pillow's, which is not shown
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(CltoolsError, match="pixels; scale it down"):
        read_image(tmp_path / "a.jpg", 32)


def test_kinds_are_those_of_pictures() -> None:
    assert {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".webp", ".ppm", ".pgm", ".pbm"} <= kinds().keys()
    assert not {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".wmf", ".fits", ".grib"} & kinds().keys()


@pytest.mark.parametrize(
    "content", [b"%PDF-1.4\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\0\0\1\xb3"]
)
def test_what_is_named_like_a_picture_is_opened_as_one_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="cannot identify image file"):
        read_image(tmp_path / "a.png")


def test_too_little_memory_is_no_fault_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    noise().save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "to_rgb", full)
    with pytest.raises(MemoryError):
        read_images([tmp_path / "a.png"], skip_bad=True)


def test_lack_of_memory_is_not_put_down_to_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object, **__: object) -> None:
        raise RuntimeError("not enough memory")

    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    monkeypatch.setattr(torch.nn.functional, "interpolate", short)
    with pytest.raises(RuntimeError, match=r"^not enough memory"):
        read_image(tmp_path / "0.png", 4)
