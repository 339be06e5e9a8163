"""The runs below a folder, what they reached, and the settings in which they differ; it needs no torch."""

from pathlib import Path
from typing import Any

from cltools.errors import CltoolsError
from cltools.files import leaves, parsed

RECORD = "record.json"
FIGURES = ("knn200", "probe", "linear")
"""Figures that are listed, of the protocols that a report may hold."""


def listed(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """A line per run in words, and an object per run.

    Raises:
        ValueError: there is no run below the folder.
    """
    found = [_read(path) for path in sorted(folder.rglob(RECORD))]
    if not found:
        raise CltoolsError(f"{folder} holds no run; name a folder that does, or train one: cltools train PRESET")
    settings = [dict(leaves(run["experiment"])) for run in found]
    names = sorted({name for each in settings for name in each})
    differing = [name for name in names if len({repr(each.get(name)) for each in settings if each}) > 1]
    width = max(len(run["run"]) for run in found)
    lines = []
    for run, own in zip(found, settings, strict=True):
        run["differs"] = {name: own.get(name) for name in differing}
        del run["experiment"]
        said = run.get("wrong") or "  ".join(f"{name}={value}" for name, value in run["differs"].items())
        figures = "".join(f"  {f'{run[name]:.2f}' if run.get(name) is not None else '':>6}" for name in FIGURES)
        lines.append(f"{run['run']:{width}}  {run.get('epochs', ''):>6}{figures}  {said}".rstrip())
    head = f"{'run':{width}}  {'epochs':>6}" + "".join(f"  {name:>6}" for name in FIGURES) + "  differs in"
    return "\n".join([head, *lines]), found


def _read(path: Path) -> dict[str, Any]:
    """What is listed of a run; of a record that cannot be read, why."""
    run: dict[str, Any] = {"run": str(path.parent), "experiment": {}}
    try:
        record: Any = parsed(path.read_bytes(), f"{path}")
        reports = record["evaluations"]
        report = reports.get("test") or reports.get("val") or {}
        found = {name: float(report[name]) for name in FIGURES if report.get(name) is not None}
        return run | {"epochs": int(record["epochs"]), **found, "experiment": dict(record["experiment"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return run | {"wrong": f"cannot be read: {error}"}
