"""Records as tables in Markdown: `python -m cltools table`. README's tables are made by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cltools.provenance import read_record
from cltools.reports.comparing import KIND as COMPARISON
from cltools.reports.comparison_table import comparison_table
from cltools.reports.run_table import run_table
from cltools.training.record import KIND as RUN, RECORD

TABLES: dict[str, Callable[[Sequence[Path], Sequence[dict[str, Any]]], str]] = {
    COMPARISON: comparison_table,
    RUN: run_table,
}


@dataclass(frozen=True)
class TableFlags:
    """Show records as one table, in Markdown."""

    records: tuple[Path, ...]
    """Runs (their folders, or `record.json`), of any images; or files that `compare` wrote, of the same images and
    budget."""
    references: bool = False
    """Show all published figures beside the runs, not only those on their images."""


def table(paths: Sequence[Path], *, references: bool = False) -> str:
    """The table of some records of one kind; with `references` and no records, the published figures alone.

    Raises:
        FileNotFoundError: no such record.
        ValueError: no records, damaged ones, or records that cannot be shown or put together.
    """
    if not paths and not references:
        raise ValueError("table: name at least one record.")
    paths = [_file_of(path) for path in paths]
    records = [read_record(path) for path in paths]
    kind = records[0]["kind"] if records else RUN
    for path, record in zip(paths, records, strict=True):
        if record["kind"] not in TABLES:
            raise ValueError(
                f"{path} holds a record of kind {record['kind']!r}, which is no table; known: {', '.join(TABLES)}."
            )
        if record["kind"] != kind:
            raise ValueError(
                f"{paths[0]} holds a record of kind {kind!r} and {path} one of kind {record['kind']!r}. They cannot "
                "stand in one table: a run was trained from the beginning, the arms of a comparison from one warm "
                "start. Make a table of each."
            )
    if kind == RUN:
        return run_table(paths, records, references=references)
    if references:
        raise ValueError(f"Published figures are of whole runs; {paths[0]} holds a record of kind {kind!r}.")
    return TABLES[kind](paths, records)


def _file_of(path: Path) -> Path:
    """The record's file: of a run's folder, the one in it."""
    if not path.is_dir():
        return path
    if not (path / RECORD).is_file():
        raise FileNotFoundError(
            f"{path} is no file and holds no {RECORD}; name a record (.json) or a run's folder. "
            f"For a run without one: python -m cltools evaluate {path}"
        )
    return path / RECORD
