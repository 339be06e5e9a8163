"""The record of a run, `record.json`: what was asked, where it was trained, what came out."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from cltools.config import Experiment, from_plain, to_plain
from cltools.encoders.backbones import OwnBackbone
from cltools.errors import CltoolsError
from cltools.evaluation import PROTOCOLS
from cltools.files import reading
from cltools.provenance import check_record, provenance, read_record
from cltools.training.inputs import TrainedOn

if TYPE_CHECKING:
    from cltools.training.run import Run

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
