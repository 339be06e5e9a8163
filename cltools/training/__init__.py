"""Training: `fit`, one step of it, the history, checkpoints, runs and their records."""

from cltools.training.fit import Stopped, fit
from cltools.training.history import History
from cltools.training.run import Run
from cltools.training.step import StepInfo
from cltools.training.tensorboard import TensorBoard
