"""Mistakes between the similarities and the loss. Each function spoils an input or an output of `select`.

Legend: B anchors, K keys.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from cltools.losses import info_nce
from cltools.mining import AugmentedView, Band, RandomNegatives, Selection, Similarities, select, terms


def keep_own_key(s: Similarities, selection: Selection) -> Selection:
    """Leave the key of the anchor's own image among its negatives: the anchor is pushed away from its own positive."""
    return replace(selection, negative_weight=selection.negative_weight.masked_fill(s.own, 1.0))


def push_mined_keys(selection: Selection) -> Selection:
    """Use a key as a positive and leave it among the negatives: it is pulled and pushed at once."""
    mined = selection.band == Band.MINED
    return replace(selection, negative_weight=selection.negative_weight.masked_fill(mined, 1.0))


def forget_to_normalise(s: Similarities, *, length: float) -> Similarities:
    """Use dot products of vectors of this length as cosines: the effective temperature is then τ/length²."""
    scale = length**2
    positive_keys = None if s.positive_keys is None else s.positive_keys * scale
    return replace(
        s, anchor_keys=s.anchor_keys * scale, positive_keys=positive_keys, anchor_positive=s.anchor_positive * scale
    )


def compare_losses(s: Similarities, shares: Sequence[float], *, temperature: float) -> dict[float, float]:
    """Compare losses with different numbers of negatives: random shares of the keys, with the same encoder.

    Args:
        s: similarities of one encoder.
        shares: the shares of keys that are kept, above 0 and at most 1.
        temperature: temperature of the loss.

    Returns:
        The mean loss by share.
    """
    losses = {}
    for share in shares:
        draws = torch.Generator(s.anchor_keys.device).manual_seed(0)
        rule = RandomNegatives(share=share)
        chosen = select(s, AugmentedView(), rule, temperature=temperature, generator=draws)
        losses[share] = float(info_nce(**terms(s, chosen), temperature=temperature))
    return losses
