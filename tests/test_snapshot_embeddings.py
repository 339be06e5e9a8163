"""Snapshots of embeddings made elsewhere: what is kept of them, what is refused and in which words, and exploring."""

import csv
import io
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy import ndarray

from cltools import AugmentedView, RankBand, Snapshot, explore, select, snapshot_of_embeddings, with_umap
from cltools.errors import CltoolsError
from cltools.mining import AllNegatives
from cltools.snapshot import snapshot as sprites
from cltools.snapshot.embeddings import indexed_labels
from cltools.snapshot.maps import judged, pca
from cltools.snapshot.snapshot import tiles_of

quick = settings(deadline=None, derandomize=True, max_examples=30)


def rows(count: int = 40, dim: int = 6, seed: int = 0) -> ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def taken(*args: Any, **kwargs: Any) -> Snapshot:
    """Without UMAP, whose compiling takes seconds."""
    return snapshot_of_embeddings(*args, **kwargs)


# --- embeddings


@quick
@given(seed=st.integers(0, 10**6), power=st.integers(-290, 290))
def test_rows_of_any_length_become_unit_vectors_of_their_direction(seed: int, power: int) -> None:
    z = rows(seed=seed).astype(np.float64)
    snapshot = taken(z * 10.0**power)
    expected = np.array([row / np.sqrt((row**2).sum()) for row in z])
    assert snapshot.anchors[0] == pytest.approx(expected, abs=1e-6) and snapshot.anchors.dtype == np.float32
    assert np.array_equal(snapshot.keys, snapshot.anchors)


@pytest.mark.parametrize("kind", ["float16", "float64", "int8", torch.float16, torch.bfloat16, torch.float64])
def test_any_type_of_real_numbers_is_taken(kind: Any) -> None:
    z = np.round(8 * rows())
    given = torch.from_numpy(z).to(kind).requires_grad_() if isinstance(kind, torch.dtype) else z.astype(kind)
    assert np.array_equal(taken(given).anchors, taken(z).anchors)


def test_another_view_becomes_the_keys() -> None:
    z, other = rows(), rows(seed=1)
    snapshot = taken(z, other)
    s = snapshot.similarities()
    cosine = [float(a @ b / np.sqrt((a @ a) * (b @ b))) for a, b in zip(z, other, strict=True)]
    assert s.anchor_positive.numpy() == pytest.approx(cosine, abs=1e-3)  # float16 holds three digits
    assert torch.equal(s.own, torch.eye(40, dtype=torch.bool))
    assert taken(z).similarities().anchor_positive.numpy() == pytest.approx(1, abs=1e-6)


def test_the_map_is_that_of_the_unit_vectors() -> None:
    snapshot = taken(rows())
    assert snapshot.map_names == ("PCA",) and np.array_equal(snapshot.maps[0, 0], pca(snapshot.anchors[0]))
    assert np.array_equal(snapshot.kept, judged(snapshot.anchors, snapshot.maps)["kept"])


@pytest.mark.slow
def test_maps_by_umap_are_made_as_for_other_snapshots() -> None:
    snapshot = with_umap(snapshot_of_embeddings(rows()), (3,))
    assert snapshot.map_names == ("UMAP, seed 3", "PCA") and snapshot.maps.shape == (2, 1, 40, 2)


def test_of_many_rows_as_many_as_asked_are_drawn_and_all_that_belongs_to_them() -> None:
    z, other, names = rows(90), rows(90, seed=1), [f"c{i % 4}" for i in range(90)]
    pictures = np.broadcast_to(np.arange(90, dtype=np.uint8)[:, None, None, None], (90, 3, 8, 8)).copy()
    ids = 1000 - np.arange(90)
    whole = taken(z, other, labels=names, ids=ids, images=pictures)
    part = taken(z, other, labels=names, ids=ids, images=pictures, n=20, seed=5)
    assert len(whole) == 90 and len(part) == 20
    assert np.array_equal(part.ids, taken(z, ids=ids, n=20, seed=5).ids)
    assert not np.array_equal(part.ids, taken(z, ids=ids, n=20, seed=6).ids)
    place = 1000 - part.ids
    assert np.array_equal(part.anchors, whole.anchors[:, place]) and np.array_equal(part.keys, whole.keys[:, place])
    assert [part.classes[label] for label in part.labels] == [names[i] for i in place]
    grey = tiles_of(part.sprite, 20, part.tile)[:, 4, 4].mean(1)
    assert grey == pytest.approx(place, abs=6), "WebP is not exact"


