"""Run experiments: `python -m experiments NAME OUT --root FOLDER`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import tyro

from cltools.errors import CltoolsError, unknown
from experiments.gap import run_gap
from experiments.long import run_long
from experiments.plans import EXPERIMENTS
from experiments.rules import LATER
from experiments.run import run

OTHERS: dict[str, Callable[..., Path]] = {"gap": run_gap, "long": run_long}
"""Experiments that are no comparison of arms from one warm start."""


def execute(name: tyro.conf.Positional[str], out: tyro.conf.Positional[Path], root: Path | None = None) -> None:
    """Run every setting of an experiment, or go on with it; each has a record of its own.

    Args:
        name: Name of the experiment.
        out: Folder of the records.
        root: Folder of the image sets; a folder `cifar10` with `train` and `test` in it replaces the download.
    """
    known = {*EXPERIMENTS, *LATER, *OTHERS}
    if name not in known:
        raise unknown("experiment", name, known)
    if name in OTHERS:
        OTHERS[name](out, root)
        return
    for setting in EXPERIMENTS[name] if name in EXPERIMENTS else LATER[name](out):
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
