"""All keys, and bands of them: which keys are kept by how close they are.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from cltools.errors import CltoolsError, unknown
from cltools.mining.bands import Codes, band_codes, rank_band, value_band
from cltools.mining.rules import READS_NOTHING, Context, NegativeRule, check_is
from cltools.mining.schedule import Moving, Rescalable
from cltools.mining.similarities import HOW_TO_GIVE, Similarities

Closeness = Literal["positive", "anchor", "either"]
"""Whose closest keys are meant: the positive's, z'·n, the anchor's, z·n, or by the larger of both cosines."""


def closeness(s: Similarities, by: Closeness) -> Float[Tensor, "B K"]:
    """The cosine by which keys are close, without gradient."""
    if by not in get_args(Closeness):
        raise unknown("closeness", by, get_args(Closeness))
    anchor = s.anchor_keys.detach()
    if by == "anchor":
        return anchor
    if s.positive_keys is None:
        raise CltoolsError(f"Closeness to the positive needs positive_keys: {HOW_TO_GIVE['positive_keys']}.")
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

    drop_closest: float = 0.05
    """Share of all K keys that is dropped as too hard, the closest first; 0 drops none."""
    keep_within: float = 0.5
    """Share of all K keys beyond which a key is too easy; 1 drops none."""
    by: Literal["positive", "anchor", "force"] = "positive"
    """What is ranked: z'·n, z·n, or the force on the anchor p·√(1−c²)/τ."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    drop_closest_from: float | None = None
    """Where `drop_closest` starts; None for a constant edge."""
    keep_within_from: float | None = None
    """Where `keep_within` starts; None for a constant edge."""
    anneal: float = 0.5
    """Share of training over which edges move, in a straight line."""

    def __post_init__(self) -> None:
        """Refuse edges that cross or leave [0, 1], and a schedule of nothing."""
        self.check_schedule()
        self.check_order("drop_closest", "keep_within", "rank shares")

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

    above: float | None = 0.0
    """Cosine below which a key is too easy; None cuts nothing."""
    below: float | None = None
    """Cosine from which a key is too hard; None cuts nothing."""
    by: Literal["positive", "anchor"] = "positive"
    """Which cosine: z'·n or z·n."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    above_from: float | None = None
    """Where `above` starts; None for a constant edge."""
    below_from: float | None = None
    """Where `below` starts; None for a constant edge."""
    anneal: float = 0.5
    """Share of training over which edges move, in a straight line."""

    def __post_init__(self) -> None:
        """Refuse edges that cross or are no cosines, and a schedule of nothing."""
        self.check_schedule()
        self.check_order("above", "below", "cosines", least=-1.0)

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

    margin: float | None = None
    """Difference of cosines, −2 to 2, by which a key must be less similar than the positive."""
    relative: float | None = None
    """Share of the positive's cosine that a key must stay below, such as 0.95."""
    within: float | None = None
    """Difference of cosines below the top beyond which a key is too easy; None cuts nothing."""
    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""
    margin_from: float | None = None
    """Where `margin` starts; None for a constant edge."""
    relative_from: float | None = None
    """Where `relative` starts; None for a constant edge."""
    within_from: float | None = None
    """Where `within` starts; None for a constant edge."""
    anneal: float = 0.5
    """Share of training over which edges move, in a straight line."""

    def __post_init__(self) -> None:
        """Take a margin of 0 where nothing is given; refuse both forms at once, and edges without meaning."""
        if self.margin is not None and self.relative is not None:
            raise CltoolsError("MarginBand: margin and relative are two forms of one edge; give one and leave one out.")
        if self.margin is None and self.relative is None:
            object.__setattr__(self, "margin", 0.0)
        self.check_schedule()
        check_is(self, "between -2 and 2", "margin", "margin_from")
        check_is(self, "at least 0 and finite", "relative", "relative_from")
        check_is(self, "above 0 and at most 4", "within", "within_from")

    def score(self, s: Similarities, temperature: float) -> Float[Tensor, "B K"]:
        """By how much each key is closer to the anchor than its positive: z·n − z·z'."""
        return s.anchor_keys.detach() - s.anchor_positive.detach()[:, None]

    def top(self, s: Similarities) -> Float[Tensor, "B 1"]:
        """Score from which a key is too hard: −margin, or −(1 − relative)·|z·z'|."""
        positive = s.anchor_positive.detach()[:, None]
        if self.relative is None:
            assert self.margin is not None
            return torch.full_like(positive, -self.margin)
        return (self.relative - 1) * positive.abs()

    def judge(self, s: Similarities, context: Context) -> Codes:
        """HARD from the top on, EASY further than `within` below it, POTENTIAL between."""
        top = self.top(s)
        return value_band(self.score(s, context.temperature), None if self.within is None else top - self.within, top)
