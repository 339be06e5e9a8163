"""Snapshots: what is taken, what comes back from a file, maps that keep their place, thumbnails."""

import io
import json
import re
import sys
from collections.abc import Callable
from copy import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from jaxtyping import TypeCheckError
from numpy import ndarray
from sklearn.manifold import trustworthiness

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import ImageSet, load_images
from cltools.encoders import EncoderSettings
from cltools.errors import CltoolsError
from cltools.mining import Band, NearestKeys, RankBand, select
from cltools.presets import preset
from cltools.snapshot import Recorder, Snapshot, load_snapshot, making, maps, take_snapshot, with_map, with_umap
from cltools.snapshot.snapshot import as_sprite, tiles_of
from cltools.training import Run, fit

quick = settings(deadline=None, derandomize=True, max_examples=30)


def unit(rows: int, dim: int = 8, seed: int = 0, groups: int = 4) -> ndarray:
    """Unit vectors in a few groups."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, dim))
    points = centres[np.arange(rows) % groups] + 0.4 * generator.normal(size=(rows, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


# --- neighbours and maps


@quick
@given(seed=st.integers(0, 10**6), rows=st.integers(2, 40), k=st.integers(1, 10), twins=st.booleans())
def test_the_nearest_are_those_of_a_loop_without_the_point_itself(seed: int, rows: int, k: int, twins: bool) -> None:
    points = unit(rows, 3, seed)
    if twins:
        points[rows // 2] = points[0]
    k = min(k, rows - 1)
    index, distance = maps.nearest(points, k, np.arange(rows))
    for i in range(rows):
        apart = sorted(float(np.linalg.norm(points[i] - points[j])) for j in range(rows) if j != i)
        assert i not in index[i] and len({*index[i]}) == k
        assert distance[i] == pytest.approx(apart[:k], abs=1e-3)


@quick
@given(seed=st.integers(0, 10**6), rows=st.integers(3, 60))
def test_trustworthiness_is_that_of_sklearn(seed: int, rows: int) -> None:
    points, place = unit(rows, 5, seed), unit(rows, 2, seed + 1)
    expected = trustworthiness(points, place, n_neighbors=min(15, (rows - 1) // 2), metric="cosine")
    assert maps.judged(points[None], place[None, None])["trustworthiness"] == pytest.approx(expected, abs=1e-6)


def trusted(points: ndarray, place: ndarray, k: int, rows: ndarray) -> float:
    """Trustworthiness by a loop over rows and over their neighbours on the map."""
    apart, excess = np.linalg.norm(place[:, None] - place, axis=2), 0
    for i in rows:
        others = [j for j in range(len(points)) if j != i]
        cosine = {j: float(points[i].astype(float) @ points[j]) for j in others}
        for j in sorted(others, key=lambda j: apart[i, j])[:k]:
            excess += max(0, 1 + sum(cosine[other] > cosine[j] for other in others) - k)
    return 1 - excess * 2 / (len(rows) * k * (2 * len(points) - 3 * k - 1))


@quick
@given(seed=st.integers(0, 10**6), rows=st.integers(3, 40), dim=st.integers(1, 4))
def test_equal_points_share_the_best_of_their_ranks(seed: int, rows: int, dim: int) -> None:
    generator = np.random.default_rng(seed)
    points = np.eye(dim, dtype=np.float32)[generator.integers(dim, size=rows)]  # cosines are exactly 0 or 1
    place, k = generator.normal(size=(rows, 2)).astype(np.float32), min(15, (rows - 1) // 2)
    found = maps.judged(points[None], place[None, None])["trustworthiness"][0, 0]
    assert found == pytest.approx(trusted(points, place, k, np.arange(rows)), abs=1e-6)
    assert found >= trustworthiness(points, place, n_neighbors=k, metric="cosine") - 1e-6


def test_of_many_points_some_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    points = unit(200)
    place = maps.pca(points)
    _, whole, _ = maps.judged(points[None], place[None, None]).values()
    monkeypatch.setattr(maps, "ALL_JUDGED", 199)
    monkeypatch.setattr(maps, "JUDGED", 50)
    _, part, trust = maps.judged(points[None], place[None, None]).values()
    drawn = np.random.default_rng(0).permutation(200)[:50]
    assert np.array_equal(part[0, 0, drawn], whole[0, 0, drawn]) and np.isnan(part).sum() == 150
    assert trust[0, 0] == pytest.approx(trusted(points, place, 15, drawn), abs=1e-6), "neighbours are any points"


def test_pca_is_the_directions_of_most_spread() -> None:
    generator = np.random.default_rng(0)
    points = (generator.normal(size=(200, 5)) * [3, 0.1, 2, 0.1, 0.1]).astype(np.float32)
    place = maps.pca(points)
    assert abs(np.corrcoef(place[:, 0], points[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(place[:, 1], points[:, 2])[0, 1]) > 0.99
    assert np.array_equal(place, maps.pca(points))


@quick
@given(seed=st.integers(0, 10**6), turn=st.floats(0, 6.28), mirror=st.booleans(), scale=st.floats(0.1, 10))
def test_alignment_undoes_a_turn_a_mirror_a_scale_and_a_shift(
    seed: int, turn: float, mirror: bool, scale: float
) -> None:
    reference = np.random.default_rng(seed).normal(size=(30, 2)).astype(np.float32)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirror:
        rotation = rotation @ np.diag([1, -1])
    moved = (scale * reference @ rotation + [5, -3]).astype(np.float32)
    assert maps.aligned(moved, reference) == pytest.approx(reference, abs=1e-4)


def test_alignment_moves_no_point_against_another() -> None:
    points, reference = unit(20, 2, 1), unit(20, 2, 2)
    found = maps.aligned(points, reference)
    before = np.linalg.norm(points[:, None] - points, axis=2)
    after = np.linalg.norm(found[:, None] - found, axis=2)
    scale = after.sum() / before.sum()
    assert after == pytest.approx(scale * before, abs=1e-4)
    assert ((found - reference) ** 2).sum() <= ((points - reference) ** 2).sum()


@pytest.mark.slow
def test_an_epochs_map_lies_where_the_one_before_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings that hardly change give maps that hardly move, though umap scales and places its result anew."""
    first = unit(600, seed=3)
    second = first + 0.02 * np.random.default_rng(1).normal(size=first.shape).astype(np.float32)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    both = np.stack([first, second])
    found = {seed: np.stack([*maps.umap_over_epochs(both, seed)]) for seed in (0, 1)}
    found[2] = maps.pca_over_epochs(both)
    for one, two in found.values():
        assert np.median(np.linalg.norm(one - two, axis=1)) < 0.3 * one.std()
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path))
    assert np.array_equal(found[0], np.stack([*maps.umap_over_epochs(both, 0)])), "a seed repeats it"
    assert not np.array_equal(found[0], found[1])


