"""Which keys are positives beside the augmented view, and with what weight. Labels are read by the oracle alone.

Legend: B anchors, K keys, P candidates.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.mining.draws import closest, uniform_per_candidate, uniform_per_key
from cltools.mining.negatives import ByCloseness, closeness
from cltools.mining.rules import Context, Mined, PositiveRule
from cltools.mining.similarities import Similarities, own_last

# A weight that equals the gate up to float32 rounding passes it, so that k equal candidates are all accepted at 1/k.
ROUNDING = 1e-6


@dataclass(frozen=True)
class AugmentedView(PositiveRule):
    """Nothing is mined: the augmented view is the only positive."""

    def __post_init__(self) -> None:
        """Refuse a warm-up of nothing."""
        super().__post_init__()
        for name in ("start", "ramp", "strength") if type(self).mine is AugmentedView.mine else ():
            if getattr(self, name) != getattr(PositiveRule, name):
                raise CltoolsError(f"{type(self).__name__} mines nothing, so {name} has no meaning; leave it out.")

    def at(self, progress: float) -> "AugmentedView":
        """The same at any time."""
        return self

    def mine(self, s: Similarities, context: Context) -> Mined:
        """No candidates; the augmented view has weight 1."""
        return nothing_mined(s)


@dataclass(frozen=True)
class NearestKeys(ByCloseness, PositiveRule):
    """The k closest keys are candidates, gates accept some, and the accepted share 1 − `augmented_share`.

    Each setting follows one published method, named at the field. Our reconstruction of `potential` takes the closest
    to the positive, accepts those of at least the mean soft weight, and weighs these softly. Own keys are never
    accepted; where no key is, the augmented view has weight 1.
    """

    k: Annotated[int, "a whole number of at least 1", "For every key: EveryKey()."] = 5
    """Number of candidates (NNCLR 1, arXiv:2104.14548; SNCLR 5, arXiv:2303.17142); more than there are keys is all."""
    skip: Annotated[int, "a whole number of at least 0"] = 0
    """Number of closest keys left out before the k: a band for positives, as the very closest already agree."""
    weighting: Literal["softmax", "uniform"] = "softmax"
    """Whether the accepted share by a softmax of their cosines, or alike."""
    min_cosine: Annotated[float | None, "a number"] = None
    """Gate: candidates below this cosine are not accepted (FNC, arXiv:2011.11765: 0.7); None for no such gate."""
    min_weight: Annotated[Literal["mean"] | float | None, "a number between 0 and 1"] = None
    """Gate: candidates below this softmax weight are not accepted (SNCLR); "mean" is 1/k; None for no such gate."""
    augmented_share: Annotated[float | None, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view (SCE's λ); None: one among the accepted, 1/(1 + accepted)."""
    temperature: Annotated[float, "above 0, a number from 1e-6 to 1e6"] = 0.1
    """Temperature of the softmax."""
    by: Literal["positive", "anchor", "either"] = "positive"
    """Whose closest keys are mined: the positive's, the anchor's, or by the larger of both cosines (FNC)."""
    pick: Annotated[int | None, "a whole number of at least 1"] = None
    """Use that many of the k, or all if there are no more, drawn at random (MYOW, arXiv:2102.10106)."""

    def mine(self, s: Similarities, context: Context) -> Mined:
        """P is min(k, K − skip), or min(pick, K − skip) with `pick`."""
        keys, generator = s.own.shape[1], context.generator
        if keys <= self.skip:
            return nothing_mined(s)
        score = own_last(closeness(s, self.by), s.own)
        if self.skip:
            score, index = (each[:, self.skip :] for each in closest(score, min(self.skip + self.k, keys), generator))
        elif self.k >= keys:
            index = torch.arange(keys, device=score.device).expand(len(score), keys)
        else:
            score, index = closest(score, self.k, generator, ordered=False)
        if self.pick is not None and self.pick < index.shape[1]:
            draw = uniform_per_candidate(index, generator)
            # own keys are drawn last, so that they never take the place of a candidate
            _, column = closest(draw.masked_fill(score == -torch.inf, -1.0), self.pick, generator)
            index, score = index.gather(1, column), score.gather(1, column)
        return with_augmented_view(index, self.shares(score), self.augmented_share)

    def shares(self, score: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """Each candidate's share of the mined weight: rows sum to 1, or to 0 where nothing is accepted."""
        accepted = score > -torch.inf
        logits = score / self.temperature
        if self.min_weight is not None:
            least = 1 / self.k if self.min_weight == "mean" else float(self.min_weight)
            accepted = accepted & (softmax_over(logits, accepted) >= least * (1 - ROUNDING))
        if self.min_cosine is not None:
            accepted = accepted & (score >= self.min_cosine)
        return softmax_over(torch.zeros_like(score) if self.weighting == "uniform" else logits, accepted)


@dataclass(frozen=True)
class EveryKey(PositiveRule):
    """Every key is a soft positive, by a softmax of its cosine with the positive: SCE (arXiv:2111.14585)."""

    temperature: Annotated[float, "above 0, a number from 1e-6 to 1e6"] = 0.05
    """Temperature of the softmax."""
    augmented_share: Annotated[float, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view, SCE's λ."""

    reads = frozenset({"positive_keys"})

    def mine(self, s: Similarities, context: Context) -> Mined:
        """P is K; own keys have weight 0."""
        anchors, keys = s.own.shape
        score = own_last(closeness(s, "positive"), s.own)
        shares = softmax_over(score / self.temperature, score > -torch.inf)
        index = torch.arange(keys, device=score.device).expand(anchors, keys)
        return with_augmented_view(index, shares, self.augmented_share)


@dataclass(frozen=True)
class OraclePositives(PositiveRule):
    """Mined keys of which a set share is of the anchor's class. Reads labels: a bound, and a control for purity.

    With every key of the class (`k=None`) and `augmented_share=None`, in the form "out", it is SupCon
    (arXiv:2004.11362, eq. 2). An anchor with fewer keys of a kind than are asked for mines fewer; without any, the
    augmented view has weight 1.
    """

    k: Annotated[int | None, "a whole number of at least 1", "Give k=None for every key of the class."] = 5
    """Number of mined keys; None for every key of the class."""
    purity: Annotated[float, "a number between 0 and 1"] = 1.0
    """Share of them that is of the anchor's class, floor(purity·k + ½) keys; the others are of none of its."""
    right: Literal["nearest", "random"] = "nearest"
    """Which keys of the class: the closest to the positive, or any."""
    wrong: Literal["nearest", "random"] = "nearest"
    """Which keys of other classes, if any: the closest to the positive, as a rule's mistakes are, or any."""
    augmented_share: Annotated[float | None, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view; None: one among the mined, 1/(1 + mined). The mined share the rest alike."""

    def __post_init__(self) -> None:
        """Refuse a share of every key of the class."""
        super().__post_init__()
        if self.k is None and self.purity != 1:
            raise CltoolsError(f"OraclePositives: purity is {self.purity} of every key of the class; say how many (k).")

    @property
    def reads(self) -> frozenset[str]:
        """Labels, and z'·n where the closest are asked for."""
        chosen = {self.right if self.k is not None else "random", self.wrong if self.purity < 1 else "random"}
        return frozenset({"same_class"} | ({"positive_keys"} if "nearest" in chosen else set()))

    def mine(self, s: Similarities, context: Context) -> Mined:
        """P is min(k, K), or K where all of the class are mined; a candidate that is not mined has weight 0."""
        assert s.same_class is not None, "declared in reads, which select checks"
        anchors, keys = s.own.shape
        if self.k is None:
            index = torch.arange(keys, device=s.own.device).expand(anchors, keys)
            return with_augmented_view(index, _alike((s.same_class & ~s.own).float()), self.augmented_share)
        count = int(self.purity * self.k + 0.5)
        taken = torch.zeros_like(s.own, dtype=torch.float32)
        for how, among, n in ((self.right, s.same_class, count), (self.wrong, ~s.same_class, self.k - count)):
            if n:
                score = closeness(s, "positive") if how == "nearest" else uniform_per_key(s.own, context.generator)
                score = score.masked_fill(~among | s.own, -torch.inf)
                best, index = closest(score, min(n, keys), context.generator)
                taken.scatter_add_(1, index, (best > -torch.inf).float())
        weight, index = taken.topk(min(self.k, keys), dim=1)  # no key twice, whatever filled up a kind
        return with_augmented_view(index, _alike(weight), self.augmented_share)


def with_augmented_view(index: Int64[Tensor, "B P"], shares: Float[Tensor, "B P"], augmented: float | None) -> Mined:
    """Candidates that share 1 − `augmented`; None: the augmented view is one among those with a share above 0.

    Args:
        index: of the keys.
        shares: rows sum to 1, or to 0 where nothing is accepted: the augmented view then has weight 1.
        augmented: share of the augmented view.
    """
    accepted = (shares > 0).sum(1, keepdim=True).to(shares.dtype)
    mined = accepted / (1 + accepted) if augmented is None else (1 - augmented) * accepted.clamp_max(1)
    return Mined(index, torch.cat([1 - mined, mined * shares], dim=1))


def nothing_mined(s: Similarities) -> Mined:
    """No candidates; the augmented view has weight 1."""
    anchors = len(s.own)
    return Mined(s.own.new_empty((anchors, 0), dtype=torch.int64), s.anchor_keys.new_ones((anchors, 1)))


def softmax_over(logits: Float[Tensor, "B P"], accepted: Bool[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Softmax over the accepted, 0 elsewhere; a row that accepts nothing is 0, not NaN."""
    logits = logits.masked_fill(~accepted, -torch.inf)
    top = logits.amax(1, keepdim=True)
    mass = (logits - top.masked_fill(top == -torch.inf, 0)).exp()
    return mass / mass.sum(1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)


def _alike(taken: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Equal shares of those marked 1; rows sum to 1, or to 0 where none is."""
    return taken / taken.sum(1, keepdim=True).clamp_min(1)
