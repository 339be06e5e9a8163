"""Numbers as people hand them in, and checks of vectors: cosines mean something only for finite unit vectors."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Number, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from cltools.errors import SEED, CltoolsError, check_number, described, shown

Numbers = Any
"""What public functions take for a tensor: a tensor, an array of any library, a column or a table of pandas, or lists
of numbers or of tensors. `as_tensor` refuses what else it may be."""

TOLERANCE = 1e-3
"""How far |z|² may be from 1, for float32 and float64."""
HALF_TOLERANCE = 2e-2
"""How far |z|² may be from 1, for float16 and bfloat16, which keep two to three digits."""
UNKNOWN = -1
"""The label of what has no known class."""


@contextmanager
def as_usual() -> Iterator[None]:
    """What torch makes by default: float32 on the CPU, and what can be learned from, whatever is set around."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that begins at a seed; raises ValueError for what is none."""
    return torch.Generator(device).manual_seed(check_number("The seed", seed, SEED))


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Say how much memory something would take, and what takes less, where there is too little; a ValueError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not re.search("memory|overflow", str(error)):
            raise
        asked = re.search(r"allocate ([\d.]+) (\w+)", str(error))
        count, unit = asked.groups() if asked else ("very many", "bytes")
        size = f"{int(count) / 1e9:,.1f} GB" if count.isdigit() else f"{count} {unit}"
        raise CltoolsError(f"{what} would take {size} of memory, and there is not as much. {remedy}") from error


def as_tensor(name: str, numbers: Numbers, device: torch.device | None = None) -> Tensor:
    """The numbers as a tensor. A tensor is returned as it is and an array keeps its type; fractions become float32.

    Args:
        name: what an error calls them.
        numbers: real numbers or truth values, of any shape.
        device: where those go that are no tensor; None for the CPU, or where the array lies.

    Raises:
        TypeError: something that is no array of numbers, or of which a part is masked or missing.
        ValueError: complex numbers, or a sparse tensor.
    """
    try:
        found = numbers if isinstance(numbers, Tensor) else _read(numbers).to(device)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name} is no array of numbers ({error}). Give a tensor, a NumPy array or lists.") from error
    if found.is_complex() or found.layout != torch.strided:
        raise CltoolsError(f"{name} are {found.dtype} {[*found.shape]}, {found.layout}; give real numbers, and all.")
    return found


def _read(given: Any) -> Tensor:
    """What is no tensor, as one."""
    if isinstance(given, list | tuple) and given and all(isinstance(row, Tensor) for row in given):
        return torch.stack([*given])
    if hasattr(given, "__dlpack__") and not isinstance(given, np.ndarray):
        return torch.utils.dlpack.from_dlpack(given)
    if np.ma.is_masked(given):
        raise TypeError("some of it is masked")
    array = np.asarray(given)
    if array.dtype == object:
        values = array.ravel().tolist()
        if strange := [value for value in values if not isinstance(value, Real)]:
            raise TypeError(f"it holds {shown(strange[0])}")
        array = np.array(values).reshape(array.shape)
    if array.dtype.kind == "u" and array.itemsize > 1:  # torch hardly computes with these
        if array.max(initial=0) >= 2**63:
            raise TypeError(f"it holds {array.max()}, which is too large")
        array = array.astype(np.int64)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if array.dtype == np.float64 and not isinstance(given, np.ndarray):
        size, held = np.abs(np.atleast_1d(array)).max(-1, initial=0), np.finfo(np.float32)
        lost = ((size > held.max) & np.isfinite(size)) | ((size > 0) & (size < held.tiny))
        array = array if lost.any() else array.astype(np.float32)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch knows the machine's own order alone
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def as_rows(name: str, numbers: Numbers) -> Tensor:
    """Vectors [N, d] as a tensor; what a pooling leaves, [N, d, 1, 1], is flattened.

    Raises:
        TypeError: something that is no array of numbers.
        ValueError: another shape, or truth values.
    """
    x = as_tensor(name, numbers)
    x = x.flatten(1) if x.ndim > 2 and x.shape[2:].numel() == 1 else x
    if x.ndim != 2 or x.dtype == torch.bool:
        wrong = f"{name} are {x.dtype} {[*x.shape]}; give real numbers [rows, d], a vector per row."
        raise CltoolsError(wrong + " Take the mean of feature maps over height and width." * (x.ndim == 4))
    return x


