"""Distributed training: several processes train one encoder, each on its share of every batch.

torchrun starts the processes and numbers them; the number is called a rank. A single process is rank 0 of 1 and
exchanges nothing, so the same code runs in one process and in many.

Legend: m rows of one rank, n rows of all ranks, D shape of a row; rows are stacked views of equal length.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed as dist

from cltools.errors import CltoolsError

PATIENCE = timedelta(hours=2)
"""How long ranks wait for one that downloads, measures or saves; torchrun ends them all when one dies."""


@dataclass(frozen=True)
class Ranks:
    """Rank of this process, number of processes, and their collective operations.

    Every rank must call the same collective operations in the same order.

    Attributes:
        rank: rank of this process, from 0.
        count: number of processes.
        local: rank among the processes of the same machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def current(cls) -> "Ranks":
        """Return the ranks of the current process group, or `ALONE`'s values where there is none.

        Raises:
            ValueError: torchrun started several processes, and they have not joined a group.
        """
        if not (dist.is_available() and dist.is_initialized()):
            if launched() and int(os.environ["WORLD_SIZE"]) > 1:
                raise CltoolsError("torchrun started several processes: call it within `with cltools.ranks.joined():`.")
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def first(self) -> bool:
        """True for the rank that writes files and prints."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """True if there is only one process."""
        return self.count == 1

    def share(self, total: int) -> slice:
        """Return the slice of a batch of `total` rows that belongs to this rank."""
        each = total // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def own(self, x: Shaped[Tensor, "n *D"], views: int = 1) -> Shaped[Tensor, "m *D"]:
        """Return this rank's rows of each view, given the rows of all ranks."""
        if self.alone:
            return x
        return torch.unflatten(x, 0, (views, -1))[:, self.share(len(x) // views)].flatten(0, 1)

    def gathered(self, x: Shaped[Tensor, "m *D"], views: int = 1) -> Shaped[Tensor, "n *D"]:
        """Return the rows of all ranks, ordered by rank within each view, without gradient."""
        if self.alone:
            return x
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(parts, x.detach().contiguous())
        return torch.cat([torch.unflatten(part, 0, (views, -1)) for part in parts], dim=1).flatten(0, 1)

    def gathered_with_gradient(self, x: Shaped[Tensor, "m *D"], views: int = 1) -> Shaped[Tensor, "n *D"]:
        """Like `gathered`, with gradient: each row gets the sum over ranks of the gradients that reach it."""
        return x if self.alone else _Gathered.apply(x, self, views)

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over ranks."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def least(self, x: Tensor) -> Tensor:
        """Return the minimum over ranks."""
        return self._reduced(x, dist.ReduceOp.MIN)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over ranks."""
        for tensor in () if self.alone else tensors:
            tensor.copy_(self.total(tensor) / self.count)

    @contextmanager
    def one_before_others(self) -> Iterator[None]:
        """Run the block in one process per machine first, then in the others, which find what it downloaded."""
        if self.local > 0:
            self.all_gather_object(None)
        yield
        if self.local == 0:
            self.all_gather_object(None)

    def any(self, value: bool) -> bool:
        """Return True if `value` is true on any rank. The processes synchronise on the CPU; no GPU waits."""
        return value if self.alone else bool(self._reduced(torch.tensor(int(value)), dist.ReduceOp.MAX))

    def copy_from_first_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with their values on the first rank."""
        for tensor in () if self.alone else tensors:
            dist.broadcast(tensor, 0)

    def from_first(self, value: Any) -> Any:
        """Return the first rank's value, on every rank."""
        return self.all_gather_object(value)[0]

    def check_agreed(self, values: Mapping[str, object]) -> None:
        """Check that all ranks have the same values.

        Raises:
            ValueError: on every rank, if the ranks differ; it says in what, and how.
        """
        gathered = self.all_gather_object({name: str(value) for name, value in values.items()})
        for name in values:
            if len({each[name] for each in gathered}) > 1:
                differing = "; ".join(f"rank {rank}: {each[name]}" for rank, each in enumerate(gathered))
                wrong = f"The processes that train together differ in {name} ({differing})."
                raise CltoolsError(f"{wrong} Start all by one command, with the same images and one run's folder.")

    def all_gather_object(self, value: Any) -> list[Any]:
        """Return the values of all ranks, by rank; tensors in a value must be on the CPU."""
        if self.alone:
            return [value]
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, value)
        return gathered

    def _reduced(self, x: Tensor, operation: Any) -> Tensor:
        if self.alone:
            return x
        x = x.clone()
        dist.all_reduce(x, operation)
        return x


ALONE = Ranks()


def launched() -> bool:
    """Return True if torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes that torchrun started, each with its own GPU if there are any; otherwise stay alone.

    Raises:
        ValueError: this machine has fewer GPUs than processes.
    """
    if not launched():
        yield ALONE
        return
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise CltoolsError(f"torchrun: process {local + 1} on a machine with {gpus} GPUs; lower --nproc-per-node.")
        torch.cuda.set_device(local)
    # gloo exchanges tensors on the CPU, so that exchanging Python objects does not wait for a GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield Ranks.current()
    # Skipped after an error: others may still wait for this process, and torchrun ends them when it exits.
    dist.destroy_process_group()


class _Gathered(torch.autograd.Function):
    """Gather the rows of all ranks; backward, each rank's rows get the sum of their gradients over ranks."""

    @staticmethod
    def forward(context: Any, x: Tensor, ranks: Ranks, views: int) -> Tensor:
        context.ranks, context.views = ranks, views
        return ranks.gathered(x, views)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ranks: Ranks = context.ranks
        return ranks.own(ranks.total(gradients[0].contiguous()), context.views), None, None
