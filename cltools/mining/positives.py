"""Rules that mine further positives besides the augmented view, and weight them. Only the oracle reads labels.

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
    """Mine nothing: the augmented view is the only positive.

    Example:
        >>> from cltools import AllNegatives, AugmentedView, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> select(s, AugmentedView(), AllNegatives()).positive_weight
        tensor([[1.]])
    """

    def __post_init__(self) -> None:
        """Refuse settings of a warm-up, since nothing is mined."""
        super().__post_init__()
        for name in ("start", "ramp", "strength") if type(self).mine is AugmentedView.mine else ():
            if getattr(self, name) != getattr(PositiveRule, name):
                raise CltoolsError(f"{type(self).__name__} mines nothing, so {name} has no meaning; leave it out.")

    def at(self, progress: float) -> "AugmentedView":
        """Return the rule itself at any progress."""
        return self

    def mine(self, s: Similarities, context: Context) -> Mined:
        """No candidates; the augmented view has weight 1."""
        return nothing_mined(s)


@dataclass(frozen=True)
class NearestKeys(ByCloseness, PositiveRule):
    """Take the k closest keys, gate them, and split the weight 1 − `augmented_share` among those accepted.

    In parentheses: the method that a setting comes from. `potential`, our reconstruction of arXiv:2311.00358 from its
    abstract, takes the keys closest to the positive, accepts those with at least the mean softmax weight, and weights
    these by a softmax. Own keys are never accepted; where no key is accepted, the augmented view has weight 1.

    Example:
        >>> from cltools import AllNegatives, NearestKeys, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, NearestKeys(k=2, weighting="uniform", augmented_share=0.5), AllNegatives())
        >>> chosen.positive_weight  # of the augmented view, and of two keys, which are no longer negatives
        tensor([[0.5000, 0.2500, 0.2500]])
        >>> chosen.negative_weight
        tensor([[0., 0., 1., 1., 1., 1., 1., 1.]])
    """

    k: Annotated[int, "a whole number of at least 1", "For every key: EveryKey()."] = 5
    """Number of candidates, at most K (NNCLR: 1, arXiv:2104.14548; SNCLR: 5, arXiv:2303.17142)."""
    skip: Annotated[int, "a whole number of at least 0"] = 0
    """Number of closest keys to skip before the k candidates, as they already agree with the positive."""
    weighting: Literal["softmax", "uniform"] = "softmax"
    """How the accepted candidates share their weight: by a softmax of their cosines, or equally."""
    min_cosine: Annotated[float | None, "a number"] = None
    """Gate: candidates below this cosine are not accepted (FNC, arXiv:2011.11765: 0.7); None for no such gate."""
    min_weight: Annotated[Literal["mean"] | float | None, "a number between 0 and 1"] = None
    """Gate: candidates below this softmax weight are not accepted (SNCLR); "mean" is 1/k; None for no such gate."""
    augmented_share: Annotated[float | None, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view (SCE's λ); None gives 1/(1 + accepted), counting it as one more key."""
    temperature: Annotated[float, "above 0, a number from 1e-6 to 1e6"] = 0.1
    """Temperature of the softmax."""
    by: Literal["positive", "anchor", "either"] = "positive"
    """Closeness by which keys are mined: to the positive, to the anchor, or whichever is closer (FNC)."""
    pick: Annotated[int | None, "a whole number of at least 1"] = None
    """How many of the k candidates to draw at random (MYOW, arXiv:2102.10106); None uses all."""

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Mine P = min(k, K − skip) candidates, or min(pick, K − skip) with `pick`."""
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
            # own keys are drawn last, so that they never displace a candidate
            _, column = closest(draw.masked_fill(score == -torch.inf, -1.0), self.pick, generator)
            index, score = index.gather(1, column), score.gather(1, column)
        return with_augmented_view(index, self.shares(score), self.augmented_share)

    def shares(self, score: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """Return each candidate's share of the mined weight; rows sum to 1, or to 0 where nothing is accepted."""
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
    """Make every key a soft positive, weighted by a softmax of its cosine with the positive: SCE (arXiv:2111.14585).

    Example:
        >>> from cltools import AllNegatives, EveryKey, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8])  # z·n is a key's first number
        >>> chosen = select(s, EveryKey(temperature=0.5, augmented_share=0.5), AllNegatives())
        >>> [round(weight, 2) for weight in chosen.positive_weight[0].tolist()]  # the augmented view first
        [0.5, 0.21, 0.13, 0.08, 0.04, 0.02, 0.01, 0.01, 0.01]
    """

    temperature: Annotated[float, "above 0, a number from 1e-6 to 1e6"] = 0.05
    """Temperature of the softmax."""
    augmented_share: Annotated[float, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view (SCE's λ)."""

    reads = frozenset({"positive_keys"})

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Mine all P = K keys; own keys have weight 0."""
        score = own_last(closeness(s, "positive"), s.own)
        shares = softmax_over(score / self.temperature, score > -torch.inf)
        index = torch.arange(score.shape[1], device=score.device).expand(score.shape)
        return with_augmented_view(index, shares, self.augmented_share)


@dataclass(frozen=True)
class OraclePositives(PositiveRule):
    """Mine keys of which a given share has the anchor's class. Reads labels: an upper bound, and a control for purity.

    With every key of the class (`k=None`) and `augmented_share=None`, in the form "out", it is SupCon
    (arXiv:2004.11362, eq. 2). An anchor with too few keys of either kind mines fewer; without any, the augmented view
    has weight 1.

    Example:
        >>> from cltools import AllNegatives, OraclePositives, select, similarities
        >>> keys = [[0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [0.28, 0.96], [0, 1], [-0.6, 0.8], [-0.8, 0.6], [-1, 0]]
        >>> same = [[False] * 6 + [True] * 2]  # the two farthest keys have the anchor's class
        >>> s = similarities([[1, 0]], [[0.96, -0.28]], keys, own=[[False] * 8], same_class=same)
        >>> chosen = select(s, OraclePositives(k=2), AllNegatives())
        >>> chosen.positive_index.sort().values
        tensor([[6, 7]])
    """

    k: Annotated[int | None, "a whole number of at least 1", "Give k=None for every key of the class."] = 5
    """Number of mined keys; None for every key of the class."""
    purity: Annotated[float, "a number between 0 and 1"] = 1.0
    """Share of the mined keys that has the anchor's class, floor(purity·k + ½) keys; the others have another class."""
    right: Literal["nearest", "random"] = "nearest"
    """Which keys of the anchor's class are mined: the closest to the positive, or random ones."""
    wrong: Literal["nearest", "random"] = "nearest"
    """Which keys of other classes are mined: the closest to the positive, like a rule's errors, or random ones."""
    augmented_share: Annotated[float | None, "a number between 0 and 1"] = 0.5
    """Weight of the augmented view; None counts it as one more of the mined, 1/(1 + mined). The mined share the rest
    equally."""

    def __post_init__(self) -> None:
        """Refuse a purity below 1 together with `k=None`."""
        super().__post_init__()
        if self.k is None and self.purity != 1:
            raise CltoolsError(f"OraclePositives: purity is {self.purity}, which needs a number of keys; give k.")

    @property
    def reads(self) -> frozenset[str]:
        """Labels, and z'·n where the closest keys are mined."""
        chosen = {self.right if self.k is not None else "random", self.wrong if self.purity < 1 else "random"}
        return frozenset({"same_class"} | ({"positive_keys"} if "nearest" in chosen else set()))

    def mine(self, s: Similarities, context: Context) -> Mined:
        """Mine P = min(k, K) candidates, or K with `k=None`; a candidate that is not mined has weight 0."""
        assert s.same_class is not None, "declared in reads, which select checks"
        anchors, keys = s.own.shape
        if self.k is None:
            index = torch.arange(keys, device=s.own.device).expand(anchors, keys)
            return with_augmented_view(index, _equal_shares((s.same_class & ~s.own).float()), self.augmented_share)
        count = int(self.purity * self.k + 0.5)
        taken = torch.zeros_like(s.own, dtype=torch.float32)
        for how, among, n in ((self.right, s.same_class, count), (self.wrong, ~s.same_class, self.k - count)):
            if n:
                score = closeness(s, "positive") if how == "nearest" else uniform_per_key(s.own, context.generator)
                score = score.masked_fill(~among | s.own, -torch.inf)
                best, index = closest(score, min(n, keys), context.generator)
                taken.scatter_add_(1, index, (best > -torch.inf).float())
        weight, index = taken.topk(min(self.k, keys), dim=1)  # no key twice, even where a kind had too few keys
        return with_augmented_view(index, _equal_shares(weight), self.augmented_share)


def with_augmented_view(index: Int64[Tensor, "B P"], shares: Float[Tensor, "B P"], augmented: float | None) -> Mined:
    """Combine the augmented view with candidates, which share the weight 1 − `augmented`.

    Args:
        index: indices of the candidate keys.
        shares: rows sum to 1, or to 0 where nothing is accepted: the augmented view then has weight 1.
        augmented: weight of the augmented view; None counts it as one more of those with a share above 0.
    """
    accepted = (shares > 0).sum(1, keepdim=True).to(shares.dtype)
    mined = accepted / (1 + accepted) if augmented is None else (1 - augmented) * accepted.clamp_max(1)
    return Mined(index, torch.cat([1 - mined, mined * shares], dim=1))


def nothing_mined(s: Similarities) -> Mined:
    """Return no candidates; the augmented view has weight 1."""
    anchors = len(s.own)
    return Mined(s.own.new_empty((anchors, 0), dtype=torch.int64), s.anchor_keys.new_ones((anchors, 1)))


def softmax_over(logits: Float[Tensor, "B P"], accepted: Bool[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Softmax over the accepted candidates, 0 elsewhere; a row that accepts nothing is 0, not NaN."""
    logits = logits.masked_fill(~accepted, -torch.inf)
    top = logits.amax(1, keepdim=True)
    mass = (logits - top.masked_fill(top == -torch.inf, 0)).exp()
    return mass / mass.sum(1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)


def _equal_shares(taken: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Return equal shares of the entries marked 1; rows sum to 1, or to 0 where none is marked."""
    return taken / taken.sum(1, keepdim=True).clamp_min(1)
