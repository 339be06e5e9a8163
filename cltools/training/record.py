"""What a run leaves to be read: its history, a row per epoch as CSV, and its record, `record.json`.

The record says what was asked, where it was trained and what came out. Metrics are summed on the device and fetched
once per epoch.
"""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cltools.config import Experiment, from_plain, to_plain
from cltools.encoders import OwnBackbone
from cltools.errors import CltoolsError
from cltools.evaluation import PROTOCOLS
from cltools.files import cell, reading, replacing, text_of
from cltools.mining import KEPT, Band
from cltools.mining.similarities import with_numpy
from cltools.provenance import check_record, provenance, read_record
from cltools.ranks import ALONE, Ranks
from cltools.training.inputs import TrainedOn

if TYPE_CHECKING:
    from cltools.training.run import Run

# the history

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
    remedy = "Lower the learning rate, raise the temperature, or train in float32."
    return FloatingPointError(f"{what}; training stopped. The last checkpoint is from before it. {remedy}")


def tally_of(band: Tensor, same_class: Tensor | None) -> Tensor:
    """How many keys of a selection's bands [B, K] got each code of `Band`, and how many of these are of their class.

    Asks the device nothing.

    Returns:
        int64 [2, 7]; without labels [1, 7].
    """
    if with_numpy(band):
        code = band if same_class is None else band.add(same_class.view(torch.int8), alpha=len(Band))
        counts = torch.bincount(code.flatten(), minlength=len(Band) * (1 + (same_class is not None)))
        return torch.cat([counts.view(-1, len(Band)).sum(0), counts[len(Band) :]]).view(-1, len(Band))
    masks = [band == code for code in Band]  # on a GPU bincount would wait for the device
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


# the record

KIND, FORMAT, RECORD = "run", 2, "record.json"
Plain = Mapping[str, Any]
Split = Literal["test", "val"]
"""What is judged on: the test images, or training images held out."""


@dataclass(frozen=True)
class Stretch:
    """Epochs of a run that were trained in the same surroundings; by default, those of which nothing is known.

    Most runs have one stretch. A run that was resumed elsewhere has more.

    Attributes:
        from_epoch: the first of them, counted from 1.
        command: the one that began the stretch; resuming in the same surroundings does not change it.
        commit: of the code.
        versions: of Python and of the libraries.
        hardware: device, threads, and number of processes.
        warm_epochs: those of the run that this one started from; they count in the first stretch alone.
        asked: epochs asked for then, by which the learning rate went; 0 where that is not known. A finished run that is
            trained longer has a stretch for each.
    """

    from_epoch: int = 1
    command: str = ""
    commit: str = ""
    versions: Plain = field(default_factory=dict)
    hardware: Plain = field(default_factory=dict)
    warm_epochs: int = 0
    asked: int = 0

    @property
    def surroundings(self) -> dict[str, Any]:
        """What must be equal for two stretches to be one: code, versions and hardware."""
        return {"commit": self.commit, "versions": self.versions, "hardware": self.hardware}


@dataclass(frozen=True)
class Measured:
    """An epoch's mean loss, and the kNN accuracy after it in percent; None where it was not measured."""

    epoch: int
    loss: float
    knn: float | None


