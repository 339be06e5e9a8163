"""The history for TensorBoard, as a callback of `fit`. The library is needed only where this is used."""

import math
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cltools.errors import CltoolsError
from cltools.files import check_writable
from cltools.mining import Band
from cltools.training.history import COLUMNS
from cltools.training.run import Run


def tag_of(column: str) -> str:
    """The name of the curve of a history's column; those of bands and of protocols of one's own stand in groups."""
    group = "keys/" if column.upper() in Band.__members__ else "" if column in COLUMNS else "protocols/"
    return group + column


class TensorBoard:
    """Writes each new row of the history as scalars, the epoch as step: `fit(…, callbacks=[TensorBoard(folder)])`.

    A run that is begun or resumed is written from its first epoch on, in place of whatever the folder held.
    """

    def __init__(self, folder: str | Path) -> None:
        """A callback that writes into `folder`, by convention `tensorboard` in the run's folder.

        Raises:
            ValueError: TensorBoard is not installed.
            OSError: nothing can be written there.
        """
        if find_spec("tensorboard") is None:
            raise CltoolsError('TensorBoard is not installed; install it with: pip install "cltools[tensorboard]"')
        self.folder = Path(folder)
        check_writable(self.folder / "events")
        self._written = 0  # epochs
        self._writer: Any = None

    def __call__(self, run: Run) -> None:
        """Write the rows that are not written yet."""
        rows = run.history.rows
        if self._writer is None or len(rows) <= self._written:  # the first row of another run, or of a resumed one
            from torch.utils.tensorboard import SummaryWriter

            # A new file, which says that what older ones hold does not count.
            self._written, self._writer = 0, SummaryWriter(str(self.folder), purge_step=1)
            weakref.finalize(self, self._writer.close)  # training may end at any epoch
        for row in rows[self._written :]:
            for column, value in row.items():
                if column not in ("epoch", "seconds") and not math.isnan(value):
                    self._writer.add_scalar(tag_of(column), value, int(row["epoch"]))
        self._writer.flush()
        self._written = len(rows)
