"""Published figures: each with its source, and what is said of them elsewhere."""

import pytest

from cltools.datasets import image_sets
from cltools.reports.published import LABORATORY, PUBLISHED

IMAGE_SETS = ("cifar10", "cifar100", "tinyimagenet")
PAPER = "arXiv:2311.00358, abstract"


def test_the_paper_says_one_figure_an_image_set_and_no_protocol() -> None:
    paper = [row for row in PUBLISHED if row.source == PAPER]
    assert [(row.images, row.unknown) for row in paper] == [
        ("cifar10", 88.57), ("cifar100", 61.10), ("tinyimagenet", 36.69),
    ]  # fmt: skip
    for row in paper:
        assert row.knn200 is None and row.linear is None and row.epochs is None and row.backbone == ""


@pytest.mark.parametrize("images", IMAGE_SETS)
def test_the_laboratory_has_eleven_rows_an_image_set(images: str) -> None:
    rows = [row for row in PUBLISHED if row.images == images and row.source == LABORATORY]
    assert len(rows) == len({row.method for row in rows}) == 11
    for row in rows:
        assert row.knn200 is not None and row.linear is not None and row.knn200 < row.linear < 100
        assert (row.unknown, row.epochs, row.backbone) == (None, 200, "ResNet-18")


def test_two_figures_of_each_image_set_stand_where_the_source_has_them() -> None:
    of = {(row.method, row.images): (row.knn200, row.linear) for row in PUBLISHED}
    assert of["MoCoV2", "cifar10"] == (88.05, 89.70) and of["UnMix", "cifar10"] == (87.99, 90.37)
    assert of["SNCLR, k = 5", "cifar100"] == (58.57, 65.45) and of["NNCLR, k = 1", "cifar100"] == (50.99, 60.53)
    assert of["SCE", "tinyimagenet"] == (40.66, 48.63) and of["MSF, k = 5", "tinyimagenet"] == (34.79, 42.52)


def test_every_row_is_of_images_we_have_and_has_a_source() -> None:
    assert {row.images for row in PUBLISHED} == set(IMAGE_SETS) <= set(image_sets())
    assert {row.source for row in PUBLISHED} == {PAPER, LABORATORY} and "80dd398" in LABORATORY
