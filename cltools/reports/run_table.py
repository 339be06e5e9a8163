"""Records of runs as one table, beside published figures. What was not run is blank; nothing is estimated."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from cltools.config import IMMATERIAL, Experiment, from_plain, plain_differences, to_plain
from cltools.evaluation import LinearRecipe, spread
from cltools.presets import IMAGES, METHODS, laptop, preset
from cltools.provenance import check_record
from cltools.reports.published import CAUTION, LABORATORY, PUBLISHED, Published
from cltools.training.record import ENTRIES, KIND, SURROUNDINGS, stretches_of

FIGURES = {
    "knn200": "kNN-200",
    "knn10": "kNN-10",
    "probe": "probe",
    "linear": "linear",
    "finetune1": "1 % labels",
    "finetune10": "10 % labels",
    "unknown": "top-1, protocol unknown",
}
"""What a report or a source calls a figure, and its column."""
COLUMNS = ("method", "images", "split", *FIGURES.values(), "seeds", "epochs", "backbone", "source")
BACKBONES = {"tiny": "tiny", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
UNTOLD = (*IMMATERIAL, "data.name:", "evaluation.every:", "evaluation.protocol:", "seed:")
"""Settings that change no result, and those that have a column."""


@dataclass(frozen=True)
class Judged:
    """A run as judged on one split; the split is "" for a run that was not evaluated."""

    path: Path
    record: Mapping[str, Any]
    experiment: Mapping[str, Any]
    split: str
    report: Mapping[str, Any]

    @property
    def images(self) -> str:
        """The set's name, without the folders it lies in."""
        trained_on = self.record["images"]
        return Path(trained_on["name"] if trained_on else self.experiment["data"]["name"]).name

    @property
    def shortened(self) -> int | None:
        """Epochs of a linear evaluation that had not those of the recipe; None for the recipe's, or for none."""
        epochs: int | None = self.report.get("linear_epochs")
        return None if epochs == LinearRecipe().epochs else epochs

    @property
    def group(self) -> str:
        """What runs share that differ in nothing but the seed, as text."""
        record, report = self.record, self.report
        plain = [line for line in plain_differences({}, self.experiment) if not line.startswith(UNTOLD)]
        trained_on, data = record["images"], self.experiment["data"]
        if trained_on and data["holdout"] > 0:
            # A seed decides what is held out, so digests differ.
            trained_on = {name: trained_on[name] for name in ("name", "count", "given")}
        where = [{name: stretch[name] for name in SURROUNDINGS} for stretch in stretches_of(record)]
        spans = [stretch["from_epoch"] for stretch in stretches_of(record)]
        judged = [self.split, report.get("test_images"), report.get("elsewhere"), self.shortened]
        rest = [record["epochs"], record["warm_epochs"], record["backbone"], data["name"]]
        return json.dumps([plain, trained_on, where, spans, judged, rest], sort_keys=True)


def run_table(paths: Sequence[Path], records: Sequence[Mapping[str, Any]], *, references: bool = False) -> str:
    """Mean ± sample deviation over the seeds of runs that are alike in all else, a row for each split judged.

    Args:
        paths: of the records, for messages.
        records: of any runs and images.
        references: show all published figures, not only those on the records' images.

    Raises:
        ValueError: damaged records, or two of the same run.
    """
    judged = [part for path, record in zip(paths, records, strict=True) for part in _judged(path, dict(record))]
    groups: dict[str, list[Judged]] = {}
    for part in judged:
        groups.setdefault(part.group, []).append(part)
    rows = [_row_of_runs(sorted(group, key=lambda part: part.record["seed"])) for group in groups.values()]
    images = {part.images for part in judged}
    published = [row for row in PUBLISHED if references or row.images in images]
    rows += [(_order(row.images, 1, at), _cells_of_published(row)) for at, row in enumerate(published)]
    return "\n".join(
        [
            _caption(any(row.source == LABORATORY for row in published)),
            "",
            f"| {' | '.join(COLUMNS)} |",
            f"|---|---|---{'|---:' * len(FIGURES)}|---|---|---|---|",
            *(f"| {' | '.join(cell.replace('|', '∣') for cell in cells)} |" for _, cells in sorted(rows)),
        ]
    )


def _judged(path: Path, record: dict[str, Any]) -> list[Judged]:
    """A run by the splits it was evaluated on after its last epoch."""
    check_record(path, record, KIND, ENTRIES)
    experiment = _experiment(path, record["experiment"])
    reports = {
        split: report for split, report in record["evaluations"].items() if report["epochs"] == record["epochs"]["done"]
    }
    return [Judged(path, record, experiment, split, report) for split, report in (reports or {"": {}}).items()]


