"""What was made faster: work beside a yardstick, with this checkout's cltools and with an older one's, in turn."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from benchmarks import work
from benchmarks.measuring import USUAL, AsRun, markdown
from cltools.errors import CltoolsError
from cltools.provenance import read_record

KIND = "bench gains"
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""The allocator's variables, as the Makefile sets them."""
GOALS = {
    "potential": "2.2", "counting": "÷ 4", "moco": "0.9", "simclr": "1.0", "trustworthiness": "0.5", "pixels": "÷ 2.5",
    "crop": "÷ 2.4", "neighbours": "÷ 2", "tiny": "÷ 1.15",
}  # fmt: skip
"""A ratio to the yardstick to be reached, or a divisor of the ratio before."""


def gains(
    before: Path | None = None, rows: tuple[str, ...] = tuple(work.ROWS), keep_memory: bool = False, run: AsRun = USUAL
) -> dict[str, Any]:
    """Time what was made faster beside its yardstick, on one thread, by the processor's time.

    Args:
        before: An older checkout, which is measured in turn with this one. Without it, the ratios before are those of
            the record in data/results/.
        rows: Which rows.
        keep_memory: Let the C library keep freed memory, as the Makefile does. By default it returns the memory to the
            system, as where the package is installed.
        run: How to measure.
    """
    run.check(rows=rows)
    if unknown := [name for name in rows if name not in work.ROWS]:
        raise CltoolsError(f"There is no row {unknown[0]!r}; choose among {', '.join(work.ROWS)}.")
    if before is not None and not (before / "cltools").is_dir():
        raise CltoolsError(f"{before} is not a checkout of cltools.")
    sides = {"now": ROOT} if before is None else {"before": before.resolve(), "now": ROOT}
    found: dict[str, Any] = {} if before is not None else kept_before(keep_memory)
    for name in tqdm(rows, unit="row", leave=False):
        workers = {side: Worker(checkout, keep_memory) for side, checkout in sides.items()}
        times: dict[str, list[list[float]]] = {side: [] for side in sides}
        for _ in range(run.rounds):
            for side, worker in workers.items():
                times[side].append(worker.round(name))
        for worker in workers.values():
            worker.close()
        row = found.setdefault(name, {})
        for side, pairs in times.items():
            ours, yardstick = (statistics.median(column) for column in zip(*pairs, strict=True))
            ratio = statistics.median(mine / other for mine, other in pairs)
            row |= {f"{side} ms": ours, f"{side} yardstick ms": yardstick, f"{side} ratio": ratio}
    commit = _commit(before) if before else str(kept(keep_memory).get("before", "unknown"))
    return replace(run, device="cpu").record(
        KIND, before=commit, keep_memory=keep_memory, rows={name: found[name] for name in rows}
    )


def kept(keep_memory: bool) -> dict[str, Any]:
    """Return the record in data/results/; empty if there is none."""
    path = RESULTS / ("bench-gains-memory.json" if keep_memory else "bench-gains.json")
    return read_record(path) if path.exists() else {}


def kept_before(keep_memory: bool) -> dict[str, dict[str, float]]:
    """Return the ratios before of the record in data/results/, by row."""
    rows = kept(keep_memory).get("rows", {})
    return {name: {"before ratio": row["before ratio"]} for name, row in rows.items() if "before ratio" in row}


class Worker:
    """A process that runs `benchmarks/work.py` with the cltools of a checkout."""

    def __init__(self, checkout: Path, keep_memory: bool) -> None:
        pipe: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        environment |= {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"} | (KEPT_MEMORY if keep_memory else {})
        self.process = subprocess.Popen([sys.executable, work.__file__], cwd=checkout, env=environment, **pipe)

    def round(self, name: str) -> list[float]:
        """Return the milliseconds of one round of this row: of the work, and of its yardstick."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(name, file=self.process.stdin, flush=True)
        if not (answer := self.process.stdout.readline()):
            raise CltoolsError(f"The row {name!r} failed, as said above.")
        times: list[float] = json.loads(answer)
        return times

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def _commit(checkout: Path) -> str:
    """Return the commit of a checkout; empty if it is none of git's."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False).stdout.strip()


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `gains` as lines of a table: work over its yardstick, before and now."""
    rows = []
    for name, row in record["rows"].items():
        ratios = [f"{row[key]:.2f}" if key in row else "" for key in ("before ratio", "now ratio")]
        gain = f"÷ {row['before ratio'] / row['now ratio']:.2f}" if "before ratio" in row else ""
        rows.append([f"`{name}`", " ".join((work.ROWS[name].__doc__ or "").split()), *ratios, gain, GOALS[name]])
    memory = "Freed memory is kept" if record["keep_memory"] else "Freed memory is returned to the system"
    caption = (
        "Work over its yardstick, by the processor's time, each on one of the threads: before, now, by what it was "
        f"divided, and the goal, a ratio to the yardstick or a divisor. {memory}. Before: commit {record['before']}."
    )
    return markdown(caption, ["row", "what", "before", "now", "gain", "goal"], rows, words=2)