def as_ids(name: str, given: Numbers, device: torch.device | None = None) -> Int64[Tensor, " N"]:
    """Whole numbers of any type, one per row; raises ValueError for others."""
    found = as_tensor(name, given, device)
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.ndim != 1 or found.is_floating_point() or found.dtype == torch.bool:
        raise CltoolsError(f"{name} are {found.dtype} {[*found.shape]}; give whole numbers, integers, one per row.")
    return found.long()


def as_labels(name: str, *given: Any, device: torch.device | None = None) -> list[Int64[Tensor, " N"]]:
    """Labels of one or several sets of rows as whole numbers, below 0 where unknown; see `label_values`.

    Texts become places among all that occur in these sets, in the order of the alphabet. With a device all go there.

    Raises:
        ValueError: labels that are no classes, or texts in one set and numbers in another.
    """
    sides = [label_values(name, each) for each in given]
    names = sorted({text for side in sides if isinstance(side, list) for text in side if text is not None})
    if names and any(isinstance(side, Tensor) and bool((side >= 0).any()) for side in sides):
        raise CltoolsError(f"Some {name} are text and some are numbers; make all of one kind.")
    found = [places(side, names) if isinstance(side, list) else side for side in sides]
    return [side if device in (None, side.device) else side.to(device) for side in found]


def places(texts: Iterable[str | None], names: Sequence[str]) -> Int64[Tensor, " N"]:
    """The place of each text among the names, -1 where it is unknown."""
    place: dict[str | None, int] = {None: UNKNOWN} | {name: i for i, name in enumerate(names)}
    return torch.tensor([place[text] for text in texts], dtype=torch.int64, device="cpu")


def label_values(name: str, given: Any) -> Int64[Tensor, " N"] | list[str | None]:
    """A set of labels: as whole numbers, below 0 where unknown, or as texts, None where unknown.

    Args:
        name: what an error calls them.
        given: whole numbers of any type, also written as fractions, texts or bytes, one per row or in a column [N, 1];
            or one-hot rows [N, C]. None, NaN, pandas' NA, "" and numbers below 0 are unknown. A tensor of integers
            [N] stays on its device, which nobody waits for.

    Raises:
        ValueError: labels that are no classes, such as fractions, or rows of several numbers that are not one-hot.
    """
    exact = 2.0**53
    if hasattr(given, "__dlpack__") and not isinstance(given, np.ndarray):
        found = as_tensor(name, given).detach()
        if found.ndim == 1 and not found.is_floating_point():
            return found.long()
        if found.is_floating_point():
            exact, found = 2 / torch.finfo(found.dtype).eps, found.double()
        given = found.cpu().numpy()
    check_listed(name, given)
    if isinstance(given, np.ma.MaskedArray):
        given = given.tolist()  # None where it is masked
    array = np.asarray(given) if hasattr(given, "__array__") else np.array([*given], dtype=object)
    exact = min(exact, float(2 / np.finfo(array.dtype).eps)) if array.dtype.kind == "f" else exact
    fractions = array.dtype.kind == "f" and bool(((array != np.trunc(array)) | (np.abs(array) >= exact)).any())
    if fractions or array.dtype.kind not in "bif":
        values = [as_label(name, value, exact) for value in array.ravel().tolist()]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {str} and array.size == len(array):
            return values
        if str in kinds:
            raise CltoolsError(f"Some {name} are text and some are numbers, or a row has several; give one a row.")
        array = np.array([UNKNOWN if value is None else value for value in values], np.int64).reshape(array.shape)
    labels = torch.from_numpy(array.astype(np.int64))
    if labels.ndim == 2 and labels.shape[1] > 1:
        if bool(((labels != 0) & (labels != 1)).any() | (labels.sum(1) != 1).any()):
            raise _no_class(name, f"{shown(labels[0].tolist())} of row 0")
        return labels.argmax(1)
    if labels.ndim == 0 or labels.numel() != len(labels):
        raise _no_class(name, f"{[*labels.shape]}")
    return labels.flatten()