@pytest.mark.slow
def test_few_rows_have_maps_by_umap() -> None:
    places = [*maps.umap_over_epochs(unit(3)[None], 0)]
    assert len(places) == 1 and places[0].shape == (3, 2) and np.isfinite(places).all()


@pytest.mark.slow
def test_a_map_keeps_the_groups_together() -> None:
    points = unit(120, seed=3)
    place = maps.umap(points, maps.pca(points), 0, None, maps.NEIGHBOURS, maps.MIN_DIST)
    assert maps.judged(points[None], place[None, None])["kept"].mean() > 3 * 15 / 119, "far more than chance"


def test_kept_neighbours_agree_with_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    points, place = unit(40, 5), unit(40, 2, seed=9)
    monkeypatch.setattr(maps, "NEIGHBOURS", 6)
    found = maps.judged(points[None], place[None, None])["kept"][0, 0]
    for i in range(40):
        true = sorted((j for j in range(40) if j != i), key=lambda j: -float(points[i] @ points[j]))[:6]
        shown = sorted((j for j in range(40) if j != i), key=lambda j: float(np.linalg.norm(place[i] - place[j])))[:6]
        assert found[i] == pytest.approx(len({*true} & {*shown}) / 6)


def test_a_map_that_is_the_truth_keeps_all_and_is_trusted() -> None:
    angle = np.random.default_rng(0).uniform(0, 1, 90)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(90, 2)).astype(np.float32)
    _, kept, trust = maps.judged(np.stack([points, points]), np.stack([[points, noise], [noise, points]])).values()
    assert kept.shape == (2, 2, 90) and trust.shape == (2, 2)
    assert kept.mean(2)[[0, 1], [0, 1]] == pytest.approx(1, abs=0.02) and trust[[0, 1], [0, 1]] == pytest.approx(1)
    chance = 15 / 89
    assert kept.mean(2)[[0, 1], [1, 0]] == pytest.approx(chance, abs=0.05) and (trust[[0, 1], [1, 0]] < 0.6).all()


