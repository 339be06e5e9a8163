"""Conversion of the user's numbers to tensors, and checks of vectors, since cosines need finite unit vectors."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Number, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from cltools.errors import SEED, CltoolsError, check_number, described, shown

Numbers = Any
"""What public functions accept as a tensor: a tensor, an array of any library, a pandas column or table, or lists of
numbers or of tensors. `as_tensor` refuses anything else."""

TOLERANCE = 1e-3
"""How far |z|² may be from 1, for float32 and float64."""
HALF_TOLERANCE = 2e-2
"""How far |z|² may be from 1, for float16 and bfloat16, which keep two to three digits."""
UNKNOWN = -1
"""The label of a sample whose class is unknown."""


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Create tensors by torch's defaults, float32 on the CPU and outside of inference mode, whatever the caller set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator with this seed; raise ValueError for an invalid one."""
    return torch.Generator(device).manual_seed(check_number("The seed", seed, SEED))


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Turn a lack of memory in the block into a ValueError that says how much is needed, and the remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not re.search("memory|overflow", str(error)):
            raise
        amount = re.search(r"allocate ([\d.]+) (\w+)", str(error))
        count, unit = amount.groups() if amount else ("very many", "bytes")
        size = f"{int(count) / 1e9:,.1f} GB" if count.isdigit() else f"{count} {unit}"
        raise CltoolsError(f"{what} would take {size} of memory, more than is available. {remedy}") from error


def as_tensor(name: str, numbers: Numbers, device: torch.device | None = None) -> Tensor:
    """Convert numbers to a tensor. A tensor is unchanged, an array keeps its dtype, floats in lists become float32.

    Args:
        name: how an error names them.
        numbers: real numbers or booleans, of any shape.
        device: device for inputs that are not tensors; None for the CPU, or the array's own device.

    Raises:
        TypeError: something that is not an array of numbers, or has masked or missing entries.
        ValueError: complex numbers, or a sparse tensor.
    """
    try:
        x = numbers if isinstance(numbers, Tensor) else _read(numbers).to(device)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name} is not an array of numbers ({error}). Give a tensor, an array or lists.") from error
    if x.is_complex() or x.layout != torch.strided:
        raise CltoolsError(f"{name} are {x.dtype} {[*x.shape]}, {x.layout}; give real numbers in a dense tensor.")
    return x


def _read(given: Any) -> Tensor:
    """Convert an input that is not a tensor."""
    if isinstance(given, list | tuple) and given and all(isinstance(row, Tensor) for row in given):
        return torch.stack([*given])
    if hasattr(given, "__dlpack__") and not isinstance(given, np.ndarray):
        return torch.utils.dlpack.from_dlpack(given)
    if np.ma.is_masked(given):
        raise TypeError("some of it is masked")
    array = np.asarray(given)
    if array.dtype == object and array.ndim == 1 and len(array) and isinstance(array[0], np.ndarray | list | tuple):
        array = np.stack([*array])  # a column of vectors
    if array.dtype == object:
        values = array.ravel().tolist()
        if strange := [value for value in values if not isinstance(value, Real)]:
            raise TypeError(f"it holds {shown(strange[0])}")
        array = np.array(values).reshape(array.shape)
    if array.dtype.kind == "u" and array.itemsize > 1:  # torch supports few operations on these types
        if array.max(initial=0) >= 2**63:
            raise TypeError(f"it holds {array.max()}, which is too large")
        array = array.astype(np.int64)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if array.dtype == np.float64 and not isinstance(given, np.ndarray):
        size, limits = np.abs(np.atleast_1d(array)).max(-1, initial=0), np.finfo(np.float32)
        lost = ((size > limits.max) & np.isfinite(size)) | ((size > 0) & (size < limits.tiny))
        array = array if lost.any() else array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch supports only native byte order
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def as_rows(name: str, numbers: Numbers) -> Tensor:
    """Convert vectors [N, d] to a tensor; pooled feature maps [N, d, 1, 1] are flattened.

    Raises:
        TypeError: something that is not an array of numbers.
        ValueError: another shape, booleans, or a table that also has columns of another kind, such as an id.
    """
    columns = [str(column) for column in getattr(numbers, "columns", ())]
    stems = {column.rstrip("0123456789") for column in columns}
    if len(stems) > 1 and stems != {*columns}:  # some are numbered and some are not
        raise CltoolsError(f"{name} has the columns {shown(columns)}; choose those of the vectors: df[[…]].")
    x = as_tensor(name, numbers)
    x = x.flatten(1) if x.ndim > 2 and x.shape[2:].numel() == 1 else x
    if x.ndim != 2 or x.dtype == torch.bool:
        wrong = f"{name} are {x.dtype} {[*x.shape]}; give real numbers [rows, d], a vector per row."
        raise CltoolsError(wrong + " Take the mean of feature maps over height and width." * (x.ndim == 4))
    return x


