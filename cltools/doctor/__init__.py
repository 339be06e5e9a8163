"""What this machine and this environment lack for the course and for training, each line with its remedy."""

from cltools.doctor.examine import CHECKS, examine, rendered
from cltools.doctor.finding import Finding, install_cltools

__all__ = ["CHECKS", "Finding", "examine", "install_cltools", "rendered"]
