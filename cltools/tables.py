"""Records as tables in Markdown: `python -m cltools table`. README's tables are made by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cltools.bench import against_table, rules_table, steps_table
from cltools.comparison import comparison_table
from cltools.records import read_record

TABLES: dict[str, Callable[[Sequence[Path], Sequence[dict[str, Any]]], str]] = {
    "comparison": comparison_table,
    "bench": steps_table,
    "bench against dataloader": against_table,
    "bench rules": rules_table,
}


@dataclass(frozen=True)
class TableFlags:
    """Show records as one table, in Markdown."""

    records: tuple[Path, ...]
    """Files that `compare` wrote, of the same images and budget; that `bench` wrote, on one device; or one of another
    bench."""


def table(paths: Sequence[Path]) -> str:
    """The table of some records of one kind.

    Raises:
        FileNotFoundError: no such record.
        ValueError: no records, damaged ones, or records that cannot be shown or put together.
    """
    if not paths:
        raise ValueError("table: name at least one record.")
    records = [read_record(path) for path in paths]
    kind = records[0]["kind"]
    if kind not in TABLES:
        raise ValueError(f"{paths[0]} holds a record of kind {kind!r}, which is no table; known: {', '.join(TABLES)}.")
    return TABLES[kind](paths, records)
