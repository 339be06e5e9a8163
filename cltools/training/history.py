"""What a run measured, a row per epoch, as CSV. Metrics are summed on the device and fetched once per epoch."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cltools.errors import CltoolsError
from cltools.files import cell, reading, replacing, text_of
from cltools.mining import Band
from cltools.mining.bands import KEPT
from cltools.ranks import ALONE, Ranks

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


def tally_of(band: Tensor, same_class: Tensor | None) -> Tensor:
    """How many keys of a selection's bands [B, K] got each code of `Band`, and how many of these are of their class.

    Asks the device nothing.

    Returns:
        int64 [2, 7]; without labels [1, 7].
    """
    masks = [band == code for code in Band]  # bincount would wait for the device
    counted = masks if same_class is None else [*masks, *(mask & same_class for mask in masks)]
    return torch.stack([mask.count_nonzero() for mask in counted]).view(-1, len(Band))


class EpochSums:
    """Sums of an epoch's metrics and the first step with a non-finite loss, kept on the device until `fetch`.

    Each rank sums over its own anchors; `fetch` puts them together.
    """

    def __init__(self, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.tally = torch.zeros((), dtype=torch.int64, device=device)
        self.bad_step = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.steps = self.anchors = 0

    def add(self, step: int, loss: Tensor, tally: Tensor, anchors: int) -> None:
        """Take in one step; asks the device nothing."""
        loss = loss.detach()
        self.bad_step = torch.where(loss.isfinite(), self.bad_step, self.bad_step.clamp(max=step))
        self.loss += loss
        self.tally = self.tally + tally
        self.steps += 1
        self.anchors += anchors

    def fetch(self) -> Row:
        """The epoch's means; purity and false-negative share are nan without labels or where nothing was chosen.

        Raises:
            FloatingPointError: a step's loss was not finite; the message names the first.
        """
        if (bad := int(self.ranks.least(self.bad_step))) != NEVER:
            raise diverged(f"The loss was not finite at step {bad}")
        keys, *known = self.ranks.total(self.tally).tolist()
        same = known[0] if known else [math.nan] * len(Band)
        return {
            "loss": float(self.ranks.total(self.loss)) / (self.steps * self.ranks.count),
            "mined_purity": _share(same[Band.MINED], keys[Band.MINED]),
            "false_negative_share": _share(sum(same[band] for band in KEPT), sum(keys[band] for band in KEPT)),
            **{band.name.lower(): keys[band] / (self.anchors * self.ranks.count) for band in Band},
        }

    def state_dict(self) -> dict[str, Any]:
        """This rank's sums so far; loads with `weights_only=True`."""
        return {name: value for name, value in vars(self).items() if name != "ranks"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from sums that `state_dict` gave."""
        for name, value in state.items():
            setattr(self, name, value.to(self.loss.device) if isinstance(value, Tensor) else value)


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan
