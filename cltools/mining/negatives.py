"""Which keys are kept as negatives, or count less: all, bands, mixtures, two controls, and below a learned threshold.

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
"""Settings of Adam on the thresholds: cosines per step, decays of its two moments, what keeps it from dividing by 0."""

ABOVE_ALL = 1.001
"""More than the cosine of any two unit vectors, rounding included."""
Closeness = Literal["positive", "anchor", "either"]
"""Whose closest keys are meant: the positive's, z'·n, the anchor's, z·n, or by the larger of both cosines."""


def closeness(s: Similarities, by: Closeness) -> Float[Tensor, "B K"]:
    """The cosine by which keys are close, without gradient."""
    anchor = s.anchor_keys.detach()
    if by == "anchor":
        return anchor
    assert s.positive_keys is not None, "declared in reads, which select checks"
    return s.positive_keys if by == "positive" else torch.maximum(anchor, s.positive_keys)


class ByCloseness:
    """For rules that look at how close keys are, to what their field `by` says.

    No rule itself, and no dataclass: a rule names it before its base, and has the field where it wants it.
    """

    by: str

    @property
    def reads(self) -> frozenset[str]:
        """Only closeness to the positive needs z'·n."""
        return frozenset({"positive_keys"}) if self.by in ("positive", "either") else READS_NOTHING


@dataclass(frozen=True)
class AllNegatives(NegativeRule):
    """Every key is kept: SimCLR (arXiv:2002.05709) and MoCo (arXiv:1911.05722)."""

    def judge(self, s: Similarities, context: Context) -> Codes:
        """POTENTIAL everywhere."""
        return band_codes(s.anchor_keys, hard=None, easy=None)


@dataclass(frozen=True)
class RankBand(ByCloseness, Moving, Rescalable, NegativeRule):
    """Keys by the rank of their closeness: neither the very closest nor the far ones, the negatives of `potential`.

    Our reconstruction of arXiv:2311.00358 from its abstract; with `by="anchor"` it is Ring (arXiv:2010.02037).
    """

    EDGES: ClassVar = ("drop_closest", "keep_within")
    ORDERED: ClassVar = EDGES

    drop_closest: Annotated[float, "a number between 0 and 1"] = 0.05
    """Share of all K keys that is dropped as too hard, the closest first; 0 drops none."""
    keep_within: Annotated[float, "a number between 0 and 1"] = 0.5
    """Share of all K keys beyond which a key is too easy; 1 drops none."""
    by: Literal["positive", "anchor", "force"] = "positive"
    """What is ranked: z'·n, z·n, or the force on the anchor p·√(1−c²)/τ."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    drop_closest_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Where `drop_closest` starts; None for a constant edge."""
    keep_within_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Where `keep_within` starts; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which edges move, in a straight line."""

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """What is ranked; larger is closer. For "force": the log of the force, up to a constant per anchor."""
        if self.by != "force":
            return closeness(s, self.by)
        cosine = s.anchor_keys.detach()
        tangent = ((1 - cosine) * (1 + cosine)).clamp_min(torch.finfo(cosine.dtype).tiny)
        return cosine / temperature + 0.5 * tangent.log()

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD for the closest, POTENTIAL within the band, EASY beyond it."""
        return rank_band(self.score(s, context.temperature), s.own, self.drop_closest, self.keep_within)