def check_listed(name: str, given: Any) -> None:
    """Refuse what does not hold a value per row, in an order."""
    if isinstance(given, str | bytes | Mapping | set | frozenset) or not hasattr(given, "__iter__"):
        raise CltoolsError(f"{name} are {described(given)}; give a list or an array, a value per row.")


def missing(value: Any) -> bool:
    """Whether it stands for nothing: None, NaN, or what pandas writes for it."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def as_label(name: str, value: Any, exact: float = 2.0**53) -> Any:
    """One label as a whole number or a text; None where it is unknown.

    Fractions are refused from `exact` on, where those of their type are no longer one apart.
    """
    value = value.item() if isinstance(value, Tensor | np.generic) and value.ndim == 0 else value
    value = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and value % 1 == 0:
        if abs(value) >= (exact if isinstance(value, float) else 2**63):
            raise CltoolsError(f"The label {shown(value)} is too large ({name}); give integers below 2**63 or text.")
        return int(value)
    if hasattr(value, "__len__") or (isinstance(value, Number) and not missing(value)):
        raise _no_class(name, shown(value))
    return None if missing(value) else str(value)  # such as a date


def _no_class(name: str, label: object) -> CltoolsError:
    return CltoolsError(f"The label {label} is no whole number ({name}); give classes as whole numbers or text.")


def unit_rows(name: str, numbers: Numbers) -> Float32[Tensor, "N d"]:
    """The rows scaled to length 1, on the CPU.

    Args:
        name: what an error calls them.
        numbers: [N, d], real and of any size.

    Raises:
        TypeError: something that is no array of numbers.
        ValueError: another shape or kind of number, or rows that have no direction, with their places.
    """
    x = as_rows(name, numbers).detach().cpu()
    for wrong, what in (
        (~x.isfinite().all(1), "hold numbers that are not finite (NaN or infinite)"),
        ((x == 0).all(1), "are all zeros, which have no direction"),
    ):
        if bool(wrong.any()):
            places = [str(place) for place in wrong.nonzero()[:, 0].tolist()]
            listed = ", ".join(places[:5] + ["…"] * (len(places) > 5))
            raise CltoolsError(f"{len(places)} of {len(x)} rows of {name} {what}: {listed}. Leave them out.")
    x = x if x.dtype == torch.float64 else x.float()
    # divided by the largest part first, so that no square is 0 or infinite
    return torch.nn.functional.normalize((x / x.abs().amax(1, keepdim=True)).float(), dim=1)


def moderate(x: Tensor, dim: int) -> Tensor:
    """What to divide each row (dim 1) or column (dim 0) by, so that float32 holds its squares: its largest part.

    It is 1 where that is of usual size, so that nothing changes there.
    """
    largest = x.abs().amax(dim, keepdim=True)
    return largest.where((largest > 1e15) | ((largest > 0) & (largest < 1e-12)), 1)


def to_length_1(x: Float[Tensor, "N d"]) -> Float32[Tensor, "N d"]:
    """Rows of finite numbers scaled to length 1, of any size; rows of zeros stay."""
    x = x if x.dtype == torch.float64 else x.float()
    return torch.nn.functional.normalize((x / moderate(x, 1)).float(), dim=1)


CHECKED_ON_CUDA: set[tuple[str, torch.Size]] = set()
"""Names and shapes that were looked at. On CUDA a check waits for the device, so it is made at the first call only."""


def check_unit(name: str, vectors: Tensor, check: bool | None = None) -> None:
    """Refuse vectors that are not finite or not of unit length.

    Args:
        name: what the error calls them.
        vectors: [N, d], of any floating type; N may be 0.
        check: True always looks and False never does. None looks always on a CPU, at the first call of a name and
            shape on CUDA, and never while a function is compiled or a CUDA graph is captured.

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
    wrong = ~((square - 1).abs() <= tolerance)  # also where it is not a number
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        if not bool(vectors[row].isfinite().all()):
            raise CltoolsError(f"{name} has a vector that is not finite, at row {row}; look for NaN where it was made.")
        told = f"{name} has vectors that are not of unit length: |z|² is {float(square[row]):.4g} at row {row}."
        raise CltoolsError(f"{told} Give torch.nn.functional.normalize({name}, dim=1).")
