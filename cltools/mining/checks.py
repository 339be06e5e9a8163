"""Checks of vectors: cosines mean something only for finite vectors of unit length."""

import torch
from torch import Tensor

TOLERANCE = 1e-3
"""Of |z|², for float32 and float64."""
HALF_TOLERANCE = 2e-2
"""Of |z|², for float16 and bfloat16, which keep two to three digits."""


class ChecksOnce:
    """On CUDA a check waits for the device, so it is made at the first call of each name and shape only."""

    def __init__(self) -> None:
        self._checked: set[tuple[str, torch.Size]] = set()

    def is_due(self, name: str, vectors: Tensor) -> bool:
        """Whether these have not been checked yet; says so once."""
        if torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
            return False
        first = (name, vectors.shape) not in self._checked
        self._checked.add((name, vectors.shape))
        return first


ON_CUDA = ChecksOnce()


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
        on_cuda = vectors.device.type == "cuda"
        check = ON_CUDA.is_due(name, vectors) if on_cuda else not torch.compiler.is_compiling()
    if not check or len(vectors) == 0:
        return
    square = vectors.detach().float().square().sum(1)
    tolerance = HALF_TOLERANCE if vectors.dtype in (torch.float16, torch.bfloat16) else TOLERANCE
    wrong = ~((square - 1).abs() <= tolerance)  # also where it is not a number
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        if not bool(vectors[row].isfinite().all()):
            raise ValueError(f"{name} has a vector that is not finite, at row {row}; look for NaN where it was made.")
        raise ValueError(
            f"{name} has vectors that are not of unit length: |z|² is {float(square[row]):.4g} at row {row}. "
            f"Give torch.nn.functional.normalize({name}, dim=1)."
        )
