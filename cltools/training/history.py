"""What a run measured, a row per epoch, as CSV and for TensorBoard, which is needed only where it is used.

Metrics are summed on the device and fetched once per epoch.
"""

import csv
import io
import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.files import cell, check_writable, reading, replacing, text_of
from cltools.mining import Band
from cltools.mining.bands import KEPT
from cltools.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from cltools.training.run import Run

Row = dict[str, float]
COLUMNS = (
    "epoch", "loss", "mined_purity", "false_negative_share", *(band.name.lower() for band in Band), "seconds",
    "views_per_second", "knn", "effective_rank",
)  # fmt: skip
"""Columns of every history; those of protocols of one's own come after them."""
NEVER = 2**62
"""The step of an event that did not happen."""


@dataclass
class History:
    """Rows of a run, one per epoch: the entries of `COLUMNS`, and one for each protocol of one's own.

    What is measured after some epochs only is nan in the others.
    """

    rows: list[Row] = field(default_factory=list)

    def column(self, name: str) -> list[float]:
        """One column over the epochs."""
        return [row[name] for row in self.rows]

    def save(self, path: Path) -> None:
        """Write the rows as CSV; the file is replaced whole."""
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            if self.rows:
                writer = csv.writer(file)
                writer.writerow(map(cell, self.rows[0]))
                writer.writerows([_text(row[name]) for name in self.rows[0]] for row in self.rows)

    @classmethod
    def load(cls, path: Path) -> "History":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is damaged or foreign.
        """
        with reading(f"{path} is not a history of ours", "Move it away, and the run loads."):
            text = path.read_text(encoding="utf-8-sig")
            head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True) if text else [[]]
            names = [*map(text_of, head)]
            rows = [{k: float(v) if v else math.nan for k, v in zip(names, line, strict=True)} for line in lines]
            if any(row.get("epoch") != epoch for epoch, row in enumerate(rows, 1)):
                raise CltoolsError("its rows are not of epochs 1, 2, 3, …")
            if text and (not text.endswith("\n") or len({*names}) < len(names) or not {*COLUMNS} <= {*names}):
                raise CltoolsError("the end of its last line is missing, or a column, or one stands twice")
        return cls(rows)


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def diverged(what: str) -> FloatingPointError:
    """The error that stops a training gone wrong before anything of it is saved."""
    return FloatingPointError(
        f"{what}; training stopped. The last checkpoint is from before it. "
        "Lower the learning rate, raise the temperature, or train in float32."
    )


@dataclass(frozen=True)
class Tally:
    """How many keys got each code of `Band` over some anchors, and how many of these are of their anchor's class.

    Attributes:
        keys: int64 [7].
        same_class: int64 [7]; None without labels.
        anchors: how many there were.
    """

    keys: Tensor
    same_class: Tensor | None
    anchors: int

    @classmethod
    def of(cls, band: Tensor, same_class: Tensor | None) -> "Tally":
        """Count a selection's bands [B, K]; asks the device nothing."""
        masks = [band == code for code in Band]  # bincount would wait for the device
        same = None if same_class is None else torch.stack([(mask & same_class).count_nonzero() for mask in masks])
        return cls(torch.stack([mask.count_nonzero() for mask in masks]), same, len(band))

    def __add__(self, other: "Tally") -> "Tally":
        a, b = self.same_class, other.same_class
        same_class = None if a is None or b is None else a + b
        return Tally(self.keys + other.keys, same_class, self.anchors + other.anchors)


class EpochSums:
    """Sums of an epoch's metrics and the first step with a non-finite loss, kept on the device until `fetch`.

    Each rank sums over its own anchors; `fetch` puts them together.
    """

    def __init__(self, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        nothing = torch.zeros(len(Band), dtype=torch.int64, device=device)
        self.tally = Tally(nothing, nothing, 0)
        self.bad_step = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.steps = 0

    def add(self, step: int, loss: Tensor, tally: Tally) -> None:
        """Take in one step; asks the device nothing."""
        loss = loss.detach()
        self.bad_step = torch.where(loss.isfinite(), self.bad_step, self.bad_step.clamp(max=step))
        self.loss += loss
        self.tally += tally
        self.steps += 1

    def fetch(self) -> Row:
        """The epoch's means; purity and false-negative share are nan without labels or where nothing was chosen.

        Raises:
            FloatingPointError: a step's loss was not finite; the message names the first.
        """
        if (bad := int(self.ranks.least(self.bad_step))) != NEVER:
            raise diverged(f"The loss was not finite at step {bad}")
        keys = self.ranks.total(self.tally.keys).tolist()
        of_class = self.tally.same_class
        same = [math.nan] * len(Band) if of_class is None else self.ranks.total(of_class).tolist()
        return {
            "loss": float(self.ranks.total(self.loss)) / (self.steps * self.ranks.count),
            "mined_purity": _share(same[Band.MINED], keys[Band.MINED]),
            "false_negative_share": _share(sum(same[band] for band in KEPT), sum(keys[band] for band in KEPT)),
            **{band.name.lower(): keys[band] / (self.tally.anchors * self.ranks.count) for band in Band},
        }

    def state_dict(self) -> dict[str, Any]:
        """This rank's sums so far; loads with `weights_only=True`."""
        return {"loss": self.loss, "bad_step": self.bad_step, "steps": self.steps, **vars(self.tally)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from sums that `state_dict` gave."""
        here: dict[str, Any] = {k: x.to(self.loss.device) if isinstance(x, Tensor) else x for k, x in state.items()}
        self.loss, self.bad_step, self.steps = (here.pop(name) for name in ("loss", "bad_step", "steps"))
        self.tally = Tally(**here)


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


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

    def __call__(self, run: "Run") -> None:
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
