"""Several processes that train one encoder together, each on its share of every batch.

torchrun starts them and numbers them; a number is called a rank. Alone, there is one rank and nothing is exchanged, so
that one process and many run the same code.

Legend: m rows that a rank holds, n rows of all ranks, D whatever a row is; rows are of equal views, stacked.
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
"""How long others wait for one that downloads, measures or saves; torchrun ends them when one dies."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is, and what they tell each other. All must make the same calls in turn.

    Attributes:
        rank: of this process, from 0.
        count: of processes.
        local: its number among those of its machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def here(cls) -> "Ranks":
        """This process's place in the process group, or alone where there is none.

        Raises:
            ValueError: torchrun started several processes, and they have not joined.
        """
        if not (dist.is_available() and dist.is_initialized()):
            if launched() and int(os.environ["WORLD_SIZE"]) > 1:
                raise CltoolsError("torchrun started several processes: call it within `with cltools.ranks.joined():`.")
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether nothing has to be exchanged."""
        return self.count == 1

    def share(self, total: int) -> slice:
        """The rows of a batch of `total` that are this rank's."""
        each = total // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def own(self, x: Shaped[Tensor, "n *D"], views: int = 1) -> Shaped[Tensor, "m *D"]:
        """This rank's rows of each view, of what all ranks hold together."""
        if self.alone:
            return x
        return torch.unflatten(x, 0, (views, -1))[:, self.share(len(x) // views)].flatten(0, 1)

    def gathered(self, x: Shaped[Tensor, "m *D"], views: int = 1) -> Shaped[Tensor, "n *D"]:
        """The rows of all ranks, in their order within each view, without gradient."""
        if self.alone:
            return x
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.count)]
        dist.all_gather(parts, x.detach().contiguous())
        return torch.cat([torch.unflatten(part, 0, (views, -1)) for part in parts], dim=1).flatten(0, 1)

    def gathered_with_gradient(self, x: Shaped[Tensor, "m *D"], views: int = 1) -> Shaped[Tensor, "n *D"]:
        """The same; what the rows are used for in any rank flows back to the rank they came from, summed."""
        if self.alone:
            return x
        return _Gathered.apply(x, self, views)  # type: ignore[no-any-return]

    def total(self, x: Tensor) -> Tensor:
        """The sum over ranks."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def least(self, x: Tensor) -> Tensor:
        """The least over ranks."""
        return self._reduced(x, dist.ReduceOp.MIN)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over ranks."""
        for tensor in () if self.alone else tensors:
            tensor.copy_(self.total(tensor) / self.count)

    @contextmanager
    def one_before_others(self) -> Iterator[None]:
        """The block is run by one process of each machine, then by the others: what it downloads, all find."""
        if self.local > 0:
            self.told(None)
        yield
        if self.local == 0:
            self.told(None)

    def any(self, value: bool) -> bool:
        """Whether it is true of any rank. Processes wait for each other, and no GPU for any of them."""
        return value if self.alone else bool(self._reduced(torch.tensor(int(value)), dist.ReduceOp.MAX))

    def copy_from_first_(self, tensors: Sequence[Tensor]) -> None:
        """Make tensors what they are on the first rank."""
        for tensor in () if self.alone else tensors:
            dist.broadcast(tensor, 0)

    def from_first(self, value: Any) -> Any:
        """The first rank's value, for all."""
        return self.told(value)[0]

    def check_agreed(self, values: Mapping[str, object]) -> None:
        """Refuse to go on where the ranks differ in any of these.

        Raises:
            ValueError: on every rank; it names what differs and how.
        """
        told = self.told({name: str(value) for name, value in values.items()})
        for name in values:
            if len({each[name] for each in told}) > 1:
                differing = "; ".join(f"rank {rank}: {each[name]}" for rank, each in enumerate(told))
                wrong = f"The processes that train together differ in {name} ({differing})."
                raise CltoolsError(f"{wrong} Start all by one command, with the same images and one run's folder.")

    def told(self, value: Any) -> list[Any]:
        """Every rank's value, which is on the CPU."""
        if self.alone:
            return [value]
        told: list[Any] = [None] * self.count
        dist.all_gather_object(told, value)
        return told

    def _reduced(self, x: Tensor, operation: Any) -> Tensor:
        if self.alone:
            return x
        x = x.clone()
        dist.all_reduce(x, operation)
        return x


ALONE = Ranks()


def launched() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes that torchrun started, each with a GPU of its own where there are some; else alone.

    Raises:
        ValueError: more processes on this machine than GPUs.
    """
    if not launched():
        yield ALONE
        return
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise CltoolsError(f"torchrun: process {local + 1} on a machine with {gpus} GPUs; lower --nproc-per-node.")
        torch.cuda.set_device(local)
    # What lies on the CPU goes by way of the CPU, so that to tell each other something waits for no GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield Ranks.here()
    # After an error this is left out: others may still wait for this process, and torchrun ends them when it ends.
    dist.destroy_process_group()


class _Gathered(torch.autograd.Function):
    """All rows forward; backward, each rank's rows get the sum of their gradients over ranks."""

    @staticmethod
    def forward(context: Any, x: Tensor, ranks: Ranks, views: int) -> Tensor:
        context.ranks, context.views = ranks, views
        return ranks.gathered(x, views)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ranks: Ranks = context.ranks
        return ranks.own(ranks.total(gradients[0].contiguous()), context.views), None, None
