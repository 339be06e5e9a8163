"""Ring buffer of keys, with the id of the image that each came from.

The pointer and the fill level are Python ints, so no step waits for the device, and `keys` is a view of the ring, never
a copy. Enqueue after the backward pass: autograd raises an error if keys that a graph still needs are overwritten.

Source: MoCo, arXiv:1911.05722, section 3.2. Differs: any batch size up to the queue's size, and empty slots do not
count.

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
    """The last `size` keys, each with the id and, for diagnosis only, the label of its image (MoCo, arXiv:1911.05722).

    `keys`, `ids` and `labels` are in the order of the ring. That is oldest first until the queue is full; then the
    newest overwrite the oldest in place.

    Attributes:
        size: Capacity in keys.
        dim: Length d of a key.
        filled: Number of keys in the queue.
        pointer: Index at which the next key is written.
        rings: The whole ring buffers of "keys", "ids" and "labels", including empty slots.

    Example:
        >>> from cltools import Queue
        >>> queue = Queue(size=3, dim=2)
        >>> queue.enqueue([[1, 0], [0, 1]], ids=[10, 11], labels=[-1, -1])
        >>> queue.enqueue([[0.6, 0.8], [0.8, 0.6]], ids=[12, 13], labels=[-1, -1])
        >>> len(queue), queue.ids  # the key of image 13 has replaced that of image 10
        (3, tensor([13, 11, 12]))
        >>> queue.keys
        tensor([[0.8000, 0.6000],
                [0.0000, 1.0000],
                [0.6000, 0.8000]])
    """

    @torch.inference_mode(False)  # so that the tensors can be written to in any mode
    def __init__(self, size: int, dim: int, device: torch.device | str | None = None) -> None:
        """Create an empty queue; keys are stored as float32 whatever their precision.

        Raises:
            ValueError: `size` or `dim` is not positive.
        """
        words = "a whole number of at least 1"
        self.size: int = check_number("The size of a queue", size, words)
        self.dim: int = check_number("The dimension of a queue", dim, words)
        self.filled = self.pointer = 0
        with enough_memory(f"A queue of {self.size} keys [{self.dim}]", "Make it smaller."):
            keys = torch.zeros(self.size, self.dim, dtype=torch.float32, device=device)
            ids, labels = (torch.full((self.size,), -1, dtype=torch.int64, device=device) for _ in range(2))
        self.rings: dict[str, Tensor] = {"keys": keys, "ids": ids, "labels": labels}

    def __len__(self) -> int:
        return self.filled

    @property
    def keys(self) -> Float[Tensor, "K d"]:
        """The keys in the queue: a view, overwritten by later calls of `enqueue`."""
        return self.rings["keys"][: self.filled]

    @property
    def ids(self) -> Int[Tensor, " K"]:
        """The id of each key's image: a view."""
        return self.rings["ids"][: self.filled]

    @property
    def labels(self) -> Int[Tensor, " K"]:
        """The label of each key's image, -1 if unknown: a view, for diagnosis and the oracle only."""
        return self.rings["labels"][: self.filled]

    @torch.no_grad()
    def enqueue(self, keys: Numbers, ids: Numbers, labels: Any) -> None:
        """Write a batch over the oldest keys, in its order.

        Args:
            keys: [B, d]; stored without gradient.
            ids: Integer ids [B] of the images that the keys came from.
            labels: Labels [B] of the same images, -1 if unknown.

        Raises:
            ValueError: the batch is larger than the queue, or its shapes do not match.
        """
        keys, ids, (labels,) = as_tensor("keys", keys), as_ids("ids", ids), as_labels("labels", labels)
        count = len(keys)
        if count > self.size:
            raise CltoolsError(f"A batch of {count} keys does not fit a queue of {self.size}; make the queue larger.")
        if keys.shape != (count, self.dim) or ids.shape != (count,) or labels.shape != (count,):
            shapes = ", ".join(str(list(each.shape)) for each in (keys, ids, labels))
            raise CltoolsError(f"Keys, ids and labels have shapes {shapes}; give [B, {self.dim}], [B] and [B].")
        until_end = min(count, self.size - self.pointer)
        for ring, new in zip(self.rings.values(), (keys, ids, labels), strict=True):
            ring[self.pointer : self.pointer + until_end] = new[:until_end]
            ring[: count - until_end] = new[until_end:]
        self.pointer = (self.pointer + count) % self.size
        self.filled = min(self.filled + count, self.size)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the filled part, and the pointer; loadable with `weights_only=True`."""
        tensors = {name: ring[: self.filled].clone() for name, ring in self.rings.items()}
        return {"size": self.size, "pointer": self.pointer, **tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state; tensors are copied to this queue's device.

        Raises:
            ValueError: the state is of a queue of another size or dimension; this queue is unchanged.
        """
        keys = state["keys"]
        if state["size"] != self.size or keys.shape[1] != self.dim:
            raise CltoolsError(f"The saved queue has {state['size']} keys [{keys.shape[1]}]; give this one that size.")
        self.filled, self.pointer = len(keys), state["pointer"]
        for name, ring in self.rings.items():
            ring[: self.filled].copy_(state[name])
