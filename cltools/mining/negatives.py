"""Which keys are kept as negatives: one frozen dataclass a rule.

A rule judges every key of every anchor; `select` then gives own and mined keys their own codes, so a rule need not
care about them. Subclass `NegativeRule` to add one: it trains, saves and loads by its class name.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from cltools.errors import unknown
from cltools.mining.bands import band_codes, rank_band, value_band
from cltools.mining.schedule import annealed, check_anneal
from cltools.mining.similarities import Similarities

Reference = Literal["positive", "anchor", "gradient", "margin"]
Unit = Literal["rank", "cosine"]


@dataclass(frozen=True)
class Estimate:
    """How the negatives' mass is estimated from the kept ones (`cltools.losses.negative_mass`).

    Attributes:
        beta: tilt towards similar negatives (HCL, arXiv:2010.04592); 0 is none.
        tau_plus: assumed share of false negatives (debiased, arXiv:2007.00224); 0 corrects nothing.
        detach: keep the gradient from flowing through the tilt.
    """

    beta: float = 0.0
    tau_plus: float = 0.0
    detach: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"Estimate: beta is {self.beta}; it must be at least 0 and finite.")
        if not 0 <= self.tau_plus < 1:
            raise ValueError(f"Estimate: tau_plus is {self.tau_plus}; it must be at least 0 and below 1.")


NEUTRAL = Estimate()


@dataclass(frozen=True)
class NegativeRule:
    """What a rule answers. The base judges nothing; `judge` is the one method a rule must have."""

    @property
    def reads_key(self) -> bool:
        """Whether z'·n is needed. A rule that does not read it says so, and the product is spared."""
        return True

    @property
    def reads_vectors(self) -> bool:
        """Whether the vectors themselves are needed, to make new keys."""
        return False

    def at(self, progress: float) -> "NegativeRule":
        """The rule in force at this share of training; a rule with schedules resolves them here."""
        return self

    def judge(
        self,
        s: Similarities,
        eligible: Bool[Tensor, "B K"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "B K"]:
        """The band of each key: EASY, POTENTIAL, HARD or OTHER. `eligible` is false at own and mined keys."""
        raise TypeError(f"{type(self).__name__} has no judge(); a negative rule must say which keys it keeps.")

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], eligible: Bool[Tensor, "B K"]) -> Tensor | None:
        """Weights [B, K] of the kept keys; None for ones."""
        return None

    def synthesise(
        self, s: Similarities, kept: Bool[Tensor, "B K"], *, generator: torch.Generator | None
    ) -> Tensor | None:
        """New negatives [B, S, d] of unit length; None for none."""
        return None

    def estimate(self) -> Estimate:
        """How the mass of the negatives is estimated."""
        return NEUTRAL


class Rescalable:
    """For rules whose kept keys may stand for all, so that a smaller sum is not what is measured.

    No rule itself, and no dataclass: a rule names it before `NegativeRule`, and has the field in the place it wants.
    """

    rescale: bool

    def weigh(self, s: Similarities, kept: Bool[Tensor, "B K"], eligible: Bool[Tensor, "B K"]) -> Tensor | None:
        """If `rescale`, K/M: (keys neither own nor mined) / (keys kept)."""
        if not self.rescale:
            return None
        return kept * (eligible.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1))