@dataclass(frozen=True)
class CosineBand(ByCloseness, Moving, Rescalable, NegativeRule):
    """Keys by their cosine: above ≤ cosine < below is kept."""

    EDGES: ClassVar = ("above", "below")
    ORDERED: ClassVar = EDGES

    above: Annotated[float | None, "between -1 and 1"] = 0.0
    """Cosine below which a key is too easy; None cuts nothing."""
    below: Annotated[float | None, "between -1 and 1"] = None
    """Cosine from which a key is too hard; None cuts nothing."""
    by: Literal["positive", "anchor"] = "positive"
    """Which cosine: z'·n or z·n."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    above_from: Annotated[float | None, "between -1 and 1"] = None
    """Where `above` starts; None for a constant edge."""
    below_from: Annotated[float | None, "between -1 and 1"] = None
    """Where `below` starts; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which edges move, in a straight line."""

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """The cosine that the edges cut."""
        return closeness(s, self.by)

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD from `below` on, EASY below `above`, POTENTIAL between."""
        # rounding puts a cosine just outside of [-1, 1], where an edge of -1 must cut nothing
        above = None if self.above == -1 else self.above
        return value_band(self.score(s, context.temperature), above, self.below)


@dataclass(frozen=True)
class MarginBand(Moving, Rescalable, NegativeRule):
    """Keys by their margin to the positive: top − within ≤ z·n < top is kept.

    The top is z·z' − margin, or z·z' − (1 − relative)·|z·z'|: exactly one of both is given. A margin of 0 keeps what is
    less similar to the anchor than its positive is (semi-hard, arXiv:1503.03832 section 3.2), a negative one keeps
    closer keys too. The relative form is TopK-PercPos (arXiv:2407.15831), with its sign right where z·z' is negative.
    """

    EDGES: ClassVar = ("margin", "relative", "within")

    margin: Annotated[float | None, "between -2 and 2"] = None
    """Difference of cosines, −2 to 2, by which a key must be less similar than the positive."""
    relative: Annotated[float | None, "at least 0 and finite"] = None
    """Share of the positive's cosine that a key must stay below, such as 0.95."""
    within: Annotated[float | None, "above 0 and at most 4"] = None
    """Difference of cosines below the top beyond which a key is too easy; None cuts nothing."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    margin_from: Annotated[float | None, "between -2 and 2"] = None
    """Where `margin` starts; None for a constant edge."""
    relative_from: Annotated[float | None, "at least 0 and finite"] = None
    """Where `relative` starts; None for a constant edge."""
    within_from: Annotated[float | None, "above 0 and at most 4"] = None
    """Where `within` starts; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which edges move, in a straight line."""

    def __post_init__(self) -> None:
        """Take a margin of 0 where nothing is given; refuse both forms at once, and edges without meaning."""
        if self.margin is not None and self.relative is not None:
            raise CltoolsError("MarginBand: margin and relative are two forms of one edge; give one and leave one out.")
        if self.margin is None and self.relative is None:
            object.__setattr__(self, "margin", 0.0)
        super().__post_init__()

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """By how much each key is closer to the anchor than its positive: z·n − z·z'."""
        return s.anchor_keys.detach() - s.anchor_positive.detach()[:, None]

    def top(self, s: Similarities) -> Float[Tensor, "B 1"]:
        """Score from which a key is too hard: −margin, or −(1 − relative)·|z·z'|."""
        positive = s.anchor_positive.detach()[:, None]
        if self.relative is not None:
            return (self.relative - 1) * positive.abs()
        return torch.full_like(positive, -(self.margin or 0.0))

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD from the top on, EASY further than `within` below it, POTENTIAL between."""
        top = self.top(s)
        return value_band(self.score(s, context.temperature), None if self.within is None else top - self.within, top)


@dataclass(frozen=True)
class RingNegatives(Moving, NegativeRule):
    """The closest keys to the anchor less the very closest: Ring (arXiv:2010.02037).

    With outer share o and inner share i the ranks (i·o·K, o·K] by z·n are kept; by default the closest 10 % less the
    closest tenth of these. The outer edge may close in from `outer_from` over the first `anneal` of training, as the
    paper anneals it from 100 %.
    """

    EDGES: ClassVar = ("outer",)

    inner: Annotated[float, "at least 0 and below 1"] = 0.1
    """Share of the ball inside `outer` that is too hard; 0 cuts nothing."""
    outer: Annotated[float, "above 0 and at most 1"] = 0.1
    """Share of all keys beyond which a key is too easy."""
    outer_from: Annotated[float | None, "above 0 and at most 1"] = None
    """Where the outer edge starts; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which it moves, by a constant factor per step."""

    @staticmethod
    def moved(first: float, last: float, done: float) -> float:
        """By a constant factor per step."""
        return min(1.0, math.exp(annealed(math.log(first), math.log(last), done)))

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD inside the ring, EASY beyond it."""
        return rank_band(s.anchor_keys.detach(), s.own, self.inner * self.outer, self.outer)


