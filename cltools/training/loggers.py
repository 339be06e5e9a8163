"""Callbacks of `fit` that log the history to TensorBoard or Weights & Biases. Each imports its library when used."""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cltools.config import to_plain
from cltools.errors import CltoolsError
from cltools.training.run import Run


def _scalars(run: Run) -> list[tuple[int, dict[str, float]]]:
    """Return the epochs with their figures, without those that were not measured."""
    rows = ({name: x for name, x in row.items() if not math.isnan(x)} for row in run.history.rows)
    return [(int(row.pop("epoch")), row) for row in rows]


class TensorBoard:
    """Writes each new row of the history as scalars by epoch: `fit(…, callbacks=[TensorBoard(folder)])`.

    A run that is started or resumed is written from its first epoch on and replaces what the folder held.

    Example:
        >>> from dataclasses import replace
        >>> from tempfile import TemporaryDirectory
        >>> from cltools import DataSettings, TensorBoard, TrainingSettings, fit, preset
        >>> short = TrainingSettings(epochs=1, batch=32, queue_size=64)
        >>> experiment = replace(preset("digits-moco"), data=DataSettings("digits", limit=64), training=short)
        >>> with TemporaryDirectory() as folder:
        ...     log = TensorBoard(folder)
        ...     run = fit(experiment, callbacks=[log])
        ...     log.writer.close()
        >>> log.written
        1
    """

    def __init__(self, folder: str | Path) -> None:
        """Create a callback that writes into `folder`; ValueError if TensorBoard is not installed."""
        if find_spec("tensorboard") is None:
            raise CltoolsError("tensorboard is not installed; install it with: pip install tensorboard")
        self.folder, self.written = str(folder), 0
        self.writer: Any = None

    def __call__(self, run: Run) -> None:
        """Write the rows that have not been written yet."""
        from torch.utils.tensorboard import SummaryWriter

        if self.writer is None or len(run.history.rows) <= self.written:  # another run, or a resumed one
            self.writer, self.written = SummaryWriter(self.folder, purge_step=1), 0
        for epoch, row in _scalars(run)[self.written :]:
            for name, value in row.items():
                self.writer.add_scalar(name, value, epoch)
        self.written = len(run.history.rows)
        self.writer.flush()


class WandB:
    """Logs each new row of the history to Weights & Biases: `fit(…, callbacks=[WandB(folder)])`.

    Example:
        >>> from cltools import WandB, fit, preset
        >>> run = fit(preset("digits-moco"), callbacks=[WandB("runs/wandb")])  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path, project: str = "cltools") -> None:
        """Create a callback that stores its files in `folder`; ValueError if wandb is not installed."""
        if find_spec("wandb") is None:
            raise CltoolsError("wandb is not installed; install it with: pip install wandb")
        self.folder, self.project, self.written = Path(folder), project, 0

    def __call__(self, run: Run) -> None:
        """Log the rows that have not been logged yet."""
        import wandb

        if not self.written:
            wandb.init(project=self.project, dir=self.folder, config=to_plain(run.experiment))
        for epoch, row in _scalars(run)[self.written :]:
            wandb.log(row, step=epoch)
            self.written = epoch


LOGS: dict[str, Callable[[Path], Callable[[Run], None]]] = {"tensorboard": TensorBoard, "wandb": WandB}
"""The values of `cltools train --log`."""
