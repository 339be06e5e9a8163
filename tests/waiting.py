"""Operations that would make a GPU wait for the host, refused on a CPU, where cltools then takes a GPU's ways."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cltools.mining.similarities import Similarities


class Waits(RuntimeError):
    """An operation that would make the host wait for a GPU."""


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise `Waits` for every operation that would wait for a GPU, such as `item`, `nonzero` and a boolean index.

    It runs on a CPU, where cltools then uses the same code paths as on a GPU. A copy to the host is recognised by its
    name (`cpu`, `tolist`, `numpy`, `to("cpu")`).
    """
    as_on_a_gpu: Any = mock.patch.object(sys.modules[Similarities.__module__], "WITH_NUMPY", frozenset())
    with as_on_a_gpu, _NoHostCopy(), _NoWaitingOperation():  # type: ignore[no-untyped-call]
        yield


class _NoWaitingOperation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuse operations whose result or shape the host must know."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        waits = torch.Tag.data_dependent_output in func.tags or name == "histc"
        if name == "repeat_interleave":
            waits = "output_size" not in kwargs
        elif name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            waits = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if waits or (torch.Tag.dynamic_output_shape in func.tags and name not in ("index", "repeat_interleave")):
            raise Waits(f"it waits for the device, by {func}; use torch.where or masked_fill for an index by a mask")
        return func(*args, **kwargs)


class _NoHostCopy(TorchFunctionMode):
    """Refuse copies to the host, which on a CPU do not appear as operations."""

    REFUSED = frozenset({Tensor.cpu, Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.item})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        devices = [str(each) for each in (*args, *kwargs.values()) if isinstance(each, str | torch.device)]
        if func in self.REFUSED or (func is Tensor.to and "cpu" in devices):
            raise Waits(f"it waits for the device, by Tensor.{func.__name__}")
        return func(*args, **kwargs)
