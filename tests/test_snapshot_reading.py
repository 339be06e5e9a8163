"""Embeddings in files of other programs: what comes back, and what is said where it is not clear."""

import io
import sys
import zipfile
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cltools import load_snapshot, read_embeddings, snapshot_of_embeddings
from cltools.errors import CltoolsError
from cltools.snapshot import Snapshot

Z = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
NAMES = np.array(["a", "b", "a", "c", "b"])


def test_one_array_comes_back_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", Z)
    vectors, labels = read_embeddings(tmp_path / "z.npy")
    assert np.array_equal(vectors, Z) and vectors.dtype == Z.dtype and labels is None
    with pytest.raises(ValueError, match="holds one unnamed array"):
        read_embeddings(tmp_path / "z.npy", labels="y")


def test_of_an_archive_the_only_matrix_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "z.npz"
    np.savez(path, z=Z, y=NAMES, ids=np.arange(5))
    vectors, labels = read_embeddings(str(path), labels="y")
    assert labels is not None and np.array_equal(vectors, Z) and labels.tolist() == NAMES.tolist()
    assert read_embeddings(path)[1] is None
    with pytest.raises(ValueError, match=r"Unknown array or column of z\.npz 'yy'. Did you mean y\?"):
        read_embeddings(path, labels="yy")


def test_where_several_matrices_could_be_meant_all_are_named(tmp_path: Path) -> None:
    path = tmp_path / "z.npz"
    np.savez(path, first=Z, second=2 * Z, y=NAMES)
    with pytest.raises(ValueError, match=r"first \(float32 \[5, 3\]\), second .*, y .*Several.*name one with vectors="):
        read_embeddings(path)
    assert np.array_equal(read_embeddings(path, vectors="second")[0], 2 * Z)
    np.savez(path, y=NAMES)
    with pytest.raises(ValueError, match="None is an array or a column of embeddings"):
        read_embeddings(path)


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in '\.csv'; embeddings can be read from \.npy, \.npz, \.parquet"):
        read_embeddings(tmp_path / "z.csv")
    with pytest.raises(FileNotFoundError, match=r"z\.npy is not a file"):
        read_embeddings(tmp_path / "z.npy")
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", Z)
    whole = (tmp_path / "whole.npy").read_bytes()
    for content in (b"", b"no numbers", whole[:-5], objects.getvalue()):
        (tmp_path / "z.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read: .*np\.save or np\.savez, with numbers"):
            read_embeddings(tmp_path / "z.npy")
    (tmp_path / "whole.npy").rename(tmp_path / "z.npz")
    assert np.array_equal(read_embeddings(tmp_path / "z.npz")[0], Z), "what it is decides, not its ending"
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("z.npy", b"no numbers")
    with pytest.raises(ValueError, match="None is an array"):
        read_embeddings(tmp_path / "z.npz")


def test_a_folder_and_a_snapshot_are_no_embeddings(tmp_path: Path) -> None:
    with pytest.raises(CltoolsError, match="is a folder; name the file in it"):
        read_embeddings(tmp_path)
    snapshot_of_embeddings(Z).save(tmp_path / "s.npz")
    for vectors in (None, "trustworthiness"):
        with pytest.raises(CltoolsError, match=r"s\.npz is a snapshot; read it with load_snapshot"):
            read_embeddings(tmp_path / "s.npz", vectors=vectors)
    np.savez(tmp_path / "z.npz", about=NAMES, z=Z)
    assert np.array_equal(read_embeddings(tmp_path / "z.npz", labels="about")[0], Z)


@pytest.mark.parametrize("reads", [read_embeddings, load_snapshot])
@pytest.mark.parametrize("name", ["z.npy", "z.npz"])
def test_nobody_is_advised_to_unpickle_a_file(reads: Any, name: str, tmp_path: Path) -> None:
    objects, archive = io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    np.savez(archive, allow_pickle=True, about=np.array([{}], object))
    for content in (b"[1, 2, 3]", b"a,b\n1,2\n", objects.getvalue(), archive.getvalue()):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CltoolsError, match=r"holds Python objects|about \(object") as told:
            reads(tmp_path / name)
        assert "allow_pickle" not in str(told.value)


