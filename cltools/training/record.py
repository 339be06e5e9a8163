"""A run's history, a CSV file with a row per epoch, and its record, `record.json`.

The record holds the settings, the environment and the results. Metrics are summed on the device and fetched once per
epoch.
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
from cltools.files import cell, leaves, reading, replacing, text_of
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
"""Columns of every history; those of the user's protocols follow them."""
NEVER = 2**62
"""The step of an event that did not happen."""


@dataclass
class History:
    """Rows of a run, one per epoch, with the entries of `COLUMNS` and one for each of the user's protocols.

    A metric that was not measured after an epoch is nan.

    Example:
        >>> from cltools import History
        >>> history = History([{"epoch": 1, "loss": 4.2}, {"epoch": 2, "loss": 3.5}])
        >>> history.column("loss")
        [4.2, 3.5]
    """

    rows: list[Row] = field(default_factory=list)
    """The rows, each a number by the name of its column."""

    def column(self, name: str) -> list[float]:
        """Return one column over the epochs."""
        return [row[name] for row in self.rows]

    def save(self, path: Path) -> None:
        """Write the rows as CSV; the file is replaced atomically."""
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
        with reading(f"{path} is not a history written by cltools", "Move it away to load the run without it."):
            text = path.read_text(encoding="utf-8-sig")
            head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True) if text else [[]]
            names = [*map(text_of, head)]
            rows = [{k: float(v) if v else math.nan for k, v in zip(names, line, strict=True)} for line in lines]
            if any(math.isinf(row.get(name, 0)) for row in rows for name in COLUMNS):  # a protocol of one's own may be
                raise CltoolsError("it holds an infinite number")
            if any(row.get("epoch") != epoch for epoch, row in enumerate(rows, 1)):
                raise CltoolsError("its rows are not those of epochs 1, 2, 3, …")
            if text and (not text.endswith("\n") or len({*names}) < len(names) or not {*COLUMNS} <= {*names}):
                raise CltoolsError("its last line is cut off, or a column is missing or occurs twice")
        return cls(rows)


def _text(value: float) -> str:
    if math.isnan(value):
        return ""
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def diverged(what: str) -> FloatingPointError:
    """Return the error that stops a diverged training before its state is saved."""
    remedy = "Lower the learning rate, raise the temperature, or train in float32."
    return FloatingPointError(f"{what}; training stopped. The last checkpoint is from before that. {remedy}")


