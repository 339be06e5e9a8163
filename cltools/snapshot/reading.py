"""Embeddings in a file that another program wrote: NumPy's, or a table.

Legend: N rows, d embedding.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
from jaxtyping import Shaped
from tqdm.auto import tqdm

from cltools.errors import LONGEST, CltoolsError, shown, unknown
from cltools.files import reading

Vectors = str | Sequence[str] | None


def read_embeddings(
    path: str | Path, *, labels: str | None = None, vectors: Vectors = None
) -> tuple[Shaped[np.ndarray, "N d"], Shaped[np.ndarray, " N"] | None]:
    """Embeddings and labels, as `snapshot_of_embeddings` takes them; it checks the numbers.

    Args:
        path: `.npy`, one array [N, d]; `.npz`, an archive of arrays; or `.parquet`, a table with a column of lists, or
            with a column for each number. Pickled objects are not read.
        labels: which array or column holds the labels; None for none.
        vectors: which array, or column of lists, holds the embeddings; or the columns of a table, in order. None takes
            the only one that can; of a table without lists the columns of fractions but the labels, if their names are
            one word and numbers (z0, z1, …), in the order of the numbers, and a line on standard error says so.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an ending that is not known, a file that is damaged or holds objects, a name that it does not hold,
            several arrays or columns that could be meant, something else than rows of numbers, as many labels as there
            are no rows, or nothing that reads Parquet.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise CltoolsError(f"{path} is a folder; name the file in it that holds the embeddings.")
    readers = {".npy": _from_numpy, ".npz": _from_numpy, ".parquet": _from_parquet}
    if path.suffix not in readers:
        raise CltoolsError(f"{path} ends in {path.suffix!r}; embeddings are read from {', '.join(readers)}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; check the path to your embeddings.")
    rows, classes = readers[path.suffix](path, labels, vectors)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not rows.size:
        raise CltoolsError(f"{path} holds {rows.dtype} {[*rows.shape]}; give numbers [rows, d], an embedding per row.")
    if classes is not None and classes.shape[:1] != (len(rows),):
        raise CltoolsError(f"{path} holds labels {[*classes.shape]} for {len(rows)} embeddings; give one per row.")
    return rows, classes


ROOM, RATIO = 2**26, 50
"""Bytes that any archive may unpack to, and how many times its own size a larger one may: embeddings hardly shrink."""


def load_arrays(path: Path) -> Any:
    """The array of an `.npy`, or those of an `.npz` by name; objects are not read, and nothing that fills the memory.

    Raises:
        Exception: what zipfile, zlib and NumPy raise of damaged files; CltoolsError for an archive that unpacks to a
            multiple of its size, or that holds a name twice, and for what fills the memory.
    """
    if is_zipfile(path):
        with ZipFile(path) as archive:
            members = archive.infolist()
        if (unpacked := sum(member.file_size for member in members)) > max(ROOM, RATIO * path.stat().st_size):
            raise CltoolsError(f"it unpacks to {unpacked / 1e6:,.0f} MB; what shall be so is written by np.savez")
        if len({member.filename for member in members}) < len(members):
            raise CltoolsError("a name stands in it twice")
    with path.open("rb") as file:
        try:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else {name: np.asarray(found[name]) for name in found.files}
        except (MemoryError, ValueError) as error:
            advised = "pickle" in str(error)  # by NumPy, and unpickling would run what the file says
            reason = "it is no .npy or .npz, or one of Python's objects" if advised else str(error)
            raise CltoolsError(reason) from error


def _from_numpy(path: Path, labels: str | None, vectors: Vectors) -> tuple[np.ndarray, np.ndarray | None]:
    with reading(f"{path} cannot be read", "Write it anew with np.save or np.savez, of numbers and not of objects."):
        found = load_arrays(path)
    if isinstance(found, np.ndarray):
        if labels is None and vectors is None:
            return found, None
        raise CltoolsError(f"{path} holds one array without a name; read labels from another file, with np.load.")
    if {"about", "anchors", "keys"} <= found.keys():
        raise CltoolsError(f"{path} is a snapshot, which load_snapshot reads; embeddings are a file of their own.")
    if not isinstance(vectors, str | None):
        raise CltoolsError(f"{path} is no table of columns; name one array with vectors=….")
    _check_names(path, found, labels, vectors)
    if vectors is None:
        able = [name for name, array in found.items() if array.ndim == 2 and array.dtype.kind == "f" and name != labels]
        vectors = _only(path, able, {name: f"{a.dtype} {[*a.shape]}" for name, a in found.items()})
    return found[vectors], None if labels is None else found[labels]


def _from_parquet(path: Path, labels: str | None, vectors: Vectors) -> tuple[np.ndarray, np.ndarray | None]:
    from pandas import read_parquet

    remedy = "It needs pyarrow: pip install pyarrow. Or save the embeddings with np.save where the table was made."
    with reading(f"{path} cannot be read as a Parquet table", remedy):
        named = {str(name): column for name, column in read_parquet(path, engine="pyarrow").items()}
    _check_names(path, named, labels, *([vectors] if isinstance(vectors, str | None) else vectors))
    able = {name: column for name, column in named.items() if name != labels}
    lists = [name for name, each in able.items() if len(each) and isinstance(each.iloc[0], list | tuple | np.ndarray)]
    numbers = [name for name, each in able.items() if each.dtype.kind == "f"]
    if vectors is None and not lists and numbers:
        vectors = _family(path, numbers)
    if not isinstance(vectors, str | None):
        rows = np.column_stack([named[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in vectors])
    else:
        kinds = {name: "lists" if name in lists else str(column.dtype) for name, column in named.items()}
        column = named[_only(path, lists, kinds) if vectors is None else vectors]
        lengths = sorted({np.shape(row) for row in column})
        if len(lengths) != 1 or len(lengths[0]) != 1:
            shapes = [[*shape] for shape in lengths[:3]]
            raise CltoolsError(f"Rows of {path} have shapes {shapes}; give [d], all alike.")
        rows = np.stack([*column])
    return rows, None if labels is None else named[labels].to_numpy(dtype=object, na_value=None)


def _family(path: Path, names: list[str]) -> list[str]:
    """The columns by their numbers, if they are numbered and called the same; a line says which they are."""
    found = [re.fullmatch(r"(.*?)(\d+)", name) for name in names]
    if not all(found) or len({each[1] for each in found if each}) > 1:
        listed = ", ".join(map(shown, names[:12])) + ", …" * (len(names) > 12)
        wrong = f"{path} holds columns of fractions that are not of one name with numbers, as z0, z1, … are: {listed}."
        raise CltoolsError(f"{wrong} Name those of the embeddings: vectors=[…], in order.")
    names = [name for _, name in sorted((int(each[2]), each[0]) for each in found if each)]
    tqdm.write(f"{path}: the embeddings are its {len(names)} columns {names[0]} … {names[-1]}.", sys.stderr)
    return names


def _check_names(path: Path, found: Mapping[str, Any], *names: str | None) -> None:
    for name in names:
        if name is not None and name not in found:
            raise unknown(f"array or column of {path.name}", name, found)


def _only(path: Path, able: list[str], all_of: Mapping[str, str]) -> str:
    if len(able) == 1:
        return able[0]
    listed = ", ".join(f"{name[:LONGEST]} ({kind})" for name, kind in all_of.items()) or "nothing"
    which = "Several could be the embeddings" if able else "None is an array or a column of embeddings"
    raise CltoolsError(f"{path} holds {listed}. {which}: name one with vectors=….")
