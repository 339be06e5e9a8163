"""Several runs that differ in their seed alone: mean and spread of each protocol."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cltools.config import IMMATERIAL, Experiment, differences
from cltools.evaluation.report import PROTOCOLS


def check_seeds(runs: Mapping[Path, tuple[Experiment, int]]) -> None:
    """Refuse runs that cannot be put together, before any is evaluated.

    Args:
        runs: for each folder the experiment, and how many epochs are done.

    Raises:
        ValueError: runs that differ in more than the seed, which it names; two of one seed; or unlike numbers of
            epochs done.
    """
    seeds: dict[int, Path] = {}
    (first, (experiment, epochs)), *_ = runs.items()
    for path, (other, done) in runs.items():
        unlike = [line for line in differences(experiment, other) if not line.startswith(("seed:", *IMMATERIAL))]
        if done != epochs:
            unlike.append(f"epochs done: {epochs} → {done}")
        if unlike:
            raise ValueError(
                f"{first} and {path} differ in more than their seed: {'; '.join(unlike)}. Evaluate each by itself."
            )
        if other.seed in seeds:
            raise ValueError(f"{seeds[other.seed]} and {path} have the same seed, {other.seed}; name one of them.")
        seeds[other.seed] = path


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard deviation of a sample (n−1); of two values at least."""
    return statistics.fmean(values), statistics.stdev(values)


def over_seeds(reports: Sequence[Mapping[str, Any]]) -> str:
    """A line for each protocol that all reports have: mean ± deviation over runs, in percent."""
    shared = [name for name in PROTOCOLS if all(name in report for report in reports)]
    lines = [f"mean ± deviation over {len(reports)} seeds, percent of the {reports[0]['split']} images"]
    for name in shared:
        mean, deviation = spread([report[name] for report in reports])
        lines.append(f"{name:12s}{mean:6.2f} ± {deviation:.2f}")
    return "\n".join(lines)


def figures(report: Mapping[str, Any]) -> str:
    """The protocols of one report in one line."""
    return ", ".join(f"{name} {report[name]:.2f}" for name in PROTOCOLS if name in report)
