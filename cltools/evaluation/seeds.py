"""Summaries of several runs that differ only in their seed: mean and deviation of each protocol."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cltools.config import Experiment, differences
from cltools.errors import CltoolsError
from cltools.evaluation.report import PROTOCOLS


def check_seeds(runs: Mapping[Path, tuple[Experiment, int, Mapping[str, str]]]) -> None:
    """Raise an error if runs cannot be summarised together, before any is evaluated.

    Args:
        runs: by folder, the experiment, the number of completed epochs, and the parts passed as objects.

    Raises:
        ValueError: the runs differ in more than the seed (the message says in what), or two have the same seed.
    """
    seeds: dict[int, Path] = {}
    (first, (experiment, epochs, given)), *_ = runs.items()
    for path, (other, done, parts) in runs.items():
        changes = [str(each) for each in differences(experiment, other) if each.decides and each.path != "seed"]
        rest = {"epochs done": (epochs, done), "parts given as objects": (dict(given), dict(parts))}
        changes += [f"{name}: {before} → {now}" for name, (before, now) in rest.items() if before != now]
        if listed := "; ".join(changes):
            raise CltoolsError(f"{first} and {path} differ in more than their seed: {listed}. Evaluate each alone.")
        if other.seed in seeds:
            raise CltoolsError(f"{seeds[other.seed]} and {path} have the same seed, {other.seed}; name one of them.")
        seeds[other.seed] = path


def spread(values: Sequence[float], digits: int = 1, *, layout: str = "") -> str:
    """Format mean ± standard deviation of a sample (n−1); for a single value, only the value.

    Args:
        values: at least one.
        digits: number of decimals of both.
        layout: sign and width in the format of the mean, such as "+" for differences.
    """
    mean = f"{statistics.fmean(values):{layout}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def over_seeds(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each protocol that all reports have: mean ± deviation over runs, in percent."""
    shared = [name for name in PROTOCOLS if all(name in report for report in reports)]
    lines = [f"mean ± deviation over {len(reports)} seeds, percent of the {reports[0]['split']} images"]
    lines += [f"{name:12s}{spread([report[name] for report in reports], 2, layout='6')}" for name in shared]
    return "\n".join(lines)


def figures(report: Mapping[str, Any]) -> str:
    """Return the figures of a report's protocols in one line."""
    return ", ".join(f"{name} {report[name]:.2f}" for name in PROTOCOLS if name in report)