def _experiment(path: Path, plain: Any) -> dict[str, Any]:
    """The settings with what a newer version has besides; a reader's own rule stays as it is recorded."""
    own: Any = plain.get("negatives") if isinstance(plain, dict) else None
    try:
        whole: dict[str, Any] = to_plain(from_plain(Experiment, {**plain, "negatives": {"rule": "AllNegatives"}}))
        if not isinstance(own, dict):
            raise ValueError("experiment lacks its negative rule.")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or of another version: {error}") from error
    return {**whole, "negatives": own}


def _row_of_runs(group: Sequence[Judged]) -> tuple[tuple[Any, ...], list[str]]:
    """The order and the cells of runs that differ in the seed alone."""
    first, seeds = group[0], [part.record["seed"] for part in group]
    for part, other in pairwise(group):
        if part.record["seed"] == other.record["seed"]:
            raise ValueError(f"{part.path} and {other.path} hold the same run with the same seed; name one of them.")
    name, place, changed = _nearest_preset(first)
    trained_on, report = first.record["images"], first.report
    given = ", given" if trained_on and trained_on["given"] else ""
    cells = [
        f"`{name}`" + (f": {', '.join(changed)}" if changed else ""),
        first.images + (f" ({trained_on['count']:,}{given})" if trained_on else ""),
        f"{first.split}, {report['test_images']:,} images" if first.split else "",
        *(_figure(group, name) for name in FIGURES),
        ", ".join(map(str, seeds)),
        _epochs(first.record),
        BACKBONES.get(first.record["backbone"], f"own: {first.record['backbone']}"),
        _source(first),
    ]
    return _order(first.images, 0, place, len(changed), *cells), cells


def _nearest_preset(run: Judged) -> tuple[str, int, list[str]]:
    """The preset (or its `--laptop` setting) that least differs from a run, its place among all, and what differs."""
    own = run.experiment["data"]["name"]
    names = [f"{images}-{method}" for images in IMAGES for method in METHODS if images == own or own not in IMAGES]
    known = {name: preset(name) for name in names}
    known |= {f"{name} --laptop": laptop(experiment) for name, experiment in known.items()}
    changed = {
        name: [line for line in plain_differences(to_plain(known[name]), run.experiment) if not line.startswith(UNTOLD)]
        for name in known
    }
    place, name = min(enumerate(known), key=lambda item: (len(changed[item[1]]), item[0]))
    return name, place, changed[name]


def _cells_of_published(row: Published) -> list[str]:
    figures = ["" if (value := getattr(row, name, None)) is None else f"{value:.2f}" for name in FIGURES]
    epochs = "" if row.epochs is None else str(row.epochs)
    return [row.method, row.images, "", *figures, "", epochs, row.backbone, row.source]


def _order(images: str, *rest: Any) -> tuple[Any, ...]:
    """Images as presets list them, others after them by name; then as `rest` says."""
    known = list(IMAGES)
    return (known.index(images) if images in known else len(known), images, *rest)


def _figure(group: Sequence[Judged], name: str) -> str:
    """Mean ± deviation over runs; says so where not all have the figure, or where it is not by the whole protocol."""
    values = [part.report[name] for part in group if name in part.report]
    if not values:
        return ""
    text, short = spread(values), group[0].shortened
    if name == "linear" and short is not None:
        text += f" ({short} epoch{'' if short == 1 else 's'})"
    return text if len(values) == len(group) else f"{text} ({len(values)} of {len(group)} seeds)"


def _epochs(record: Mapping[str, Any]) -> str:
    done, asked = record["epochs"]["done"], record["epochs"]["asked"]
    text = str(done) if done == asked else f"{done} of {asked}"
    return f"{text}, after {record['warm_epochs']} of another run" if record["warm_epochs"] else text


def _source(run: Judged) -> str:
    places = [place for place, _ in groupby(_place(stretch) for stretch in stretches_of(run.record))]
    text = f"this run: {', then '.join(places)}"
    for other in run.report.get("elsewhere", []):
        text += f"; {', '.join(FIGURES.get(name, name) for name in other['figures'])} by {_place(other)}"
    return text


def _place(where: Mapping[str, Any]) -> str:
    hardware = where["hardware"]
    ranks = f"{hardware['ranks']} × " if hardware.get("ranks", 1) > 1 else ""
    return f"commit {where['commit'] or 'unknown'}, {ranks}{hardware.get('device', 'unknown device')}"


def _caption(laboratory: bool) -> str:
    text = (
        "Percent of the split's images after the last epoch, mean ± sample deviation over seeds; blank is not run or "
        "not published. A run is named by the preset nearest to it, with what differs (preset → run); in brackets, how "
        "many images it trained on. `potential` is a reconstruction of arXiv:2311.00358 from its abstract."
    )
    return f"{text} {CAUTION}" if laboratory else text
