"""Statistics of the push on anchors: by which keys, by how many of them, and against which pull.

Legend: B anchors, P1 positives (the augmented view first), K negatives, R rank shares.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cltools.gradients import info_nce_gradients
from cltools.mining import PerAnchor, PerKey, Similarities, rank_count


def plain_push(s: Similarities, temperature: float, *, own: bool = False) -> PerKey:
    """Return the loss's derivative by each negative's cosine if every key is kept, including the own key if `own`."""
    weight = torch.ones_like(s.anchor_keys) if own else (~s.own).float()
    return info_nce_gradients(
        s.anchor_positive[:, None], s.anchor_keys, temperature=temperature, negative_weight=weight
    )[1]


def mass_by_rank(push: PerKey, score: PerKey, shares: Sequence[float]) -> Float[Tensor, "B R"]:
    """Return the share of each anchor's push that its closest keys hold, for several rank shares of the keys.

    Args:
        push: at least 0, such as gradients or forces of the negatives.
        score: larger is closer; ties keep their order.
        shares: between 0 and 1, rounded to keys like the edges of a band.

    Returns:
        Values between 0 and 1; 0 for an anchor without any push.
    """
    held = push.gather(1, score.argsort(dim=1, descending=True, stable=True)).cumsum(1)
    held = torch.cat([held.new_zeros(len(held), 1), held], dim=1)  # [B, 1+K]: of the closest 0, 1, … K
    counts = torch.tensor([rank_count(share, push.shape[1]) for share in shares], device=push.device)
    return held[:, counts] / held[:, -1:].clamp_min(torch.finfo(held.dtype).tiny)


def effective_negatives(push: Float[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """Return the effective number of negatives: the perplexity e^H of each anchor's shares of push.

    It is K if all push equally, 1 if one does all the pushing, and 0 if none pushes.
    """
    total = push.sum(1, keepdim=True)
    share = push / total.clamp_min(torch.finfo(push.dtype).tiny)
    entropy = -torch.special.xlogy(share, share).sum(1)
    return torch.where(total[:, 0] > 0, entropy.exp(), 0.0)


def balance(by_positive: Float[Tensor, "B P1"], by_negative: PerKey) -> tuple[PerAnchor, PerAnchor]:
    """Return total attraction and total repulsion of each anchor, both at least 0; equal in all forms but "decoupled".

    In "out" a repelled positive counts as repulsion.
    """
    both = torch.cat([by_positive, by_negative], dim=1)
    return (-both).clamp_min(0).sum(1), both.clamp_min(0).sum(1)
