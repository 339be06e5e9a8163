"""Rules that keep or weight negatives: all keys, bands, mixtures, two controls, and a learned threshold.

Legend: B anchors, K keys, S synthetic negatives, H the hardest keys, d embedding, N training images.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.mining.bands import Band, Codes, band_codes, other_codes, rank_band, rank_count, rank_edges, value_band
from cltools.mining.draws import closest, uniform_columns, uniform_per_key
from cltools.mining.rules import READS_NOTHING, Context, Estimate, Moving, NegativeRule, Rescalable, State, annealed
from cltools.mining.similarities import Similarities

LEARNING_RATE, MOMENTS, TINY = 0.05, (0.9, 0.98), 1e-8
"""Adam's settings for the thresholds: step size in units of cosine, decay rates of the two moments, and epsilon."""

ABOVE_ALL = 1.001
"""A value above the cosine of any two unit vectors, even with rounding errors."""
Closeness = Literal["positive", "anchor", "either"]
"""The cosine that defines closeness: with the positive (z'·n), with the anchor (z·n), or the larger of both."""


def closeness(s: Similarities, by: Closeness) -> Float[Tensor, "B K"]:
    """Return the cosine that defines closeness, without gradient."""
    anchor = s.anchor_keys.detach()
    if by == "anchor":
        return anchor
    assert s.positive_keys is not None, "declared in reads, which select checks"
    return s.positive_keys if by == "positive" else torch.maximum(anchor, s.positive_keys)


class ByCloseness:
    """Mixin, like `Rescalable`, for rules that read the closeness of keys, as defined by their field `by`."""

    by: str

    @property
    def reads(self) -> frozenset[str]:
        """Only closeness to the positive reads z'·n."""
        return frozenset({"positive_keys"}) if self.by in ("positive", "either") else READS_NOTHING


