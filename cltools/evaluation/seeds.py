"""Several runs that differ in their seed alone: mean and spread of each protocol."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cltools.config import Experiment, differences
from cltools.errors import CltoolsError
from cltools.evaluation.report import PROTOCOLS


def check_seeds(runs: Mapping[Path, tuple[Experiment, int, Mapping[str, str]]]) -> None:
    """Refuse runs that cannot be put together, before any is evaluated.

    Args:
        runs: for each folder the experiment, how many epochs are done, and the parts given as objects.

    Raises:
        ValueError: runs that differ in more than the seed, which it names; two of one seed; or unlike numbers of
            epochs done.
    """
    seeds: dict[int, Path] = {}
    (first, (experiment, epochs, given)), *_ = runs.items()
    for path, (other, done, parts) in runs.items():
        unlike = [str(each) for each in differences(experiment, other) if each.decides and each.path != "seed"]
        rest = {"epochs done": (epochs, done), "parts given as objects": (dict(given), dict(parts))}
        unlike += [f"{name}: {before} → {now}" for name, (before, now) in rest.items() if before != now]
        if told := "; ".join(unlike):
            raise CltoolsError(f"{first} and {path} differ in more than their seed: {told}. Evaluate each by itself.")
        if other.seed in seeds:
            raise CltoolsError(f"{seeds[other.seed]} and {path} have the same seed, {other.seed}; name one of them.")
        seeds[other.seed] = path


def spread(values: Sequence[float], digits: int = 1, *, layout: str = "") -> str:
    """Mean ± standard deviation of a sample (n−1) as text; one value alone has no deviation.

    Args:
        values: one at least.
        digits: after the point, of both.
        layout: of the mean, as a format's sign and width: "+" for differences.
    """
    mean = f"{statistics.fmean(values):{layout}.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def over_seeds(reports: Sequence[Mapping[str, Any]]) -> str:
    """A line for each protocol that all reports have: mean ± deviation over runs, in percent."""
    shared = [name for name in PROTOCOLS if all(name in report for report in reports)]
    lines = [f"mean ± deviation over {len(reports)} seeds, percent of the {reports[0]['split']} images"]
    lines += [f"{name:12s}{spread([report[name] for report in reports], 2, layout='6')}" for name in shared]
    return "\n".join(lines)


def figures(report: Mapping[str, Any]) -> str:
    """The protocols of one report in one line."""
    return ", ".join(f"{name} {report[name]:.2f}" for name in PROTOCOLS if name in report)
