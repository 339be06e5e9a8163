"""Embeddings in a file that another program wrote: NumPy's, or a table.

Legend: N rows, d embedding.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from cltools.errors import CltoolsError, unknown


def read_embeddings(
    path: str | Path, *, labels: str | None = None, vectors: str | None = None
) -> tuple[Shaped[ndarray, "N d"], Shaped[ndarray, " N"] | None]:
    """Embeddings and labels, as `snapshot_of_embeddings` takes them; it checks the numbers.

    Args:
        path: `.npy`, one array [N, d]; `.npz`, an archive of arrays; or `.parquet`, a table with a column of lists, or
            with a column for each number. Pickled objects are not read.
        labels: which array or column holds the labels; None for none.
        vectors: which array, or column of lists, holds the embeddings. None takes the only one that can; of a table
            without lists all columns of fractions but the labels.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an ending that is not known, a file that is damaged or holds objects, a name that it does not hold,
            several arrays that could be meant, something else than rows of numbers, or nothing that reads Parquet.
    """
    path = Path(path).expanduser()
    readers = {".npy": _from_numpy, ".npz": _from_numpy, ".parquet": _from_parquet}
    if path.suffix not in readers:
        raise CltoolsError(f"{path} ends in {path.suffix!r}; embeddings are read from {', '.join(readers)}.")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; check the path to your embeddings.")
    rows, classes = readers[path.suffix](path, labels, vectors)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise CltoolsError(f"{path} holds {rows.dtype} {[*rows.shape]}; give numbers [rows, d], an embedding per row.")
    return rows, classes


def _from_numpy(path: Path, labels: str | None, vectors: str | None) -> tuple[ndarray, ndarray | None]:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, ndarray):
                found = {name: np.asarray(found[name]) for name in found.files}
    except Exception as error:  # zipfile, zlib and numpy's reader of headers raise kinds of their own
        raise CltoolsError(f"{path} cannot be read: it is damaged, or holds objects, not numbers ({error}).") from error
    if isinstance(found, ndarray):
        if labels is None and vectors is None:
            return found, None
        raise CltoolsError(
            f"{path} holds one array without a name. Read labels from a file of their own, with np.load, and give them "
            "to snapshot_of_embeddings(labels=…)."
        )
    _check_names(path, found, labels, vectors)
    if vectors is None:
        able = [name for name, array in found.items() if array.ndim == 2 and array.dtype.kind == "f" and name != labels]
        vectors = _only(path, able, {name: f"{a.dtype} {[*a.shape]}" for name, a in found.items()})
    return found[vectors], None if labels is None else found[labels]


def _from_parquet(path: Path, labels: str | None, vectors: str | None) -> tuple[ndarray, ndarray | None]:
    from pandas import read_parquet

    try:
        named = {str(name): column for name, column in read_parquet(path, engine="pyarrow").items()}
    except ImportError as error:
        raise CltoolsError(
            f"{path} is a Parquet table, which needs pyarrow: pip install pyarrow. Or save the embeddings with np.save "
            "where the table was made."
        ) from error
    except (OSError, ValueError) as error:  # pyarrow's errors are of these
        raise CltoolsError(f"{path} cannot be read as a Parquet table: {error}") from error
    _check_names(path, named, labels, vectors)
    able = {name: column for name, column in named.items() if name != labels}
    lists = [name for name, each in able.items() if len(each) and isinstance(each.iloc[0], list | tuple | ndarray)]
    numbers = [name for name, each in able.items() if each.dtype.kind == "f"]
    if vectors is None and not lists and numbers:
        rows = np.column_stack([named[name].to_numpy(dtype=np.float64) for name in numbers])
    else:
        kinds = {name: "lists" if name in lists else str(column.dtype) for name, column in named.items()}
        column = named[_only(path, lists, kinds) if vectors is None else vectors]
        lengths = sorted({np.shape(row) for row in column})
        if len(lengths) != 1 or len(lengths[0]) != 1:
            raise CltoolsError(
                f"Rows of {path} have shapes {[[*shape] for shape in lengths[:3]]}; give [d], all alike."
            )
        rows = np.stack([*column])
    return rows, None if labels is None else named[labels].to_numpy(dtype=object, na_value=None)


def _check_names(path: Path, found: Mapping[str, Any], *names: str | None) -> None:
    for name in names:
        if name is not None and name not in found:
            raise unknown(f"array or column of {path.name}", name, found)


def _only(path: Path, able: list[str], all_of: Mapping[str, str]) -> str:
    if len(able) == 1:
        return able[0]
    listed = ", ".join(f"{name} ({kind})" for name, kind in all_of.items()) or "nothing"
    which = "Several could be the embeddings" if able else "None is an array or a column of embeddings"
    raise CltoolsError(f"{path} holds {listed}. {which}: name one with vectors=….")
