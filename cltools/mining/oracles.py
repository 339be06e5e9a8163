"""What labels would choose: a bound to measure methods against, and no method.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass

from jaxtyping import Int8
from torch import Tensor

from cltools.mining.bands import other_codes
from cltools.mining.rules import Context, NegativeRule
from cltools.mining.schedule import Rescalable
from cltools.mining.similarities import Similarities


@dataclass(frozen=True)
class OracleNegatives(Rescalable, NegativeRule):
    """Every key of another class, as a perfect detector would keep. Reads labels: a bound, no method."""

    rescale: bool = False
    """Weigh the kept by (keys neither own nor mined) / (keys kept)."""

    reads = frozenset({"same_class"})

    def judge(self, s: Similarities, context: Context) -> Int8[Tensor, "B K"]:
        """OTHER for keys of the anchor's class, POTENTIAL for the rest."""
        assert s.same_class is not None, "declared in reads, which select checks"
        return other_codes(s.same_class)