def as_ids(name: str, given: Numbers, device: torch.device | None = None) -> Int64[Tensor, " N"]:
    """Convert integers of any dtype, one per row, to int64; raise ValueError for anything else."""
    ids = as_tensor(name, given, device)
    ids = ids[:, 0] if ids.ndim == 2 and ids.shape[1] == 1 else ids
    if ids.ndim != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise CltoolsError(f"{name} are {ids.dtype} {[*ids.shape]}; give whole numbers, integers, one per row.")
    return ids.long()


def as_labels(name: str, *given: Any, device: torch.device | None = None) -> list[Int64[Tensor, " N"]]:
    """Convert the labels of one or several sets of rows to integers, below 0 where unknown; see `label_values`.

    Texts become indices into the sorted list of all texts in these sets. If a device is given, all are moved there.

    Raises:
        ValueError: labels that are not classes, or text in one set and numbers in another.
    """
    sides = [label_values(name, each) for each in given]
    names = sorted({text for side in sides if isinstance(side, list) for text in side if text is not None})
    if names and any(isinstance(side, Tensor) and bool((side >= 0).any()) for side in sides):
        raise CltoolsError(f"Some {name} are text and some are numbers; make all of one kind.")
    labels = [indices(side, names) if isinstance(side, list) else side for side in sides]
    return [side if device in (None, side.device) else side.to(device) for side in labels]


def indices(texts: Iterable[str | None], names: Sequence[str]) -> Int64[Tensor, " N"]:
    """Return the index of each text in `names`, -1 where the text is None."""
    index: dict[str | None, int] = {None: UNKNOWN} | {name: i for i, name in enumerate(names)}
    return torch.tensor([index[text] for text in texts], dtype=torch.int64, device="cpu")


def label_values(name: str, given: Any) -> Int64[Tensor, " N"] | list[str | None]:
    """Convert a set of labels to integers, below 0 where unknown, or to a list of texts, None where unknown.

    Args:
        name: how an error names them.
        given: whole numbers of any dtype, floats included, texts or bytes, one per row or in a column [N, 1]; or
            one-hot rows [N, C]. None, NaN, pandas' NA, "" and numbers below 0 are unknown. A tensor of integers [N]
            stays on its device without synchronisation.

    Raises:
        ValueError: labels that are not classes, such as fractions, or rows of several numbers that are not one-hot.
    """
    exact = 2.0**53
    if hasattr(given, "__dlpack__") and not isinstance(given, np.ndarray):
        with suppress(TypeError):  # the __dlpack__ of some libraries refuses texts
            values = as_tensor(name, given).detach()
            if values.ndim == 1 and not values.is_floating_point():
                return values.long()
            if values.is_floating_point():
                exact, values = 2 / torch.finfo(values.dtype).eps, values.double()
            given = values.cpu().numpy()
    check_listed(name, given)
    if isinstance(given, np.ma.MaskedArray):
        given = given.tolist()  # masked entries become None
    array = np.asarray(given) if hasattr(given, "__array__") else np.array([*given], dtype=object)
    exact = min(exact, float(2 / np.finfo(array.dtype).eps)) if array.dtype.kind == "f" else exact
    fractions = array.dtype.kind == "f" and bool(((array != np.trunc(array)) | (np.abs(array) >= exact)).any())
    if fractions or array.dtype.kind not in "bif":
        each = [as_label(name, value, exact) for value in array.ravel().tolist()]
        kinds = {type(value) for value in each if value is not None}
        if kinds == {str} and array.size == len(array):
            return each
        if str in kinds:
            raise CltoolsError(f"Some {name} are text and some are numbers, or a row has several; give one per row.")
        array = np.array([UNKNOWN if value is None else value for value in each], np.int64).reshape(array.shape)
    labels = torch.from_numpy(array.astype(np.int64))
    if labels.ndim == 2 and labels.shape[1] > 1:
        if bool(((labels != 0) & (labels != 1)).any() | (labels.sum(1) != 1).any()):
            raise _no_class(name, f"{shown(labels[0].tolist())} of row 0")
        return labels.argmax(1)
    if labels.ndim == 0 or labels.numel() != len(labels):
        raise _no_class(name, f"{[*labels.shape]}")
    return labels.flatten()


def check_listed(name: str, given: Any) -> None:
    """Refuse anything that is not an ordered collection of values, one per row."""
    if isinstance(given, str | bytes | Mapping | set | frozenset) or not hasattr(given, "__iter__"):
        raise CltoolsError(f"{name} are {described(given)}; give a list or an array, a value per row.")