@pytest.mark.parametrize("rows", [3, 4, 16, 30, 31, 32])
def test_few_points_are_judged_by_fewer_neighbours(rows: int) -> None:
    points = unit(rows)
    _, kept, trust = maps.judged(points[None], maps.pca(points)[None, None]).values()
    assert ((kept >= 0) & (kept <= 1)).all() and ((trust >= 0) & (trust <= 1)).all()
    if rows <= 16:
        assert (kept == 1).all(), "all others are neighbours"


# --- thumbnails


@pytest.mark.parametrize("count", [1, 2, 9, 10, 17])
def test_thumbnails_come_back_in_their_order(count: int) -> None:
    generator = np.random.default_rng(count)
    colours = generator.integers(0, 256, (count, 3, 1, 1), dtype=np.uint8)
    images = np.broadcast_to(colours, (count, 3, 16, 16)).copy()
    tiles = tiles_of(as_sprite(images), count, (16, 16))
    assert tiles.shape == (count, 16, 16, 3)
    inner = tiles[:, 4:12, 4:12].astype(int) - colours.transpose(0, 2, 3, 1)
    assert np.abs(inner).max() < 40, "but for compression"


# --- taking


def asked(**training: Any) -> Experiment:
    given_ = {"epochs": 3, "batch": 64, "queue_size": 128, "learning_rate": 0.1, "warmup_epochs": 0.5, "device": "cpu"}
    return replace(
        preset("digits-potential"),
        encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
        training=TrainingSettings(**given_ | training),
    )


def images() -> ImageSet:
    return load_images("digits").subset(300, seed=1)


@pytest.fixture(scope="module", params=["moco", "simclr"])
def recorded(request: pytest.FixtureRequest) -> tuple[Run, Recorder, Snapshot]:
    recorder = Recorder(images(), 120, seed=2, epochs=(1, 3, 99))
    run = fit(asked(mode=request.param), images=images(), callbacks=[recorder])
    return run, recorder, recorder.snapshot(run)


def test_a_recorder_keeps_the_epochs_asked_for(recorded: tuple[Run, Recorder, Snapshot]) -> None:
    run, _, snapshot = recorded
    assert snapshot.epochs == (1, 3) and snapshot.experiment == run.experiment
    assert snapshot.anchors.shape == snapshot.keys.shape == (2, 120, 8)
    for vectors in (snapshot.anchors, snapshot.keys):
        assert np.linalg.norm(vectors, axis=-1) == pytest.approx(1, abs=1e-5)
    part = images().subset(120, seed=2)
    assert snapshot.ids.tolist() == part.ids.tolist() and snapshot.labels.tolist() == part.labels.tolist()
    assert snapshot.map_names == ("PCA",) and snapshot.maps.shape == (1, 2, 120, 2)
    assert not np.allclose(snapshot.anchors[0], snapshot.anchors[1]), "the encoder moved on"