@pytest.mark.parametrize("dim", [2, 3000])
def test_few_and_wide_rows_have_a_map(dim: int) -> None:
    snapshot = taken(rows(3, dim))
    assert snapshot.maps.shape == (1, 1, 3, 2) and np.isfinite(snapshot.maps).all()


def spoilt(**values: float) -> ndarray:
    z = rows()
    for row, value in values.items():
        z[int(row[1:])] = value
    return z


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"anchors": spoilt(r3=0, r7=0)}, "2 of 40 rows of anchors are all zeros.*: 3, 7. Leave"),
        ({"anchors": spoilt(r5=np.nan)}, "1 of 40 rows of anchors hold numbers that are not finite.*: 5"),
        ({"anchors": spoilt(**{f"r{i}": np.inf for i in range(9)})}, "9 of 40 rows.*: 0, 1, 2, 3, 4, …"),
        ({"positives": spoilt(r2=0)}, "rows of positives are all zeros"),
        ({"positives": rows(39)}, r"anchors, positives and corpus are \[40, 6\], \[39, 6\] and"),
        ({"anchors": rows()[0]}, r"anchors are torch.float32 \[6\]; give real numbers \[rows, d\]"),
        ({"anchors": rows() > 0}, r"anchors are torch.bool \[40, 6\]"),
        ({"anchors": rows(2)}, "at least 3 rows"),
        ({"anchors": rows(40, 1)}, "of at least 2 numbers"),
        ({"n": 100_001}, "n, or the corpus, has 100,001 rows; an explorer shows at most 100,000"),
        ({"ids": np.zeros(40, np.int64)}, r"ids must be 40 different whole numbers below 2\*\*53"),
        ({"ids": np.arange(39)}, "ids must be 40 different whole numbers"),
        ({"ids": np.arange(40.0)}, "ids must be 40 different whole numbers .*; give names as texts="),
        ({"images": np.zeros((40, 8, 8, 3), np.uint8)}, r"images are torch.uint8 \[40, 8, 8, 3\]; give uint8 \[40, 3,"),
        ({"images": np.zeros((39, 3, 8, 8), np.uint8)}, r"images are torch.uint8 \[39, 3, 8, 8\]; give uint8 \[40, 3,"),
        ({"labels": [0] * 39}, "There are 39 labels for 40 embeddings"),
        ({"labels": [[0, 2]] * 40}, "The label \\[0, 2\\] of row 0 is not a whole number .labels.; give classes as"),
        ({"labels": "topic"}, "Unknown column of metadata 'topic'"),
        ({"labels": "tpic", "metadata": {"topic": [0] * 40}}, "'tpic'. Did you mean topic"),
        ({"texts": ["a"] * 41}, "There are 41 texts for 40 embeddings"),
        ({"metadata": {"year": [2000] * 3}}, "There are 3 year for 40 embeddings"),
        ({"corpus": rows(50)}, "A corpus needs positives"),
        ({"positives": rows(), "corpus": rows(50, 7)}, r"and \[50, 7\]; give as many positives"),
        ({"positives": rows(), "corpus": rows(2)}, r"keys \[2, 6\]; a map needs at least 3"),
        ({"positives": rows(), "corpus": rows(50), "texts": ["a"] * 40}, r"texts=\(of the anchors, of the corpus\)"),
        ({"positives": rows(), "corpus": rows(50), "labels": "topic"}, "With a corpus labels must be a pair"),
        ({"metadata": {1: [0] * 40, "1": [1] * 40}}, "Columns of metadata have the same name: 1, 1. Rename them"),
        ({"positives": rows(), "corpus": rows(50), "texts": (["a"] * 40, ["b"] * 49)}, "There are 49 texts for 50"),
        (
            {"positives": rows(), "corpus": rows(50), "own": [[0, 50]]},
            "indices of an anchor below 40 and of a key below 50",
        ),
        ({"positives": rows(), "corpus": rows(50), "own": [[0.5, 1]]}, "own is torch.float32"),
        ({"own": [[0, 1]]}, "own= needs a corpus"),
        ({"ids": np.arange(40) + 2**53}, "different whole numbers below"),
        ({"n": 2}, "of which n=2 are requested"),
        ({"anchors": np.empty((0, 6)), "positives": np.empty((0, 6)), "corpus": rows(50)}, "There are 0 anchors"),
        ({"metadata": [{"a": 1}] * 40}, "metadata is of type list; give a DataFrame or a dict of columns"),
        ({"metadata": {"a": 3}}, "a are of type int; give a list or an array"),
        ({"texts": "x" * 40}, "texts are of type str; give a list"),
        ({"labels": {i: "a" for i in range(40)}}, "labels are of type dict; give a list"),
        ({"labels": [2**70] * 40}, "is too large .labels.; give exact integers"),
        ({"labels": {*range(40)}}, "labels are of type set; give a list"),
        ({"ids": {*range(40)}}, "ids must be 40 different"),
        ({"texts": frozenset("abc")}, "texts are of type frozenset; give a list"),
        ({"metadata": {"year": {*range(40)}}}, "year are of type set; give a list"),
        (
            {
                "positives": rows(),
                "corpus": rows(50),
                "images": tuple(np.zeros((k, 3, k, 8), np.uint8) for k in (40, 50)),
            },
            "images of anchors and corpus have sizes .*; give one size",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_words(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taken(**({"anchors": rows()} | given))


@pytest.mark.parametrize("given", [rows().astype(str), [f"p{i}" for i in range(40)]])
def test_what_is_no_array_of_numbers_is_named(given: Any) -> None:
    with pytest.raises(TypeError, match="anchors is not an array of numbers"):
        taken(given)
    with pytest.raises(ValueError, match=r"must be 40 different whole numbers below .*; give names as texts="):
        taken(rows(), ids=given)


# --- labels


@pytest.mark.parametrize(
    ("labels", "classes", "indices", "names"),
    [
        (["b", "a", "b"], (), [1, 0, 1], ("a", "b")),
        (["b", "a", ""], ("b", "c", "a"), [0, 2, -1], ("b", "c", "a")),
        (np.array(["b", None, float("nan")], object), (), [0, -1, -1], ("b",)),
        ([7, 3, 7], (), [1, 0, 1], ("3", "7")),
        (torch.tensor([1, -1, 0]), ("x", "y"), [1, -1, 0], ("x", "y")),
        (np.array([2.0, np.nan, 0.0]), (), [1, -1, 0], ("0", "2")),
        ([None, None, None], (), [-1, -1, -1], ()),
    ],
)
def test_labels_become_places_among_names(labels: Any, classes: Any, indices: list[int], names: Any) -> None:
    found, given = indexed_labels(labels.tolist() if hasattr(labels, "tolist") else labels, classes)
    assert found.tolist() == indices and found.dtype == np.int64 and given == names


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (["cat", "dgo", "dog"], ("cat", "dog"), "Unknown class 'dgo'. Did you mean dog"),
        ([0, 1, 2], ("a", "b"), "Labels go up to 2, but there are 2 classes"),
        ([0.5, 1, 2], (), "The label 0.5 is not a whole number"),
        ([float("inf"), 1, 2], (), "The label inf is not a whole number"),
        (["a", 1, 2], (), "text and some are numbers"),
        ([0, 1, 2], {"cat", "dog", "cow"}, "classes are of type set; give a list"),
        ([0, 1, 2], ["a", "b", pd.NA], "A name among the 3 classes is missing or empty"),
        ([0, 1, 2], ["a", None, "b"], "A name among the 3 classes is missing or empty"),
        ([0, 1, 2], pd.Series(["a", np.nan, "b"]), "A name among the 3 classes is missing or empty"),
    ],
)
def test_labels_that_mean_nothing_are_refused(labels: Any, classes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        indexed_labels(labels, classes)


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        ([0, 1], [b"a", "ü".encode()], ("a", "ü")),
        ([b"b", "a"], np.array([b"a", b"b"]), ("a", "b")),
        ([0, 1], (name for name in "ab"), ("a", "b")),
        ([1.0, 2.0], [1.0, 2.0], ("1", "2")),
        ([0, 1], {"a": 0, "b": 1}.keys(), ("a", "b")),
    ],
)
def test_names_of_classes_are_read_as_labels_are(labels: Any, classes: Any, names: tuple[str, ...]) -> None:
    assert indexed_labels(labels, classes)[1] == names