@dataclass(frozen=True)
class AllNegatives(NegativeRule):
    """Keep every key: SimCLR (arXiv:2002.05709) and MoCo (arXiv:1911.05722).

    Example:
        >>> from cltools import AllNegatives, AugmentedView, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), AllNegatives()).negative_weight
        tensor([[1., 1., 1., 1., 1., 1., 1., 1.]])
    """

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return POTENTIAL everywhere."""
        return band_codes(s.anchor_keys, hard=None, easy=None)


@dataclass(frozen=True)
class RankBand(ByCloseness, Moving, Rescalable, NegativeRule):
    """Keep keys by the rank of their closeness, dropping the very closest and the far ones: `potential`'s negatives.

    Our reconstruction of arXiv:2311.00358 from its abstract; with `by="anchor"` it is Ring (arXiv:2010.02037).

    Example:
        >>> from cltools import AugmentedView, RankBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), RankBand(drop_closest=0.25, keep_within=0.5)).negative_weight
        tensor([[0., 0., 1., 1., 0., 0., 0., 0.]])
    """

    EDGES: ClassVar = ("drop_closest", "keep_within")
    ORDERED: ClassVar = EDGES

    drop_closest: Annotated[float, "a number between 0 and 1"] = 0.05
    """Share of all K keys to drop, closest first, as too hard; 0 drops none."""
    keep_within: Annotated[float, "a number between 0 and 1"] = 0.5
    """Share of all K keys, counted from the closest, beyond which a key is too easy; 1 drops none."""
    by: Literal["positive", "anchor", "force"] = "positive"
    """Rank by cosine to the positive or the anchor, or by the force on the anchor."""
    rescale: bool = False
    """Weight kept keys by (keys neither of the anchor's image nor mined) / (keys kept)."""
    drop_closest_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Initial value of `drop_closest`; None for a constant edge."""
    keep_within_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Initial value of `keep_within`; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which the edges move linearly."""

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """Return the score that is ranked; larger is closer. For "force": its log, up to a constant per anchor."""
        if self.by != "force":
            return closeness(s, self.by)
        cosine = s.anchor_keys.detach()
        tangent = ((1 - cosine) * (1 + cosine)).clamp_min(torch.finfo(cosine.dtype).tiny)
        return cosine / temperature + 0.5 * tangent.log()

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return HARD for the closest keys, POTENTIAL within the band, EASY beyond it."""
        return rank_band(self.score(s, context.temperature), s.own, self.drop_closest, self.keep_within)


@dataclass(frozen=True)
class CosineBand(ByCloseness, Moving, Rescalable, NegativeRule):
    """Keep keys by their cosine: above ≤ cosine < below.

    Example:
        >>> from cltools import AugmentedView, CosineBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), CosineBand(above=0.2, below=0.9, by="anchor")).negative_weight
        tensor([[0., 1., 1., 1., 0., 0., 0., 0.]])
    """

    EDGES: ClassVar = ("above", "below")
    ORDERED: ClassVar = EDGES

    above: Annotated[float | None, "between -1 and 1"] = 0.0
    """Cosine below which a key is too easy; None cuts nothing."""
    below: Annotated[float | None, "between -1 and 1"] = None
    """Cosine from which a key is too hard; None cuts nothing."""
    by: Literal["positive", "anchor"] = "positive"
    """Cosine that is compared: z'·n or z·n."""
    rescale: bool = False
    """Weight kept keys by (keys neither of the anchor's image nor mined) / (keys kept)."""
    above_from: Annotated[float | None, "between -1 and 1"] = None
    """Initial value of `above`; None for a constant edge."""
    below_from: Annotated[float | None, "between -1 and 1"] = None
    """Initial value of `below`; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which the edges move linearly."""

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """Return the cosine that is compared with the edges."""
        return closeness(s, self.by)

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return HARD from `below` on, EASY below `above`, POTENTIAL in between."""
        # rounding may put a cosine just below -1, and an edge of -1 must cut nothing
        return value_band(self.score(s, context.temperature), None if self.above == -1 else self.above, self.below)


@dataclass(frozen=True)
class MarginBand(Moving, Rescalable, NegativeRule):
    """Keep keys by their margin to the positive: top − within ≤ z·n < top.

    The top is z·z' − margin, or `z·z' − (1 − relative)·|z·z'|`; give exactly one of the two. A margin of 0 keeps keys
    that are less similar to the anchor than its positive (semi-hard, arXiv:1503.03832 section 3.2); a negative
    margin keeps closer keys too. The relative form is TopK-PercPos (arXiv:2407.15831), with the sign corrected where
    z·z' is negative.

    Example:
        >>> from cltools import AugmentedView, MarginBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), MarginBand(margin=0.2, within=1.0)).negative_weight  # z·z' is 0.96
        tensor([[0., 0., 1., 1., 1., 0., 0., 0.]])
    """

    EDGES: ClassVar = ("margin", "relative", "within")

    margin: Annotated[float | None, "between -2 and 2"] = None
    """Difference of cosines, −2 to 2, by which a key must be less similar than the positive."""
    relative: Annotated[float | None, "at least 0 and finite"] = None
    """Share of the positive's cosine that a key must stay below, such as 0.95."""
    within: Annotated[float | None, "above 0 and at most 4"] = None
    """Difference of cosines below the top beyond which a key is too easy; None cuts nothing."""
    rescale: bool = False
    """Weight kept keys by (keys neither of the anchor's image nor mined) / (keys kept)."""
    margin_from: Annotated[float | None, "between -2 and 2"] = None
    """Initial value of `margin`; None for a constant edge."""
    relative_from: Annotated[float | None, "at least 0 and finite"] = None
    """Initial value of `relative`; None for a constant edge."""
    within_from: Annotated[float | None, "above 0 and at most 4"] = None
    """Initial value of `within`; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which the edges move linearly."""

    def __post_init__(self) -> None:
        """Set a margin of 0 if neither form is given; refuse both at once, and invalid edges."""
        if self.margin is not None and self.relative is not None:
            raise CltoolsError("MarginBand: margin and relative are two forms of one edge; give one and leave one out.")
        if self.margin is None and self.relative is None:
            object.__setattr__(self, "margin", 0.0)
        super().__post_init__()

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """Return how much closer to the anchor each key is than the positive: z·n − z·z'."""
        return s.anchor_keys.detach() - s.anchor_positive.detach()[:, None]

    def top(self, s: Similarities) -> Float[Tensor, "B 1"]:
        """Return the score from which a key is too hard: −margin, or `−(1 − relative)·|z·z'|`."""
        positive = s.anchor_positive.detach()[:, None]
        if self.relative is not None:
            return (self.relative - 1) * positive.abs()
        return torch.full_like(positive, -(self.margin or 0.0))

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return HARD from the top on, EASY more than `within` below it, POTENTIAL in between."""
        top = self.top(s)
        return value_band(self.score(s, context.temperature), None if self.within is None else top - self.within, top)


@dataclass(frozen=True)
class RingNegatives(Moving, NegativeRule):
    """Keep the keys closest to the anchor without the very closest: Ring (arXiv:2010.02037).

    With outer share o and inner share i the ranks (i·o·K, o·K] by z·n are kept; by default the closest 10 % without the
    closest tenth of these. The outer edge may shrink from `outer_from` over the first `anneal` of training, as the
    paper anneals it from 100 %.

    Example:
        >>> from cltools import AugmentedView, RingNegatives, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), RingNegatives(inner=0.25, outer=0.5)).negative_weight
        tensor([[0., 1., 1., 1., 0., 0., 0., 0.]])
    """

    EDGES: ClassVar = ("outer",)

    inner: Annotated[float, "at least 0 and below 1"] = 0.1
    """Share of the keys within `outer`, the closest ones, that is too hard; 0 drops none."""
    outer: Annotated[float, "above 0 and at most 1"] = 0.1
    """Share of all keys, counted from the closest, beyond which a key is too easy."""
    outer_from: Annotated[float | None, "above 0 and at most 1"] = None
    """Initial value of `outer`; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which the outer edge moves, by a constant factor per step."""

    @staticmethod
    def moved(first: float, last: float, done: float) -> float:
        """Interpolate geometrically: by a constant factor per step."""
        return min(1.0, math.exp(annealed(math.log(first), math.log(last), done)))

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return HARD inside the ring, POTENTIAL on it, EASY beyond it."""
        return rank_band(s.anchor_keys.detach(), s.own, self.inner * self.outer, self.outer)