def test_the_last_epochs_embeddings_are_those_of_a_snapshot_taken_then(
    recorded: tuple[Run, Recorder, Snapshot],
) -> None:
    run, _, snapshot = recorded
    before = [tensor.clone() for tensor in run.encoder.state_dict().values()]
    now = take_snapshot(run, images(), 120, seed=2)
    assert now.epochs == (3,) and np.array_equal(now.anchors[0], snapshot.anchors[1])
    assert np.array_equal(now.keys[0], snapshot.keys[1])
    assert all(torch.equal(a, b) for a, b in zip(before, run.encoder.state_dict().values(), strict=True))


def test_an_anchors_positive_is_its_own_key_and_never_mined_or_kept(recorded: tuple[Run, Recorder, Snapshot]) -> None:
    _, _, snapshot = recorded
    rows = torch.tensor([5, 0, 77])
    s = snapshot.similarities(rows, epoch=0)
    assert s.own.nonzero().tolist() == [[0, 5], [1, 0], [2, 77]]
    keys = torch.from_numpy(snapshot.keys[0])
    exact = (torch.from_numpy(snapshot.anchors[0])[rows] * keys[rows]).sum(1)
    torch.testing.assert_close(s.anchor_positive, exact, rtol=0, atol=1e-3)  # float16 holds three digits
    chosen = select(s, NearestKeys(k=2, weighting="uniform"), RankBand(0.0, 1.0))
    assert (chosen.band == Band.OWN).sum() == 3 and torch.equal(chosen.band == Band.OWN, s.own)
    assert s.same_class is not None and s.same_class[0].tolist() == (snapshot.labels == snapshot.labels[5]).tolist()
    assert len(snapshot.similarities().anchor_keys) == len(snapshot) == 120


def test_classes_of_one_name_are_told_apart() -> None:
    """As TinyImageNet has them: two classes are called crane."""
    twice = replace(images(), classes=("crane", "crane", *images().classes[2:]))
    snapshot = take_snapshot(fit(asked(epochs=1), images=twice), twice, 40)
    assert snapshot.classes == ("crane (0)", "crane (1)", *images().classes[2:])


def test_images_without_labels_are_taken_too() -> None:
    plain = replace(images(), labels=torch.full((300,), -1), classes=())
    snapshot = take_snapshot(fit(asked(epochs=1), images=plain), plain, 40)
    assert not snapshot.labelled and snapshot.similarities().same_class is None


