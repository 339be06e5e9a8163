"""Time and memory on this machine: `steps` measures a training step, `rules` each rule and the loss.

Every part is timed in the same run as a baseline, so that ratios hold on a noisy machine.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import against, rules, steps
from benchmarks.against import bench_against
from benchmarks.rules import RuleBenchFlags, bench_rules
from benchmarks.steps import StepBenchFlags, bench_steps
from cltools.provenance import read_record

TABLES: dict[str, Callable[[Sequence[Path], Sequence[dict[str, Any]]], str]] = {
    steps.KIND: steps.steps_table,
    against.KIND: against.against_table,
    rules.KIND: rules.rules_table,
}


def table(paths: Sequence[Path]) -> str:
    """The table of records of one kind that `python -m benchmarks` wrote.

    Raises:
        FileNotFoundError: no such record.
        ValueError: no records, records of several kinds, or of another kind.
    """
    records = [read_record(path) for path in paths]
    kinds = {record["kind"] for record in records}
    if len(kinds) != 1 or not kinds <= TABLES.keys():
        raise ValueError(f"Name records of one kind; known: {', '.join(TABLES)}; given: {', '.join(kinds) or 'none'}.")
    return TABLES[kinds.pop()](paths, records)


__all__ = ["RuleBenchFlags", "StepBenchFlags", "bench_against", "bench_rules", "bench_steps", "table"]