@dataclass(frozen=True)
class SoftenedBand(ByCloseness, Moving, AllNegatives):
    """Weight the keys of a rank band by e^{−margin/τ} and all others by 1: the band's logits become (z·n − margin)/τ.

    A reconstruction of the margin on difficult pairs of arXiv:2501.01317, of which we know only the abstract. A margin
    of 0 is InfoNCE; a large one drops the band, as `RankBand(drop_closest=soften_within, keep_within=1)` does if
    `skip_closest` is 0.

    Example:
        >>> from cltools import AugmentedView, SoftenedBand, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), SoftenedBand(margin=0.2, soften_within=0.25), temperature=0.2).negative_weight
        tensor([[0.3679, 0.3679, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000]])
    """

    EDGES: ClassVar = ("margin", "skip_closest", "soften_within")
    ORDERED: ClassVar = ("skip_closest", "soften_within")
    softens: ClassVar = True

    margin: Annotated[float, "between 0 and 4"] = 0.2
    """Difference of cosines, 0 to 4, that is subtracted from the cosine of a key in the band."""
    skip_closest: Annotated[float, "a number between 0 and 1"] = 0.0
    """Share of all K keys, the closest ones, that comes before the band; these keys have weight 1."""
    soften_within: Annotated[float, "a number between 0 and 1"] = 0.1
    """Share of all K keys, counted from the closest, at which the band ends."""
    by: Literal["positive", "anchor"] = "anchor"
    """Score that is ranked: z'·n or z·n."""
    margin_from: Annotated[float | None, "between 0 and 4"] = None
    """Initial value of `margin`; None for a constant margin."""
    skip_closest_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Initial value of `skip_closest`; None for a constant edge."""
    soften_within_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Initial value of `soften_within`; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which the edges move linearly."""

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"]:
        """Return e^{−margin/τ} in the band, 1 elsewhere."""
        band = rank_band(closeness(s, self.by), s.own, self.skip_closest, self.soften_within)
        softened = math.exp(-self.margin / context.temperature)
        return torch.ones_like(s.anchor_keys).masked_fill_(band == Band.POTENTIAL, softened)


