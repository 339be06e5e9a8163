"""What a choice does to many anchors, counted a few at a time: how much it keeps, and how much of that is false.

Legend: B anchors, K keys, R bins of ranks.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor

from cltools.evaluation.diagnosis import RANK_SHARES
from cltools.evaluation.intervals import NOTHING, Share, share_of
from cltools.mining import Band, Selection, Similarities
from cltools.mining.bands import KEPT, rank_count
from cltools.mining.similarities import own_last

if TYPE_CHECKING:
    import pandas

Judged = tuple[Similarities, Selection, Float[Tensor, "B K"]]
"""Some anchors' similarities and choices, and the score by which the rule ranks keys, larger is closer."""


@dataclass(frozen=True)
class Census:
    """Shares over all anchors with 95 % intervals; those that need labels are of nothing without them.

    Where an image is anchor and key at once, which ties anchors to each other, the intervals are somewhat too narrow.

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
        in_bands: keys of each anchor by code of `Band`, its own left out [B, 7].
        same_in_bands: of these, those of its class [B, 7]; zeros without labels.
        known: where some classes are unknown, the share of pairs whose classes are known, which shares that need labels
            are of; else None.
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
    in_bands: Int64[Tensor, "B 7"] = field(compare=False)
    same_in_bands: Int64[Tensor, "B 7"] = field(compare=False)
    known: Share | None = None

    def table(self, ids: Int64[ndarray, " B"]) -> "pandas.DataFrame":
        """A row per anchor: its id, its keys by band, and where classes are known how many of the kept are false."""
        from pandas import DataFrame

        columns = {"anchor": ids}
        columns |= {band.name.lower(): self.in_bands[:, band].numpy() for band in Band if band != Band.OWN}
        if self.base_rate.count:
            columns["false"] = self.same_in_bands[:, KEPT].sum(1).numpy()
        return DataFrame(columns)

    def words(self, *, truth: bool) -> str:
        """What was counted, in sentences; what labels say only if `truth`."""
        text = (
            f"Over all {self.anchors:,} anchors: {self.mined:.1f} keys are mined as positives, {self.suspected} are "
            f"suspected and {self.kept} kept as negatives."
        )
        if truth:
            if self.known is not None:
                text += f" Classes are known of {100 * self.known.value:.2f} % of the pairs, and the rest is of these."
            text += (
                f" Of the kept, {self.false} are of the anchor's class, false negatives; of all keys, {self.base_rate}."
                f" Of the keys of its class {self.recall} are not kept; a choice by chance would drop "
                f"{100 * (1 - self.kept.value):.1f} %."
            )
        return text


def take_census(judged: Iterable[Judged], keys: int, *, labelled: bool) -> Census:
    """Count what rules do to anchors.

    Args:
        judged: some anchors at a time, which bounds the memory.
        keys: K.
        labelled: whether classes are known, of all or of some (`Similarities.known`).
    """
    ranks = tuple(sorted({rank_count(share, keys) for share in RANK_SHARES}))
    counted = array("q"), array("q"), array("q")  # a small tensor kept of each turn would pin the memory around it
    for each in judged:
        for grown, counts in zip(counted, _count(*each, ranks), strict=True):
            grown.frombytes(counts.numpy().tobytes())
    width = len(Band) + len(ranks) - 1
    pairs, same, classed = (
        torch.tensor(grown, dtype=torch.int64, device="cpu").reshape(-1, width) for grown in counted
    )
    in_bands, same_in_bands = pairs[:, : len(Band)], same[:, : len(Band)]
    others, same_others, known_others = (counts[:, : len(Band)].sum(1) for counts in (pairs, same, classed))
    kept, same_kept, known_kept = (counts[:, KEPT].sum(1) for counts in (pairs, same, classed))

    def known(hits: Tensor, counts: Tensor) -> Share:
        return share_of(hits, counts) if labelled else NOTHING

    return Census(
        anchors=len(pairs),
        mined=float(pairs[:, Band.MINED].double().mean()),
        suspected=share_of(pairs[:, Band.HARD], others),
        kept=share_of(kept, others),
        false=known(same_kept, known_kept),
        base_rate=known(same_others, known_others),
        recall=known(same_others - same_kept, same_others),
        ranks=ranks,
        by_rank=tuple(known(same[:, i], classed[:, i]) for i in range(len(Band), pairs.shape[1])),
        in_bands=in_bands,
        same_in_bands=same_in_bands,
        known=None if known_others.equal(others) else known(known_others, others),
    )


def _count(s: Similarities, selection: Selection, score: Tensor, ranks: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Keys of each anchor but its own by band and then by bin of rank [B, 7 + R]: all, of its class, of known class."""
    order = own_last(score, s.own).argsort(dim=1, descending=True, stable=True)

    def counts(marked: Tensor) -> Tensor:
        ranked = marked.gather(1, order)
        by_rank = [ranked[:, a:b].sum(1) for a, b in pairwise(ranks)]
        return torch.stack([*((marked & (selection.band == code)).sum(1) for code in Band), *by_rank], dim=1)

    others = ~s.own
    same = torch.zeros_like(others) if s.same_class is None else s.same_class & others
    everything = counts(others)
    return everything, counts(same), everything if s.known is None else counts(s.known & others)
