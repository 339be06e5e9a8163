"""Training: `fit`, the training step, the history, checkpoints, runs and their records."""

from cltools.training.fit import Stopped, fit
from cltools.training.loggers import TensorBoard, WandB
from cltools.training.record import History
from cltools.training.run import Run, two_views
from cltools.training.step import StepInfo
