"""The snapshots in `data/snapshots/`: small, whole, comparable, and made by the commands that are written down."""

import re
from pathlib import Path

import numpy as np
import pytest

from cltools.datasets import load_images
from cltools.presets import preset
from cltools.snapshot import load_snapshot
from cltools.snapshot.making import SHIPPED, shipped
from cltools.snapshot.snapshot import tiles_of

ROOT = Path(__file__).parent.parent
IMAGES, METHODS = ("digits", "shapes"), ("moco", "potential")
NAMES = [f"{images}-{method}" for images in IMAGES for method in METHODS]
COMMAND = "python -m cltools snapshot {0} data/snapshots/{0}.npz"

names = pytest.mark.parametrize("name", NAMES)


def test_every_file_is_one_of_the_known() -> None:
    assert [*shipped()] == NAMES
    assert {path.name for path in SHIPPED.iterdir()} == {f"{name}.npz" for name in NAMES}


@names
def test_it_is_small(name: str) -> None:
    snapshot = load_snapshot(name)
    assert shipped()[name].stat().st_size <= 3_000_000
    assert 1000 <= len(snapshot) <= 2000 and snapshot.anchors.shape[2] <= 64
    assert 2 <= len(snapshot.epochs) <= 5 and snapshot.epochs[-1] == snapshot.experiment.training.epochs
    with np.load(shipped()[name], allow_pickle=False) as file:
        assert file["anchors"].dtype == file["keys"].dtype == np.float16


@names
def test_it_was_made_by_the_command_that_is_written_down(name: str) -> None:
    snapshot, command = load_snapshot(name), COMMAND.format(name)
    assert snapshot.command == command and re.fullmatch("[0-9a-f]{10}", snapshot.commit)
    assert snapshot.experiment == preset(name), "the preset has changed since: make snapshots"
    assert command in (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert command.removeprefix("python ") in (ROOT / "Makefile").read_text(encoding="utf-8")


@names
def test_its_maps_are_three_seeds_of_umap_and_pca(name: str) -> None:
    snapshot = load_snapshot(name)
    assert snapshot.map_names == ("UMAP, seed 0", "UMAP, seed 1", "UMAP, seed 2", "PCA")
    assert np.isfinite(snapshot.maps).all() and (snapshot.maps.std(axis=2) > 0).all()
    median = np.median(snapshot.kept, axis=2)
    assert (median[:3] > median[3]).all() and (snapshot.trustworthiness[:3] > snapshot.trustworthiness[3]).all()
    assert (snapshot.kept >= 0).all() and (snapshot.kept <= 1).all()


@names
def test_its_thumbnails_and_labels_are_those_of_its_images(name: str) -> None:
    snapshot, images = load_snapshot(name), load_images(name.partition("-")[0])
    place = {id_: n for n, id_ in enumerate(images.ids.tolist())}
    rows = [place[id_] for id_ in snapshot.ids.tolist()]
    assert snapshot.labels.tolist() == images.labels[rows].tolist() and snapshot.classes == images.classes
    tiles = tiles_of(snapshot.sprite, len(snapshot), snapshot.tile)
    apart = np.abs(tiles.astype(int) - images.images[rows].permute(0, 2, 3, 1).numpy())
    assert len(tiles) == len(snapshot) and apart.mean(axis=(1, 2, 3)).max() < 20, "but for compression"


@pytest.mark.parametrize("images", IMAGES)
def test_those_of_one_image_set_can_be_shown_side_by_side(images: str) -> None:
    one, other = (load_snapshot(f"{images}-{method}") for method in METHODS)
    assert one.ids.tolist() == other.ids.tolist() and one.epochs == other.epochs
    assert one.map_names == other.map_names and one.tile == other.tile and one.sprite == other.sprite
    assert not np.allclose(one.anchors[-1], other.anchors[-1], atol=0.1), "methods differ"


def test_pictures_that_no_decoder_reads_are_refused_in_words() -> None:
    """Whole by its length and sizes, which are all that reading looks at."""
    snapshot = load_snapshot("shapes-moco")
    damaged = snapshot.sprite[:20] + bytes(6) + snapshot.sprite[26:]
    with pytest.raises(ValueError, match=r"The pictures of a snapshot are damaged: .*\. Take it again\."):
        tiles_of(damaged, len(snapshot), snapshot.tile)
