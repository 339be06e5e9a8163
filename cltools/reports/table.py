"""Records as one table in Markdown: `python -m cltools table`, which makes those of docs/results.md."""

from collections.abc import Sequence
from pathlib import Path

from cltools.errors import CltoolsError
from cltools.provenance import read_record
from cltools.reports.comparing import KIND as COMPARISON
from cltools.reports.comparison_table import comparison_table
from cltools.reports.run_table import run_table
from cltools.training.record import KIND as RUN, RECORD, RunRecord


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
    """The record's file: of a run's folder, the one in it."""
    if not path.is_dir():
        return path
    if not (path / RECORD).is_file():
        raise FileNotFoundError(f"{path} holds no {RECORD}; for a run without one: python -m cltools evaluate {path}")
    return path / RECORD
