"""Cosines of anchors, positives and keys, computed once a step and read by every rule and by the loss.

Legend: B anchors, K keys, d embedding.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Similarities:
    """What a rule may look at. All cosines are float32; z an anchor, z' its positive, n a key.

    Attributes:
        anchor: z·n [B, K], with gradient.
        key: z'·n [B, K], without gradient; None when no rule reads it, so that plain MoCo does not pay for it.
        positive: z·z' [B], with gradient.
        own: bool [B, K], true where the key comes from the anchor's own image.
        same_class: bool [B, K], for the oracle and for diagnosis only; None without labels.
        vectors: z [B, d] and the keys [K, d], for rules that make new keys.
    """

    anchor: Tensor
    key: Tensor | None
    positive: Tensor
    own: Tensor
    same_class: Tensor | None = None
    vectors: tuple[Tensor, Tensor] | None = None


def own_last(score: Float[Tensor, "B K"], own: Bool[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """The score with own keys at −inf, so that they rank last."""
    return score.masked_fill(own, -torch.inf)


def similarities(
    anchor: Float[Tensor, "B d"],
    positive: Float[Tensor, "B d"],
    keys: Float[Tensor, "K d"],
    own: Bool[Tensor, "B K"],
    *,
    same_class: Bool[Tensor, "B K"] | None = None,
    with_key: bool = True,
    with_vectors: bool = False,
) -> Similarities:
    """The cosines of unit vectors, in full float32 also under autocast.

    Args:
        anchor: z, unit length.
        positive: z', unit length; a gradient reaches it only where it carries one (SimCLR).
        keys: n, unit length; K may be 0.
        own: true where a key comes from the anchor's own image.
        same_class: true where a key has the anchor's class.
        with_key: compute z'·n, which rules that search or rank by the positive read.
        with_vectors: keep z and the keys for rules that make new keys.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        z, z_positive, n = anchor.float(), positive.float(), keys.float()
        return Similarities(
            anchor=z @ n.T,
            key=z_positive.detach() @ n.detach().T if with_key else None,
            positive=(z * z_positive).sum(1),
            own=own,
            same_class=same_class,
            vectors=(z, n) if with_vectors else None,
        )