@dataclass(frozen=True)
class AllNegatives(NegativeRule):
    """Every key is kept: SimCLR (arXiv:2002.05709) and MoCo (arXiv:1911.05722)."""

    @property
    def reads_key(self) -> bool:
        """Nothing is ranked."""
        return False

    def judge(
        self,
        s: Similarities,
        eligible: Bool[Tensor, "B K"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "B K"]:
        """POTENTIAL everywhere."""
        return band_codes(s.anchor, hard=None, easy=None)


def lowest_edge(unit: Unit, reference: Reference) -> float:
    """Where an edge can stand at the least: a share is at least 0, a cosine −1, a margin of two cosines −2."""
    return 0.0 if unit == "rank" else -2.0 if reference == "margin" else -1.0


@dataclass(frozen=True)
class BandNegatives(Rescalable, NegativeRule):
    """Keys neither too easy nor too hard, close to the positive: the negative half of `potential`.

    Our reconstruction of arXiv:2311.00358 from its abstract; with `reference="anchor"` it is Ring (arXiv:2010.02037).
    """

    lower: float = 0.01
    """Rank unit: the share of all keys that is too hard. Cosine unit: below it a key is too easy."""
    upper: float = 0.5
    """Rank unit: beyond this share a key is too easy. Cosine unit: from it on a key is too hard (1 cuts nothing)."""
    reference: Reference = "positive"
    """What is ranked: z'·n, z·n, the force on the anchor p·√(1−c²)/τ, or z·n − z·z' (semi-hard; cosine unit only)."""
    unit: Unit = "rank"
    """Whether the edges are rank shares or cosines."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    lower_from: float | None = None
    """Where the lower edge starts; None for a constant edge."""
    upper_from: float | None = None
    """Where the upper edge starts; None for a constant edge."""
    anneal: float = 0.5
    """Share of training over which edges move, in a straight line."""

    def __post_init__(self) -> None:
        """Refuse edges that cross or leave their range, a reference without such a unit, and a schedule of nothing."""
        name = type(self).__name__
        for field, known in (("reference", get_args(Reference)), ("unit", get_args(Unit))):
            if getattr(self, field) not in known:
                raise unknown(f"{name} {field}", getattr(self, field), known)
        check_anneal(self, "lower_from", "upper_from")
        low = lowest_edge(self.unit, self.reference)
        for lower, upper in ((self.lower, self.upper), self._first_edges()):
            if not low <= lower < upper <= 1:
                raise ValueError(
                    f"{name}: the band ({lower}, {upper}] is not one; edges in {self.unit} unit "
                    f"must satisfy {low:g} ≤ lower < upper ≤ 1, where they start too."
                )
        if self.reference == "margin" and self.unit == "rank":
            raise ValueError(f'{name}: reference="margin" has cosine edges only; set unit="cosine".')
        if self.reference == "gradient" and self.unit == "cosine":
            raise ValueError(f'{name}: reference="gradient" is a force, not a cosine; set unit="rank".')

    @property
    def reads_key(self) -> bool:
        """Only closeness to the positive needs z'·n."""
        return self.reference == "positive"

    def at(self, progress: float) -> "BandNegatives":
        """The band in force at this share of training."""
        lower, upper = self._first_edges()
        return replace(
            self,
            lower=annealed(lower, self.lower, progress / self.anneal),
            upper=annealed(upper, self.upper, progress / self.anneal),
            lower_from=None,
            upper_from=None,
            anneal=type(self).anneal,
        )

    def _first_edges(self) -> tuple[float, float]:
        return (
            self.lower if self.lower_from is None else self.lower_from,
            self.upper if self.upper_from is None else self.upper_from,
        )

    def score(self, s: Similarities, *, temperature: float) -> Float[Tensor, "B K"]:
        """What the edges cut; larger is closer. For "gradient": the log of the force, up to an anchor's constant."""
        if self.reference == "positive":
            if s.key is None:
                raise ValueError("This rule ranks by the positive (z'·n): compute similarities(…, with_key=True).")
            return s.key
        cosine = s.anchor.detach()
        if self.reference == "margin":
            return cosine - s.positive.detach()[:, None]
        if self.reference == "gradient":
            tangent = ((1 - cosine) * (1 + cosine)).clamp_min(torch.finfo(cosine.dtype).tiny)
            return cosine / temperature + 0.5 * tangent.log()
        return cosine

    def judge(
        self,
        s: Similarities,
        eligible: Bool[Tensor, "B K"],
        *,
        temperature: float,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "B K"]:
        """EASY, POTENTIAL or HARD by the band."""
        score = self.score(s, temperature=temperature)
        if self.unit == "rank":
            return rank_band(score, s.own, self.lower, self.upper)
        if self.reference != "margin":
            score = score.clamp(-1, 1)  # rounding puts a cosine just outside, where a lower edge of −1 must cut nothing
        return value_band(score, self.lower, self.upper)
