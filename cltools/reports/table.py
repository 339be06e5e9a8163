"""Markdown tables of records: `python -m cltools table`, which generates those of docs/results.md.

Runs are shown beside published figures. The rows of comparisons are also available as a data frame. Cells of figures
that were not measured are blank; nothing is estimated.
"""

import json
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from pandas import DataFrame, Series

from cltools.config import ABSENT, Difference, Experiment, completed, differences
from cltools.errors import CltoolsError, printable
from cltools.evaluation import LinearRecipe, spread
from cltools.presets import IMAGES, METHODS, laptop, preset
from cltools.provenance import read_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import FIGURES as COMPARED, KIND as COMPARISON, check_comparison, unlike
from cltools.reports.published import CAUTION, LABORATORY, PUBLISHED, WHOLE
from cltools.training.record import KIND as RUN, RECORD, RunRecord, settings_of

FIGURES = {
    "knn200": "kNN-200", "knn10": "kNN-10", "probe": "probe", "linear": "linear", "finetune1": "1 % labels",
    "finetune10": "10 % labels", "unknown": "top-1, protocol unknown",
}  # fmt: skip
"""The names of figures in reports and sources, and the heads of their columns."""
WORDS = ("method", "images", "split", "seeds", "epochs", "backbone", "source")
COLUMNS = (*WORDS[:3], *FIGURES.values(), *WORDS[3:])
BACKBONES = {"tiny": "tiny", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
OMITTED = ("data.name", "evaluation.every", "evaluation.protocol", "seed")
"""Settings that have a column of their own, or do not affect the columns."""
JUDGED = ("path", "record", "settings", "images", "seed", "split", "report", "alike", *FIGURES)
"""Columns of the data frame with a row for each run and split that it was evaluated on."""
CAPTION = (
    "Percent of the split's images after the last epoch, mean ± sample deviation over seeds; blank is not run or not "
    "published. A run is named by the preset nearest to it, with what differs (preset → run); in brackets, how many "
    "images it trained on. `potential` is a reconstruction of arXiv:2311.00358 from its abstract."
)
Settings = Experiment | Mapping[str, Any]
SHARES = {"kept": "kept", "false_negative_share": "false negatives", "mined_purity": "mined purity"}
"""Shares of the keys, and the heads of their columns."""


def table(records: Sequence[Path], *, references: bool = False) -> str:
    """Return records as one Markdown table; with `references` and no records, only the published figures.

    Args:
        records: runs (their folders, or `record.json`), on any images; or files that `compare` wrote, with the same
            images and budget.
        references: show all published figures beside the runs, not only those on their images.

    Raises:
        FileNotFoundError: there is no such record.
        ValueError: there are no records, they are damaged, or they cannot be shown or combined.
    """
    if not records and not references:
        raise CltoolsError("table: name at least one record.")
    read = [(path, read_record(path)) for path in map(_file_of, records)]
    kinds = {record["kind"]: path for path, record in read}
    if len(kinds) > 1 or not kinds.keys() <= {RUN, COMPARISON}:
        given = ", ".join(f"{path} of kind {kind!r}" for kind, path in kinds.items())
        raise CltoolsError(f"A table shows either runs or comparisons. Given: {given}. Show each kind alone.")
    if COMPARISON not in kinds:
        return run_table([(path, RunRecord.from_plain(path, plain)) for path, plain in read], references=references)
    if references:
        raise CltoolsError(f"Published figures are shown beside runs; {kinds[COMPARISON]} is a comparison.")
    return comparison_table(read)


def _file_of(path: Path) -> Path:
    """Return the path of a record's file, which may be given by its run's folder.

    Raises:
        FileNotFoundError: the folder has no record.
    """
    if not path.is_dir():
        return path
    if not (path / RECORD).is_file():
        raise FileNotFoundError(f"{path} holds no {RECORD}; for a run without one: python -m cltools evaluate {path}")
    return path / RECORD


def rows_of(records: Sequence[tuple[Path, Mapping[str, Any]]]) -> DataFrame:
    """Combine the rows of several comparisons into a data frame, as returned by `frame_of`.

    Raises:
        ValueError: records are damaged, or cannot be combined.
    """
    head, first = records[0]
    for path, record in records:
        check_comparison(path, record)
        if other := unlike(first, record):
            raise CltoolsError(f"{path} differs from {head} in {', '.join(other)}; make a table of each.")
    frame = frame_of(row for _, record in records for row in record["rows"])
    if frame.index.has_duplicates:
        raise CltoolsError("Two of the records hold the same arm with the same seed; name one of them.")
    return frame


def frame_of(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return rows of `compare` as a data frame indexed by arm and seed; a figure that is missing or None is NaN."""
    frame = DataFrame([*rows], columns=["arm", "seed", *COMPARED, *SHARES, "curves", "diverged"])
    return frame.astype(dict.fromkeys([*COMPARED, *SHARES], float)).set_index(["arm", "seed"])


def gains(frame: DataFrame, figure: str, against: str = BASELINE) -> Series:
    """Return each row's difference from another arm's row of the same seed, in points; NaN if either is missing."""
    arms, seeds = (frame.index.get_level_values(level) for level in ("arm", "seed"))
    return frame[figure] - frame.loc[arms == against, figure].droplevel("arm").reindex(seeds).to_numpy()


def comparison_table(records: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """Return a table of each arm's mean ± deviation over seeds, and of its differences from the baseline of each seed.

    Seeds for which an arm diverged are counted separately and excluded from the means.

    Raises:
        ValueError: records are damaged, or cannot be combined.
    """
    frame, first = rows_of(records), records[0][1]
    present = frame.index.unique("arm")
    arms = [arm for arm in dict.fromkeys([*first["arms"], *present]) if arm in present]  # in the order of definition

    def by_arm(values: Series, text: Callable[[list[float]], str]) -> Series:
        return values.dropna().groupby("arm").agg(lambda seeds: text([*seeds]))

    counted = frame.groupby("arm")[["knn200", "diverged"]].count().loc[arms]
    cells = DataFrame({"arm": [f"`{arm}`" for arm in arms]}, index=arms)
    cells["seeds"] = [f"{done}{f', diverged {lost}' if lost else ''}" for done, lost in counted.to_numpy()]
    for figure, name in (("knn200", "kNN-200"), ("probe", "probe")):
        gained = gains(frame, figure).drop(BASELINE, level="arm", errors="ignore")
        cells[name] = by_arm(frame[figure], spread)
        cells[f"{name} gain"] = by_arm(gained, lambda seeds: spread(seeds, layout="+"))
    for share, name in SHARES.items():
        cells[name] = by_arm(frame[share], lambda shares: f"{100 * statistics.fmean(shares):.1f} %")
    cells.columns = [f"against {BASELINE}" if name.endswith("gain") else name for name in cells.columns]
    return markdown(_caption(first), cells.astype(object).fillna(""), left=("arm",))


def _caption(record: Mapping[str, Any]) -> str:
    settings = settings_of(record["baseline"] | {"seed": 0})
    epochs, share = settings["training"]["epochs"], settings["data"]["holdout"]
    judged = f"{100 * share:g} % of the training images, held out," if share else "the test images"
    return (
        f"`{record['images']}`: {record['warm_epochs']} epochs of {BASELINE}, then {epochs} of each arm; percent of "
        f"{judged} after the last epoch, mean ± deviation over seeds. Commit {record['commit'] or 'unknown'}, "
        f"{record['hardware'].get('device', 'unknown device')}."
    )


def changes(a: Settings, b: Settings) -> list[Difference]:
    """Return the differences between experiments that affect results, except those that the table's columns show.

    If the rule differs, settings that only the first rule has are left out.
    """
    shown = [each for each in differences(a, b) if each.decides and each.path not in OMITTED]
    return [each for each in shown if each.now is not ABSENT]


def run_table(records: Sequence[tuple[Path, RunRecord]], *, references: bool = False) -> str:
    """Return a table of mean ± sample deviation over runs that differ only in their seed, with a row for each split.

    Args:
        records: records of any runs and images, each with its path, for messages.
        references: show all published figures, not only those on the records' images.

    Raises:
        ValueError: records are damaged, or two are of the same run.
    """
    judged = DataFrame([row for path, record in records for row in _judged(path, record)], columns=JUDGED)
    rows = [_row_of_runs(runs.sort_values("seed")) for _, runs in judged.groupby("alike", sort=False)]
    published = [row for row in PUBLISHED if references or row.images in {*judged["images"]}]
    rows += [(_order(row.images, 1, at), _row_of_published(row)) for at, row in enumerate(published)]
    cells = DataFrame([row for _, row in sorted(rows, key=lambda row: row[0])], columns=COLUMNS)
    caption = f"{CAPTION} {CAUTION}" if any(row.source == LABORATORY for row in published) else CAPTION
    return markdown(caption, cells, left=WORDS)


def _judged(path: Path, record: RunRecord) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each split that the run was evaluated on after its last epoch; if none, one for split ""."""
    settings = settings_of(record.experiment)
    name = _images(record, settings)
    reports = {split: report for split, report in record.evaluations.items() if report["epochs"] == record.epochs}
    for split, report in (reports or {"": {}}).items():
        alike = _alike(record, settings, split, report)
        yield (path, record, settings, name, record.seed, split, report, alike, *map(report.get, FIGURES))


def _images(record: RunRecord, settings: Mapping[str, Any]) -> str:
    """Return the name of a run's images: a known set's name only if they are that whole set."""
    data, images = settings["data"], record.images
    name = Path(images.name if images else data["name"]).name
    if data["name"] != name or settings["outside"]["images"] is not None or (images is not None and images.given):
        return f"other images called {name}" if name in IMAGES else name
    if name not in WHOLE:
        return name
    counts = [(report.get("test_images"), WHOLE[name][1]) for report in [record.evaluations.get("test")] if report]
    if images is not None and data["holdout"] == 0:
        counts.append((images.count, WHOLE[name][0]))
    whole = data["limit"] is data["size"] is None and all(count == of for count, of in counts)
    return name if whole else f"part of {name}"


def _alike(record: RunRecord, settings: Mapping[str, Any], split: str, report: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs that differ only in their seed."""
    images = asdict(record.images) if record.images else {}
    if settings["data"]["holdout"] > 0:
        images = {name: images[name] for name in ("name", "count", "given")}  # the held-out images depend on the seed
    where = [(stretch.from_epoch, stretch.environment) for stretch in record.stretches] + [*record.shorter]
    rest = [record.epochs, record.steps, record.warm_epochs, record.backbone, settings["data"]["name"]]
    judged = [split, report.get("test_images"), report.get("elsewhere"), _shortened(report)]
    plain = [each.to_plain() for each in changes({}, settings)]
    return json.dumps([plain, images, where, rest, judged, {**record.given}], sort_keys=True)


def _row_of_runs(runs: DataFrame) -> tuple[tuple[Any, ...], dict[str, str]]:
    """Return the sort key and the cells of runs that differ only in their seed."""
    if len(twice := runs.loc[runs["seed"].duplicated(keep=False), "path"]):
        raise CltoolsError(f"{' and '.join(map(str, twice))} hold the same run with the same seed; name one of them.")
    first = runs.iloc[0]
    record: RunRecord = first["record"]
    name, index, changed = _nearest_preset(first["settings"])
    trained_on = f" ({record.images.count:,}{', given' if record.images.given else ''})" if record.images else ""
    notes = [*map(str, changed), *(f"own {part}: {what}" for part, what in record.given.items() if part != "images")]
    row = {
        "method": f"`{name}`" + (f": {', '.join(notes)}" if notes else ""),
        "images": first["images"] + trained_on,
        "split": f"{first['split']}, {first['report'].get('test_images') or 0:,} images" if first["split"] else "",
        **{column: _figure(runs, name) for name, column in FIGURES.items()},
        "seeds": ", ".join(map(str, runs["seed"])),
        "epochs": _epochs(record),
        "backbone": BACKBONES.get(record.backbone, f"own: {record.backbone}"),
        "source": _source(record, first["report"]),
    }
    return _order(first["images"], 0, index, len(changed), *row.values()), row


def _nearest_preset(settings: Mapping[str, Any]) -> tuple[str, int, list[Difference]]:
    """Return the preset (or its `--laptop` setting) that differs least from a run, its index, and the differences."""
    run, known = completed(settings), _presets(settings["data"]["name"])
    candidates = [(name, index, changes(of, run)) for index, (name, of) in enumerate(known.items())]
    return min(candidates, key=lambda each: (len(each[2]), each[1]))


@lru_cache(maxsize=8)
def _presets(own: str) -> dict[str, Experiment]:
    """Return the presets that a run on these images is compared with: of its set, or of all if it is none of them."""
    known = {f"{of}-{m}": preset(f"{of}-{m}", own) for of in ([own] if own in IMAGES else IMAGES) for m in METHODS}
    return known | {f"{name} --laptop": laptop(experiment) for name, experiment in known.items()}


def _row_of_published(row: Any) -> dict[str, str]:
    values = {FIGURES.get(name, name): value for name, value in row._asdict().items() if value is not None}
    figures = {name: f"{value:.2f}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return dict.fromkeys(COLUMNS, "") | figures


def _order(images: str, *rest: Any) -> tuple[Any, ...]:
    """Return a sort key: images in the order of the presets, others after them by name; then `rest`."""
    known = list(IMAGES)
    return (known.index(images) if images in known else len(known), images, *rest)


def _figure(runs: DataFrame, name: str) -> str:
    """Return mean ± deviation over runs, with a note if some lack the figure or the protocol was shortened."""
    values = runs[name].dropna()
    if values.empty:
        return ""
    text, short = spread([*values]), _shortened(runs.iloc[0]["report"])
    if name == "linear" and short is not None:
        text += f" ({short} epoch{'' if short == 1 else 's'})"
    return text if len(values) == len(runs) else f"{text} ({len(values)} of {len(runs)} seeds)"


def _shortened(report: Mapping[str, Any]) -> int | None:
    """Return the epochs of a linear evaluation that differ from the recipe's; else None."""
    epochs: int | None = report.get("linear_epochs")
    return None if epochs == LinearRecipe().epochs else epochs


def _epochs(record: RunRecord) -> str:
    text = str(record.epochs) if record.epochs == record.asked else f"{record.epochs} of {record.asked}"
    text += "".join(f", trained on from {asked}" for asked in record.shorter)
    return f"{text}, after {record.warm_epochs} of another run" if record.warm_epochs else text


def _source(record: RunRecord, report: Mapping[str, Any]) -> str:
    origins = [origin for origin, _ in groupby(_origin(stretch.environment) for stretch in record.stretches)]
    text = f"this run: {', then '.join(origins)}"
    for other in report.get("elsewhere", []):
        text += f"; {', '.join(FIGURES.get(name, name) for name in other['figures'])} by {_origin(other)}"
    return f"{text}; by hand: {', '.join(record.by_hand)}" if record.by_hand else text


def _origin(environment: Mapping[str, Any]) -> str:
    hardware = environment["hardware"]
    ranks = f"{hardware['ranks']} × " if hardware.get("ranks", 1) != 1 else ""
    return f"commit {environment['commit'] or 'unknown'}, {ranks}{hardware.get('device', 'unknown device')}"


def markdown(caption: str, cells: DataFrame, left: Collection[str]) -> str:
    """Return a caption and a Markdown table below it.

    Args:
        caption: text above the table.
        cells: cells as text; the index is not shown.
        left: columns aligned left; the others are aligned right.
    """
    rule = "|".join("---" if column in left else "---:" for column in cells.columns)
    rows = [_line(row) for row in cells.itertuples(index=False, name=None)]
    return "\n".join([caption, "", _line(cells.columns), f"|{rule}|", *rows])


def _line(cells: Iterable[str]) -> str:
    texts = (printable(cell, lines=False).replace("|", "∣").replace("<", "&lt;") for cell in cells)
    return f"| {' | '.join(texts)} |"
