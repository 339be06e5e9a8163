"""Lists the runs below a folder with their figures and the settings in which they differ, without loading torch."""

from pathlib import Path
from typing import Any

from cltools.errors import CltoolsError
from cltools.files import leaves, parsed

RECORD = "record.json"
FIGURES = ("knn200", "probe", "linear")
"""The protocols whose figures are listed."""


def listed(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return a text with a line per run, and an object per run.

    Raises:
        ValueError: there is no run below the folder.
    """
    runs = [_read(path) for path in sorted(folder.rglob(RECORD))]
    if not runs:
        raise CltoolsError(f"{folder} holds no run; name a folder that does, or train one: cltools train PRESET")
    settings = [dict(leaves(run["experiment"])) for run in runs]
    names = sorted({name for each in settings for name in each})
    differing = [name for name in names if len({repr(each.get(name)) for each in settings if each}) > 1]
    width = max(len(run["run"]) for run in runs)
    lines = []
    for run, own in zip(runs, settings, strict=True):
        run["differs"] = {name: own.get(name) for name in differing}
        del run["experiment"]
        note = run.get("wrong") or "  ".join(f"{name}={value}" for name, value in run["differs"].items())
        figures = "".join(f"  {f'{run[name]:.2f}' if run.get(name) is not None else '':>6}" for name in FIGURES)
        lines.append(f"{run['run']:{width}}  {run.get('epochs', ''):>6}{figures}  {note}".rstrip())
    head = f"{'run':{width}}  {'epochs':>6}" + "".join(f"  {name:>6}" for name in FIGURES) + "  differs in"
    return "\n".join([head, *lines]), runs


def _read(path: Path) -> dict[str, Any]:
    """Return the listed entries of a run, or the reason why its record cannot be read."""
    run: dict[str, Any] = {"run": str(path.parent), "experiment": {}}
    try:
        record: Any = parsed(path.read_bytes(), f"{path}")
        reports = record["evaluations"]
        report = reports.get("test") or reports.get("val") or {}
        figures = {name: report[name] for name in FIGURES if report.get(name) is not None}
        if {*map(type, figures.values())} - {int, float} or type(record["epochs"]) is not int:
            raise CltoolsError("its epochs or figures are not numbers")
        figures |= {name: float(value) for name, value in figures.items()}
        return run | {"epochs": record["epochs"], **figures, "experiment": dict(record["experiment"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        return run | {"wrong": f"cannot be read: {error}"}