@dataclass(frozen=True)
class SoftenedBand(ByCloseness, Moving, AllNegatives):
    """Keys of a rank band weigh e^{−margin/τ}, every other key 1: the band's logits become (z·n − margin)/τ.

    After the margin on difficult pairs of arXiv:2501.01317, of which only the abstract is known to us, so a
    reconstruction. A margin of 0 is InfoNCE; a large one drops the band, as `RankBand(drop_closest=soften_within,
    keep_within=1)` does where nothing is skipped.
    """

    EDGES: ClassVar = ("margin", "skip_closest", "soften_within")
    ORDERED: ClassVar = ("skip_closest", "soften_within")
    softens: ClassVar = True

    margin: Annotated[float, "between 0 and 4"] = 0.2
    """Difference of cosines, 0 to 4, by which a key of the band counts as less similar than it is."""
    skip_closest: Annotated[float, "a number between 0 and 1"] = 0.0
    """Share of all K keys before the band, the closest first; they weigh 1."""
    soften_within: Annotated[float, "a number between 0 and 1"] = 0.1
    """Share of all K keys within which the band ends."""
    by: Literal["positive", "anchor"] = "anchor"
    """What is ranked: z'·n or z·n."""
    margin_from: Annotated[float | None, "between 0 and 4"] = None
    """Where `margin` starts; None for a constant margin."""
    skip_closest_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Where `skip_closest` starts; None for a constant edge."""
    soften_within_from: Annotated[float | None, "a number between 0 and 1"] = None
    """Where `soften_within` starts; None for a constant edge."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which edges move, in a straight line."""

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B K"]:
        """e^{−margin/τ} in the band, 1 elsewhere."""
        band = rank_band(closeness(s, self.by), s.own, self.skip_closest, self.soften_within)
        softened = math.exp(-self.margin / context.temperature)
        return torch.ones_like(s.anchor_keys).masked_fill_(band == Band.POTENTIAL, softened)


@dataclass(frozen=True)
class CancelFalseNegatives(ByCloseness, NegativeRule):
    """Drops the keys that are among the k closest *and* close enough: FNC's elimination (arXiv:2011.11765).

    Its attraction is `NearestKeys(10, weighting="uniform", augmented_share=None, min_cosine=0.7, by="either")`.
    """

    k: Annotated[int, "a whole number of at least 1"] = 10
    """How many of the closest keys are suspected; own keys rank last. Equally close keys share one fate."""
    min_cosine: Annotated[float, "a number"] = 0.7
    """Cosine from which a suspected key is dropped; above 1 drops nothing."""
    by: Literal["positive", "anchor", "either"] = "either"
    """Closeness to the positive, to the anchor, or the larger of both cosines, as over FNC's support views."""

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD for the detected, POTENTIAL for the rest."""
        score = closeness(s, self.by)
        (edge,) = rank_edges(score, s.own, (min(self.k, score.shape[1]),))
        return band_codes(score, hard=score >= edge.clamp_min(self.min_cosine), easy=None)


@dataclass(frozen=True)
class DifficultAnchors(ByCloseness, AllNegatives):
    """Every key is kept, and an anchor that many foreign keys are close to counts less, or not at all.

    After the abstract of arXiv:2501.01317, "Difficult Examples Hurt Unsupervised Contrastive Learning", which leaves
    difficult images out; the rest of it is not known to us, so a reconstruction. An anchor is difficult if more than
    m = floor(tolerated·K + ½) of its keys, neither own nor mined, have a cosine of at least `min_cosine`. With
    `anchor_weight=1` it is InfoNCE.
    """

    min_cosine: Annotated[float, "between -1 and 1"] = 0.7
    """Cosine from which a key is close, −1 to 1."""
    tolerated: Annotated[float, "a number between 0 and 1"] = 0.05
    """Share of all K keys that may be close to an anchor that is not difficult."""
    anchor_weight: Annotated[float, "a number between 0 and 1"] = 0.0
    """Weight of a difficult anchor in the mean of the loss; 0 leaves it out, 1 changes nothing."""
    by: Literal["positive", "anchor"] = "anchor"
    """Which cosine: z'·n or z·n."""

    def weigh_anchors(self, s: Similarities, context: Context) -> Float[Tensor, " B"]:
        """`anchor_weight` for a difficult anchor, 1 for the others."""
        close = (closeness(s, self.by) >= self.min_cosine) & context.eligible
        difficult = close.sum(1) > rank_count(self.tolerated, s.own.shape[1])
        return torch.ones_like(s.anchor_positive).masked_fill_(difficult, self.anchor_weight)


