"""Reading embeddings from files of other programs: NumPy files and Parquet tables.

Legend: N rows, d embedding.
"""

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from os import PathLike, fsdecode
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
from jaxtyping import Shaped
from tqdm.auto import tqdm

from cltools.errors import LONGEST, CltoolsError, printable, shown, unknown
from cltools.files import reading

Vectors = str | Sequence[str] | None
AnyPath = str | bytes | PathLike[Any]


def path_of(given: AnyPath) -> Path:
    """Return a path that is given as text, as bytes or as an object; raise TypeError for anything else."""
    return Path(fsdecode(given)).expanduser()


def read_embeddings(
    path: AnyPath, *, labels: str | None = None, vectors: Vectors = None
) -> tuple[Shaped[np.ndarray, "N d"], Shaped[np.ndarray, " N"] | None]:
    """Read embeddings and labels from a file, for `snapshot_of_embeddings`, which checks the numbers.

    Args:
        path: `.npy`, one array [N, d]; `.npz`, an archive of arrays; or `.parquet`, a table with a column of lists or
            with a column for each component. Pickled objects are not read.
        labels: name of the array or column that holds the labels; None for none.
        vectors: name of the array or column of lists that holds the embeddings, or names of a table's columns, in
            order. None takes the only candidate. For a table without lists, it takes at least two columns of numbers
            whose names are one prefix with consecutive numbers (z0, z1, …), in this order; all floating-point columns
            other than the labels must be among them. What is taken from a table is reported on standard error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file's extension is unknown; it is damaged or holds objects; it does not hold a name that is
            given; several arrays or columns are candidates; the embeddings are not rows of numbers; the number of
            labels is not that of the rows; or no library for Parquet is installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from cltools import read_embeddings
        >>> with TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/mine.npz", z=np.eye(4, 3), kind=["cat", "dog", "cat", "dog"])
        ...     rows, labels = read_embeddings(f"{folder}/mine.npz", labels="kind")
        >>> rows.shape, labels.tolist()
        ((4, 3), ['cat', 'dog', 'cat', 'dog'])
    """
    path, labels = path_of(path), None if labels is None else str(labels)
    if vectors is not None:  # names of columns may be numbers
        several = isinstance(vectors, Iterable) and not isinstance(vectors, str)
        vectors = [*map(str, vectors)] if several else str(vectors)
    if path.is_dir():
        raise CltoolsError(f"{path} is a folder; name the file in it that holds the embeddings.")
    readers = {".npy": _from_numpy, ".npz": _from_numpy, ".parquet": _from_parquet}
    if (ending := path.suffix.lower()) not in readers:
        raise CltoolsError(f"{path} ends in {path.suffix!r}; embeddings can be read from {', '.join(readers)}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; check the path to your embeddings.")
    rows, classes = readers[ending](path, labels, vectors)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.size:
        raise CltoolsError(f"{path} holds {rows.dtype} {[*rows.shape]}; give numbers [rows, d], an embedding per row.")
    if classes is not None and classes.shape[:1] != (len(rows),):
        raise CltoolsError(f"{path} holds labels {[*classes.shape]} for {len(rows)} embeddings; give one per row.")
    return rows, classes


ROOM, RATIO = 2**26, 50
"""Unpacked bytes allowed for any archive, and the largest ratio for larger ones: embeddings hardly compress."""


def load_arrays(path: Path, asked: Collection[str | None] | None = None) -> Any:
    """Return the array of an `.npy`, or those of an `.npz` by name; neither objects nor huge archives are read.

    In place of an array of objects that is not among those `asked` for, there is an empty one; None asks for all.

    Raises:
        Exception: an error of zipfile, zlib or NumPy for damaged files; a CltoolsError for an archive that unpacks to
            many times its size or holds a name twice, and if memory is exhausted.
    """
    if is_zipfile(path):
        with ZipFile(path) as archive:
            members = archive.infolist()
        if (unpacked := sum(member.file_size for member in members)) > max(ROOM, RATIO * path.stat().st_size):
            raise CltoolsError(f"it unpacks to {unpacked / 1e6:,.0f} MB, many times its size; write it with np.savez")
    with path.open("rb") as file:
        try:
            data = np.load(file, allow_pickle=False)
            return data if isinstance(data, np.ndarray) else {name: _member(data, name, asked) for name in data.files}
        except (MemoryError, ValueError) as error:
            pickled = "pickle" in str(error)  # NumPy advises to allow pickles, which would run code from the file
            reason = "it is not an .npy or .npz file, or holds Python objects" if pickled else str(error)
            raise CltoolsError(reason) from error


def _member(data: Any, name: str, asked: Collection[str | None] | None) -> np.ndarray:
    try:
        return np.asarray(data[name])
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        if asked is None or name in asked:
            raise CltoolsError(f"its array {shown(name)} holds Python objects") from error
        return np.empty(0, object)