@dataclass(frozen=True)
class CancelFalseNegatives(ByCloseness, NegativeRule):
    """Drop keys that are among the k closest *and* close enough: FNC's elimination (arXiv:2011.11765).

    FNC's attraction is `NearestKeys(10, weighting="uniform", augmented_share=None, min_cosine=0.7, by="either")`.

    Example:
        >>> from cltools import AugmentedView, CancelFalseNegatives, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), CancelFalseNegatives(k=4, min_cosine=0.7)).negative_weight
        tensor([[0., 0., 1., 1., 1., 1., 1., 1.]])
    """

    k: Annotated[int, "a whole number of at least 1"] = 10
    """Number of closest keys that are suspected; own keys rank last. Equally close keys are treated alike."""
    min_cosine: Annotated[float, "a number"] = 0.7
    """Cosine from which a suspected key is dropped; above 1 drops nothing."""
    by: Literal["positive", "anchor", "either"] = "either"
    """Closeness to the positive, to the anchor, or the larger of both cosines, like FNC's over its support views."""

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return HARD for the detected keys, POTENTIAL for the rest."""
        score = closeness(s, self.by)
        (edge,) = rank_edges(score, s.own, (min(self.k, score.shape[1]),))
        return band_codes(score, hard=score >= edge.clamp_min(self.min_cosine), easy=None)


@dataclass(frozen=True)
class DifficultAnchors(ByCloseness, AllNegatives):
    """Keep every key, but reduce the weight of anchors that are close to many keys of other images.

    A reconstruction from the abstract of arXiv:2501.01317, "Difficult Examples Hurt Unsupervised Contrastive Learning",
    which leaves difficult images out; we know only the abstract. An anchor is difficult if more than
    m = floor(tolerated·K + ½) of its keys, neither own nor mined, have a cosine of at least `min_cosine`. With
    `anchor_weight=1` it is InfoNCE.

    Example:
        >>> from cltools import AugmentedView, DifficultAnchors, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0], [0, -1]], [[1, 0], [0, -1]], keys, own=[[False] * 8] * 2)
        >>> select(s, AugmentedView(), DifficultAnchors(tolerated=0.125)).anchor_weight  # close to 2 keys and to none
        tensor([0., 1.])
    """

    min_cosine: Annotated[float, "between -1 and 1"] = 0.7
    """Cosine from which a key is close, −1 to 1."""
    tolerated: Annotated[float, "a number between 0 and 1"] = 0.05
    """Share of all K keys that may be close to an anchor that is not difficult."""
    anchor_weight: Annotated[float, "a number between 0 and 1"] = 0.0
    """Weight of a difficult anchor in the mean of the loss; 0 leaves it out, 1 changes nothing."""
    by: Literal["positive", "anchor"] = "anchor"
    """Cosine that is compared: z'·n or z·n."""

    def weigh_anchors(self, s: Similarities, context: Context) -> Float[Tensor, " B"]:
        """Return `anchor_weight` for difficult anchors, 1 for the others."""
        close = (closeness(s, self.by) >= self.min_cosine) & context.eligible
        difficult = close.sum(1) > rank_count(self.tolerated, s.own.shape[1])
        return torch.ones_like(s.anchor_positive).masked_fill_(difficult, self.anchor_weight)


@dataclass(frozen=True)
class Debiased(AllNegatives):
    """Subtract the expected share of false negatives from the negatives' mass: debiased (arXiv:2007.00224, eq. 8).

    Example:
        >>> from cltools import AllNegatives, AugmentedView, Debiased, negative_mass, select, similarities, terms
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = [select(s, AugmentedView(), rule) for rule in (AllNegatives(), Debiased(tau_plus=0.1))]
        >>> [round(float(negative_mass(**terms(s, each), temperature=0.5)[0]), 2) for each in chosen]  # logs
        [2.92, 2.67]
    """

    tau_plus: Annotated[float, "at least 0 and below 1"] = 0.1
    """Assumed share of false negatives; 0 corrects nothing. 1/classes where classes are balanced."""

    def estimate(self) -> Estimate:
        """Return an estimate with correction and without tilt."""
        return Estimate(tau_plus=self.tau_plus)


