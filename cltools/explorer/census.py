"""What a choice does to all anchors of a snapshot, a few anchors at a time to bound the memory.

Legend: B anchors, N images of the snapshot, R bins of ranks.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cltools.evaluation.diagnosis import RANK_SHARES
from cltools.evaluation.intervals import NOTHING, Share, share_of
from cltools.explorer.judgement import chosen_in_turns, one_thread, reference_score
from cltools.explorer.state import Side
from cltools.mining import Band, Similarities
from cltools.mining.bands import KEPT, rank_count
from cltools.mining.similarities import own_last
from cltools.snapshot import Snapshot


@dataclass(frozen=True)
class Census:
    """Shares over all anchors with 95 % intervals; those that need labels are of nothing without them.

    An image is anchor and key at once, which ties anchors to each other: the intervals are somewhat too narrow.

    Attributes:
        anchors: how many were counted.
        mined: mined keys an anchor.
        suspected: HARD among all other keys.
        kept: POTENTIAL or SOFTENED among all other keys.
        false: same class among the kept: false negatives.
        base_rate: same class among all other keys.
        recall: not kept among the keys of the anchor's class; a choice by chance has 1 − kept.
        ranks: edges of R bins of ranks, R + 1 numbers of keys.
        by_rank: same class in each bin, closest first.
    """

    anchors: int
    mined: float
    suspected: Share
    kept: Share
    false: Share
    base_rate: Share
    recall: Share
    ranks: tuple[int, ...]
    by_rank: tuple[Share, ...]


@one_thread()
def take_census(snapshot: Snapshot, side: Side) -> Census:
    """Count what a side's rules do to every anchor."""
    labelled, codes = snapshot.labelled, len(Band)
    ranks = tuple(sorted({rank_count(share, len(snapshot)) for share in RANK_SHARES}))
    turns = chosen_in_turns(snapshot, side, torch.arange(len(snapshot)))
    counted = (_count(s, side, selection.band, ranks) for s, selection in turns)
    pairs, same = (torch.cat(counts) for counts in zip(*counted, strict=True))
    others, same_others = pairs[:, :codes].sum(1), same[:, :codes].sum(1)
    kept, same_kept = (counts[:, KEPT].sum(1) for counts in (pairs, same))

    def known(hits: Tensor, counts: Tensor) -> Share:
        return share_of(hits, counts) if labelled else NOTHING

    return Census(
        anchors=len(pairs),
        mined=float(pairs[:, Band.MINED].double().mean()),
        suspected=share_of(pairs[:, Band.HARD], others),
        kept=share_of(kept, others),
        false=known(same_kept, kept),
        base_rate=known(same_others, others),
        recall=known(same_others - same_kept, same_others),
        ranks=ranks,
        by_rank=tuple(known(same[:, i], pairs[:, i]) for i in range(codes, pairs.shape[1])),
    )


def _count(s: Similarities, side: Side, band: Tensor, ranks: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Keys of each anchor but its own by band and then by bin of rank [B, 7 + R]: all, and those of its class."""
    score = reference_score(s, side.negatives, side.temperature)
    order = own_last(score, s.own).argsort(dim=1, descending=True, stable=True)

    def counts(marked: Tensor) -> Tensor:
        ranked = marked.gather(1, order)
        by_rank = [ranked[:, a:b].sum(1) for a, b in pairwise(ranks)]
        return torch.stack([*((marked & (band == code)).sum(1) for code in Band), *by_rank], dim=1)

    others = ~s.own
    same = torch.zeros_like(others) if s.same_class is None else s.same_class & others
    return counts(others), counts(same)
