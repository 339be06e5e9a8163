"""Numbers as people hand them in, and checks of vectors: cosines mean something only for finite unit vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import normalize

from cltools.errors import CltoolsError

Numbers = Tensor | ndarray | Sequence[Any]
"""What public functions take for a tensor: a tensor, an array, or lists of numbers."""

TOLERANCE = 1e-3
"""How far |z|² may be from 1, for float32 and float64."""
HALF_TOLERANCE = 2e-2
"""How far |z|² may be from 1, for float16 and bfloat16, which keep two to three digits."""


def as_tensor(name: str, numbers: Numbers, device: torch.device | None = None) -> Tensor:
    """The numbers as a tensor. A tensor is returned as it is and an array keeps its type; fractions become float32.

    Args:
        name: what an error calls them.
        numbers: of any shape.
        device: where those go that are no tensor; None for the CPU.

    Raises:
        TypeError: something that is no array of numbers.
    """
    if isinstance(numbers, Tensor):
        return numbers
    try:
        array = np.asarray(numbers)
        if array.dtype == np.float64 and not isinstance(numbers, ndarray):
            array = array.astype(np.float32)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch knows the machine's own order alone
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is no array of numbers ({error}). Give a tensor, a NumPy array or lists.") from error


def unit_rows(name: str, numbers: Numbers) -> Float32[Tensor, "N d"]:
    """The rows scaled to length 1, on the CPU.

    Args:
        name: what an error calls them.
        numbers: [N, d], real and of any size.

    Raises:
        TypeError: something that is no array of numbers.
        ValueError: another shape or kind of number, or rows that have no direction, with their places.
    """
    x = as_tensor(name, numbers).detach().cpu()
    if x.ndim != 2 or x.is_complex() or x.dtype == torch.bool:
        raise CltoolsError(f"{name} are {x.dtype} {[*x.shape]}; give real numbers [rows, d], a vector per row.")
    for wrong, what in (
        (~x.isfinite().all(1), "hold numbers that are not finite (NaN or infinite)"),
        ((x == 0).all(1), "are all zeros, which have no direction"),
    ):
        if bool(wrong.any()):
            places = wrong.nonzero()[:, 0].tolist()
            listed = ", ".join(map(str, places[:5])) + ", …" * (len(places) > 5)
            raise CltoolsError(f"{len(places)} of {len(x)} rows of {name} {what}: {listed}. Leave them out.")
    x = x if x.dtype == torch.float64 else x.float()
    # divided by the largest part first, so that no square is 0 or infinite
    return normalize((x / x.abs().amax(1, keepdim=True)).float(), dim=1)


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
        raise CltoolsError(
            f"{name} has vectors that are not of unit length: |z|² is {float(square[row]):.4g} at row {row}. "
            f"Give torch.nn.functional.normalize({name}, dim=1)."
        )