def missing(value: Any) -> bool:
    """Return True for a missing value: None, NaN, or pandas' NA or NaT."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def as_label(name: str, value: Any, exact: float = 2.0**53) -> Any:
    """Convert one label to an integer or a text; None where it is unknown.

    Floats of at least `exact` are refused, because neighbouring floats of their dtype are more than 1 apart there.
    """
    value = value.item() if isinstance(value, Tensor | np.generic) and value.ndim == 0 else value
    value = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and value % 1 == 0:
        if abs(value) >= (exact if isinstance(value, float) else 2**63):
            raise CltoolsError(f"The label {shown(value)} is too large ({name}); give exact integers or text.")
        return int(value)
    if hasattr(value, "__len__") or (isinstance(value, Number) and not missing(value)):
        raise _no_class(name, shown(value))
    return None if missing(value) else str(value)  # such as a date


def _no_class(name: str, label: object) -> CltoolsError:
    return CltoolsError(f"The label {label} is not a whole number ({name}); give classes as whole numbers or text.")


def unit_rows(name: str, numbers: Numbers) -> Float32[Tensor, "N d"]:
    """Scale rows to length 1, on the CPU.

    Args:
        name: how an error names them.
        numbers: [N, d], real and of any magnitude.

    Raises:
        TypeError: something that is not an array of numbers.
        ValueError: another shape or dtype, or rows that are zero or not finite; the message gives their indices.
    """
    x = as_rows(name, numbers).detach().cpu()
    for wrong, what in (
        (~x.isfinite().all(1), "hold numbers that are not finite (NaN or infinite)"),
        ((x == 0).all(1), "are all zeros, which have no direction"),
    ):
        if bool(wrong.any()):
            rows = [str(row) for row in wrong.nonzero()[:, 0].tolist()]
            listed = ", ".join(rows[:5] + ["…"] * (len(rows) > 5))
            raise CltoolsError(f"{len(rows)} of {len(x)} rows of {name} {what}: {listed}. Leave them out.")
    x = x if x.dtype == torch.float64 else x.float()
    # first divided by the largest component, so that no square underflows or overflows
    return torch.nn.functional.normalize((x / x.abs().amax(1, keepdim=True)).float(), dim=1)


def moderate(x: Tensor, dim: int) -> Tensor:
    """Return divisors of the rows (dim 1) or columns (dim 0) that keep their squares in float32's range.

    The divisor is the largest absolute value, or 1 where that value is moderate, so that nothing changes there.
    """
    largest = x.abs().amax(dim, keepdim=True)
    return largest.where((largest > 1e15) | ((largest > 0) & (largest < 1e-12)), 1)


def to_length_1(x: Float[Tensor, "N d"]) -> Float32[Tensor, "N d"]:
    """Scale rows of finite numbers of any magnitude to length 1; rows of zeros are unchanged."""
    x = x if x.dtype == torch.float64 else x.float()
    return torch.nn.functional.normalize((x / moderate(x, 1)).float(), dim=1)


CHECKED_ON_CUDA: set[tuple[str, torch.Size]] = set()
"""Names and shapes already checked. On CUDA a check waits for the device, so only the first call is checked."""


def check_unit(name: str, vectors: Tensor, check: bool | None = None) -> None:
    """Refuse vectors that are not finite or not of unit length.

    Args:
        name: how the error names them.
        vectors: [N, d], of any floating dtype; N may be 0.
        check: True always checks and False never does. None always checks on a CPU, checks the first call of each name
            and shape on CUDA, and never checks while a function is compiled or a CUDA graph is captured.

    Raises:
        ValueError: a vector that is not finite, or whose |z|² differs from 1 by more than 1e-3 (2e-2 for half
            precision).
    """
    if check is None:
        if torch.compiler.is_compiling():
            return
        if vectors.device.type == "cuda":
            if torch.cuda.is_current_stream_capturing() or (name, vectors.shape) in CHECKED_ON_CUDA:
                return
            CHECKED_ON_CUDA.add((name, vectors.shape))
    if check is False or len(vectors) == 0:
        return
    square = vectors.detach().float().square().sum(1)
    tolerance = HALF_TOLERANCE if vectors.dtype in (torch.float16, torch.bfloat16) else TOLERANCE
    wrong = ~((square - 1).abs() <= tolerance)  # negated so that NaN counts as wrong
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        if not bool(vectors[row].isfinite().all()):
            raise CltoolsError(f"{name} has a vector that is not finite, at row {row}; look for NaN upstream.")
        wrong_length = f"{name} has vectors that are not of unit length: |z|² is {float(square[row]):.4g} at row {row}."
        raise CltoolsError(f"{wrong_length} Give torch.nn.functional.normalize({name}, dim=1).")
