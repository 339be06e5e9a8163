"""A threshold per image that is learned while training: the closest share of its keys is dropped.

Legend: B anchors, K keys, N training images.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cltools.mining.bands import Codes, band_codes
from cltools.mining.negatives import AllNegatives
from cltools.mining.rules import Context, NegativeRule, State
from cltools.mining.similarities import Similarities

LEARNING_RATE, MOMENTS, TINY = 0.05, (0.9, 0.98), 1e-8
"""Settings of Adam on the thresholds: cosines per step, decays of its two moments, what keeps it from dividing by 0."""

ABOVE_ALL = 1.001
"""More than the cosine of any two unit vectors, rounding included."""


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
        state = {
            "ids": ids.to(device).sort().values,
            "threshold": torch.full((len(ids),), ABOVE_ALL, device=device, dtype=torch.float32),
        }
        for name in ("first", "second", "largest", "steps"):
            state[name] = torch.zeros_like(state["threshold"])
        return state

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
