"""The record of a run, `record.json`: what was asked, where it was trained, what came out. Pure, from parts of a run.

A stretch is the epochs that were trained in the same surroundings. Most runs have one; one resumed elsewhere has more.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cltools.config import Experiment, to_plain
from cltools.provenance import check_record, provenance, read_record
from cltools.training.history import Row
from cltools.training.inputs import TrainedOn

KIND, RECORD = "run", "record.json"
Record = dict[str, Any]

STRETCH = ("from_epoch", "command", "commit", "versions", "hardware")
SURROUNDINGS = ("commit", "versions", "hardware")
UNKNOWN: Record = {"from_epoch": 1, "command": "", "commit": "", "versions": {}, "hardware": {}}
GIVEN = "given_as_objects"
"""Parts that `fit` was given as objects, and what each was: with any, the run does not repeat from its config alone.

Records of older versions lack it.
"""
ENTRIES = (
    "kind", *STRETCH, "earlier", "warm_epochs", "experiment", "seed", "backbone", "images", "epochs", "seconds",
    "views_per_second", "accuracy", "evaluations",
)  # fmt: skip


def stretch_here(device: torch.device, *, ranks: int = 1, after: int = 0, warm_epochs: int = 0) -> Record:
    """The stretch that this process begins.

    Args:
        device: where the encoder is.
        ranks: how many processes train.
        after: epochs that were done before.
        warm_epochs: those of the run that this one started from.
    """
    here = provenance(device)
    here["hardware"]["ranks"] = ranks
    return {"from_epoch": after + 1, **here, "warm_epochs": warm_epochs}


def run_record(
    experiment: Experiment,
    rows: list[Row],
    images: TrainedOn | None,
    backbone: str,
    *,
    steps: int = 0,
    given: Mapping[str, str],
    here: Record | None,
    before: Record | None,
) -> Record:
    """The record of a run as it stands.

    Args:
        experiment: every setting.
        rows: of its history.
        images: what it was trained on; None where that is not at hand.
        backbone: its name, or the class of one's own.
        steps: of the epoch under way.
        given: the parts that were given as objects, and what each was.
        here: the stretch trained by this process; None for a run that was only loaded.
        before: the record so far. Its stretches stay as far as the run goes on from them, its evaluations where no
            step was trained since.
    """
    *earlier, last = _stretches(here, before)
    first = (*earlier, last)[0]
    return {
        "kind": KIND,
        **{name: last[name] for name in STRETCH},
        "earlier": [{name: stretch[name] for name in STRETCH} for stretch in earlier],
        "warm_epochs": first.get("warm_epochs", before["warm_epochs"] if before else 0),
        "experiment": to_plain(experiment),
        "seed": experiment.seed,
        "backbone": backbone,
        "images": asdict(images) if images else before["images"] if before else None,
        GIVEN: {**given},
        "epochs": {"done": len(rows), "asked": experiment.training.epochs} | ({"steps": steps} if steps else {}),
        "seconds": sum(row["seconds"] for row in rows),
        "views_per_second": statistics.median(row["views_per_second"] for row in rows) if rows else None,
        "accuracy": _accuracy(experiment, rows),
        "evaluations": {
            split: report
            for split, report in (before["evaluations"] if before else {}).items()
            if (report["epochs"], report.get("steps", 0)) == (len(rows), steps)
        },
    }


def with_evaluation(record: Record, report: Mapping[str, Any], here: Mapping[str, Any]) -> Record:
    """The record with what was measured now; figures of the same split that were not measured again stay.

    Figures measured in other surroundings than those of the last epoch are named in the report's "elsewhere".
    """
    old = record["evaluations"].get(report["split"], {})
    merged = dict(old)
    for name, value in report.items():
        merged[name] = {**old.get(name, {}), **value} if isinstance(value, Mapping) else value
    figures = [name for name, value in report.items() if isinstance(value, float)]
    elsewhere = [
        {**other, "figures": rest}
        for other in old.get("elsewhere", [])
        if (rest := [name for name in other["figures"] if name not in figures])
    ]
    if not same_surroundings(record, here):
        elsewhere.append({"figures": figures, **{name: here[name] for name in SURROUNDINGS}})
    merged.pop("elsewhere", None)
    report = merged | ({"elsewhere": elsewhere} if elsewhere else {})
    return {**record, "evaluations": {**record["evaluations"], report["split"]: report}}


def read_run_record(folder: Path) -> Record | None:
    """The record in a run's folder; None where there is none.

    Raises:
        ValueError: it is damaged or foreign.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = read_record(path)
        check_record(path, record, KIND, ENTRIES)
    except ValueError as error:
        raise ValueError(
            f"{error} Nothing was changed. The run itself does not need it: move it away, and a new one is written."
        ) from error
    return record


def stretches_of(record: Mapping[str, Any]) -> list[Record]:
    """The stretches that a record holds, the last one last."""
    return [*record["earlier"], {name: record[name] for name in STRETCH}]


def same_surroundings(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two stretches were trained by the same code, versions and hardware."""
    return all(a[name] == b[name] for name in SURROUNDINGS)


def _stretches(here: Record | None, before: Record | None) -> list[Record]:
    """All stretches of a run, the last one last: those before that it goes on from, then this process's."""
    known = stretches_of(before) if before else []
    if here is None:
        return known or [UNKNOWN]
    known = [stretch for stretch in known if stretch["from_epoch"] < here["from_epoch"]]
    if not known and here["from_epoch"] > 1:
        known = [UNKNOWN]
    # The command that began a stretch stays: those that went on with it are that command and --resume.
    return known if known and same_surroundings(known[-1], here) else [*known, here]


def _accuracy(experiment: Experiment, rows: list[Row]) -> Record:
    """Loss and kNN accuracy by epoch, with the protocol and the images judged by; null where it was not measured."""
    by_epoch = [
        {"epoch": int(row["epoch"]), "loss": row["loss"], "knn": None if math.isnan(row["knn"]) else row["knn"]}
        for row in rows
    ]
    judged = "val" if experiment.data.holdout > 0 else "test"
    measured = any(row["knn"] is not None for row in by_epoch)
    return {
        "protocol": experiment.evaluation.protocol,
        "split": judged if measured else None,
        "by_epoch": by_epoch,
    }
