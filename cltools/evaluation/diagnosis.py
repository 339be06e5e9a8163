"""Diagnosis of selections: how often keys have the anchor's class, by rank and by band, and related counts.

Labels are only used for counting, after the selection. Compare each P(same class) with the base rate, which is that
among all keys except those of the anchor's own image. Hubs and own keys are counted without labels.

Legend: B anchors, K keys, M kinds of marked pairs, R bins of ranks.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Bool, Int, Int8, Int64
from torch import Tensor

from cltools.evaluation.intervals import NOTHING, Share, share_of
from cltools.losses import negative_mass
from cltools.mining import KEPT, Band, PerKey, Selection, Similarities, own_last, rank_count, terms
from cltools.mining.negatives import Closeness, closeness

RANK_SHARES = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
KS = (1, 2, 5, 10, 20, 50)
HUB_K = 10
CELLS = 2**24  # similarities sorted at once: 128 MiB of indices
Pairs = Bool[Tensor, "B K"]
"""A mask of pairs of an anchor and a key."""


@dataclass(frozen=True)
class BandCount:
    """Counts of a band: keys per anchor, their share of all keys (NaN without keys), and P(same class) among them."""

    keys: float
    share: float
    same_class: Share


@dataclass(frozen=True)
class Hubness:
    """How unevenly keys are chosen (Radovanović et al., JMLR 11, 2010).

    Attributes:
        skew: third standardised moment of the counts; about 1/√mean by chance, well above it if some keys are hubs. NaN
            if all counts are equal.
        largest: count of the key chosen most often.
        never: share of the keys never chosen; about e^−mean by chance. NaN without keys.
        mean: mean count of a key. NaN without keys.
    """

    skew: float
    largest: int
    never: float
    mean: float


@dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`; `print` shows it as a table.

    Without labels each P(same class), and `recall`, is an empty `Share`: NaN, count 0.

    Attributes:
        by: the closeness by which ranks, `by_k` and hubs are computed; a rule may rank by another score.
        anchors: B.
        keys: K.
        base_rate: P(same class) among all keys except those of the anchor's own image.
        by_rank: P(same class) between each two consecutive `RANK_SHARES`, closest first.
        bands: counts for each code of `Band`.
        recall: share of the same-class keys, own image excluded, that are not kept as negatives. For a rule that drops
            keys at random, it equals the share of all keys dropped.
        by_k: P(same class) among the k closest keys, for each of `KS`: the purity of positives mined by this closeness.
        hubness: hubness of each anchor's 10 closest keys.
        mined_hubness: hubness of the mined keys.
        self_hits: share of the anchors that have a key of their own image.
        clamped: share of the anchors whose negatives' estimated mass is at its lower bound, so that their negatives
            have no gradient; None if no temperature was given or nothing is subtracted (τ₊ = 0).
        false_negative_share: P(same class) among the kept negatives, softened ones included.
        known: if some classes are unknown, the share of pairs of different images with known classes; all figures
            about classes refer to these pairs. None if all classes are known, or none.

    Example:
        >>> from cltools import AugmentedView, Band, RankBand, diagnose, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> same = [[True] * 3 + [False] * 5]  # the three closest keys have the anchor's class
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8], same_class=same)
        >>> diagnosis = diagnose(s, select(s, AugmentedView(), RankBand(drop_closest=0.25, keep_within=0.5)))
        >>> diagnosis.bands[Band.HARD].keys, diagnosis.bands[Band.HARD].same_class.value  # both are suspected rightly
        (2.0, 1.0)
        >>> round(diagnosis.recall.value, 3)  # of three keys of its class, the anchor is not pushed from two
        0.667
    """

    by: Closeness
    anchors: int
    keys: int
    base_rate: Share
    by_rank: tuple[Share, ...]
    bands: dict[Band, BandCount]
    recall: Share
    by_k: tuple[Share, ...]
    hubness: Hubness
    mined_hubness: Hubness
    self_hits: Share
    clamped: Share | None
    false_negative_share: Share
    known: Share | None = None

    @property
    def mined_purity(self) -> Share:
        """P(same class) among the mined positives."""
        return self.bands[Band.MINED].same_class

    def __str__(self) -> str:
        return "\n".join(_lines(self))