@dataclass(frozen=True)
class Debiased(AllNegatives):
    """The negatives' mass less what false negatives are expected to add: debiased (arXiv:2007.00224, eq. 8)."""

    tau_plus: Annotated[float, "at least 0 and below 1"] = 0.1
    """Assumed share of false negatives; 0 corrects nothing. 1/classes where classes are balanced."""

    def estimate(self) -> Estimate:
        """No tilt."""
        return Estimate(tau_plus=self.tau_plus)


@dataclass(frozen=True)
class HardnessWeighted(AllNegatives):
    """Hard negatives count more, false ones are subtracted in expectation: HCL (arXiv:2010.04592, eq. 4).

    Its weights e^{βs} are detached by default; the published code lets gradient flow through them.
    """

    beta: Annotated[float, "at least 0 and finite"] = 1.0
    """Tilt towards similar negatives; 0 is none."""
    tau_plus: Annotated[float, "at least 0 and below 1"] = 0.1
    """Assumed share of false negatives; 0 corrects nothing. 1/classes where classes are balanced."""
    detach: bool = True
    """Keep the gradient from flowing through the tilt."""
    anneal: Annotated[float | None, "above 0 and at most 1"] = None
    """Share of training over which β falls to 0, as in the published code; None keeps it."""

    def at(self, progress: float) -> "HardnessWeighted":
        """The tilt in force at this share of training."""
        if self.anneal is None:
            return self
        return replace(self, beta=annealed(self.beta, 0.0, progress / self.anneal), anneal=None)

    def estimate(self) -> Estimate:
        """Tilt and correction."""
        return Estimate(beta=self.beta, tau_plus=self.tau_plus, detach=self.detach)


