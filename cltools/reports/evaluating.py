"""Loads and evaluates runs for the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cltools.encoders import resolve_device
from cltools.evaluation import check_seeds, figures, over_seeds
from cltools.training import Run
from cltools.training.record import RECORD, Split
from cltools.training.run import confusion_file


def loaded(path: Path, images: Path | None = None, device: str = "auto") -> Run:
    """Load a run; with `images`, as if it had been trained on the images of that folder, and with nothing to write."""
    run = Run.load(path, device=resolve_device(device))
    if images is None:
        return run
    data = replace(run.experiment.data, name=str(images))
    experiment = replace(run.experiment, data=data, outside=replace(run.experiment.outside, images=None))
    return replace(run, experiment=experiment, path=None, images=run.images and replace(run.images, given=False))


def evaluate_runs(
    runs: Mapping[Path, Run], protocols: Sequence[str] | None, split: Split, linear_epochs: int | None
) -> tuple[str, Any]:
    """Evaluate a run, or several that differ only in their seed; return the figures as text, and the reports.

    Raises:
        ValueError: the runs differ in more than their seed, or `Run.evaluate` raises it.
    """
    check_seeds({path: (run.experiment, len(run.history.rows), run.parts.given) for path, run in runs.items()})
    reports, lines = {}, []
    for path, run in runs.items():
        report = run.evaluate(split, protocols, linear_epochs=linear_epochs)
        reports[str(path)] = {name: value for name, value in report.items() if name != "per_class"}
        lines.append(f"{path} (seed {run.experiment.seed}): {figures(report)}")
    if len(runs) > 1:
        return "\n".join([*lines, over_seeds([*reports.values()])]), reports
    if run.path is not None and any(run.path.glob(confusion_file(split, "*"))):  # none in a read-only folder
        lines.append(f"By class: {path / RECORD}; confusion matrices: {path / confusion_file(split, '*')}")
    return "\n".join(lines), reports[str(path)]