@torch.no_grad()
def diagnose(
    s: Similarities, selection: Selection, *, by: Closeness | None = None, temperature: float | None = None
) -> Diagnosis:
    """Count what a selection chose and what it left out.

    Args:
        s: the similarities that were selected from. Without `same_class`, counts that need no labels are still made.
        selection: the result of `select`.
        by: the closeness: to the positive, to the anchor, or the larger of both cosines ("either"). None means to the
            positive if z'·n was computed, else to the anchor.
        temperature: the loss's temperature, to determine whether an estimated mass is clamped.

    Raises:
        ValueError: the temperature is not above 0.

    Example:
        >>> from cltools import AugmentedView, RankBand, diagnose, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> same = [[True] * 3 + [False] * 5]  # the three closest keys have the anchor's class
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8], same_class=same)
        >>> diagnosis = diagnose(s, select(s, AugmentedView(), RankBand(drop_closest=0.25, keep_within=0.5)))
        >>> diagnosis.base_rate.value, diagnosis.false_negative_share.value  # among all 8 keys, and among the 2 kept
        (0.375, 0.5)
    """
    own, same = s.own, s.same_class
    known = ~own if s.known is None else s.known & ~own
    keys, mined = own.shape[1], selection.band == Band.MINED
    kept = (selection.band == Band.POTENTIAL) | (selection.band == Band.SOFTENED)
    by = by or ("anchor" if s.positive_keys is None else "positive")
    score = closeness(s, by)
    return Diagnosis(
        by=by, anchors=len(own), keys=keys, base_rate=_share_among(known, same),
        by_rank=same_class_by_rank(score, own, same, RANK_SHARES, known),
        bands=band_counts(selection.band, same, s.known),
        recall=NOTHING if same is None else _share_among(same & ~own, ~kept),
        by_k=mined_purity_by_k(score, own, same, KS, known), hubness=hubness(closest(score, own, HUB_K), keys),
        mined_hubness=hubness(mined.nonzero()[:, 1], keys), self_hits=self_hits(own),
        clamped=None if temperature is None or not selection.estimate.tau_plus else _clamped(s, selection, temperature),
        false_negative_share=_share_among(kept & known, same),
        known=None if same is None or s.known is None or s.known.all() else _share_among(~own, s.known),
    )  # fmt: skip


def same_class_by_rank(
    score: PerKey, own: Pairs, same_class: Pairs | None, shares: Sequence[float], known: Pairs | None = None
) -> tuple[Share, ...]:
    """Return P(same class | rank) between each two consecutive rank shares, closest first.

    Args:
        score: larger is closer; equal scores keep their order.
        own: own keys, which rank last and are not counted.
        same_class: true if a key has the anchor's class; None (no labels) gives empty shares.
        shares: ascending shares of all K keys, in [0, 1]. A bin without keys, which occurs for small K, gives an empty
            share.
        known: pairs with known classes; None means all pairs.
    """
    return _shares_between(score, own, same_class, [*pairwise(_edges(shares, score.shape[1]))], known)


def mined_purity_by_k(
    score: PerKey, own: Pairs, same_class: Pairs | None, ks: Sequence[int], known: Pairs | None = None
) -> tuple[Share, ...]:
    """Return P(same class) among the k closest keys, for several k: the purity of mining by similarity alone.

    Args:
        score: larger is closer.
        own: own keys, which are never among the closest.
        same_class: true if a key has the anchor's class; None (no labels) gives empty shares.
        ks: each at least 1; an anchor with fewer keys contributes all of them.
        known: pairs with known classes; None means all pairs.
    """
    return _shares_between(score, own, same_class, [(0, k) for k in ks], known)