@dataclass(frozen=True)
class MixedNegatives(AllNegatives):
    """Every key, and synthetic ones beside them: MoCHi (arXiv:2010.01028).

    Of the `hardest` kept keys by z·n, `pairs` mixtures of two, norm(a·n_i + (1−a)·n_j) with a uniform in (0, 1), and
    `with_anchor` mixtures of one with the anchor, norm(b·z + (1−b)·n_i) with b uniform in (0, ½). Neither own nor mined
    keys are mixed. An anchor that keeps no key gets the point opposite to it, which pushes least.
    """

    hardest: Annotated[int, "a whole number of at least 1"] = 256
    """How many of the closest kept keys are mixed (1,024 of 65,536 in the paper)."""
    pairs: Annotated[int, "a whole number of at least 0"] = 128
    """Mixtures of two keys for each anchor."""
    with_anchor: Annotated[int, "a whole number of at least 0"] = 64
    """Mixtures of a key with the anchor for each anchor."""
    start: Annotated[float, "a number between 0 and 1"] = 0.1
    """Share of training before which nothing is mixed."""

    @property
    def reads(self) -> frozenset[str]:
        """New keys are made of vectors."""
        return frozenset({"vectors"}) if self.mixes else READS_NOTHING

    @property
    def mixes(self) -> bool:
        """Whether any key is made."""
        return self.pairs + self.with_anchor > 0

    def at(self, progress: float) -> "MixedNegatives":
        """Nothing is mixed before `start`."""
        on = progress >= self.start
        return replace(self, pairs=self.pairs if on else 0, with_anchor=self.with_anchor if on else 0, start=0.0)

    def synthesise(self, s: Similarities, kept: Bool[Tensor, "B K"], context: Context) -> Float[Tensor, "B S d"] | None:
        """The mixtures, unit length, without gradient; None where there are no keys or nothing is mixed."""
        if not self.mixes or kept.shape[1] == 0:
            return None
        assert s.vectors is not None, "declared in reads, which select checks"
        z, keys = (vectors.detach() for vectors in s.vectors)
        score = s.anchor_keys.detach().masked_fill(~kept, -torch.inf)
        _, hardest = closest(score, min(self.hardest, score.shape[1]), context.generator)  # [B, H], kept ones first
        count = kept.sum(1, keepdim=True).clamp_max(hardest.shape[1])

        def uniform(columns: int, stream: int) -> Tensor:
            return uniform_columns(z, columns, context.generator, stream)

        def drawn(columns: int, stream: int) -> Tensor:
            place = (uniform(columns, stream) * count).long().clamp_max((count - 1).clamp_min(0))
            return keys[hardest.gather(1, place)]  # [B, columns, d]

        a = uniform(self.pairs, 1)[:, :, None]
        b = uniform(self.with_anchor, 2)[:, :, None] / 2
        of_two = a * drawn(self.pairs, 3) + (1 - a) * drawn(self.pairs, 4)
        of_anchor = b * z[:, None] + (1 - b) * drawn(self.with_anchor, 5)
        mixed = torch.cat([of_two, of_anchor], dim=1)
        return torch.nn.functional.normalize(torch.where(count[:, :, None] > 0, mixed, -z[:, None]), dim=2)


@dataclass(frozen=True)
class RandomNegatives(Moving, Rescalable, NegativeRule):
    """A share of the keys by chance: the control that matches a band's number of negatives, not its choice."""

    EDGES: ClassVar = ("share",)

    share: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of all keys that is kept, by the same cut as a rank band's."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    share_from: Annotated[float | None, "above 0 and at most 1"] = None
    """Where the share starts, to match a band whose edges move; None for a constant share."""
    anneal: Annotated[float, "above 0 and at most 1"] = 0.5
    """Share of training over which it moves, in a straight line."""

    def judge(self, s: Similarities, context: Context) -> Codes:
        """POTENTIAL for the drawn, OTHER for the rest."""
        draw = uniform_per_key(s.own, context.generator)
        (edge,) = rank_edges(draw, s.own, (rank_count(self.share, draw.shape[1]),))
        return other_codes(draw < edge)


@dataclass(frozen=True)
class OracleNegatives(Rescalable, NegativeRule):
    """Keys of another class, as a perfect detector would keep, or one that finds a share. Reads labels: a control."""

    share: Annotated[float, "a number between 0 and 1"] = 1.0
    """Share of the same-class keys that is dropped: each with this probability. Below 1 it draws."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""

    reads = frozenset({"same_class"})

    def judge(self, s: Similarities, context: Context) -> Codes:
        """OTHER for the dropped keys of the anchor's class, POTENTIAL for the rest."""
        assert s.same_class is not None, "declared in reads, which select checks"
        if self.share == 1:
            return other_codes(s.same_class)
        draw = uniform_per_key(s.own, context.generator)
        return other_codes(s.same_class & (draw < self.share))