_PLACE = [("figures", tuple[str, ...]), ("commit", str), ("versions", Plain), ("hardware", Plain)]
REPORT = make_dataclass(
    "Report",
    [
        *(("split", Split), ("epochs", int), ("images", str, "")),
        *((name, int | None, None) for name in ("steps", "train_images", "test_images", "linear_epochs")),
        *((name, float | None, None) for name in (*PROTOCOLS, "uniformity")),
        ("per_class", Mapping[str, Mapping[str, float | None]], None),
        ("elsewhere", tuple[make_dataclass("Elsewhere", _PLACE), ...], None),  # type: ignore[misc]
    ],
)
"""The entries of a report, and their types; `cltools.evaluate` says what they mean."""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run as it stands.

    Attributes:
        experiment: every setting, as `to_plain` gives them: a reader's own rule need not be known to read a record.
        backbone: its name, or the class of one's own.
        images: what it was trained on; None where that is not known.
        stretches: one at least, the last one last.
        epochs: how many are done.
        steps: of the epoch under way, where the run was stopped within one.
        seconds: of training, in all epochs.
        views_per_second: the median over epochs; None before the first.
        judged: the split that kNN was measured on while training; None where it was not.
        by_epoch: loss and accuracy.
        evaluations: by split, the report of `Run.evaluate` on the encoder as it stands.
        given: parts that `fit` was given as objects, and what each was; a run with any does not repeat from its
            experiment alone. Older records lack it.
    """

    experiment: Plain
    backbone: str
    images: TrainedOn | None
    stretches: tuple[Stretch, ...]
    epochs: int
    steps: int
    seconds: float
    views_per_second: float | None
    judged: Split | None
    by_epoch: tuple[Measured, ...]
    evaluations: Mapping[str, Plain]
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.experiment["seed"])

    @property
    def asked(self) -> int:
        """How many epochs were asked for."""
        return int(self.experiment["training"]["epochs"])

    @property
    def shorter(self) -> list[int]:
        """Epochs asked for before, of a finished run that was trained longer."""
        return [each.asked for each in self.stretches if each.asked not in (0, self.asked)]

    @property
    def warm_epochs(self) -> int:
        """Epochs of another run that this one started from."""
        return self.stretches[0].warm_epochs

    @classmethod
    def of(cls, run: "Run", before: "RunRecord | None") -> "RunRecord":
        """The record of a run as it stands.

        Args:
            run: that it tells of.
            before: the record so far. Its stretches stay as far as the run goes on from them, its evaluations where
                no step was trained since.
        """
        experiment, rows, module = run.experiment, run.history.rows, run.bare().backbone
        known = [Measured(int(r["epoch"]), r["loss"], None if math.isnan(r["knn"]) else r["knn"]) for r in rows]
        reports, done = before.evaluations if before else {}, (len(rows), run.steps)
        return cls(
            to_plain(experiment),
            type(module.module).__name__ if isinstance(module, OwnBackbone) else experiment.encoder.backbone,
            run.images or (before.images if before else None),
            _stretches(run.here, before.stretches if before else ()),
            epochs=len(rows),
            steps=run.steps,
            seconds=sum(row["seconds"] for row in rows),
            views_per_second=statistics.median(row["views_per_second"] for row in rows) if rows else None,
            judged=None if all(m.knn is None for m in known) else run.judged or (before.judged if before else None),
            by_epoch=tuple(known),
            evaluations={split: r for split, r in reports.items() if (r["epochs"], r.get("steps", 0)) == done},
            given=run.parts.given,
        )

    def evaluated(self, report: Plain, here: Stretch) -> "RunRecord":
        """The record with what was measured now; figures of the same split that were not measured again stay.

        Figures measured in other surroundings than those of the last epoch are named in the report's "elsewhere".
        """
        old = self.evaluations.get(report["split"], {})
        merged = {**old, **report}
        if "per_class" in old and "per_class" in report:
            merged["per_class"] = {**old["per_class"], **report["per_class"]}
        figures = [name for name, value in report.items() if isinstance(value, float)]
        others = [(it, [name for name in it["figures"] if name not in figures]) for it in merged.pop("elsewhere", [])]
        elsewhere = [{**other, "figures": rest} for other, rest in others if rest]
        if here.surroundings != self.stretches[-1].surroundings:
            elsewhere.append({"figures": figures, **here.surroundings})
        if elsewhere:
            merged["elsewhere"] = elsewhere
        return replace(self, evaluations={**self.evaluations, report["split"]: merged})

    def to_plain(self) -> dict[str, Any]:
        """The record as an object of JSON."""
        return {"kind": KIND, "format": FORMAT, **asdict(self)}

    @classmethod
    def from_plain(cls, path: Path, plain: Plain) -> "RunRecord":
        """The record that `to_plain` gave.

        Args:
            path: where it lies, for messages.
            plain: what was read there.

        Raises:
            ValueError: it is damaged, foreign, or of another version.
        """
        told = check_record(path, plain, KIND, form=FORMAT)
        with reading(f"{path} is damaged or of another version"):
            record = from_plain(cls, told, "record")
            settings_of(record.experiment)
            if not record.stretches or min(record.epochs, record.steps, record.seed, record.asked - 1) < 0:
                raise CltoolsError("record has no stretch, or epochs, steps or a seed below 0.")
            if [row.epoch for row in record.by_epoch] != [*range(1, len(record.by_epoch) + 1)]:
                raise CltoolsError("record.by_epoch has other epochs than 1, 2, 3, …")
            for split, report in record.evaluations.items():
                from_plain(REPORT, report, f"record.evaluations.{split}")
        return replace(record, experiment=plain["experiment"])


def settings_of(plain: Plain) -> dict[str, Any]:
    """Recorded settings, checked, with what a newer version has besides; a rule, which need not be known, as recorded.

    Raises:
        ValueError: they are no settings of an experiment.
    """
    rules = {name: plain[name] for name in ("positives", "negatives") if name in plain}
    for name, rule in rules.items():
        if not (isinstance(rule, Mapping) and isinstance(rule.get("rule"), str)):
            raise CltoolsError(f"experiment.{name} must name its rule.")
    return {**to_plain(from_plain(Experiment, {name: plain[name] for name in plain if name not in rules})), **rules}


def stretch_here(
    device: torch.device, *, ranks: int = 1, after: int = 0, warm_epochs: int = 0, asked: int = 0
) -> Stretch:
    """The stretch that this process begins.

    Args:
        device: where the encoder is.
        ranks: how many processes train.
        after: epochs that were done before.
        warm_epochs: those of the run that this one started from.
        asked: epochs asked for.
    """
    here = provenance(device)
    here["hardware"]["ranks"] = ranks
    return Stretch(after + 1, **here, warm_epochs=warm_epochs, asked=asked)


def read_run_record(folder: Path) -> RunRecord | None:
    """The record in a run's folder; None where there is none.

    Raises:
        ValueError: it is damaged, foreign, or of another version.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    with reading("The record of the run", "Nothing was changed. The run needs none: move it away for a new one."):
        return RunRecord.from_plain(path, read_record(path))


def _stretches(here: Stretch | None, before: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """All stretches of a run, the last one last: those before that it goes on from, then this process's."""
    if here is None:
        return tuple(before) or (Stretch(),)
    known = [stretch for stretch in before if stretch.from_epoch < here.from_epoch]
    if not known and here.from_epoch > 1:
        known = [Stretch()]
    # The command that began a stretch stays: those that went on with it are that command and --resume.
    goes_on = known and known[-1].surroundings == here.surroundings and known[-1].asked in (0, here.asked)
    return tuple(known if goes_on else [*known, here])
