"""Runs evaluated from the command line: `python -m cltools evaluate`, and how a report is shown."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cltools.errors import CltoolsError, printable
from cltools.evaluation import PROTOCOLS, check_seeds, figures, over_seeds
from cltools.training import Run
from cltools.training.learner import resolve_device
from cltools.training.record import RECORD, Split
from cltools.training.run import confusion_file

PROTOCOLS_OF: dict[str, tuple[str, ...] | None] = {
    "default": None, "knn": ("knn200", "knn10"), "probe": ("probe",), "linear": ("linear",),
    "finetune": ("finetune1", "finetune10"), "all": PROTOCOLS,
}  # fmt: skip
"""What a value of `--protocol` runs; None is the default of `cltools.evaluate`."""


def evaluate_runs(
    runs: Sequence[Path],
    protocol: Literal["default", "knn", "probe", "linear", "finetune", "all"] = "default",
    split: Split = "test",
    linear_epochs: int | None = None,
    device: str = "auto",
) -> None:
    """Evaluate runs, each into its `record.json` and a `confusion-SPLIT-PROTOCOL.csv` for each protocol.

    The report of one is printed. Several must differ in their seed alone; mean and deviation over them are shown.

    Args:
        runs: The run's folder, or one for each seed.
        protocol: Both kNN votes, the probe, the recipe's linear evaluation, fine-tuning with 1 and 10 % of the labels,
            or all; "default" is kNN and, unless the run's settings leave it out, the probe.
        split: The test images, or those the run held out.
        linear_epochs: Epochs of the linear evaluation, to shorten it; None is the recipe's 100. Needs
            `--protocol linear` or all.
        device: Where the encoder runs; "auto" is CUDA where there is one.

    Raises:
        FileNotFoundError: a folder without a run.
        ValueError: no folder, or one named twice; runs that differ in more than their seed; or what `Run.evaluate`
            refuses.
    """
    if not runs:
        raise CltoolsError("evaluate: name the folder of a run, or of several seeds.")
    where, protocols = resolve_device(device), PROTOCOLS_OF[protocol]
    loaded = {path: Run.load(path, device=where) for path in runs}
    if len(runs) == 1:
        print_report(loaded[runs[0]].evaluate(split, protocols, linear_epochs=linear_epochs), runs[0])
        return
    if len(loaded) < len(runs):
        raise CltoolsError("evaluate: a folder is named twice; name each run once.")
    check_seeds({path: (run.experiment, len(run.history.rows), run.parts.given) for path, run in loaded.items()})
    reports = []
    for path, run in loaded.items():
        reports.append(run.evaluate(split, protocols, linear_epochs=linear_epochs))
        print(printable(f"{path} (seed {run.experiment.seed}): {figures(reports[-1])}"))
    print(over_seeds(reports))


def print_report(report: Mapping[str, Any], folder: Path) -> None:
    """Print what `Run.evaluate` returned as JSON, without the figures by class; of these, say where they lie.

    That line goes to standard error, so that what `evaluate` writes to standard output is JSON alone.
    """
    print(json.dumps({name: value for name, value in report.items() if name != "per_class"}, indent=2))
    if "per_class" in report:
        confusions = folder / confusion_file(report["split"], "*")
        told = f"By class: {folder / RECORD}; which was taken for which: {confusions}"
        print(printable(told), file=sys.stderr)
