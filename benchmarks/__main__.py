"""Time and memory on this machine, as tables and as records: `python -m benchmarks COMMAND --help`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro

from benchmarks import against, costs, gains, growth, page, plain, steps
from cltools.errors import CltoolsError, unknown
from cltools.provenance import read_record

MODULES: dict[str, ModuleType] = {module.KIND: module for module in (steps, against, costs, plain, gains, page, growth)}
MODULES[against.EARLIER] = against


def table(records: tyro.conf.Positional[tuple[Path, ...]]) -> list[dict[str, Any]]:
    """Show records as tables in Markdown.

    Args:
        records: Files written by the other commands with --out.
    """
    return [read_record(path) for path in records]


def rendered(record: dict[str, Any]) -> str:
    """Return a record as a table, with its command, commit and hardware in the caption."""
    if record["kind"] not in MODULES:
        raise unknown("kind of record", record["kind"], MODULES)
    try:
        caption, *lines = MODULES[record["kind"]].table(record)
        made = f"`{record['command']}`, commit" if "benchmarks" in record["command"] else "Commit"  # before there were
        made += f" {record['commit'] or 'unknown'}, {record['hardware']['device']}"
        caption += f" {made}, {record['hardware']['threads']} threads."
    except KeyError as error:
        raise CltoolsError(f"A {record['kind']!r} record lacks {error}; measure anew with --out.") from None
    return "\n".join([caption, *lines])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error that a user can cause ends in one message and status 2."""
    functions: list[Callable[..., Any]] = [
        steps.steps,
        against.against,
        costs.costs,
        plain.plain,
        gains.gains,
        page.page,
        growth.growth,
        table,
    ]
    commands = {function.__name__: function for function in functions}
    usage: Any = {"prog": "python -m benchmarks", "description": __doc__, "args": arguments}
    try:
        made = tyro.extras.subcommand_cli_from_dict(commands, **usage)
        print("\n\n".join(map(rendered, made if isinstance(made, list) else [made])))
    except (ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
