"""Random draws, and the choice among equally close keys.

During training, both come from torch. On a snapshot they come from an integer hash of (seed, anchor's id, key's id), so
that a key's draw depends neither on the device nor on the other anchors judged with it, and the explorer's page
reproduces it (`explorer/front/engine/draws.js`).

Legend: B anchors, K keys, P candidates, C columns.
"""

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from cltools.mining.similarities import largest

WORD = 0xFFFFFFFF
GOLDEN = 0x9E3779B9  # 2³² / golden ratio: spreads small numbers over the word
KEYS = 0
"""Stream of the draws per key; a rule that makes other draws uses streams of its own."""


class Draws(torch.Generator):
    """A generator for `Context.generator` that makes the rules of this package draw from the hash.

    For custom rules that draw from it directly, it is an ordinary generator with this seed.
    """

    def __new__(cls, seed: int, anchors: Tensor, keys: Tensor) -> "Draws":
        """Create a generator on the CPU; the constructor of `torch.Generator` takes no other arguments."""
        return super().__new__(cls)

    def __init__(self, seed: int, anchors: Int[Tensor, " B"], keys: Int[Tensor, " K"]) -> None:
        """Set the seed, and the image ids of the anchors and keys."""
        super().__init__()
        self.manual_seed(seed)
        self.seed_of_hash, self.anchors, self.keys = seed, anchors, keys

    def uniform(self, columns: Int[Tensor, " C"], stream: int = KEYS) -> Float[Tensor, "B C"]:
        """Return a number in [0, 1) for each anchor and each entry of `columns`: 24 bits, exact in float32."""
        seed = torch.tensor((self.seed_of_hash + GOLDEN * (stream + 1)) & WORD, device=self.anchors.device)
        anchor = _mixed(_folded(self.anchors) ^ _mixed(seed))
        word = _mixed((_mixed(anchor[:, None] ^ _folded(columns)) + anchor[:, None]) & WORD)
        return (word >> 8).float() * 2.0**-24


def uniform_per_key(like: Tensor, generator: torch.Generator | None) -> Float[Tensor, "B K"]:
    """Return a number in [0, 1) for each anchor and key, with the shape and on the device of `like`."""
    if isinstance(generator, Draws):
        return generator.uniform(generator.keys)
    return torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)


def uniform_per_candidate(index: Int64[Tensor, "B P"], generator: torch.Generator | None) -> Float[Tensor, "B P"]:
    """Return a number in [0, 1) for each candidate of each anchor."""
    if isinstance(generator, Draws):
        return generator.uniform(generator.keys).gather(1, index)
    return torch.rand(index.shape, generator=generator, device=index.device, dtype=torch.float32)


def uniform_columns(anchors: Tensor, columns: int, generator: torch.Generator | None, stream: int) -> Tensor:
    """Return numbers in [0, 1) [B, C] that do not belong to keys.

    Args:
        anchors: [B, …], which gives B and the device.
        columns: C.
        generator: the context's generator.
        stream: a number above 0, different for each use within a rule.
    """
    if isinstance(generator, Draws):
        return generator.uniform(torch.arange(columns, device=anchors.device), stream)
    return torch.rand(len(anchors), columns, device=anchors.device, generator=generator, dtype=torch.float32)


def closest(
    score: Float[Tensor, "B K"], count: int, generator: torch.Generator | None, *, ordered: bool = True
) -> tuple[Float[Tensor, "B P"], Int64[Tensor, "B P"]]:
    """Return the largest scores of each row and their indices, as `topk`; on a snapshot the first of equals win."""
    if isinstance(generator, Draws):
        index = score.argsort(dim=1, descending=True, stable=True)[:, :count]
        return score.gather(1, index), index
    return largest(score, count, ordered=ordered)


def _mixed(word: Int64[Tensor, "*any"]) -> Int64[Tensor, "*any"]:
    """Finaliser of MurmurHash3 (public domain, Austin Appleby): each of the 32 bits depends on all input bits."""
    word = ((word ^ (word >> 16)) * 0x85EBCA6B) & WORD
    word = ((word ^ (word >> 13)) * 0xC2B2AE35) & WORD
    return word ^ (word >> 16)


def _folded(ids: Int[Tensor, "*any"]) -> Int64[Tensor, "*any"]:
    """Fold 64-bit ids into 32 bits; ids from 0 to 2³² − 1 are unchanged."""
    ids = ids.to(torch.int64)
    return (ids & WORD) ^ (((ids >> 32) & WORD) * GOLDEN & WORD)