# --- tables, without a reader of Parquet: pandas is told what the file holds


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that puts a table behind a file."""
    path = tmp_path / "z.parquet"
    path.touch()

    def put(table: pd.DataFrame) -> Path:
        monkeypatch.setattr(pd, "read_parquet", lambda given, engine: table if given == path else None)
        return path

    return put


def test_a_column_of_lists_holds_the_embeddings(told: Any) -> None:
    table = pd.DataFrame({"id": range(5), "vector": list(Z), "score": 0.5, "class": pd.Categorical(NAMES)})
    vectors, labels = read_embeddings(told(table), labels="class")
    assert labels is not None and np.array_equal(vectors, Z) and labels.tolist() == NAMES.tolist()
    with pytest.raises(ValueError, match=r"id \(int64\), vector \(lists\), .*other \(lists\). Several"):
        read_embeddings(told(table.assign(other=list(Z))))
    assert np.array_equal(read_embeddings(told(table.assign(other=list(2 * Z))), vectors="other")[0], 2 * Z)
    ragged = table.assign(vector=[[1.0, 2.0]] * 4 + [[1.0]])
    with pytest.raises(
        ValueError, match=r"Row 4 of column 'vector' .* is \[1\.0\]; give lists of numbers of one length"
    ):
        read_embeddings(told(ragged))


def test_else_columns_of_fractions_do(told: Any) -> None:
    table = pd.DataFrame(Z, columns=["z0", "z1", "z2"]).assign(id=range(5), label=[0.0, 1.0, None, 1.0, 0.0])
    vectors, labels = read_embeddings(told(table), labels="label")
    assert np.array_equal(vectors, Z) and labels is not None and labels.tolist() == [0.0, 1.0, None, 1.0, 0.0]
    with pytest.raises(ValueError, match="None is an array or a column of embeddings"):
        read_embeddings(told(table[["id"]]))


def test_columns_that_are_not_of_one_family_are_asked_for(told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An age beside the embeddings was one number of each of them, without a word."""
    shuffled = pd.DataFrame(np.hstack([Z] * 4), columns=[f"dim_{i}" for i in range(12)])[
        ["dim_11", *map("dim_{}".format, range(11))]
    ]
    vectors, _ = read_embeddings(told(shuffled))
    assert np.array_equal(vectors, np.hstack([Z] * 4)), "by their numbers: 2 before 11"
    assert "z.parquet: the embeddings are its 12 columns dim_0 … dim_11." in capsys.readouterr().err
    for more in ({"age": [30.5] * 5}, {"x1": [0.5] * 5}, {"dim": [0.5] * 5}):
        with pytest.raises(
            CltoolsError, match=r"(age|x1|dim) \(float64\).*Several.*a column for each number: vectors=\[…\]"
        ):
            read_embeddings(told(pd.DataFrame(Z, columns=["dim0", "dim1", "dim2"]).assign(**more)))
    table = pd.DataFrame(Z, columns=["x", "y", "z"]).assign(age=30.5, count=[1, 2, 3, 4, 5])
    capsys.readouterr()
    assert np.array_equal(read_embeddings(told(table), vectors=["y", "x"])[0], Z[:, [1, 0]])
    assert np.array_equal(read_embeddings(told(table), vectors=("count", "x"))[0][:, 0], [1, 2, 3, 4, 5])
    assert capsys.readouterr().err == "", "who names them knows them"
    with pytest.raises(CltoolsError, match=r"Unknown array or column of z\.parquet 'agee'\. Did you mean age?"):
        read_embeddings(told(table), vectors=["x", "agee"])
    np.savez(told(table).with_suffix(".npz"), x=Z, y=Z)
    with pytest.raises(CltoolsError, match="not a table; name one array"):
        read_embeddings(told(table).with_suffix(".npz"), vectors=["x", "y"])


COMPONENTS = pd.DataFrame(Z, columns=["z0", "z1", "z2"])


@pytest.mark.parametrize(
    "table",
    [
        COMPONENTS.assign(bbox=[[1, 2, 3, 4]] * 5),
        COMPONENTS.astype("int8").assign(score1=0.5),
        COMPONENTS.rename(columns={"z2": "z3"}),
        COMPONENTS.assign(z01=0.5),
        COMPONENTS.assign(x0=1, x1=2),
        COMPONENTS[["z0"]],
    ],
    ids=["beside lists", "a lone score", "a gap", "one number twice", "two families", "a single column"],
)
def test_columns_that_may_be_something_else_are_asked_for(told: Any, table: pd.DataFrame) -> None:
    with pytest.raises(CltoolsError, match=r"vectors="):
        read_embeddings(told(table))


@pytest.mark.parametrize("kinds", [{"z1": "int16"}, {"z0": "int8", "z1": "int8", "z2": "int8"}, {"z2": "Int64"}])
def test_components_of_any_type_of_number_are_taken(told: Any, kinds: dict[str, str]) -> None:
    table = (9 * COMPONENTS).round().astype(kinds)
    assert np.array_equal(read_embeddings(told(table.assign(id=range(5))))[0], table.to_numpy(dtype=float))