@dataclass(frozen=True)
class LearnedThreshold(NegativeRule):
    """Drops the keys above a threshold λ of the anchor's image: GloFND (arXiv:2502.20612).

    λ is learned: after each step Adam moves it by the gradient α − share of the keys with z·n > λ, the mean over the
    image's anchors, so that it comes to rest where a share α of all the keys that the image has met lies above it.
    `RankBand(drop_closest=alpha, keep_within=1, by="anchor")` drops the same share, but of each queue anew, and
    remembers nothing. Each image starts with a λ above every cosine; of an image that the state does not know nothing
    is dropped. α = 0 is InfoNCE.

    Differs from the published code: batches meet a queue where there is one; the share is of all K keys, where theirs
    is of those that are not own; the correction of the moments' bias counts the updates of the image, where theirs
    counts epochs; the rate is 0.05, as theirs is by default for images with texts, where for images alone it is 0.01;
    and steps are divided by the largest second moment so far (AMSGrad), because Adam's grow again as gradients vanish,
    and thresholds of embeddings that rest would not.
    """

    alpha: Annotated[float, "at least 0 and below 1"] = 0.01
    """Share of all K keys that is dropped as suspected false negatives; about 1/classes of them are."""
    start: Annotated[float, "a number between 0 and 1"] = 0.35
    """Share of training before which nothing is learned and nothing dropped (the paper's 70 of 200 epochs)."""

    reads = frozenset({"ids"})

    def at(self, progress: float) -> NegativeRule:
        """Every key is kept before `start`."""
        return AllNegatives() if progress < self.start else replace(self, start=0.0)

    def new_state(self, ids: Int[Tensor, " N"], device: torch.device) -> State:
        """A threshold above every cosine for each image, in the order of their ids."""
        threshold = torch.full((len(ids),), ABOVE_ALL, device=device, dtype=torch.float32)
        moments = {name: torch.zeros_like(threshold) for name in ("first", "second", "largest", "steps")}
        return {"ids": ids.to(device).sort().values, "threshold": threshold} | moments

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD above the threshold, POTENTIAL below."""
        return band_codes(s.anchor_keys, hard=self._above(s, context), easy=None)

    def measure(self, s: Similarities, context: Context) -> Float[Tensor, " B"] | None:
        """The share of all K keys that lies above the threshold and is not the anchor's own; None of no keys."""
        return (self._above(s, context) & ~s.own).sum(1).float() / s.own.shape[1] if s.own.shape[1] else None

    def learn(self, state: State, ids: Int[Tensor, " B"], measured: Float[Tensor, " B"]) -> None:
        """A step of Adam on the thresholds of these images."""
        row, gradient = torch.searchsorted(state["ids"], ids), self.alpha - measured
        decay1, decay2 = MOMENTS
        steps = state["steps"][row] + 1
        first = decay1 * state["first"][row] + (1 - decay1) * gradient
        second = decay2 * state["second"][row] + (1 - decay2) * gradient.square()
        largest = torch.maximum(state["largest"][row], second / (1 - decay2**steps))
        moved = LEARNING_RATE * first / (1 - decay1**steps) / (largest.sqrt() + TINY)
        threshold = state["threshold"][row] - moved
        for name, value in (("steps", steps), ("first", first), ("second", second), ("largest", largest)):
            state[name][row] = value
        state["threshold"][row] = threshold.clamp(-1, ABOVE_ALL)

    def _above(self, s: Similarities, context: Context) -> Bool[Tensor, "B K"]:
        assert s.ids is not None, "declared in reads, which select checks"
        return s.anchor_keys.detach() > thresholds(context.state, s.ids[0])[:, None]


def thresholds(state: State | None, ids: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The threshold of each anchor's image; +inf where the state does not know it, or there is none."""
    if state is None:
        return torch.full(ids.shape, torch.inf, device=ids.device, dtype=torch.float32)
    row = torch.searchsorted(state["ids"], ids).clamp_max(len(state["ids"]) - 1)
    return torch.where(state["ids"][row] == ids, state["threshold"][row], torch.inf)
