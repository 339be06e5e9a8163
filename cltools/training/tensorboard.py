"""The history for TensorBoard, as a callback of `fit`. The library is needed only where this is used."""

import math
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cltools.errors import CltoolsError
from cltools.mining import Band
from cltools.training.history import COLUMNS, Row
from cltools.training.run import Run

LAST = "views_per_second"
"""The figure written last, in every row: an epoch that has it is whole."""
TAGS = {
    **{name: name for name in ("loss", "knn", "mined_purity", "false_negative_share")},
    **{band.name.lower(): f"keys/{band.name.lower()}" for band in Band},
    LAST: LAST,
}
"""Columns of every history that have a curve, and its name."""


def tags_of(row: Row) -> dict[str, str]:
    """Columns of a history and the names of their curves: those of protocols of one's own first, by their names."""
    return {name: f"protocols/{name}" for name in row if name not in COLUMNS} | TAGS


class TensorBoard:
    """Writes each new row of the history as scalars, the epoch as step: `fit(…, callbacks=[TensorBoard(folder)])`.

    Each epoch is written once, also by a run that is resumed: rows that are missing are made up for, and those of
    epochs that are trained again take the place of what was written of them.
    """

    def __init__(self, folder: str | Path) -> None:
        """A callback that writes into `folder`, by convention `tensorboard` in the run's folder.

        Raises:
            ValueError: TensorBoard is not installed.
        """
        if find_spec("tensorboard") is None:
            raise CltoolsError('TensorBoard is not installed; install it with: pip install "cltools[tensorboard]"')
        self.folder = Path(folder)
        self._written = -1  # epochs; not looked up yet
        self._writer: Any = None

    def __call__(self, run: Run) -> None:
        """Write the rows that are not written yet."""
        rows = run.history.rows
        if self._written < 0:
            self._written = last_epoch(self.folder)
        first = min(self._written + 1, len(rows))
        if self._writer is None or first <= self._written:
            self._open(first)
        for row in rows[first - 1 :]:
            for column, tag in tags_of(row).items():
                if not math.isnan(row[column]):
                    self._writer.add_scalar(tag, row[column], int(row["epoch"]))
        self._writer.flush()
        self._written = len(rows)

    def _open(self, first: int) -> None:
        """A new file, which says that whatever older ones hold from epoch `first` on does not count."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            self._writer.close()
        self._writer = SummaryWriter(str(self.folder), purge_step=first)
        weakref.finalize(self, self._writer.close)  # training may end at any epoch; closing twice does nothing


def last_epoch(folder: Path) -> int:
    """The last epoch of which everything was written there; 0 where there is none."""
    if not any(folder.glob("events.out.tfevents.*")):
        return 0
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    return max((event.step for event in events.Scalars(LAST)), default=0) if LAST in events.Tags()[SCALARS] else 0
