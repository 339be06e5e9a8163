"""Run times of the notebooks: `make times` runs them as a reader does, on two cores, and records the times.

`notebooks/times.json` contains the seconds of every cell. Headers and README state the total of each notebook, and the
tests of the notebooks use the seconds of a cell as its budget.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import torch

from cltools.errors import CltoolsError, unknown
from cltools.files import CARRIED, write_text
from cltools.lab import notebooks
from cltools.provenance import commit, device_name
from course.running import run_cells

CORES = 2
OVERRUN, FLOOR = 5.0, 5.0
"""A cell is over budget if it takes more than `OVERRUN` times its budget and more than `FLOOR` seconds, because short
cells vary most."""
HEADER = re.compile(r"(all cells run in about )([\w½ ]+?)( on two CPU cores)")


def budget_file(project: Path = CARRIED) -> Path:
    """Return the path of the file of times."""
    return project / "notebooks" / "times.json"


def read_times(project: Path = CARRIED) -> dict[str, Any]:
    """Return commit, hardware and "cells", seconds by cell id, for each notebook; empty if nothing was measured."""
    path = budget_file(project)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def about(seconds: float) -> str:
    """Return a rounded time in words: "25 seconds", "1½ minutes"."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    halves = round(seconds / 30)
    return f"{halves // 2}{'½' * (halves % 2)} minutes"


# Measuring


def seconds_of(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """Return the seconds of each executed cell by its id, from the timestamps of nbclient."""
    found = {}
    for cell in notebook.cells:
        if marks := cell.metadata.get("execution"):
            began, ended = (datetime.fromisoformat(marks[f"iopub.status.{mark}"]) for mark in ("busy", "idle"))
            found[cell.id] = round((ended - began).total_seconds(), 2)
    return found


def measure(path: Path) -> dict[str, float]:
    """Measure the seconds of each code cell, run as in a fresh clone: no runs, no downloads, no maps, no GPU."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "notebooks"  # files that runs write to ../runs are deleted with it
        folder.mkdir()
        kept = {f"CLTOOLS_{name.upper()}": str(Path(parent) / name) for name in ("data", "cache")}
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        run_cells(notebook, folder, {**os.environ, **kept, "CUDA_VISIBLE_DEVICES": ""})
    return seconds_of(notebook)


def hold_to_two_cores() -> None:
    """Restrict this process and its children to two cores, the number for which times are stated.

    Raises:
        ValueError: the system cannot restrict them, or has fewer cores.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(allowed) < CORES:
        raise CltoolsError(
            f"The stated times are of {CORES} cores, and this system cannot restrict a process to so many: "
            f"{len(allowed) or 'their number is unknown'}. Measure on a Linux machine with {CORES} cores or more."
        )
    os.sched_setaffinity(0, allowed[:CORES])


# Writing


def write(times: Mapping[str, Any], project: Path = CARRIED) -> None:
    """Write the file of times, and the times in the headers and the README.

    Raises:
        ValueError: a page has no place for a time; the message says what to write there.
    """
    readme = project / "README.md"
    for stem, measured in times.items():
        stated = about(sum(measured["cells"].values()))
        page = project / "notebooks" / f"{stem}.ipynb"
        # Edited as text: parsing and writing a notebook may change its formatting.
        _state(page, HEADER, stated, "all cells run in about 5 seconds on two CPU cores")
        row = f"| [{stem}](notebooks/{stem}.ipynb) | what it is about | 5 seconds |"
        _state(readme, row_of(stem), stated, row)
    write_text(budget_file(project), json.dumps(times, indent=1) + "\n")


def row_of(stem: str) -> re.Pattern[str]:
    """Return a pattern for the README's row of a notebook, whose last column is the time."""
    return re.compile(rf"^(\| \[{stem}\]\(notebooks/{stem}\.ipynb\) \|.*\| )([^|]*)( \|)$", re.MULTILINE)


def _state(page: Path, pattern: re.Pattern[str], stated: str, example: str) -> None:
    text, found = pattern.subn(rf"\g<1>{stated}\g<3>", page.read_text(encoding="utf-8"), count=1)
    if not found:
        raise CltoolsError(f"{page} has no place for a time. Write there, and measure again: {example}")
    write_text(page, text)


# Judging


def over_budget(stem: str, notebook: nbformat.NotebookNode, project: Path = CARRIED) -> list[str]:
    """Return a message for each cell of an executed notebook that took too long, with its time and what to do."""
    budget = read_times(project).get(stem, {"cells": {}})["cells"]
    return [
        f"{cell} of {stem} took {took:.1f} s, over {OVERRUN:.0f} times its budget of {budget[cell]:.1f} s. Make it "
        f"faster; if it has to take so long, measure again on an idle machine: make times ARGS={stem[:2]}"
        for cell, took in seconds_of(notebook).items()
        if cell in budget and took > max(FLOOR, OVERRUN * budget[cell])
    ]


def main(numbers: Sequence[str], project: Path = CARRIED) -> None:
    """Measure the notebooks with these numbers, such as 02, or all, and write the file after each.

    Raises:
        ValueError: no notebook has such a number, or the machine has fewer than two cores.
    """
    paths = {f"{number:02d}": path for number, path in notebooks(project).items()}
    numbers = [number.zfill(2) for number in numbers]
    for number in numbers:
        if number not in paths:
            raise unknown("notebook", number, paths)
    hold_to_two_cores()
    hardware = {"device": device_name(torch.device("cpu")), "cores": CORES}
    for number in numbers or paths:
        stem, before = paths[number].stem, read_times(project)
        cells = measure(paths[number])
        record = {"command": f"make times ARGS={number}", "commit": commit(), "hardware": hardware, "cells": cells}
        kept = {path.stem for path in paths.values()}
        times = {name: each for name, each in {**before, stem: record}.items() if name in kept}
        write(dict(sorted(times.items())), project)
        was = sum(before[stem]["cells"].values()) if stem in before else None
        print(f"{stem}: {sum(cells.values()):.0f} s" + (f", was {was:.0f} s" if was is not None else ""), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