def test_a_map_of_ones_own_stands_first(recorded: tuple[Run, Recorder, Snapshot]) -> None:
    _, _, plain = recorded
    places = np.random.default_rng(0).normal(size=(2, 120, 2)).astype(np.float32)
    snapshot = with_map(plain, "t-SNE", places)
    assert snapshot.map_names == ("t-SNE", "PCA") and np.array_equal(snapshot.maps, [places, plain.maps[0]])
    _, kept, trust = maps.judged(plain.anchors, places[None]).values()
    assert np.array_equal(snapshot.kept, [kept[0], plain.kept[0]])
    assert np.array_equal(snapshot.trustworthiness, [trust[0], plain.trustworthiness[0]])
    again = with_map(snapshot, "PCA", places)
    assert again.map_names == ("PCA", "t-SNE") and np.array_equal(again.maps, [places, places]), "it replaces its name"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (np.zeros((120, 2)), r"places are \[120, 2\]; give \[2, 120, 2\]"),
        (np.zeros((2, 119, 2)), r"places are \[2, 119, 2\]"),
        (np.full((2, 120, 2), np.nan), "finite"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(
    recorded: tuple[Run, Recorder, Snapshot], places: np.ndarray, message: str
) -> None:
    with pytest.raises(CltoolsError, match=message):
        with_map(recorded[2], "mine", places)


def test_a_map_of_too_few_neighbours_is_refused(recorded: tuple[Run, Recorder, Snapshot]) -> None:
    with pytest.raises(CltoolsError, match="neighbours is 1; it must be a whole number of at least 2"):
        with_umap(recorded[2], neighbours=1)


def test_without_umap_its_extra_is_named(
    recorded: tuple[Run, Recorder, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r'needs umap-learn: pip install "cltools-ssl\[notebooks\]"'):
        with_umap(recorded[2])


@pytest.mark.slow
def test_maps_by_umap_stand_before_the_one_by_pca(
    recorded: tuple[Run, Recorder, Snapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, plain = recorded
    snapshot = with_umap(plain, (0, 1))
    assert "UMAP, seed 1:" in capsys.readouterr().err, "a bar tells how far it is"
    assert snapshot.map_names == ("UMAP, seed 0", "UMAP, seed 1", "PCA") and snapshot.maps.shape == (3, 2, 120, 2)
    assert np.array_equal(plain.maps, snapshot.maps[2:]) and np.array_equal(plain.kept, snapshot.kept[2:])
    assert not np.allclose(snapshot.maps[0], snapshot.maps[1]) and snapshot.kept.shape == (3, 2, 120)
    wide = with_umap(plain, neighbours=5, min_dist=0.5)
    assert wide.map_names == ("UMAP, seed 0, 5 neighbours, min_dist 0.5", "PCA")
    assert not np.allclose(wide.maps[0], snapshot.maps[0])


def test_how_far_to_trust_each_map_is_taken_with_it(recorded: tuple[Run, Recorder, Snapshot]) -> None:
    _, _, snapshot = recorded
    for e in (0, 1):
        points, place = snapshot.anchors[e], snapshot.maps[0, e]
        assert np.array_equal(snapshot.kept[0, e], maps.judged(points[None], place[None, None])["kept"][0, 0])
        expected = trustworthiness(points, place, n_neighbors=15, metric="cosine")
        # in float32 some cosines are equal
        assert snapshot.trustworthiness[0, e] == pytest.approx(expected, abs=1e-4)


def test_a_snapshot_knows_the_command_and_the_commit_that_took_it(
    recorded: tuple[Run, Recorder, Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recorder, snapshot = recorded
    assert snapshot.command == "from Python" and re.fullmatch(r"([0-9a-f]{10}\+?)?", snapshot.commit)
    monkeypatch.setattr(sys, "argv", ["/somewhere/cltools/__main__.py", "snapshot", "digits-moco", "a b.npz"])
    monkeypatch.setattr(making, "commit", lambda: "0123456789")
    now = recorder.snapshot(run)
    assert now.command == "python -m cltools snapshot digits-moco 'a b.npz'" and now.commit == "0123456789"


def test_a_recorder_that_recorded_nothing_says_so() -> None:
    recorder = Recorder(images(), 40, epochs=(9,))
    run = fit(asked(epochs=1), images=images(), callbacks=[recorder])
    with pytest.raises(ValueError, match="Nothing was recorded"):
        recorder.snapshot(run)


def test_few_images_are_enough_and_fewer_are_refused() -> None:
    run = fit(asked(epochs=1), images=images())
    snapshot = take_snapshot(run, images(), 3)
    assert snapshot.maps.shape == (1, 1, 3, 2) and np.isfinite(snapshot.maps).all()
    with pytest.raises(ValueError, match="A snapshot of 2 images has no map; take at least 3"):
        take_snapshot(run, images(), 2)


# --- files


def test_a_snapshot_comes_back_but_for_half_precision(recorded: tuple[Run, Recorder, Snapshot], tmp_path: Path) -> None:
    snapshot, path = recorded[2], tmp_path / "new" / "digits.npz"
    snapshot.save(path)
    found = Snapshot.load(path)
    for field in fields(Snapshot):
        was, now = getattr(snapshot, field.name), getattr(found, field.name)
        if isinstance(was, ndarray):
            assert now.dtype == was.dtype and now == pytest.approx(was, abs=1e-3), field.name
        else:
            assert now == was, field.name
    assert np.linalg.norm(found.anchors, axis=-1) == pytest.approx(1, abs=1e-6)
    assert [p.name for p in path.parent.iterdir()] == ["digits.npz"]
    with np.load(path, allow_pickle=False) as file:
        assert file["anchors"].dtype == file["kept"].dtype == np.float16


def rewritten(path: Path, **changes: Any) -> Path:
    """The file with other arrays, or another description."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(arrays.pop("about").tobytes()) | changes.pop("about", {})
    about = {name: value for name, value in about.items() if value is not None}
    arrays = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {"version": 2}}, "no description in it says 'cltools snapshot', version 1"),
        ({"about": {"format": "other"}}, "cannot be read as a snapshot.*no description in it says 'cltools snapshot'"),
        ({"about": {"format": None}}, "no description in it says"),
        ({"about": {"version": None}}, "no description in it says"),
        ({"about": {"experiment": '{"seed": "one"}'}}, "cannot be read as a snapshot: experiment.seed must be"),
        ({"about": {"version": True}}, "no description in it says"),
        ({"about": {"version": 1.0}}, "no description in it says"),
        ({"about": {"metadata": 5}}, "cannot be read as a snapshot: TypeError"),
        ({"about": {"texts": False}}, "its texts or metadata have another length, or are not texts"),
        ({"about": {"command": None}}, "cannot be read as a snapshot: KeyError: 'command'"),
        ({"keys": None}, r"snapshot cannot be shown: its array keys is not float16 \[e, n, d\]"),
        ({"ids": np.zeros(120)}, "its array ids is not int64"),
        ({"labels": np.zeros(120, np.int8)}, "its array labels is not int64"),
        ({"maps": np.zeros((1, 2, 120, 2))}, "its array maps is not float32"),
        ({"ids": np.zeros(119, np.int64)}, "contradict each other at ids"),
        ({"anchors": np.zeros((3, 120, 8), np.float16)}, "contradict each other at anchors"),
        ({"maps": np.zeros((2, 2, 120, 3), np.float32)}, "contradict each other at maps"),
        ({"kept": np.zeros((3, 2, 120), np.float16)}, "contradict each other at kept"),
        ({"kept": np.zeros((1, 2, 120), np.int64)}, r"its array kept is not float16 \[m, e, n\]"),
        ({"trustworthiness": None}, r"its array trustworthiness is not float32 \[m, e\]"),
    ],
)
def test_a_file_that_is_not_whole_is_named(
    recorded: tuple[Run, Recorder, Snapshot], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.npz"
    recorded[2].save(path)
    with pytest.raises(ValueError, match=message) as error:
        Snapshot.load(rewritten(path, **changes))
    assert str(path) in str(error.value)


def spoilt(array: ndarray, value: Any, *place: int) -> ndarray:
    found = array.copy()
    found[place] = value
    return found


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        *(
            (lambda s, v=value, name=name: {name: spoilt(getattr(s, name), v, 1, 7)}, "not finite, or not of length 1")
            for value in (np.nan, np.inf, -np.inf, 0.0, 0.5)
            for name in ("anchors", "keys")
        ),
        (lambda s: {"anchors": spoilt(s.anchors, np.nan, 0, 3, 2)}, "vectors are not finite, or not of length 1"),
        (lambda s: {"maps": spoilt(s.maps, np.nan, 0, 1, 5, 0)}, "positions on maps are not finite"),
        (lambda s: {"maps": spoilt(s.maps, np.inf, 0, 1, 5, 0)}, "positions on maps are not finite"),
        (lambda s: {"kept": spoilt(s.kept, 1.5, 0, 0, 0)}, "shares of neighbours are not between 0 and 1"),
        *(
            (lambda s, v=value: {"trustworthiness": spoilt(s.trustworthiness, v, 0, 1)}, "trustworthiness is not")
            for value in (np.nan, np.inf, 1e30, -0.5)
        ),
        (lambda s: {"thresholds": np.full((2, 120), np.nan, np.float32)}, "thresholds are not finite"),
        (lambda s: {"ids": spoilt(s.ids, s.ids[1], 0)}, "ids occur in it twice"),
        (lambda s: {"ids": spoilt(s.ids, 2**53, 0)}, r"ids reach 2\*\*53"),
        (lambda s: {"labels": spoilt(s.labels, 10, 0)}, "labels exceed its number of classes"),
        (lambda s: {"labels": spoilt(s.labels, -2, 0)}, "labels exceed its number of classes"),
        (lambda s: {"epochs": (3, 1)}, "epochs are not ascending"),
        (lambda s: {"epochs": (3, 3)}, "epochs are not ascending"),
        (lambda s: {"epochs": (-1, 3)}, "epochs or its tile's height and width are not whole"),
        (lambda s: {"classes": ("0",) * 10}, "classes are not distinct texts"),
        (lambda s: {"classes": tuple(range(10))}, "classes are not distinct texts"),
        (lambda s: {"map_names": (1,)}, "map_names are not distinct texts"),
        (lambda s: {"texts": ("a",) * 119}, "texts or metadata have another length, or are not texts"),
        (lambda s: {"texts": tuple(range(120))}, "texts or metadata have another length, or are not texts"),
        (lambda s: {"metadata": {"a": ("b",)}}, "texts or metadata have another length, or are not texts"),
        (lambda s: {"pictured": np.array([0, 120])}, "has pictures of rows that it does not hold"),
        (lambda s: {"pictured": np.array([0, -1])}, "has pictures of rows that it does not hold"),
        (lambda s: {"tile": (32, 32)}, "pictures have another size"),
        (lambda s: {"tile": (16,)}, "its epochs or its tile's height and width are not whole numbers"),
        (lambda s: {"sprite": b"no picture"}, "pictures have another size"),
        (lambda s: {"sprite": s.sprite[:-9]}, "pictures have another size"),
    ],
)  # fmt: skip
def test_by_every_way_in_it_is_refused(
    recorded: tuple[Run, Recorder, Snapshot], tmp_path: Path, changes: Callable[[Snapshot], dict[str, Any]], fault: str
) -> None:
    """Of a snapshot whose vectors were all zero an explorer said that its rule keeps 59 (100.0 %)."""
    snapshot, path = recorded[2], tmp_path / "a.npz"
    made = copy(snapshot)
    vars(made).update(changes(snapshot))
    with pytest.raises(CltoolsError, match=f"This snapshot cannot be shown: .*{fault}"):
        made.__post_init__()  # as made by hand; the tests' own check of types would come before
    made.save(path)
    for load in (Snapshot.load, load_snapshot):
        with pytest.raises(
            (CltoolsError, TypeCheckError), match=f"a.npz cannot be read as a snapshot.*{fault}|Type-check error"
        ):
            load(path)


def test_what_fills_the_memory_is_refused(recorded: tuple[Run, Recorder, Snapshot], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    recorded[2].save(path)
    with ZipFile(path, "a", ZIP_DEFLATED) as archive, archive.open("more.npy", "w") as member:
        for _ in range(80):
            member.write(bytes(2**20))
    with pytest.raises(CltoolsError, match=r"cannot be read as a snapshot.*unpacks to 8[0-9] MB"):
        Snapshot.load(path)
    for text, said in ("[" * 10**5 + "]" * 10**5, "not valid JSON"), (f"{'[' * 40}{']' * 40}", "deeper than 32"):
        recorded[2].save(path)
        rewritten(path)
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        np.savez(path, **arrays | {"about": np.frombuffer(text.encode(), np.uint8)})
        with pytest.raises(CltoolsError, match=f"its description.*{said}"):
            Snapshot.load(path)


def test_damaged_and_foreign_files_are_named(recorded: tuple[Run, Recorder, Snapshot], tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    recorded[2].save(path)
    whole = path.read_bytes()
    pickled = io.BytesIO()
    np.savez(pickled, about=np.array([{"format": 1}], dtype=object))
    middle = len(whole) // 2
    packed = whole.index(b"PK\x01\x02") + 10  # how the directory says that the first array is compressed
    for content in (
        b"",
        b"no zip",
        whole[:middle],
        whole[:middle] + bytes(64) + whole[middle + 64 :],
        whole[:packed] + b"\x07" + whole[packed + 1 :],
        pickled.getvalue(),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz cannot be read as a snapshot"):
            Snapshot.load(path)
    with pytest.raises(FileNotFoundError, match="take one with take_snapshot"):
        Snapshot.load(tmp_path / "none.npz")