def _shares_between(
    score: PerKey, own: Pairs, same_class: Pairs | None, bounds: Sequence[tuple[int, int]], known: Pairs | None
) -> tuple[Share, ...]:
    """Return P(same class) between two ranks, for each of `bounds`; in blocks of rows, which bounds the memory."""
    if same_class is None or not bounds:
        return (NOTHING,) * len(bounds)
    counted = ~own if known is None else known & ~own
    step = max(1, CELLS // max(1, score.shape[1]))
    blocks = zip(*(torch.split(t, step) for t in (score, own, same_class & counted, counted)), strict=True)
    counts = torch.cat([_by_rank(x, o, torch.stack(marked), bounds) for x, o, *marked in blocks])
    return tuple(share_of(hits, others) for hits, others in counts.permute(2, 1, 0))


def _by_rank(
    score: PerKey, own: Pairs, marked: Bool[Tensor, "M B K"], bounds: Iterable[tuple[int, int]]
) -> Int64[Tensor, "B M R"]:
    """Count each anchor's marked keys between two ranks, for each of `bounds`; own keys rank last."""
    order = own_last(score, own).argsort(dim=1, descending=True, stable=True)
    ranked = marked.gather(2, order.expand(marked.shape))
    return torch.stack([ranked[:, :, a:b].sum(2) for a, b in bounds], dim=2).transpose(0, 1)


def band_counts(
    band: Int8[Tensor, "B K"], same_class: Pairs | None, known: Pairs | None = None
) -> dict[Band, BandCount]:
    """Return the counts for each code of `Band`; numbers of keys are means over anchors."""
    anchors, keys = band.shape
    counts = {}
    for code in Band:
        mask = band == code
        mean = int(mask.sum()) / max(1, anchors)
        share = _share_among(mask if known is None else mask & known, same_class)
        counts[code] = BandCount(mean, mean / keys if keys else math.nan, share)
    return counts


def closest(score: PerKey, own: Pairs, k: int) -> Int[Tensor, " chosen"]:
    """Return the indices of each anchor's k closest keys, flattened over anchors; own keys are excluded."""
    index = own_last(score, own).topk(min(k, score.shape[1]), dim=1).indices
    return index[~own.gather(1, index)]


def hubness(index: Int[Tensor, "*chosen"], keys: int) -> Hubness:
    """Return how unevenly keys are chosen; if each anchor chose k, the skew is that of the k-occurrence N_k.

    Args:
        index: indices of the keys that the anchors chose, of any shape, such as [B, k].
        keys: K.
    """
    if not keys:
        return Hubness(math.nan, 0, math.nan, math.nan)
    counts = index.flatten().bincount(minlength=keys).double()
    gap = counts - counts.mean()
    deviation = float(gap.square().mean().sqrt())
    skew = float((gap / deviation).pow(3).mean()) if deviation else math.nan
    return Hubness(skew, int(counts.max()), float((counts == 0).double().mean()), float(counts.mean()))


def self_hits(own: Pairs) -> Share:
    """Return the share of the anchors that have a key of their own image."""
    hit = own.any(1).long()
    return share_of(hit, torch.ones_like(hit))


def _share_among(pairs: Tensor, marked: Tensor | None) -> Share:
    """Return the share of the pairs that are marked; an empty share if `marked` is None."""
    return NOTHING if marked is None else share_of((pairs & marked).sum(1), pairs.sum(1))


def _clamped(s: Similarities, selection: Selection, temperature: float) -> Share:
    _, clamped = negative_mass(**terms(s, selection), temperature=temperature)
    return share_of(clamped.long(), torch.ones_like(clamped, dtype=torch.int64))


def _edges(shares: Sequence[float], keys: int) -> tuple[int, ...]:
    return tuple(rank_count(share, keys) for share in shares)


# the table

CLOSE_TO = {"positive": "positive (z'·n)", "anchor": "anchor (z·n)", "either": "positive or the anchor"}


def _lines(d: Diagnosis) -> Iterator[str]:
    """Yield the lines of the table; without labels, lines that need them are left out."""
    labelled = d.base_rate.count > 0
    yield f"{d.anchors:,} anchors with {d.keys:,} keys each" + "; 95 % intervals, over anchors" * labelled
    yield f"close is: similar to the {CLOSE_TO[d.by]}"
    yield f"{'':<16}{'keys':>10}{'of all':>10}" + "   P(same class)" * labelled
    if labelled:
        if d.known is not None:
            yield f"classes are known of {100 * d.known.value:.2f} % of the pairs, and P(same class) is among these"
        yield _row("base rate", d.base_rate.count / d.anchors, d.keys, d.base_rate)
        for (a, b), share in zip(pairwise(_edges(RANK_SHARES, d.keys)), d.by_rank, strict=True):
            if share.count:
                yield _row(f"rank {a + 1:,}" + f"–{b:,}" * (b > a + 1), b - a, d.keys, share)
        for k, share in zip(KS, d.by_k, strict=True):
            if k <= d.keys:
                yield _row(f"closest {k:,}", k, d.keys, share)
    for band, count in d.bands.items():
        yield _row(band.name, count.keys, d.keys, count.same_class if labelled else None)
    if labelled:
        others, kept = (d.known or d.base_rate).count / d.anchors, sum(d.bands[band].keys for band in KEPT)
        yield f"not kept among keys of the anchor's class: {d.recall}; among all: {100 * (1 - kept / others):.2f} %"
    yield f"hubs among the {HUB_K} closest keys: {_unevenness(d.hubness)}"
    if d.mined_hubness.mean > 0:
        yield f"hubs among the mined keys: {_unevenness(d.mined_hubness)}"
    yield f"anchors that have a key of their own image: {d.self_hits}"
    if d.clamped is not None:
        yield f"anchors whose negatives' mass is clamped: {d.clamped}"


def _row(label: str, count: float, keys: int, share: Share | None) -> str:
    of_all = f"{100 * count / keys:.1f} %" if keys else ""
    value, _, interval = str(share or "").partition(" ")  # aligned at the percent sign
    return f"{label:<16}{count:>10,.1f}{of_all:>10}{value:>9} {interval}".rstrip()


def _unevenness(h: Hubness) -> str:
    if math.isnan(h.skew):
        return f"none, each is chosen {h.largest:,} times"
    never = f"{100 * h.never:.1f} % never (by chance {100 * math.exp(-h.mean):.1f} %)"
    return f"skew {h.skew:.2f} (by chance {h.mean**-0.5:.2f}), one is chosen {h.largest:,} times, {never}"


# counts over many anchors, in batches

Judged = tuple[Similarities, Selection, PerKey]
"""A batch of anchors: similarities, selection, and the score by which the rule ranks keys (larger is closer)."""


@dataclass(frozen=True)
class Census:
    """Shares over all anchors with 95 % intervals; without labels, the shares that need them are empty.

    If images are both anchors and keys, anchors are dependent, and the intervals are somewhat too narrow.

    Attributes:
        anchors: number of anchors.
        mined: mined keys per anchor.
        suspected: share of HARD among all other images' keys.
        kept: share of POTENTIAL or SOFTENED among all other images' keys.
        false: share of the anchor's class among the kept keys (false negatives).
        base_rate: share of the anchor's class among all other images' keys.
        recall: share that is not kept among the keys of the anchor's class; 1 − kept if keys are dropped at random.
        ranks: edges of the R bins of ranks, R + 1 numbers of keys.
        by_rank: share of the anchor's class in each bin, closest first.
        in_bands: keys of each anchor by code of `Band`, without its own [B, 7].
        same_in_bands: those of them that have the anchor's class [B, 7]; zeros without labels.
        known: if some classes are unknown, the share of pairs with known classes, to which the shares that need labels
            refer; else None.
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

    def words(self, *, truth: bool) -> str:
        """Return the counts in sentences; those that need labels only if `truth`."""
        text = f"Over all {self.anchors:,} anchors: {self.mined:.1f} keys are mined as positives, "
        text += f"{self.suspected} are suspected and {self.kept} kept as negatives."
        if not truth:
            return text
        if self.known is not None:
            text += f" Classes are known of {100 * self.known.value:.2f} % of the pairs, and the rest is of these."
        text += f" Of the kept, {self.false} are of the anchor's class, false negatives; of all keys, {self.base_rate}."
        by_chance = f"a choice by chance would drop {100 * (1 - self.kept.value):.1f} %."
        return f"{text} Of the keys of its class {self.recall} are not kept; {by_chance}"


def take_census(judged: Iterable[Judged], keys: int, *, labelled: bool) -> Census:
    """Count the rules' choices over all anchors.

    Args:
        judged: batches of anchors; their size bounds the memory.
        keys: K.
        labelled: whether the classes of all or some images are known (`Similarities.known`).
    """
    ranks = tuple(sorted({*_edges(RANK_SHARES, keys)}))
    counted = array("q")  # storing a small tensor per batch would keep the memory around it allocated
    for s, selection, score in judged:
        others = ~s.own
        same = torch.zeros_like(others) if s.same_class is None else s.same_class & others
        marked = torch.stack([others, same, others if s.known is None else s.known & others])
        by_band = torch.stack([(marked & (selection.band == code)).sum(2).T for code in Band], dim=2)
        by_rank = _by_rank(score, s.own, marked, pairwise(ranks))
        counted.frombytes(torch.cat([by_band, by_rank], dim=2).numpy().tobytes())
    table = torch.tensor(counted, dtype=torch.int64, device="cpu").reshape(-1, 3, len(Band) + len(ranks) - 1)
    in_bands, same_in_bands, _ = bands = table[:, :, : len(Band)].unbind(1)
    others, same_others, known_others = (counts.sum(1) for counts in bands)
    kept, same_kept, known_kept = (counts[:, KEPT].sum(1) for counts in bands)

    def known(hits: Tensor, counts: Tensor) -> Share:
        return share_of(hits, counts) if labelled else NOTHING

    return Census(
        anchors=len(table), mined=float(in_bands[:, Band.MINED].double().mean()),
        suspected=share_of(in_bands[:, Band.HARD], others), kept=share_of(kept, others),
        false=known(same_kept, known_kept), base_rate=known(same_others, known_others),
        recall=known(same_others - same_kept, same_others), ranks=ranks,
        by_rank=tuple(known(hits, counts) for _, hits, counts in table[:, :, len(Band) :].permute(2, 1, 0)),
        in_bands=in_bands, same_in_bands=same_in_bands,
        known=None if known_others.equal(others) else known(known_others, others),
    )  # fmt: skip