def test_what_pandas_calls_missing_is_missing() -> None:
    frame = pd.DataFrame({"topic": pd.array(["a", pd.NA] * 20, "string"), "year": pd.array([1, pd.NA] * 20, "Int64")})
    found = taken(rows(), labels="topic", texts=frame["topic"], metadata=frame.convert_dtypes())
    assert found.labels.tolist() == [0, -1] * 20 and found.texts == ("a", "") * 20
    assert found.metadata == {"topic": ("a", "") * 20, "year": ("1", "") * 20}
    days = pd.to_datetime(pd.Series(["2020-01-02", None] * 20))
    assert taken(rows(), labels=days).labels.tolist() == [0, -1] * 20


class Frame:
    """A table of another library: with columns, and neither keys nor items."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.values, self.columns = columns, [*columns]

    def __iter__(self) -> Any:
        return iter(self.values.values())

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def test_a_table_of_another_library_is_metadata() -> None:
    found = taken(rows(), labels="topic", metadata=Frame({"topic": ["a", "b"] * 20, "year": [1, 2] * 20}))
    assert found.metadata == {"topic": ("a", "b") * 20, "year": ("1", "2") * 20} and found.classes == ("a", "b")


@pytest.mark.parametrize("form", [list, pd.Index, torch.tensor, lambda ids: pd.Series(ids, dtype="Int64")])
def test_ids_are_taken_in_every_usual_form(form: Any) -> None:
    given = [500 - i for i in range(40)]
    assert taken(rows(), ids=form(given)).ids.tolist() == given


def test_a_draw_that_nobody_asked_for_is_told() -> None:
    with pytest.warns(UserWarning, match="2,000 of 2,001 rows are drawn at random; n=2001 takes all"):
        assert len(taken(rows(2001))) == 2000
    assert len(taken(rows(2001), n=30)) == 30 and len(taken(rows(2000))) == 2000


def test_a_snapshot_is_said_in_a_line() -> None:
    assert repr(taken(rows(), name="sounds")) == "Snapshot of sounds: 40 rows, epochs (0,)"
    assert repr(taken(rows(), name="a\x1b[2Jb\nc")) == r"Snapshot of a\x1b[2Jb\nc: 40 rows, epochs (0,)"
    assert repr(searched()[0]) == "Snapshot of embeddings: 30 queries and 50 rows, epochs (0,)"


# --- a corpus of its own


def searched(**more: Any) -> tuple[Snapshot, dict[str, ndarray]]:
    """30 queries, three of them twice with another match, and 50 passages: the matches, one query, and others."""
    passages, queries = rows(50, seed=4), rows(30, seed=5)
    queries[27:] = queries[:3]
    matches = passages[np.r_[0:27, 40:43]]
    passages[49] = queries[8]
    given = {"queries": queries, "matches": matches, "passages": passages}
    return taken(*given.values(), **more), given


def owned(given: dict[str, ndarray], more: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """By loops: keys equal to an anchor, or to a match in any row of the same anchor."""
    found = set(more)
    for i, query in enumerate(given["queries"]):
        views = [query] + [
            m for q, m in zip(given["queries"], given["matches"], strict=True) if np.array_equal(q, query)
        ]
        found |= {(i, j) for j, key in enumerate(given["passages"]) for view in views if np.array_equal(view, key)}
    return found


def test_with_a_corpus_anchors_and_keys_are_different_things() -> None:
    snapshot, given = searched(own=[[5, 44], [5, 45]], labels=([*"abc"] * 10, ["b", "d"] * 25))
    s = snapshot.similarities()
    unit = {name: each / np.linalg.norm(each, axis=1, keepdims=True) for name, each in given.items()}
    assert s.anchor_keys.numpy() == pytest.approx(unit["queries"] @ unit["passages"].T, abs=2e-3)
    assert s.positive_keys is not None and s.same_class is not None and s.ids is not None
    assert s.positive_keys.numpy() == pytest.approx(unit["matches"] @ unit["passages"].T, abs=2e-3)
    assert s.anchor_positive.numpy() == pytest.approx((unit["queries"] * unit["matches"]).sum(1), abs=2e-3)
    own = {(int(i), int(j)) for i, j in s.own.nonzero()}
    assert own == owned(given, {(5, 44), (5, 45)}) and (0, 40) in own and (27, 0) in own and (8, 49) in own
    assert snapshot.classes == tuple("abcd") and s.same_class.sum(1).tolist() == [0, 25, 0] * 10
    assert (len(snapshot), len(snapshot.anchor_ids), snapshot.labelled) == (50, 30, True)
    assert snapshot.maps.shape == (1, 1, 50, 2) and np.array_equal(snapshot.maps[0, 0], pca(snapshot.keys[0]))
    few = snapshot.similarities(torch.tensor([8, 0]))
    assert torch.equal(few.own, s.own[[8, 0]]) and torch.equal(few.anchor_keys, s.anchor_keys[[8, 0]])


@quick
@given(n=st.integers(1, 30), seed=st.integers(0, 99))
def test_of_many_anchors_some_are_drawn_with_all_of_their_own_keys(n: int, seed: int) -> None:
    texts = [f"query {i}" for i in range(30)], [f"passage {j}" for j in range(50)]
    part, given = searched(n=n, seed=seed, own=[[5, 44]], texts=texts)
    assert part.queries is not None and len(part.queries.ids) == n and len(part) == 50
    own = {(int(part.queries.ids[i]), int(j)) for i, j in part.queries.own}
    assert own == {(i, j) for i, j in owned(given, {(5, 44)}) if i in part.queries.ids}
    assert part.texts == (*texts[1], *(texts[0][i] for i in part.queries.ids))


def test_a_corpus_comes_back_from_a_file(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (30, 3, 8, 8), dtype=np.uint8)
    frame = pd.DataFrame({"year": [2001.0, np.nan] * 25, "topic": ["art", "law"] * 25})
    more = {"texts": (None, ["x" * 1200] * 50), "images": (pictures, None), "metadata": frame}
    snapshot, _ = searched(labels=(["law"] * 30, "topic"), **more)
    snapshot.save(tmp_path / "search.npz")
    found = Snapshot.load(tmp_path / "search.npz")
    assert found.queries is not None and snapshot.queries is not None
    for name in ("ids", "labels", "own"):
        assert np.array_equal(getattr(found.queries, name), getattr(snapshot.queries, name))
    assert found.queries.positives == pytest.approx(snapshot.queries.positives, abs=1e-3)
    assert found.texts == ("x" * 1000,) * 50 + ("",) * 30 and found.classes == ("art", "law")
    assert found.metadata == {"year": ("2001.0", "") * 25, "topic": ("art", "law") * 25}
    assert found.pictured is not None and found.pictured.tolist() == [*range(50, 80)]
    assert tiles_of(found.sprite, 30, found.tile)[3].mean() == pytest.approx(pictures[3].mean(), abs=9)
    first, second = snapshot.similarities(), found.similarities()
    assert torch.equal(first.own, second.own)
    assert second.anchor_keys.numpy() == pytest.approx(first.anchor_keys.numpy(), abs=1e-3)


def unchecked(snapshot: Snapshot, **changes: Any) -> Snapshot:
    """A snapshot as another program would write it, which looks at nothing."""
    found = copy(snapshot)
    vars(found).update(changes)
    return found


def test_a_file_that_contradicts_itself_is_damaged(tmp_path: Path) -> None:
    snapshot, _ = searched(labels=([0] * 30, [1] * 50), texts=(["q"] * 30, ["p"] * 50), metadata={"year": [1] * 50})
    assert snapshot.queries is not None
    spoilt, lost = snapshot.keys.copy(), snapshot.keys.copy()
    spoilt[0, 3, 1], lost[0, 7] = np.nan, 0
    file = tmp_path / "search.npz"
    for changes, what in (
        ({"keys": spoilt}, "some of its vectors are not finite"),
        ({"keys": lost}, "some of its vectors are not finite, or not of length 1"),
        ({"ids": np.zeros(50, np.int64)}, "ids occur in it twice"),
        ({"classes": ("one",)}, "labels exceed its number of classes"),
        ({"texts": ("p",) * 79}, "its texts or metadata have another length"),
        ({"metadata": {"year": ("1",) * 49}}, "its texts or metadata have another length"),
        ({"pictured": np.array([80])}, "it has pictures of rows that it does not hold"),
        *(({"queries": replace(snapshot.queries, own=np.array(own))}, "its own keys include some that it does not")
          for own in ([[0, 50]], [[30, 0]], [[0, -1]])),
        ({"queries": replace(snapshot.queries, ids=np.zeros(30, np.int64))}, "ids occur in it twice"),
        ({"queries": replace(snapshot.queries, positives=2 * snapshot.queries.positives)}, "some of its vectors"),
    ):  # fmt: skip
        unchecked(snapshot, **changes).save(file)
        with pytest.raises(CltoolsError, match=f"search.npz cannot be read as a snapshot: .*{what}"):
            Snapshot.load(file)
        with pytest.raises(CltoolsError, match=f"This snapshot cannot be shown: {what}"):
            replace(snapshot, **changes)
    doubled = {"anchors": 0, "keys": 0, "maps": 1, "kept": 1, "trustworthiness": 1}
    twice = {name: np.concatenate([getattr(snapshot, name)] * 2, axis=axis) for name, axis in doubled.items()}
    asked = replace(snapshot.queries, positives=np.concatenate([snapshot.queries.positives] * 2))
    unchecked(snapshot, epochs=(0, 0), queries=asked, **twice).save(file)
    with pytest.raises(ValueError, match="its epochs are not ascending"):
        Snapshot.load(file)


# --- pictures and texts


def test_of_very_many_pictures_as_many_as_a_page_holds_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "PIXELS", 64 * 12)
    pictures = np.broadcast_to(6 * np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 3, 8, 8)).copy()
    snapshot = taken(rows(), images=pictures)
    assert snapshot.pictured is not None and len(snapshot.pictured) == 12 == len(set(snapshot.pictured))
    grey = tiles_of(snapshot.sprite, 12, snapshot.tile)[:, 4, 4].mean(1)
    assert grey == pytest.approx(6 * snapshot.pictured, abs=3)
    assert taken(rows(12), images=pictures[:12]).pictured is None


def test_what_has_neither_picture_nor_text_is_a_row() -> None:
    assert taken(rows()).noun == "row" and taken(rows()).sprite == b"" and taken(rows()).texts == ()
    assert taken(rows(), texts=[*"ab"] * 20).noun == "text"
    assert taken(rows(), images=np.zeros((40, 3, 8, 8), np.uint8)).noun == "image"


# --- what becomes of it


def test_it_comes_back_from_a_file_and_names_its_data(tmp_path: Path) -> None:
    snapshot = taken(rows(), labels=["a", "b"] * 20, name="my audio")
    snapshot.save(tmp_path / "mine.npz")
    found = Snapshot.load(tmp_path / "mine.npz")
    assert found.experiment == snapshot.experiment and found.experiment.data.name == "my audio"
    assert found.epochs == (0,) and found.classes == ("a", "b") and np.array_equal(found.ids, np.arange(40))
    assert found.anchors == pytest.approx(snapshot.anchors, abs=1e-3)


def test_it_starts_neutral_and_its_rules_and_keys_leave_it() -> None:
    explorer = explore(taken(rows(), rows(seed=1), ids=500 + np.arange(40)))
    assert explorer.rules == (AugmentedView().at(1.0), AllNegatives())
    explorer.set(rule="RankBand", drop_closest=0.1, keep_within=0.5, anchor=503)
    names: dict[str, Any] = {"RankBand": RankBand, "AugmentedView": AugmentedView}
    exec(explorer.python(), names)
    assert (names["positives"], names["negatives"]) == explorer.rules
    table = list(csv.DictReader(io.StringIO(explorer.csv())))
    assert sorted(int(row["row"]) for row in table) == [i for i in range(500, 540) if i != 503]
    s = explorer.snapshots[0].similarities(torch.tensor([3]))
    band = select(s, *explorer.rules).band[0]
    assert sum(row["band"] == "POTENTIAL" for row in table) == int((band == 2).sum()) > 0
    assert "class" not in table[0] and explorer.errors == []
    explorer.close()


def test_without_labels_the_truth_stays_off_and_says_why() -> None:
    explorer = explore(taken(rows(), labels=None))
    with pytest.raises(ValueError, match="These rows have no labels, so there are no classes to show"):
        explorer.set(truth=True)
    explorer.close()


def test_one_row_without_a_label_shuts_off_truth_for_no_other() -> None:
    labels = [*("ab" * 20)[:39], None]
    explorer = explore(taken(rows(), labels=labels)).set(truth=True, scope="all")
    assert explorer.census.base_rate.count == 39 * 39, "an anchor without a label counts in no share of a class"
    explorer.set(scope="anchor", anchor=explorer.snapshots[0].ids[0].item())
    assert "(a)" in explorer.sentence and "of its own class" in explorer.sentence
    explorer.set(anchor=explorer.snapshots[0].ids[39].item())
    assert "(no label)" in explorer.sentence and "own class" not in explorer.sentence
    assert {*pd.read_csv(io.StringIO(explorer.csv()), keep_default_na=False)["class"]} == {"a", "b"}
    explorer.close()


def test_with_labels_classes_are_counted() -> None:
    centres = rows(4, 6, seed=3)
    labels = np.arange(40) % 4
    explorer = explore(taken(centres[labels] + 0.05 * rows(), labels=labels)).set(truth=True, scope="all")
    explorer.set(rule="RankBand", drop_closest=0.2, keep_within=1.0)
    assert explorer.census.base_rate.value == pytest.approx(9 / 39)
    kept = select(explorer.snapshots[0].similarities(), *explorer.rules).band == 2
    false = (torch.from_numpy(labels)[:, None] == torch.from_numpy(labels)) & kept
    assert int(false.sum()) == 40 and explorer.errors == [], "9 of a class are closest, 8 are dropped, one is left"
    explorer.close()


@pytest.mark.slow
@pytest.mark.parametrize("labels", [None, ["a", "b", "b"]])
def test_three_rows_are_explored_with_every_control(labels: Any) -> None:
    from sweep import sweep

    explorer = explore(taken(rows(3), labels=labels))
    assert len(sweep(explorer)) > 5 and explorer.errors == []
    explorer.close()