@dataclass(frozen=True)
class HardnessWeighted(AllNegatives):
    """Weight hard negatives more, and subtract the expected false ones: HCL (arXiv:2010.04592, eq. 4).

    The weights e^{βs} are detached by default; in the published code the gradient flows through them.

    Example:
        >>> from cltools import AugmentedView, HardnessWeighted, info_nce_gradients, select, similarities, terms
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, AugmentedView(), HardnessWeighted(beta=2, tau_plus=0))
        >>> push = info_nce_gradients(**terms(s, chosen), temperature=0.5)[1]
        >>> [round(share, 2) for share in (push / push.sum())[0].tolist()]  # beta=0: 0.37, 0.27, 0.18, 0.09, …
        [0.66, 0.25, 0.08, 0.01, 0.0, 0.0, 0.0, 0.0]
    """

    beta: Annotated[float, "at least 0 and finite"] = 1.0
    """Strength β of the tilt towards similar negatives; 0 for none."""
    tau_plus: Annotated[float, "at least 0 and below 1"] = 0.1
    """Assumed share of false negatives; 0 corrects nothing. 1/classes where classes are balanced."""
    detach: bool = True
    """Detach the tilt, so that no gradient flows through it."""
    anneal: Annotated[float | None, "above 0 and at most 1"] = None
    """Share of training over which β decreases linearly to 0, as in the published code; None for a constant β."""

    def at(self, progress: float) -> "HardnessWeighted":
        """Return the rule with the β in force at this share of training."""
        if self.anneal is None:
            return self
        return replace(self, beta=annealed(self.beta, 0.0, progress / self.anneal), anneal=None)

    def estimate(self) -> Estimate:
        """Return an estimate with tilt and correction."""
        return Estimate(beta=self.beta, tau_plus=self.tau_plus, detach=self.detach)


