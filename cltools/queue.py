"""Ring buffer of keys, with the image each came from.

The pointer and the fill level are Python ints, so no step waits for the device, and the keys handed out are a view of
the ring, never a copy. Enqueue after the backward pass: writing into keys that a graph still needs is an error in
autograd.

Source: MoCo, arXiv:1911.05722, section 3.2. Differs: any batch size up to the queue's, and empty slots do not count.

Legend: B batch, K keys (the filled part), d embedding.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cltools.errors import CltoolsError, check_number
from cltools.mining.handed_in import Numbers, as_ids, as_labels, as_tensor, enough_memory


class Queue:
    """The last `size` keys, each with the id and, for diagnosis only, the label of its image.

    `keys`, `ids` and `labels` have the same order: by place in the ring. That is oldest first until the queue is full;
    then the newest overwrite the oldest where they stand, so that a row's place alone does not tell its age; `ages`
    does.

    Attributes:
        size: Keys it holds when full.
        dim: Length d of a key.
        filled: Keys it holds now.
        pointer: Place of the next key.
        rings: What holds keys, ids and labels, by these names, filled or not.
    """

    @torch.inference_mode(False)  # so that it can be written to everywhere
    def __init__(self, size: int, dim: int, device: torch.device | str | None = None) -> None:
        """An empty queue; keys are float32 whatever the precision they are made in.

        Raises:
            ValueError: `size` or `dim` is not positive.
        """
        whole = "a whole number of at least 1"
        self.size: int = check_number("The size of a queue", size, whole)
        self.dim: int = check_number("The dimension of a queue", dim, whole)
        self.filled = self.pointer = 0
        with enough_memory(f"A queue of {self.size} keys [{self.dim}]", "Make it smaller."):
            keys = torch.zeros(self.size, self.dim, dtype=torch.float32, device=device)
            ids, labels = (torch.full((self.size,), -1, dtype=torch.int64, device=device) for _ in range(2))
        self.rings: dict[str, Tensor] = {"keys": keys, "ids": ids, "labels": labels}

    def __len__(self) -> int:
        return self.filled

    @property
    def keys(self) -> Float[Tensor, "K d"]:
        """The keys so far: a view, overwritten by later calls of `enqueue`."""
        return self.rings["keys"][: self.filled]

    @property
    def ids(self) -> Int[Tensor, " K"]:
        """Which image each key came from: a view."""
        return self.rings["ids"][: self.filled]

    @property
    def labels(self) -> Int[Tensor, " K"]:
        """The label of each key's image, -1 unknown: a view, for diagnosis and the oracle only."""
        return self.rings["labels"][: self.filled]

    @property
    def ages(self) -> Int[Tensor, " K"]:
        """How many keys were enqueued after each: 0 the newest, K − 1 the oldest. Asks the device nothing."""
        place = torch.arange(self.filled, device=self.rings["ids"].device)
        return (self.pointer - 1 - place) % self.size  # the newest stands just before the pointer

    @torch.no_grad()
    def enqueue(self, keys: Numbers, ids: Numbers, labels: Any) -> None:
        """Write a batch in its order over the oldest keys.

        Args:
            keys: [B, d], without gradient here, whatever they carry.
            ids: Whole numbers [B], of the images the keys came from.
            labels: [B], of the same images, -1 unknown.

        Raises:
            ValueError: the batch is larger than the queue, or its shapes do not fit.
        """
        keys, ids, (labels,) = as_tensor("keys", keys), as_ids("ids", ids), as_labels("labels", labels)
        count = len(keys)
        if count > self.size:
            raise CltoolsError(f"A batch of {count} keys does not fit a queue of {self.size}; make that as large.")
        if keys.shape != (count, self.dim) or ids.shape != (count,) or labels.shape != (count,):
            shapes = ", ".join(str(list(each.shape)) for each in (keys, ids, labels))
            raise CltoolsError(f"Keys, ids and labels have shapes {shapes}; give [B, {self.dim}], [B] and [B].")
        until_end = min(count, self.size - self.pointer)
        for name, new in (("keys", keys), ("ids", ids), ("labels", labels)):
            ring = self.rings[name]
            ring[self.pointer : self.pointer + until_end] = new[:until_end]
            ring[: count - until_end] = new[until_end:]
        self.pointer = (self.pointer + count) % self.size
        self.filled = min(self.filled + count, self.size)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the filled part, and the pointer; loads with `weights_only=True`."""
        held = {"keys": self.keys.clone(), "ids": self.ids.clone(), "labels": self.labels.clone()}
        return {"size": self.size, "pointer": self.pointer, **held}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken; tensors are copied, onto this queue's device.

        Raises:
            ValueError: the state is of a queue of another size or dimension; this queue is left as it was.
        """
        keys = state["keys"]
        if state["size"] != self.size or keys.shape[1] != self.dim:
            raise CltoolsError(f"The saved queue is of {state['size']} keys [{keys.shape[1]}]; make this one alike.")
        self.filled, self.pointer = len(keys), state["pointer"]
        self.keys.copy_(keys)
        self.ids.copy_(state["ids"])
        self.labels.copy_(state["labels"])
