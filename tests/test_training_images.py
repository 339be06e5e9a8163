"""How the images trained on are recognised: their pixels, ids and labels, in order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from test_training_checkpoint import MOCO, files, made, stopped

from cltools import fit
from cltools.datasets import ImageSet
from cltools.training.inputs import TrainedOn

OTHER_ORDER = "These are the same images in another order."


def of(images: ImageSet) -> TrainedOn:
    return TrainedOn.of(images, given=True)


def renumbered(images: ImageSet) -> ImageSet:
    """The images with ids that count them anew, as a folder listed in another order would have."""
    return replace(images, ids=torch.arange(len(images)))


def with_pixel(images: ImageSet, row: int, value: int) -> ImageSet:
    pixels = images.images.clone()
    pixels[row, 0, 0, 0] ^= value
    return replace(images, images=pixels)


@given(st.integers(0, 47), st.integers(0, 46), st.integers(1, 255))
def test_every_change_is_seen_and_named(row: int, step: int, value: int) -> None:
    images, other = made(48), (row + 1 + step) % 48
    swapped = torch.arange(48)
    swapped[[row, other]] = swapped[[other, row]]
    labels, ids = images.labels.clone(), images.ids.clone()
    labels[row], ids[row] = (labels[row] + 1 + step % 3) % 4, 1000 + value
    for changed, said in (
        (images, ""),
        (images.select(swapped), OTHER_ORDER),
        (renumbered(images.select(swapped)), OTHER_ORDER),
        (with_pixel(images, row, value), "These have other pixels."),
        (replace(images, labels=labels), "These have other labels."),
        (replace(images, ids=ids), "These have other ids."),
        (replace(with_pixel(images, row, value), labels=labels), "These have other pixels and labels."),
        (images.select(slice(0, 47)), "These are 47 images of 'made' (given by images=)."),
    ):
        assert of(images).difference(of(changed)) == said
        assert (of(images) == of(changed)) == (said == "")


def test_one_picture_in_place_of_its_double_is_no_other_order() -> None:
    images = made(8)
    doubled, other = images.images.clone(), images.images.clone()
    doubled[1], other[0] = doubled[0], other[1]
    a, b = (of(replace(images, images=pixels)) for pixels in (doubled, other))
    assert a.difference(b) == "These have other pixels."


def test_equal_images_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    images = made(48)
    np.save(tmp_path / "a.npy", images.images.numpy())
    mapped = torch.from_numpy(np.asarray(np.load(tmp_path / "a.npy", mmap_mode="c")))
    for pixels in (mapped, images.images.contiguous(memory_format=torch.channels_last)):
        assert of(replace(images, images=pixels)) == of(images)


def test_the_shape_counts() -> None:
    images = made(4)
    assert of(images).difference(of(replace(images, images=images.images.view(4, 3, 8, 32)))) != ""


def test_a_run_goes_on_with_the_same_images_in_the_same_order_alone(tmp_path: Path) -> None:
    stopped(MOCO, tmp_path)
    before, images = files(tmp_path), made()
    turned = images.select(torch.arange(len(images)).flip(0))
    others = [
        (turned, OTHER_ORDER),
        (renumbered(turned), "These have other pixels"),  # as other images are held out
        (replace(images, labels=(images.labels + 1) % 4), "These have other labels."),
    ]
    for other, why in others:
        with pytest.raises(ValueError, match=rf"trained on 48 images of 'made'.*{why}.*Resume with the same images"):
            fit(MOCO, images=other, out=tmp_path, resume=True)
    assert files(tmp_path) == before
    run = fit(MOCO, images=images, out=tmp_path, resume=True)
    run.diagnose(images=images)
    for other, why in others:
        with pytest.raises(ValueError, match=f"{why}.*Give the same images in order"):
            run.diagnose(images=other)