def test_what_is_taken_from_a_table_is_reported(told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    read_embeddings(told(pd.DataFrame({"vector": list(Z)})))
    assert "z.parquet: the embeddings are its column vector of lists." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vectors": ["z0", "text"]}, r"vectors= names are no embeddings.*Name columns of numbers"),
        ({"vectors": []}, "vectors is empty; name at least one column"),
        ({"vectors": ["z0", 7]}, r"Unknown array or column of z\.parquet '7'"),
        ({"vectors": 7}, r"Unknown array or column of z\.parquet '7'"),
        ({"vectors": "text"}, "Row 0 of column 'text' of .* is 'a'; give lists of numbers of one length"),
        ({"vectors": "partly"}, r"Row 3 of column 'partly' of .* is None; give .* or leave the row out"),
        ({"labels": ["text"]}, r"Unknown array or column of z\.parquet"),
    ],
)
def test_names_of_no_use_are_refused_in_words(told: Any, given: dict[str, Any], message: str, unchecked: None) -> None:
    partly = [*Z[:3], None, Z[4]]
    with pytest.raises(CltoolsError, match=message):
        read_embeddings(told(COMPONENTS.assign(text=NAMES, partly=partly)), **given)


def test_a_missing_first_row_leaves_a_column_of_lists_one(told: Any) -> None:
    with pytest.raises(CltoolsError, match="Row 0 of column 'vector'"):
        read_embeddings(told(pd.DataFrame({"vector": [None, *Z[1:]]})))


def test_columns_may_be_named_by_numbers(told: Any, unchecked: None) -> None:
    vectors, labels = read_embeddings(told(pd.DataFrame(Z)), vectors=[1, 0], labels=2)  # type: ignore
    assert np.array_equal(vectors, Z[:, [1, 0]]) and labels is not None and np.array_equal(labels, Z[:, 2])


def test_objects_beside_the_embeddings_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "Z.NPZ"
    with path.open("wb") as file:
        np.savez(file, allow_pickle=True, z=Z, notes=np.array([{}] * 5, object))
    assert np.array_equal(read_embeddings(path)[0], Z), "whatever the case of the ending"
    for given in ({"vectors": "notes"}, {"labels": "notes"}):
        with pytest.raises(CltoolsError, match="its array 'notes' holds Python objects"):
            read_embeddings(path, **given)


@pytest.mark.parametrize("reads", [read_embeddings, load_snapshot, Snapshot.load])
def test_a_path_is_a_text_or_bytes(reads: Any, tmp_path: Path, unchecked: None) -> None:
    with pytest.raises((FileNotFoundError, CltoolsError), match=r"z\.npz is not a file"):
        reads(bytes(tmp_path / "z.npz"))
    for given in (None, 5, [tmp_path]):
        with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object"):
            reads(given)


def test_labels_of_another_number_and_vectors_of_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "z.npz"
    for labels in (np.arange(4), np.zeros((10**12, 0)), np.array(1)):
        np.savez(path, z=Z, y=labels)
        with pytest.raises(CltoolsError, match="for 5 embeddings; give one per row"):
            read_embeddings(path, labels="y")
    np.save(tmp_path / "z.npy", np.zeros((10**12, 0), np.float32))
    with pytest.raises(CltoolsError, match=r"z\.npy holds float32 \[1000000000000, 0\]"):
        read_embeddings(tmp_path / "z.npy")


def test_what_would_fill_the_memory_is_refused_before(tmp_path: Path) -> None:
    """A member that unpacks to a thousand times its size, and a header that speaks of 8 TB."""
    path = tmp_path / "z.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("z.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (5 * 2**20, 4)})
        for _ in range(80):
            member.write(bytes(2**20))
    with pytest.raises(CltoolsError, match="it unpacks to 84 MB"):
        read_embeddings(path)
    with (tmp_path / "z.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 1)})
    with pytest.raises(CltoolsError, match="cannot be read: "):
        read_embeddings(tmp_path / "z.npy")


def test_a_label_that_is_missing_is_none(told: Any) -> None:
    table = pd.DataFrame(Z).assign(kind=pd.array([1, None, 2, 1, 1], "Int64"))
    assert read_embeddings(told(table), labels="kind")[1].tolist() == [1, None, 2, 1, 1]


def test_without_a_reader_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "z.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow: pip install pyarrow. Or save the embeddings with np\.save"):
        read_embeddings(tmp_path / "z.parquet")


@pytest.mark.skipif(util.find_spec("pyarrow") is None, reason="no pyarrow")
def test_a_real_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "z.parquet"
    pd.DataFrame({"id": range(5), "vector": list(Z), "class": NAMES}).to_parquet(path)
    vectors, labels = read_embeddings(path, labels="class")
    assert labels is not None and np.array_equal(vectors, Z) and labels.tolist() == NAMES.tolist()
    pd.DataFrame(Z, columns=["z1", "z2", "z3"]).assign(y2=NAMES).to_parquet(path)
    assert np.array_equal(read_embeddings(path, labels="y2")[0], Z)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="cannot be read as a Parquet table"):
        read_embeddings(path)
