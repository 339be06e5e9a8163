"""Every key is kept; how much of a negative it is, is estimated.

Legend: B anchors, K keys.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from cltools.mining.negatives import AllNegatives
from cltools.mining.rules import Estimate
from cltools.mining.schedule import annealed


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
