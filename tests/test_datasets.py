"""`load_images`, `ImageSet`, the register, and the built-in sets that need no network."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from torch import Tensor

from cltools.config import Experiment
from cltools.datasets import DataSettings, ImageSet, data_root, image_sets, load, load_images, split_holdout
from cltools.datasets.built_in import draw_shapes
from cltools.encoders import EncoderSettings, build_encoder
from cltools.errors import CltoolsError
from cltools.evaluation.trained import few_labels
from cltools.interop import mine_pairs
from cltools.snapshot import with_umap


def make(n: int, seed: int = 0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(n) % 3, torch.arange(n) + 100, ("a", "b", "c"), "made", "train")


def same(a: ImageSet, b: ImageSet) -> bool:
    return (
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.ids, b.ids)
        and (a.classes, a.name, a.split) == (b.classes, b.name, b.split)
    )


class TestImageSet:
    def test_select_takes_positions_masks_and_slices(self) -> None:
        images = make(6)
        assert images.select(torch.tensor([4, 1])).ids.tolist() == [104, 101]
        assert images.select(images.labels == 2).ids.tolist() == [102, 105]
        assert images.select(slice(2, 4)).ids.tolist() == [102, 103]

    @given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5))
    def test_subset_is_seeded_ordered_and_without_repeats(self, total: int, n: int, seed: int) -> None:
        part = make(total).subset(n, seed)
        ids = part.ids.tolist()
        assert len(part) == min(n, total) and ids == sorted(set(ids))
        assert same(part, make(total).subset(n, seed))
        assert torch.equal(part.labels, (part.ids - 100) % 3)

    def test_moves_every_tensor(self) -> None:
        moved = make(2).to("meta")
        assert {t.device.type for t in (moved.images, moved.labels, moved.ids)} == {"meta"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"images": torch.zeros(2, 3, 4, 4)}, r"give RGB, uint8 \[N, 3"),
            ({"images": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, r"give RGB, uint8 \[N, 3"),
            ({"labels": torch.zeros(3, dtype=torch.int64)}, "2 images, 3 labels and 2 ids; give one each"),
            ({"labels": torch.zeros(2)}, "labels are torch.float32 .*; give whole numbers"),
            ({"ids": torch.zeros(2, dtype=torch.bool)}, "ids are torch.bool .*; give whole numbers"),
            ({"ids": torch.tensor([5, 5])}, "2 images have 1 ids"),
            ({"labels": torch.tensor([0, 3])}, "labels go up to 3; name each class"),
        ],
    )
    def test_refuses_what_does_not_fit_together(self, change: dict[str, torch.Tensor], message: str) -> None:
        fields = {
            "images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
            "labels": torch.zeros(2, dtype=torch.int64),
            "ids": torch.arange(2),
        }
        with pytest.raises(ValueError, match=message):
            ImageSet(**(fields | change), classes=("a", "b", "c"), name="made", split="train")

    @pytest.mark.parametrize("form", [Tensor.tolist, Tensor.numpy, lambda x: x.to(torch.int32), lambda x: x])
    def test_arrays_and_lists_become_tensors(self, form: Any, unchecked: None) -> None:
        expected = make(3)
        pixels, classes = expected.images.numpy(), np.array(expected.classes)
        made = ImageSet(pixels, form(expected.labels), expected.ids.tolist(), classes, "made", "train")  # type: ignore
        assert same(made, expected) and {*map(type, made.classes)} == {str}
        numbered = replace(expected, classes=(7, 8, 9))  # type: ignore[arg-type]
        assert numbered.classes == ("7", "8", "9"), "evaluation took numbers, and a snapshot did not"

    @pytest.mark.parametrize("change", [{"labels": None}, {"images": "digits"}, {"classes": None}, {"classes": "abc"}])
    def test_what_is_no_array_is_refused_in_words(self, change: dict[str, Any], unchecked: None) -> None:
        with pytest.raises(
            (TypeError, CltoolsError), match=rf"{next(iter(change))} (is not an array|are of type).*[gG]ive a"
        ):
            replace(make(3), **change)

    def test_subset_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"at least 1"):
            make(3).subset(0, 0)


class TestEmbeddedSets:
    @pytest.mark.parametrize(
        ("name", "split", "count", "side", "classes"),
        [
            ("digits", "train", 1297, 16, 10),
            ("digits", "test", 500, 16, 10),
            ("shapes", "train", 4000, 32, 5),
            ("shapes", "test", 1000, 32, 5),
        ],
    )
    def test_counts_and_balance(self, name: str, split: str, count: int, side: int, classes: int) -> None:
        images = load_images(name, split)
        assert images.images.shape == (count, 3, side, side)
        assert (images.name, images.split, len(images.classes)) == (name, split, classes)
        share = torch.bincount(images.labels, minlength=classes) / count
        assert share.max() - share.min() < 0.015
        assert same(images, load_images(name, split))

    def test_splits_of_digits_do_not_overlap(self) -> None:
        train, test = load_images("digits"), load_images("digits", "test")
        assert sorted([*train.ids.tolist(), *test.ids.tolist()]) == list(range(1797))

    def test_digits_are_the_pictures_of_scikit_learn(self) -> None:
        from sklearn.datasets import load_digits

        source, test = load_digits(), load_images("digits", "test")
        assert torch.equal(test.labels, torch.from_numpy(source.target)[test.ids])
        small = torch.nn.functional.avg_pool2d(test.images[:, :1].float(), 2)[:, 0].flatten(1)
        original = torch.from_numpy(source.images).float()[test.ids].flatten(1)
        assert torch.corrcoef(torch.stack([small.flatten(), original.flatten()]))[0, 1] > 0.95

    def test_shapes_have_no_shortcut_and_no_repeats(self) -> None:
        train, test = load_images("shapes"), load_images("shapes", "test")
        both = torch.cat([train.images, test.images]).flatten(1)
        assert len(both.unique(dim=0)) == len(both)
        # A nearest centroid on mean colour must be near chance: class lies in the figure alone.
        colour = [images.images.float().mean((2, 3)) for images in (train, test)]
        centres = torch.stack([colour[0][train.labels == label].mean(0) for label in range(5)])
        guess = torch.cdist(colour[1], centres).argmin(1)
        assert (guess == test.labels).float().mean() < 0.45

    def test_shapes_follow_the_generator(self) -> None:
        labels = torch.tensor([0, 1, 2, 3, 4])
        a, b, c = (draw_shapes(labels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert torch.equal(a, b) and not torch.equal(a, c)


class TestLoadImages:
    def test_limit_takes_the_same_random_part_each_time(self) -> None:
        part = load_images("shapes", limit=300)
        assert len(part) == 300 and same(part, load_images("shapes", limit=300))
        assert same(part, load_images("shapes").subset(300))
        assert len(load_images("digits", "test", limit=10_000)) == 500

    def test_size_scales(self) -> None:
        large = load_images("digits", "test", limit=20, size=24)
        assert large.images.shape == (20, 3, 24, 24) and large.images.dtype == torch.uint8

    @pytest.mark.parametrize("name", ["cifar-10", "cifar01", "Cifar10"])
    def test_unknown_name_is_answered_with_the_nearest(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"Unknown image set .*cifar10"):
            load_images(name)

    def test_unlike_any_name_lists_all(self) -> None:
        with pytest.raises(ValueError, match=", ".join(sorted(image_sets()))):
            load_images("qqqqqq")

    @pytest.mark.parametrize("split", ["val", "Train"])
    def test_unknown_split(self, split: str) -> None:
        with pytest.raises(ValueError, match=r"splits 'train' and 'test'.*holdout"):
            load_images("digits", split)

    @pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": -3}, {"size": 0}, {"holdout": 1.0}, {"holdout": -0.1}])
    def test_settings_out_of_range(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DataSettings(**wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize("size", [-1, 1, 4097, 20_000])
    def test_arguments_out_of_range(self, tmp_path: Path, size: int) -> None:
        for name in ("digits", str(tmp_path)):
            with pytest.raises(
                CltoolsError, match=rf"size is {size}; it must be a whole number from 2 to 4096, or None"
            ):
                load_images(name, size=size)

    def test_the_largest_size(self) -> None:
        assert DataSettings(size=4096).size == 4096

    def test_paths_of_any_kind(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
        for path in (tmp_path, str(tmp_path), os.fsencode(tmp_path)):
            assert load_images(path, root=path).name == str(tmp_path)
        with pytest.raises(CltoolsError, match="Unknown image set 'cifar'"):
            load_images(b"cifar")

    @pytest.mark.parametrize("by", ["root", "variable"])
    @pytest.mark.parametrize("name", ["cifar10", "tinyimagenet"])
    def test_a_root_that_is_a_file_or_may_not_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, by: str
    ) -> None:
        root = tmp_path / "data"
        monkeypatch.setenv("CLTOOLS_DATA", str(root if by == "variable" else tmp_path))
        given = str(root) if by == "root" else None
        root.touch()
        with pytest.raises(CltoolsError, match=r"data is not a readable folder.*root=.*CLTOOLS_DATA"):
            load_images(name, root=given)
        root.unlink()
        root.mkdir()
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(CltoolsError, match=r"data is not a readable folder"):
            load_images(name, root=given)
        assert [*root.iterdir()] == []

    def test_an_empty_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLTOOLS_DATA", "")
        assert data_root().name == "data"
        with pytest.raises(CltoolsError, match="root is empty, perhaps from an unset shell variable"):
            load_images("cifar10", root="")
        with pytest.raises(CltoolsError, match="Unknown image set ''"):
            load_images("")

    def test_a_folder_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "cat").mkdir()
        real = os.scandir

        def denied(path: Path) -> object:
            if path.name == "cat":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", denied)
        with pytest.raises(OSError, match=r"Permission denied: .*cat'"):
            load_images(str(tmp_path))

    def test_root_is_the_argument_then_the_variable_then_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLTOOLS_DATA", "elsewhere")
        assert str(data_root("given")) == "given"
        assert str(data_root()) == "elsewhere"
        monkeypatch.delenv("CLTOOLS_DATA")
        assert data_root().name == "data"


class TestHoldout:
    @given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(0, 9))
    def test_parts_the_images_by_seed_and_id(self, n: int, share: float, seed: int) -> None:
        if not 0 < round(share * n) < n:
            return
        train, val = split_holdout(make(n), share, seed)
        assert len(val) == round(share * n) and (train.split, val.split) == ("train", "val")
        assert sorted([*train.ids.tolist(), *val.ids.tolist()]) == make(n).ids.tolist()
        shuffled = make(n).select(torch.randperm(n, generator=torch.Generator().manual_seed(seed)))
        again = split_holdout(shuffled, share, seed)[1]
        assert sorted(again.ids.tolist()) == val.ids.tolist()

    def test_does_not_depend_on_labels(self) -> None:
        images = make(40)
        other = ImageSet(images.images, torch.full((40,), -1), images.ids, (), "made", "train")
        assert torch.equal(split_holdout(images, 0.25, 3)[1].ids, split_holdout(other, 0.25, 3)[1].ids)

    def test_share_of_zero_keeps_everything(self) -> None:
        train, val = split_holdout(make(5), 0.0, 0)
        assert len(train) == 5 and len(val) == 0 and val.split == "val"

    @pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, 0.01, 0.99])
    def test_refuses_a_share_that_leaves_one_side_empty(self, share: float) -> None:
        with pytest.raises(ValueError, match=r"holdout"):
            split_holdout(make(5), share, 0)


@pytest.mark.parametrize("seed", [10**30, 2**32, -1, True, 2.5, "a", None])
def test_what_is_no_seed_is_refused_in_words(seed: Any, unchecked: None) -> None:
    z = torch.eye(3)
    for draws in (
        lambda: make(9).subset(3, seed),
        lambda: split_holdout(make(9), 0.3, seed),
        lambda: mine_pairs(z, z, z, negatives=1, seed=seed),
        lambda: build_encoder(EncoderSettings("tiny"), None, seed=seed),
        lambda: few_labels([0, 1], 0.5, seed),
        lambda: with_umap(None, [seed]),  # type: ignore[arg-type]
        lambda: Experiment(seed=seed),
    ):
        with pytest.raises(CltoolsError, match=r"seed.* is .*; it must be a whole number from 0 to 2|is too large"):
            draws()


def test_a_seed_may_be_of_any_library(unchecked: None) -> None:
    for seed in (np.int64(5), torch.tensor(5), np.uint32(5)):
        assert same(make(9).subset(3, seed), make(9).subset(3, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [2.5, "a", True, 0, None])
def test_what_is_no_number_of_images_is_refused_in_words(n: Any, unchecked: None) -> None:
    with pytest.raises(CltoolsError, match=r"number of images to take is .*; it must be a whole number of at least 1"):
        make(9).subset(n)


def test_names_and_roots_are_texts_or_bytes(tmp_path: Path, unchecked: None) -> None:
    assert DataSettings(name=b"digits", root=os.fsencode(tmp_path)) == DataSettings("digits", str(tmp_path))  # type: ignore[arg-type]
    assert load_images(b"digits", root=b"data", limit=3).name == "digits"
    assert data_root(b"here") == Path("here")  # type: ignore[arg-type]
    for wrong in (3, None):
        with pytest.raises(CltoolsError, match=r"DataSettings: name is .*; give a text"):
            load_images(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 65283817472 bytes."),
            "65.3 GB",
        ),
        (MemoryError("Unable to allocate 60.8 GiB for an array"), "60.8 GiB"),
    ],
)
def test_how_much_memory_images_would_take_is_said(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def resize(images: Tensor, size: int) -> Tensor:
        raise error

    monkeypatch.setattr(load, "resize", resize)
    with pytest.raises(CltoolsError, match=f"images of digits would take {told} of memory.*smaller size, or a limit"):
        load_images("digits", size=4096)
