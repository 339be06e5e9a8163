"""What labels would choose: bounds and controls to measure methods against, and no methods.

Legend: B anchors, K keys, P candidates.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.mining.bands import Codes, other_codes
from cltools.mining.draws import closest, uniform_per_key
from cltools.mining.negatives import closeness
from cltools.mining.positives import with_augmented_view
from cltools.mining.rules import Context, Mined, NegativeRule, PositiveRule
from cltools.mining.schedule import Rescalable
from cltools.mining.similarities import Similarities


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
            wrong = f"OraclePositives: purity is {self.purity} of every key of the class;"
            raise CltoolsError(f"{wrong} say how many keys are mined (k).")

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


def _alike(taken: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Equal shares of those marked 1; rows sum to 1, or to 0 where none is."""
    return taken / taken.sum(1, keepdim=True).clamp_min(1)
