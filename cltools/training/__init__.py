"""Training: the loop, one step of it, the history, checkpoints, runs and their records."""

from cltools.training.fitting import fit
from cltools.training.history import History
from cltools.training.interrupt import Stopped
from cltools.training.run import Run
from cltools.training.tensorboard import TensorBoard

__all__ = ["History", "Run", "Stopped", "TensorBoard", "fit"]
