"""What a choice does to all anchors of a snapshot, counted a few anchors at a time so that a kernel can answer between.

Legend: B anchors, N images of the snapshot, R bins of ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cltools.evaluation.diagnosis import RANK_SHARES
from cltools.evaluation.intervals import NOTHING, Share, share_of
from cltools.explorer.judgement import chosen, one_thread, reference_score
from cltools.explorer.state import Side
from cltools.mining import Band
from cltools.mining.bands import KEPT, rank_count
from cltools.mining.similarities import own_last
from cltools.snapshot import Snapshot

PAIRS = 2**17
"""Anchors times keys counted at once: some milliseconds."""


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


class Counting:
    """A census under way: iterate it to count, a few anchors a turn; `result` when it is done."""

    def __init__(self, snapshot: Snapshot, side: Side) -> None:
        self.snapshot, self.side = snapshot, side
        count = len(snapshot)
        self.ranks = tuple(sorted({rank_count(share, count) for share in RANK_SHARES}))
        self._turns = torch.split(torch.arange(count), max(1, PAIRS // count))
        self._found: list[tuple[Tensor, Tensor]] = []

    def __iter__(self) -> Iterator[float]:
        """Count the next anchors; yields the share that is done."""
        while not self.done:
            self._found.append(self._count(self._turns[len(self._found)]))
            yield self.share

    @property
    def share(self) -> float:
        """Share of the anchors that are counted."""
        return len(self._found) / len(self._turns)

    @property
    def done(self) -> bool:
        """Whether all anchors were counted."""
        return len(self._found) == len(self._turns)

    @property
    def result(self) -> Census:
        """The shares, of the anchors counted so far."""
        pairs, same = (torch.cat([found[i] for found in self._found]) for i in (0, 1))
        codes, labelled = len(Band), self.snapshot.labelled
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
            ranks=self.ranks,
            by_rank=tuple(known(same[:, i], pairs[:, i]) for i in range(codes, pairs.shape[1])),
        )

    @one_thread()
    def _count(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Keys of each anchor but its own by band and then by bin of rank [B, 7 + R]: all, and those of its class."""
        epoch = self.snapshot.epochs.index(self.side.epoch)
        s = self.snapshot.similarities(rows, epoch=epoch)
        band = chosen(s, self.side, self.snapshot.rule_state(epoch)).band
        _, score = reference_score(s, self.side.negatives, self.side.temperature)
        order = own_last(score, s.own).argsort(dim=1, descending=True, stable=True)

        def counts(marked: Tensor) -> Tensor:
            ranked = marked.gather(1, order)
            by_rank = [ranked[:, a:b].sum(1) for a, b in pairwise(self.ranks)]
            return torch.stack([*((marked & (band == code)).sum(1) for code in Band), *by_rank], dim=1)

        others = ~s.own
        same = torch.zeros_like(others) if s.same_class is None else s.same_class & others
        return counts(others), counts(same)
