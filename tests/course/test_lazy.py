"""What notebooks use: the slider chooses exactly what `select` chooses, pictures lie where the sheet says."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cltools import fit, load_images, preset
from cltools.datasets import ImageSet
from cltools.training import Run
from course import gallery
from course.gallery import COLUMNS, sheet


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return load_images("digits", limit=200)


@pytest.fixture(scope="module")
def run(images: ImageSet) -> Run:
    experiment = preset("digits-potential")
    training = replace(experiment.training, epochs=2, batch=64, queue_size=128, device="cpu")
    return fit(replace(experiment, training=training), images=images)


# Pictures


def pixels_of(style: str) -> np.ndarray:
    source = re.search(r"base64,([^)]+)\)", style)
    assert source
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))


@pytest.mark.parametrize("count", [1, COLUMNS, COLUMNS + 3])
def test_a_tile_shows_its_picture(count: int) -> None:
    images = torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8)
    made = sheet(images, side=10)
    pixels = pixels_of(made.style)
    for place in {0, count // 2, count - 1}:
        found = re.search(r"background-position:-(\d+)px -(\d+)px", made.tile(place, "x"))
        assert found
        left, top = int(found[1]) // 10 * 5, int(found[2]) // 10 * 6
        part = torch.from_numpy(pixels[top : top + 6, left : left + 5].copy()).permute(2, 0, 1)
        assert torch.equal(part, images[place])


def test_a_label_cannot_break_out_of_its_tile() -> None:
    made = sheet(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    assert "<b>" not in made.tile(0, '"><b>') and "&quot;&gt;" in made.tile(0, '"><b>')


def test_a_gallery_takes_bytes_and_floats_and_names_its_rows() -> None:
    bytes_ = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    html = gallery({"pictures": bytes_, "the <same>": bytes_.float() / 255}).data
    assert "the &lt;same&gt;" in html and html.count("<i ") == 4
    pixels = pixels_of(html)
    assert (pixels[:, :8] == pixels[:, 8:16]).all()


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        sheet(torch.zeros(0, 3, 4, 4))