def tally_of(band: Tensor, same_class: Tensor | None) -> Tensor:
    """Count the keys with each code of `Band` in a selection's bands [B, K], and those of them of the anchor's class.

    Does not wait for the device.

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
    """Sums of an epoch's metrics and the first step with a non-finite loss, on the device until `fetch`.

    Each rank sums over its own anchors; `fetch` combines the ranks.
    """

    def __init__(self, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.tally = torch.zeros((), dtype=torch.int64, device=device)
        self.bad_step = torch.full((), NEVER, dtype=torch.int64, device=device)
        self.steps = self.anchors = 0

    def add(self, step: int, loss: Tensor, tally: Tensor, anchors: int) -> None:
        """Add one step, without waiting for the device."""
        loss = loss.detach()
        self.bad_step = torch.where(loss.isfinite(), self.bad_step, self.bad_step.clamp(max=step))
        self.loss += loss
        self.tally = self.tally + tally
        self.steps += 1
        self.anchors += anchors

    def fetch(self) -> Row:
        """Return the epoch's means; purity and false-negative share are nan without labels or without chosen keys.

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
        """Return this rank's sums so far; they load with `weights_only=True`."""
        return {name: value for name, value in vars(self).items() if name != "ranks"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the sums that `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value.to(self.loss.device) if isinstance(value, Tensor) else value)


def _share(part: float, whole: int) -> float:
    return part / whole if whole else math.nan


# the record

KIND, FORMAT, RECORD = "run", 2, "record.json"
Plain = Mapping[str, Any]
Split = Literal["test", "val"]
"""The images that a run is evaluated on: the test images, or training images held out."""


@dataclass(frozen=True)
class Stretch:
    """Epochs of a run that were trained in the same environment; the defaults mean that nothing is known.

    Most runs have one stretch. A run that was resumed in another environment has several.

    Attributes:
        from_epoch: the first epoch of the stretch, counted from 1.
        command: the command that began the stretch; resuming in the same environment does not change it.
        commit: commit of the code.
        versions: versions of Python and of the libraries.
        hardware: device, threads, and number of processes.
        warm_epochs: epochs of the run that this one started from; only the first stretch's value counts.
        asked: number of epochs requested then, which set the learning rate's schedule; 0 if unknown. A finished run
            that is trained longer has a stretch for each number.
    """

    from_epoch: int = 1
    command: str = ""
    commit: str = ""
    versions: Plain = field(default_factory=dict)
    hardware: Plain = field(default_factory=dict)
    warm_epochs: int = 0
    asked: int = 0

    @property
    def environment(self) -> dict[str, Any]:
        """Code, versions and hardware, which are the same throughout a stretch."""
        return {"commit": self.commit, "versions": self.versions, "hardware": self.hardware}


@dataclass(frozen=True)
class Measured:
    """An epoch's mean loss, and the kNN accuracy after it in percent; None if it was not measured."""

    epoch: int
    loss: float
    knn: float | None


_ORIGIN = [("figures", tuple[str, ...]), ("commit", str), ("versions", Plain), ("hardware", Plain)]
REPORT = make_dataclass(
    "Report",
    [
        *(("split", Split), ("epochs", int), ("images", str, "")),
        *((name, int | None, None) for name in ("steps", "train_images", "test_images", "linear_epochs")),
        *((name, float | None, None) for name in (*PROTOCOLS, "uniformity")),
        ("per_class", Mapping[str, Mapping[str, float | None]], None),
        ("elsewhere", tuple[make_dataclass("Elsewhere", _ORIGIN), ...], None),  # type: ignore[misc]
    ],
)
"""The entries of a report and their types; their meaning is documented at `cltools.evaluate`."""


@dataclass(frozen=True)
class RunRecord:
    """The record of a run in its present state.

    Attributes:
        experiment: every setting, as returned by `to_plain`, so that a record can be read without the class of a user's
            rule.
        backbone: name of the backbone, or the class of a user's backbone.
        images: the training images; None if unknown.
        stretches: at least one, in order.
        epochs: number of completed epochs.
        steps: completed steps of the current epoch, if the run was stopped within an epoch.
        seconds: training time, summed over all epochs.
        views_per_second: the median over epochs; None before the first.
        judged: the split that kNN was measured on while training; None if it was not measured.
        by_epoch: loss and accuracy of each epoch.
        evaluations: by split, the report of `Run.evaluate` on the present encoder.
        given: descriptions of the parts passed to `fit` as objects, by name; with any, the experiment alone does not
            reproduce the run. Older records lack it.
        by_hand: paths of entries that a person filled in, and no program.
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
    by_hand: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.experiment["seed"])

    @property
    def asked(self) -> int:
        """The number of epochs requested."""
        return int(self.experiment["training"]["epochs"])

    @property
    def shorter(self) -> list[int]:
        """The numbers of epochs requested earlier, for a finished run that was trained longer."""
        return [each.asked for each in self.stretches if each.asked not in (0, self.asked)]

    @property
    def warm_epochs(self) -> int:
        """The number of epochs of the run that this one started from."""
        return self.stretches[0].warm_epochs

    @classmethod
    def of(cls, run: "Run", before: "RunRecord | None") -> "RunRecord":
        """Return the record of a run in its present state.

        Args:
            run: the run to describe.
            before: the record so far. Stretches that the run continues from are kept, and so are evaluations if no step
                was trained since.
        """
        experiment, rows, module = run.experiment, run.history.rows, run.bare().backbone
        known = [Measured(int(r["epoch"]), r["loss"], None if math.isnan(r["knn"]) else r["knn"]) for r in rows]
        reports, done = before.evaluations if before else {}, (len(rows), run.steps)
        return cls(
            to_plain(experiment),
            type(module.module).__name__ if isinstance(module, OwnBackbone) else experiment.encoder.backbone,
            run.images or (before.images if before else None),
            _stretches(run.stretch, before.stretches if before else ()), epochs=len(rows), steps=run.steps,
            seconds=sum(row["seconds"] for row in rows),
            views_per_second=statistics.median(row["views_per_second"] for row in rows) if rows else None,
            judged=None if all(m.knn is None for m in known) else run.judged or (before.judged if before else None),
            by_epoch=tuple(known),
            evaluations={split: r for split, r in reports.items() if (r["epochs"], r.get("steps", 0)) == done},
            given=run.parts.given,
            by_hand=before.by_hand if before else (),
        )  # fmt: skip

    def evaluated(self, report: Plain, present: Stretch) -> "RunRecord":
        """Return the record with a new report; figures of the same split that it lacks are kept from the old report.

        Figures measured in another environment than that of the last epoch are listed in the report's "elsewhere".
        """
        old = self.evaluations.get(report["split"], {})
        merged = {**old, **report}
        if "per_class" in old and "per_class" in report:
            merged["per_class"] = {**old["per_class"], **report["per_class"]}
        figures = [name for name, value in report.items() if isinstance(value, float)]
        others = [(it, [name for name in it["figures"] if name not in figures]) for it in merged.pop("elsewhere", [])]
        elsewhere = [{**other, "figures": rest} for other, rest in others if rest]
        if present.environment != self.stretches[-1].environment:
            elsewhere.append({"figures": figures, **present.environment})
        if elsewhere:
            merged["elsewhere"] = elsewhere
        by_hand = tuple(each for each in self.by_hand if each != f"evaluations.{report['split']}")
        return replace(self, evaluations={**self.evaluations, report["split"]: merged}, by_hand=by_hand)

    def to_plain(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {"kind": KIND, "format": FORMAT, **asdict(self)}

    @classmethod
    def from_plain(cls, path: Path, plain: Plain) -> "RunRecord":
        """Build the record from what `to_plain` returned.

        Args:
            path: path of its file, for messages.
            plain: the object that was read from it.

        Raises:
            ValueError: it is damaged, foreign, or of another version.
        """
        checked = check_record(path, plain, KIND, form=FORMAT)
        with reading(f"{path} is damaged or of another version"):
            record = from_plain(cls, checked, "record")
            settings_of(record.experiment)
            if not record.stretches or min(record.seed, record.asked - 1) < 0:
                raise CltoolsError("record has no stretch, or asks for no epoch or a seed below 0")
            for split, report in record.evaluations.items():
                if from_plain(REPORT, report, f"record.evaluations.{split}").split != split:
                    raise CltoolsError(f"record.evaluations.{split} is a report of split {report['split']!r}")
            listed = {name: dict(enumerate(checked[name])) for name in ("stretches", "by_epoch")}
            for where, value in leaves({**checked, "experiment": {}, **listed}):
                most = 100 if (name := where.rpartition(".")[2]) in (*PROTOCOLS, "knn") else math.inf
                if type(value) in (int, float) and name not in ("loss", "uniformity") and not 0 <= value <= most:
                    raise CltoolsError(
                        f"record.{where} is {value}; a count must be at least 0, a figure also at most 100"
                    )
            if [row.epoch for row in record.by_epoch] != [*range(1, len(record.by_epoch) + 1)]:
                raise CltoolsError("record.by_epoch has epochs other than 1, 2, 3, …")
        return replace(record, experiment=plain["experiment"])


def settings_of(plain: Plain) -> dict[str, Any]:
    """Return recorded settings, checked and completed with newer settings' defaults; rules are returned as recorded.

    The rules' classes need not be known.

    Raises:
        ValueError: they are not the settings of an experiment.
    """
    rules = {name: plain[name] for name in ("positives", "negatives") if name in plain}
    for name, rule in rules.items():
        if not (isinstance(rule, Mapping) and isinstance(rule.get("rule"), str)):
            raise CltoolsError(f"experiment.{name} must name its rule.")
    return {**to_plain(from_plain(Experiment, {name: plain[name] for name in plain if name not in rules})), **rules}


def new_stretch(
    device: torch.device, *, ranks: int = 1, after: int = 0, warm_epochs: int = 0, asked: int = 0
) -> Stretch:
    """Return the stretch that this process begins.

    Args:
        device: the encoder's device.
        ranks: number of training processes.
        after: number of epochs completed before.
        warm_epochs: epochs of the run that this one started from.
        asked: number of epochs requested.
    """
    origin = provenance(device)
    origin["hardware"]["ranks"] = ranks
    return Stretch(after + 1, **origin, warm_epochs=warm_epochs, asked=asked)


def read_run_record(folder: Path) -> RunRecord | None:
    """Return the record in a run's folder; None if there is none.

    Raises:
        ValueError: it is damaged, foreign, or of another version.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    with reading("The record of the run", "Nothing was changed. Move it away, and a new one will be written."):
        return RunRecord.from_plain(path, read_record(path))


def _stretches(present: Stretch | None, before: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """Return all stretches of a run in order: the earlier ones that it continues from, then this process's."""
    if present is None:
        return tuple(before) or (Stretch(),)
    known = [stretch for stretch in before if stretch.from_epoch < present.from_epoch]
    if not known and present.from_epoch > 1:
        known = [Stretch()]
    # The command that began a stretch is kept: those that continue it are the same command with --resume.
    continued = known and known[-1].environment == present.environment and known[-1].asked in (0, present.asked)
    return tuple(known if continued else [*known, present])
