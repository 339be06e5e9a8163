"""Records as one table in Markdown: `python -m cltools table`, which makes those of docs/results.md.

Those of comparisons are also put together as a data frame.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame, Series

from cltools.datasets.load import what_reads
from cltools.errors import CltoolsError
from cltools.evaluation import spread
from cltools.provenance import read_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import FIGURES, KIND as COMPARISON, check_comparison, unlike
from cltools.reports.run_table import markdown, run_table
from cltools.training.record import KIND as RUN, RECORD, RunRecord

SHARES = {"kept": "kept", "false_negative_share": "false negatives", "mined_purity": "mined purity"}
"""Columns of shares of the keys, and their heads."""


def table(records: Sequence[Path], *, references: bool = False) -> str:
    """Show records as one table, in Markdown; with `references` and no records, the published figures alone.

    Args:
        records: Runs (their folders, or `record.json`), of any images; or files that `compare` wrote, of the same
            images and budget.
        references: Show all published figures beside the runs, not only those on their images.

    Raises:
        FileNotFoundError: no such record.
        ValueError: no records, damaged ones, or records that cannot be shown or put together.
    """
    if not records and not references:
        raise CltoolsError("table: name at least one record.")
    read = [(path, read_record(path)) for path in map(_file_of, records)]
    kinds = {record["kind"]: path for path, record in read}
    if len(kinds) > 1 or not kinds.keys() <= {RUN, COMPARISON}:
        given = ", ".join(f"{path} of kind {kind!r}" for kind, path in kinds.items())
        raise CltoolsError(f"A table is of runs or of comparisons. Given: {given}. Show each kind alone.")
    if COMPARISON not in kinds:
        return run_table([(path, RunRecord.from_plain(path, plain)) for path, plain in read], references=references)
    if references:
        raise CltoolsError(f"Published figures are of whole runs, and {kinds[COMPARISON]} holds a comparison.")
    return comparison_table(read)


def _file_of(path: Path) -> Path:
    """The record's file: of a run's folder, the one in it.

    Raises:
        FileNotFoundError: a folder without a record.
        ValueError: a file of another kind.
    """
    if path.is_file() and path.suffix != ".json":
        wrong = f"{path} is a file; name a run's folder, or a record (.json) of a run or of a comparison."
        raise CltoolsError(f"{wrong} {what_reads(path)}".rstrip())
    if not path.is_dir():
        return path
    if not (path / RECORD).is_file():
        raise FileNotFoundError(f"{path} holds no {RECORD}; for a run without one: python -m cltools evaluate {path}")
    return path / RECORD


def rows_of(records: Sequence[tuple[Path, Mapping[str, Any]]]) -> DataFrame:
    """The rows of several records that belong together, as `frame_of` gives them.

    Raises:
        ValueError: damaged records, or ones that cannot be put together.
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
    """Rows as `compare` writes them, indexed by arm and seed; a figure that a row lacks, or None, is NaN."""
    frame = DataFrame([*rows], columns=["arm", "seed", *FIGURES, *SHARES, "curves", "diverged"])
    return frame.astype(dict.fromkeys([*FIGURES, *SHARES], float)).set_index(["arm", "seed"])


def gains(frame: DataFrame, figure: str, against: str = BASELINE) -> Series:
    """What each row has more than the row of another arm with the same seed, in points; NaN where one lacks it."""
    arms, seeds = (frame.index.get_level_values(level) for level in ("arm", "seed"))
    other = frame.loc[arms == against, figure].droplevel("arm")
    return frame[figure] - other.reindex(seeds).to_numpy()


def comparison_table(records: Sequence[tuple[Path, Mapping[str, Any]]]) -> str:
    """Mean ± deviation over seeds of each arm, and the mean difference to the baseline of the same seed.

    Seeds in which an arm diverged are counted beside the others, and enter no mean.

    Raises:
        ValueError: damaged records, or ones that cannot be put together.
    """
    frame, first = rows_of(records), records[0][1]
    present = frame.index.unique("arm")
    arms = [arm for arm in dict.fromkeys([*first["arms"], *present]) if arm in present]  # in the order of definition

    def by_arm(values: Series, said: Callable[[list[float]], str]) -> Series:
        return values.dropna().groupby("arm").agg(lambda seeds: said([*seeds]))

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
    epochs = record["baseline"]["training"]["epochs"]
    share = record["baseline"].get("data", {}).get("holdout", 0)
    judged = f"{100 * share:g} % of the training images, held out," if share else "the test images"
    return (
        f"`{record['images']}`: {record['warm_epochs']} epochs of {BASELINE}, then {epochs} of each arm; percent of "
        f"{judged} after the last epoch, mean ± deviation over seeds. Commit {record['commit'] or 'unknown'}, "
        f"{record['hardware']['device']}."
    )
