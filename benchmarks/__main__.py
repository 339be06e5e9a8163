"""`python -m benchmarks steps | against | rules | table`: time and memory on this machine, as tables and records."""

import sys
from pathlib import Path

import tyro

from benchmarks import (
    RuleBenchFlags,
    StepBenchFlags,
    bench_against,
    bench_rules,
    bench_steps,
    table,
)

COMMANDS = ("steps", "against", "rules", "table")


def main() -> None:
    """Run one of the commands."""
    command, *rest = sys.argv[1:] or ["--help"]
    try:
        if command == "rules":
            bench_rules(tyro.cli(RuleBenchFlags, args=rest, prog="python -m benchmarks rules"))
        elif command == "steps":
            bench_steps(tyro.cli(StepBenchFlags, args=rest, prog="python -m benchmarks steps"))
        elif command == "against":
            bench_against(tyro.cli(StepBenchFlags, args=rest, prog="python -m benchmarks against"))
        elif command == "table":
            print(table([Path(path) for path in rest]))
        else:
            print(f"usage: python -m benchmarks {{{','.join(COMMANDS)}}} …\n\n{__doc__}")
            raise SystemExit(0 if command in ("-h", "--help") else 2)
    except (ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
