"""From picture files to pixels: formats and modes, and threads that keep the order."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cltools.datasets import decoding
from cltools.datasets.decoding import decode, read_picture, read_pictures, resize


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
        assert read_picture(tmp_path / "a.png").tolist() == [[[0, 0, 1, 255]]] * 3

    def test_eight_bit_grayscale_and_black_and_white(self, tmp_path: Path) -> None:
        Image.new("L", (2, 2), 77).save(tmp_path / "gray.png")
        Image.new("1", (2, 2), 1).save(tmp_path / "bits.png")
        assert read_picture(tmp_path / "gray.png").unique().tolist() == [77]
        assert read_picture(tmp_path / "bits.png").unique().tolist() == [255]

    def test_palette(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4), (9, 99, 199)).quantize(4).save(tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png")[:, 0, 0].tolist() == [9, 99, 199]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
    def test_transparent_becomes_white(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "a.png"
        if mode in ("RGBA", "LA"):
            Image.new(mode, (2, 2), (200, 0, 0, 0) if mode == "RGBA" else (0, 0)).save(path)
        else:
            Image.new(mode, (2, 2)).save(path, transparency=0 if mode == "P" else (0, 0, 0))
        assert (read_picture(path) == 255).all()

    @pytest.mark.parametrize(("ending", "note"), [("png", "exif"), ("jpg", "exif"), ("jpg", "xmp")])
    def test_orientation_is_applied(self, tmp_path: Path, ending: str, note: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned: shown upright after a quarter turn
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        path = tmp_path / f"a.{ending}"
        noise(4, 8).save(path, **({"exif": exif} if note == "exif" else {"xmp": xmp}))
        assert read_picture(path).shape == (3, 8, 4)

    def test_floating_point_is_refused_by_name(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(ValueError, match=r"floating-point"):
            read_picture(tmp_path / "a.tif")

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
        right = torch.stack([read_picture(path) for path in many])
        monkeypatch.setattr(decoding, "usable_processors", lambda: 4)
        monkeypatch.setattr(decoding, "LARGE", 0)
        assert torch.equal(read_pictures(many)[0], right)

    def test_blocks_are_smaller_where_pictures_are_large(
        self, many: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(decoding, "BLOCK_BYTES", 3 * 8 * 8 * 5 + 1)
        assert {len(block) for block in list(decode(many, None, False, []))[:-1]} == {5}

    def test_after_an_error_and_for_a_reader_that_stops_the_rest_is_left(
        self, many: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[Path] = []
        monkeypatch.setattr(decoding, "read_picture", lambda path, size: opened.append(path) or read_picture(path))
        blocks = decode(many, None, False, [])
        next(blocks)
        blocks.close()
        assert len(opened) <= 1 + 4 * decoding.BLOCK
        many[0].write_bytes(b"broken")
        with pytest.raises(ValueError, match=r"1 of 385 images:\n.*0000\.jpg: cannot identify image file\n"):
            read_pictures(many)
        many[1].write_bytes(encoded(noise(8, 9), "JPEG"))
        with pytest.raises(ValueError, match=r"0002\.jpg is 8×8 and .*0001\.jpg is 9×8"):
            read_pictures(many[2:] + many[1:2])
