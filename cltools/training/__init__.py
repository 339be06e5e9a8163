"""Training: the loop, one step of it, the history, checkpoints and runs."""

from cltools.training.history import History
from cltools.training.interrupt import Stopped
from cltools.training.loop import fit
from cltools.training.run import Run

__all__ = ["History", "Run", "Stopped", "fit"]