@dataclass(frozen=True)
class MixedNegatives(AllNegatives):
    """Keep every key and add synthetic ones: MoCHi (arXiv:2010.01028).

    From the `hardest` kept keys by z·n it makes `pairs` mixtures of two, norm(a·n_i + (1−a)·n_j) with a uniform in
    (0, 1), and `with_anchor` mixtures of one with the anchor, norm(b·z + (1−b)·n_i) with b uniform in (0, ½). Own and
    mined keys are not mixed. An anchor that keeps no key gets its antipode −z, which pushes least.

    Example:
        >>> from cltools import AugmentedView, MixedNegatives, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), MixedNegatives(hardest=3, pairs=4, with_anchor=2)).synthetic.shape  # [B, S, d]
        torch.Size([1, 6, 2])
    """

    hardest: Annotated[int, "a whole number of at least 1"] = 256
    """Number of closest kept keys that are mixed (1,024 of 65,536 in the paper)."""
    pairs: Annotated[int, "a whole number of at least 0"] = 128
    """Number of mixtures of two keys per anchor."""
    with_anchor: Annotated[int, "a whole number of at least 0"] = 64
    """Number of mixtures of a key with the anchor per anchor."""
    start: Annotated[float, "a number between 0 and 1"] = 0.1
    """Share of training before which nothing is mixed."""

    @property
    def reads(self) -> frozenset[str]:
        """Synthetic keys are mixed from vectors."""
        return frozenset({"vectors"}) if self.pairs + self.with_anchor else READS_NOTHING

    def at(self, progress: float) -> "MixedNegatives":
        """Return a rule that mixes nothing before `start`."""
        on = progress >= self.start
        return replace(self, pairs=self.pairs if on else 0, with_anchor=self.with_anchor if on else 0, start=0.0)

    def synthesise(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B S d"] | None:
        """Return the mixtures, of unit length and without gradient; None if there are no keys or nothing is mixed."""
        if self.pairs + self.with_anchor == 0 or kept.shape[1] == 0:
            return None
        assert s.vectors is not None, "declared in reads, which select checks"
        z, keys = (vectors.detach() for vectors in s.vectors)
        score = s.anchor_keys.detach().masked_fill(~kept, -torch.inf)
        _, hardest = closest(score, min(self.hardest, score.shape[1]), context.generator)  # [B, H], kept ones first
        count = kept.sum(1, keepdim=True).clamp_max(hardest.shape[1])

        def uniform(columns: int, stream: int) -> Tensor:
            return uniform_columns(z, columns, context.generator, stream)

        def drawn(columns: int, stream: int) -> Tensor:
            index = (uniform(columns, stream) * count).long().clamp_max((count - 1).clamp_min(0))
            return keys[hardest.gather(1, index)]  # [B, columns, d]

        a = uniform(self.pairs, 1)[:, :, None]
        b = uniform(self.with_anchor, 2)[:, :, None] / 2
        of_two = a * drawn(self.pairs, 3) + (1 - a) * drawn(self.pairs, 4)
        of_anchor = b * z[:, None] + (1 - b) * drawn(self.with_anchor, 5)
        mixed = torch.cat([of_two, of_anchor], dim=1)
        return torch.nn.functional.normalize(torch.where(count[:, :, None] > 0, mixed, -z[:, None]), dim=2)


@dataclass(frozen=True)
class RandomNegatives(Moving, Rescalable, NegativeRule):
    """Keep a random share of the keys: a control that matches a band's number of negatives, but not its choice.

    Example:
        >>> from cltools import AugmentedView, RandomNegatives, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), RandomNegatives(share=0.25)).negative_weight.sum(1)
        tensor([2.])
    """

    EDGES: ClassVar = ("share",)

    share: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of all keys that is kept, counted as in a rank band."""
    rescale: bool = False
    """Weight kept keys by (keys neither of the anchor's image nor mined) / (keys kept)."""
    share_from: Annotated[float | None, "above 0 and at most 1"] = None
    """Initial value of `share`, to match a band whose edges move; None for a constant share."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which the kept share moves linearly."""

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return POTENTIAL for the drawn keys, OTHER for the rest."""
        draw = uniform_per_key(s.own, context.generator)
        (edge,) = rank_edges(draw, s.own, (rank_count(self.share, draw.shape[1]),))
        return other_codes(draw < edge)


@dataclass(frozen=True)
class OracleNegatives(Rescalable, NegativeRule):
    """Drop all keys of the anchor's class, or a share, like a perfect or partial detector. Reads labels: a control.

    Example:
        >>> from cltools import AugmentedView, OracleNegatives, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8], same_class=[[True, False] * 4])
        >>> select(s, AugmentedView(), OracleNegatives()).negative_weight
        tensor([[0., 1., 0., 1., 0., 1., 0., 1.]])
    """

    share: Annotated[float, "a number between 0 and 1"] = 1.0
    """Share of the same-class keys that is dropped; below 1 each is dropped at random with this probability."""
    rescale: bool = False
    """Weight kept keys by (keys neither of the anchor's image nor mined) / (keys kept)."""

    reads = frozenset({"same_class"})

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return OTHER for the dropped keys of the anchor's class, POTENTIAL for the rest."""
        assert s.same_class is not None, "declared in reads, which select checks"
        if self.share == 1:
            return other_codes(s.same_class)
        return other_codes(s.same_class & (uniform_per_key(s.own, context.generator) < self.share))


@dataclass(frozen=True)
class LearnedThreshold(NegativeRule):
    """Drop the keys above a threshold λ that is learned per image: GloFND (arXiv:2502.20612).

    After each step Adam updates λ by the gradient α − (share of the keys with z·n > λ), averaged over the image's
    anchors, so that λ converges to where a share α of all the keys seen by the image lies above it. An image starts
    with a λ above every cosine, and nothing is dropped for an image that is missing from the state. α = 0 is InfoNCE;
    `RankBand(drop_closest=alpha, keep_within=1, by="anchor")` drops the same share of each queue and remembers nothing.

    Differs from the published code: anchors are compared with the queue if there is one; the share counts all K keys,
    theirs only keys that are not own; the bias correction counts the image's updates, theirs counts epochs; the
    learning rate is 0.05, theirs for images with texts (for images alone it is 0.01); and steps are divided by the
    largest second moment so far (AMSGrad): with Adam's, thresholds would keep moving when the embeddings do not.

    Example:
        >>> import torch
        >>> from cltools import AugmentedView, LearnedThreshold, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[1, 0]], keys, own=[[False] * 8], ids=([7], range(8)))
        >>> state = {"ids": torch.tensor([7]), "threshold": torch.tensor([0.5])}  # what image 7 has learned
        >>> select(s, AugmentedView(), LearnedThreshold(), state=state).negative_weight
        tensor([[0., 0., 0., 1., 1., 1., 1., 1.]])
    """

    alpha: Annotated[float, "at least 0 and below 1"] = 0.01
    """Share of all K keys that is dropped as suspected false negatives; the true share is about 1/classes."""
    start: Annotated[float, "a number between 0 and 1"] = 0.35
    """Share of training before which nothing is learned or dropped (70 of 200 epochs in the paper)."""

    reads = frozenset({"ids"})

    def at(self, progress: float) -> NegativeRule:
        """Return `AllNegatives()` before `start`."""
        return AllNegatives() if progress < self.start else replace(self, start=0.0)

    def new_state(self, ids: Int[Tensor, " N"], device: torch.device) -> State:
        """Return a threshold above every cosine for each image, and Adam's moments, sorted by image id."""
        threshold = torch.full((len(ids),), ABOVE_ALL, device=device, dtype=torch.float32)
        moments = {name: torch.zeros_like(threshold) for name in ("first", "second", "largest", "steps")}
        return {"ids": ids.to(device).sort().values, "threshold": threshold} | moments

    def judge(self, s: Similarities, context: Context) -> Codes:
        """Return HARD above the threshold, POTENTIAL below it."""
        return band_codes(s.anchor_keys, hard=self._above(s, context), easy=None)

    def measure(self, s: Similarities, context: Context) -> Float[Tensor, " B"] | None:
        """Return the share of all K keys that are above the threshold and not own; None if there are no keys."""
        return (self._above(s, context) & ~s.own).sum(1).float() / s.own.shape[1] if s.own.shape[1] else None

    def learn(self, state: State, ids: Int[Tensor, " B"], measured: Float[Tensor, " B"]) -> None:
        """Update the thresholds of these images by one step of Adam."""
        row, gradient = torch.searchsorted(state["ids"], ids), self.alpha - measured
        decay1, decay2 = MOMENTS
        steps = state["steps"][row] + 1
        first = decay1 * state["first"][row] + (1 - decay1) * gradient
        second = decay2 * state["second"][row] + (1 - decay2) * gradient.square()
        largest = torch.maximum(state["largest"][row], second / (1 - decay2**steps))
        moved = LEARNING_RATE * first / (1 - decay1**steps) / (largest.sqrt() + TINY)
        threshold = (state["threshold"][row] - moved).clamp(-1, ABOVE_ALL)
        for name, value in dict(threshold=threshold, first=first, second=second, largest=largest, steps=steps).items():
            state[name][row] = value

    def _above(self, s: Similarities, context: Context) -> Bool[Tensor, "B K"]:
        assert s.ids is not None, "declared in reads, which select checks"
        return s.anchor_keys.detach() > thresholds(context.state, s.ids[0])[:, None]


def thresholds(state: State | None, ids: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the threshold of each anchor's image; +inf if the image is not in the state, or there is no state."""
    if state is None:
        return torch.full(ids.shape, torch.inf, device=ids.device, dtype=torch.float32)
    row = torch.searchsorted(state["ids"], ids).clamp_max(len(state["ids"]) - 1)
    return torch.where(state["ids"][row] == ids, state["threshold"][row], torch.inf)
