"""Which keys are positives beside the augmented view, and with what weight.

Each setting of `PositiveRule` follows one published method, named at the field. The default is our reconstruction of
`potential`: top-k by the momentum key, gate, then soften. Labels are never read.

Legend: B anchors, K keys, P candidates.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cltools.errors import unknown
from cltools.mining.similarities import Similarities, own_last

Weighting = Literal["none", "soft", "hard", "soft+hard"]
Search = Literal["key", "anchor", "max"]

# A share that equals the gate up to float32 rounding passes it, so that k equal candidates are all accepted at 1/k.
ROUNDING = 1e-6


@dataclass(frozen=True)
class PositiveRule:
    """How positives are mined from the keys and combined with the augmented view.

    The k keys most similar by `search` are candidates; a gate ("hard") accepts some; the accepted share
    1 − `augmented_share` equally ("hard") or by a softmax of their similarity ("soft"). Own keys are never accepted;
    if none is, the augmented view has weight 1.
    """

    k: int | None = 5
    """Number of candidates (NNCLR 1, arXiv:2104.14548; SNCLR 5, 2303.17142); None: every key (SCE, 2111.14585)."""
    weighting: Weighting = "soft+hard"
    """Mine nothing, weigh all candidates, weigh the accepted alike, or gate first and then weigh."""
    augmented_share: float | None = 0.5
    """Weight of the augmented view (SCE's λ); None: one among the accepted, 1/(1 + accepted)."""
    temperature: float = 0.1
    """Temperature of the soft weights."""
    threshold: float | None = None
    """Gate on the cosine (FNC, arXiv:2011.11765: 0.7)."""
    min_share: float | None = None
    """Gate on the soft weight (SNCLR); "soft+hard" with no gate given uses 1/k."""
    search: Search = "key"
    """Whose neighbours are sought: the positive's, the anchor's, or the larger of both similarities (FNC)."""
    pick: int | None = None
    """Use that many of the k at random (MYOW, arXiv:2102.10106)."""
    start: float = 0.1
    """Share of training before which nothing is mined."""
    ramp: float = 0.05
    """Share of training over which the mined weight then grows to its full value."""
    strength: float = 1.0
    """Share of the mined weight that is applied; what `at` resolves `start` and `ramp` to."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        for name, known in (("weighting", get_args(Weighting)), ("search", get_args(Search))):
            if getattr(self, name) not in known:
                raise unknown(f"PositiveRule {name}", getattr(self, name), known)
        _require(self.k is None or self.k >= 1, f"k is {self.k}; it must be at least 1, or None for every key")
        _require(self.temperature > 0, f"the temperature of the soft weights is {self.temperature}; it must be above 0")
        for name in ("augmented_share", "min_share", "start", "ramp", "strength"):
            value = getattr(self, name)
            _require(value is None or 0 <= value <= 1, f"{name} is {value}; it must lie between 0 and 1")
        _require(self.pick is None or self.pick >= 1, f"pick is {self.pick}; it must be at least 1, or None for all k")
        _require(
            self.pick is None or self.k is None or self.pick <= self.k,
            f"pick is {self.pick} of k = {self.k} candidates; it cannot be more than k",
        )
        _require(
            self.threshold is None or not math.isnan(self.threshold),
            f"threshold is {self.threshold}; it must be a number",
        )
        gated = self.threshold is not None or self.min_share is not None
        _require(
            not gated or self.weighting in ("hard", "soft+hard"),
            f'a gate (threshold or min_share) has no effect on weighting="{self.weighting}"; use "hard" or "soft+hard"',
        )

    def at(self, progress: float) -> "PositiveRule":
        """The rule in force at this share of training, `start` and `ramp` resolved into `strength`."""
        if self.weighting == "none":
            return self
        grown = 1.0 if self.ramp == 0 else min(1.0, (progress - self.start) / self.ramp)
        strength = self.strength * grown if progress >= self.start else 0.0
        return replace(self, start=0.0, ramp=0.0, strength=strength)

    @property
    def mines(self) -> bool:
        """Whether any mined view can have a weight."""
        return self.weighting != "none" and self.strength > 0 and self.augmented_share != 1

    @property
    def reads_key(self) -> bool:
        """Whether z'·n is needed."""
        return self.mines and self.search != "anchor"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(f"PositiveRule: {message}.")


AUGMENTED_ONLY = PositiveRule(weighting="none")
"""Nothing is mined: the augmented view is the only positive."""


def mine(
    s: Similarities, rule: PositiveRule, *, generator: torch.Generator | None = None
) -> tuple[Int64[Tensor, "B P"], Float[Tensor, "B P1"]]:
    """Candidates and the weights of the augmented view (column 0) and of each candidate; rows sum to 1.

    P is min(k, K), or min(pick, K) with `pick`; 0 when the rule mines nothing.
    """
    anchors, keys = s.anchor.shape
    if not rule.mines or keys == 0:
        return s.own.new_empty((anchors, 0), dtype=torch.int64), s.anchor.new_ones((anchors, 1))
    index, score = candidates(search_score(s, rule.search), s.own, rule, generator=generator)
    shares = candidate_weights(score, rule, keys)  # [B, P], rows sum to 1, or to 0 where nothing is accepted
    accepted = (shares > 0).sum(1, keepdim=True)
    if rule.augmented_share is None:
        mined_total = rule.strength * accepted / (1 + accepted)
    else:
        mined_total = rule.strength * (1 - rule.augmented_share) * (accepted > 0)
    return index, torch.cat([1 - mined_total, mined_total * shares], dim=1)


def search_score(s: Similarities, search: str) -> Float[Tensor, "B K"]:
    """The similarity by which neighbours are sought, without gradient."""
    anchor = s.anchor.detach()
    if search == "anchor":
        return anchor
    if s.key is None:
        raise ValueError("This rule searches by the positive (z'·n): compute similarities(…, with_key=True).")
    return s.key if search == "key" else torch.maximum(anchor, s.key)


def candidates(
    score: Float[Tensor, "B K"], own: Bool[Tensor, "B K"], rule: PositiveRule, *, generator: torch.Generator | None
) -> tuple[Int64[Tensor, "B P"], Float[Tensor, "B P"]]:
    """Index and score of the k most similar keys, or `pick` of them; the score of an own key is −inf."""
    keys = score.shape[1]
    score = own_last(score, own)
    if rule.k is None or rule.k >= keys:
        index = torch.arange(keys, device=score.device).expand(len(score), keys)
    else:
        score, index = score.topk(rule.k, dim=1, sorted=False)
    if rule.pick is not None and rule.pick < index.shape[1]:
        draw = torch.rand(score.shape, generator=generator, device=score.device)
        # own keys are drawn last, so that they never take the place of a candidate
        column = draw.masked_fill(score == -torch.inf, -1.0).topk(rule.pick, dim=1).indices
        index, score = index.gather(1, column), score.gather(1, column)
    return index, score


def candidate_weights(score: Float[Tensor, "B P"], rule: PositiveRule, keys: int) -> Float[Tensor, "B P"]:
    """Each candidate's share of the mined weight: rows sum to 1, or to 0 where nothing is accepted."""
    accepted = score > -torch.inf
    soft = _softmax(score / rule.temperature, accepted)
    if rule.weighting == "soft":
        return soft
    if rule.threshold is not None:
        accepted = accepted & (score >= rule.threshold)
    min_share = rule.min_share
    if min_share is None and rule.threshold is None and rule.weighting == "soft+hard":
        min_share = 1 / (rule.k or keys)
    if min_share is not None:
        accepted = accepted & (soft >= min_share * (1 - ROUNDING))
    logits = torch.zeros_like(score) if rule.weighting == "hard" else score / rule.temperature
    return _softmax(logits, accepted)


def _softmax(logits: Float[Tensor, "B P"], accepted: Bool[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Softmax over the accepted, 0 elsewhere; a row that accepts nothing is 0, not NaN."""
    logits = logits.masked_fill(~accepted, -torch.inf)
    top = logits.amax(1, keepdim=True)
    mass = (logits - top.masked_fill(top == -torch.inf, 0)).exp()
    return mass / mass.sum(1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)