def _from_numpy(path: Path, labels: str | None, vectors: Vectors) -> tuple[np.ndarray, np.ndarray | None]:
    with reading(f"{path} cannot be read", "Write it again with np.save or np.savez, with numbers and not objects."):
        arrays = load_arrays(path, (labels, vectors) if isinstance(vectors, str | None) else ())
    if isinstance(arrays, np.ndarray):
        if labels is None and vectors is None:
            return arrays, None
        raise CltoolsError(f"{path} holds one unnamed array; read labels from another file with np.load.")
    if {"about", "anchors", "keys"} <= arrays.keys():
        raise CltoolsError(f"{path} is a snapshot; read it with load_snapshot, or give a file of embeddings.")
    if not isinstance(vectors, str | None):
        raise CltoolsError(f"{path} is not a table; name one array with vectors=….")
    _check_names(path, arrays, labels, vectors)
    if vectors is None:
        able = [name for name, x in arrays.items() if x.ndim == 2 and x.dtype.kind == "f" and name != labels]
        vectors = _only(path, able, {name: f"{x.dtype} {[*x.shape]}" for name, x in arrays.items()})
    return arrays[vectors], None if labels is None else arrays[labels]


def _from_parquet(path: Path, labels: str | None, vectors: Vectors) -> tuple[np.ndarray, np.ndarray | None]:
    from pandas import read_parquet

    remedy = "This needs pyarrow: pip install pyarrow. Or save the embeddings with np.save instead of as a table."
    with reading(f"{path} cannot be read as a Parquet table", remedy):
        named = {str(name): column for name, column in read_parquet(path, engine="pyarrow").items()}
    _check_names(path, named, labels, *([vectors] if isinstance(vectors, str | None) else vectors))
    if not (vectors is None or vectors):
        raise CltoolsError("vectors is empty; name at least one column, or leave it out.")
    if vectors is None:
        lists, candidates = _candidates({name: column for name, column in named.items() if name != labels})
        kinds = {name: "lists" if name in lists else str(column.dtype) for name, column in named.items()}
        able = [name for name, of in candidates.items() if name in lists or max(len(of), len(candidates)) > 1]
        vectors = first if (first := _only(path, able, kinds)) in lists else candidates[first]
        taken = f"column {first} of lists" if first in lists else f"{len(vectors)} columns {first} … {vectors[-1]}"
        tqdm.write(printable(f"{path}: the embeddings are its {taken}."), sys.stderr)
    if not isinstance(vectors, str):
        with reading(f"The columns of {path} that vectors= names are no embeddings", "Name columns of numbers."):
            rows = np.column_stack([named[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in vectors])
    else:
        for row, each in enumerate(named[vectors]):
            if not _is_list(each) or len(each) != len(named[vectors].iloc[0]):
                wrong = f"Row {row} of column {shown(vectors)} of {path} is {shown(each)}"
                raise CltoolsError(f"{wrong}; give lists of numbers of one length, or leave the row out.")
        rows = np.stack([*named[vectors]])
    return rows, None if labels is None else named[labels].to_numpy(dtype=object, na_value=None)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _candidates(columns: Mapping[str, Any]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of columns of lists, and all that may be embeddings, each by the name of its first column.

    Beside lists, these are columns of numbers whose names are one prefix with consecutive numbers; without any list,
    also each other column whose name ends in a number or that holds floating-point numbers.
    """
    lists = [name for name, each in columns.items() if each.dtype == object and any(map(_is_list, each))]
    kinds = {name: each.dtype.kind for name, each in columns.items() if each.dtype.kind in "fiu"}
    stems = {name: re.sub(r"(?<!\d)\d{1,9}$", "", name) for name in kinds}
    numbered = sorted((stem, int(name[len(stem) :]), name) for name, stem in stems.items() if name != stem)
    runs = groupby(enumerate(numbered), lambda each: (each[1][0], each[1][1] - each[0]))
    found = [[name for _, (*_, name) in run] for _, run in runs]
    found += [[name] for name, kind in kinds.items() if kind == "f" and stems[name] == name]
    return lists, {name: [name] for name in lists} | {of[0]: of for of in found if len(of) > 1 or not lists}


def _check_names(path: Path, known: Mapping[str, Any], *names: str | None) -> None:
    for name in names:
        if name is not None and name not in known:
            raise unknown(f"array or column of {path.name}", name, known)


def _only(path: Path, able: list[str], all_of: Mapping[str, str]) -> str:
    if len(able) == 1:
        return able[0]
    listed = ", ".join(f"{name[:LONGEST]} ({kind})" for name, kind in all_of.items()) or "nothing"
    which = "Several could be the embeddings" if able else "None is an array or a column of embeddings"
    how = f"vectors=…, or a column for each number: vectors=[…] (in a command {path}:NAME or {path}:NAME,NAME,…)"
    raise CltoolsError(f"{path} holds {listed}. {which}: name one with {how}.")
