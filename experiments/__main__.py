"""Run experiments: `python -m experiments NAME OUT --root FOLDER`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from cltools.errors import CltoolsError, unknown
from experiments.plans import EXPERIMENTS
from experiments.run import run


def execute(name: tyro.conf.Positional[str], out: tyro.conf.Positional[Path], root: Path | None = None) -> None:
    """Run every setting of an experiment, or go on with it; each has a record of its own.

    Args:
        name: Name of the experiment.
        out: Folder of the records.
        root: Folder of the image sets; a folder `cifar10` with `train` and `test` in it replaces the download.
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    for setting in EXPERIMENTS[name]:
        run(setting, out, root)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one experiment; an error that a user can cause ends in one message and status 2."""
    try:
        tyro.cli(execute, prog="python -m experiments", args=arguments)
    except (CltoolsError, OSError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
