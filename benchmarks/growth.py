"""How time and memory grow with the keys, the anchors, the training images and the rows of a snapshot.

Each point is measured in a process of its own, which may take the memory that is free and no more, so that what is too
large ends in an error, which the table shows, and not in a killed process.
"""

import math
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch.utils.benchmark import timer
from tqdm.auto import tqdm

from benchmarks import growing
from benchmarks.growing import ANCHORS, KEYS, Prepare
from benchmarks.measuring import USUAL, AsRun, PrivateMemory, Work, markdown
from cltools.errors import CltoolsError

KIND = "bench growth"
LITTLE = 10.0
"""MiB below which no exponent of memory is shown, because what is sampled is then mostly rounding."""
LONG = 2.0
"""Seconds from which a work is timed once."""
EMBEDDED = 100_000
"""Largest number of images that are embedded, because the time per image is the same."""
SHARE = 0.8
"""Share of the free memory that a point may take."""
KILLED = "The process was killed."
CAPTIONS = {
    "keys": f"The loss and its gradient of {ANCHORS} anchors by the number of keys K",
    "anchors": f"The loss and its gradient by the number of anchors B, with {KEYS:,} keys; `simclr` has B keys",
    "images": f"What training computes of N images of 32×32, and kNN of {growing.QUERIES:,} queries against N",
    "rows": "A snapshot of embeddings of 64 dimensions with pictures of 32×32, by its number of rows",
}

Figures = dict[str, Any]
"""Of a work at one size: "seconds"; "MiB"; "MB" of a file that it writes; or the "error" in which it ended."""


@dataclass(frozen=True)
class Series:
    """What is prepared at each of some sizes."""

    group: str
    name: str
    prepare: Prepare
    sizes: tuple[int, ...]


def growth(
    keys: tuple[int, ...] = (4096, 8192, 16384, 32768, 65536, 131072, 262144),
    anchors: tuple[int, ...] = (128, 256, 512, 1024, 2048, 4096),
    images: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000, 1_000_000),
    rows: tuple[int, ...] = (1000, 3000, 10_000, 30_000, 100_000, 200_000),
    memory: float | None = None,
    run: AsRun = USUAL,
) -> dict[str, Any]:
    """Measure on the CPU how time and memory grow, and show what is refused or fails.

    Args:
        keys: Numbers of keys, of which the loss is computed; none leaves this part out.
        anchors: Numbers of anchors.
        images: Numbers of training images, in memory and mapped from a file.
        rows: Numbers of rows of a snapshot.
        memory: Gigabytes that a measurement may take; None for 80 % of what is free.
        run: How to measure; what takes seconds is timed once.
    """
    run.check()
    run = replace(run, device="cpu")
    wanted = {"keys": keys, "anchors": anchors, "images": images, "rows": rows}
    chosen = series({group: tuple(sorted({*sizes})) for group, sizes in wanted.items()})
    check_sizes(wanted)
    points = [(each, size) for each in chosen for size in each.sizes]
    limit = free_memory() if memory is None else int(memory * 1e9)
    groups: dict[str, Any] = {each.group: {"sizes": sorted({*wanted[each.group]}), "rows": {}} for each in chosen}
    for each, size in tqdm(points, desc="points", leave=False):
        for work, figures in apart(each.prepare, size, run.rounds, limit).items():
            name = ": ".join(filter(None, (each.name, work)))
            groups[each.group]["rows"].setdefault(name, {})[str(size)] = figures
    return run.record(KIND, groups=groups)


def series(sizes: Mapping[str, tuple[int, ...]]) -> list[Series]:
    """Return all series of the groups for which there are sizes."""
    made = [Series("keys", f"`{method}`", partial(growing.loss, method, ANCHORS, None), sizes["keys"])
            for method in ("moco", "potential")]  # fmt: skip
    made += [Series("anchors", f"`{method}`", partial(growing.loss, method, None, KEYS), sizes["anchors"])
             for method in ("moco", "potential", "simclr")]  # fmt: skip
    few = tuple(size for size in sizes["images"] if size <= EMBEDDED)
    made += [
        Series("images", "in memory", growing.images_in_memory, sizes["images"]),
        Series("images", "mapped", growing.images_mapped, sizes["images"]),
        Series("images", "features by the tiny encoder", growing.features, few),
        Series("images", "kNN", growing.neighbours, sizes["images"]),
        Series("rows", "", growing.snapshot, sizes["rows"]),
    ]
    return [each for each in made if each.sizes]


def check_sizes(wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raise an error for sizes that cannot be measured, and for a disk without room for the mapped file."""
    if not any(wanted.values()):
        raise CltoolsError("There are no sizes; give at least one.")
    for name, sizes in wanted.items():
        if sizes and min(sizes) < 4:
            raise CltoolsError(f"--{name} has {min(sizes)}; sizes are at least 4.")
    folder = tempfile.gettempdir()
    need, free = max(wanted["images"], default=0) * growing.IMAGE, shutil.disk_usage(folder).free
    if need > free:
        raise CltoolsError(f"{folder} has {free / 1e9:.1f} GB free, of {need / 1e9:.1f} GB for the images; set TMPDIR.")


def free_memory() -> int | None:
    """Return the bytes that a point may take; None where the system does not say how much is free."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return int(SHARE * free[0]) if free else None


def apart(prepare: Prepare, size: int, rounds: int, limit: int | None) -> dict[str, Figures]:
    """Measure a point in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(point, prepare, size, rounds, limit).result()
        except BrokenProcessPool:
            return {"": {"error": KILLED}}


def point(prepare: Prepare, size: int, rounds: int, limit: int | None) -> dict[str, Figures]:
    """Measure all works at a size, up to the first that fails; `limit` is the memory that the process may take."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    figures: dict[str, Figures] = {}
    name = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, work in prepare(size, Path(folder)).items():
                figures[name] = measured(work, rounds)
        except Exception as error:
            figures[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return figures


def measured(work: Work, rounds: int) -> Figures:
    """Return the figures of a work: memory of its first call, and the median time of further ones if it is short."""
    with PrivateMemory() as memory:
        first, found = timed(work)
    seconds = first if first > LONG else median(timed(work)[0] for _ in range(rounds))
    size = {"MB": found.stat().st_size / 1e6} if isinstance(found, Path) else {}
    return {"seconds": seconds, "MiB": memory.mebibytes, **size}


def timed(work: Work) -> tuple[float, object]:
    """Return the seconds that a work takes, and its result."""
    began = timer()
    found = work()
    return timer() - began, found


def exponent(costs: Mapping[int, float]) -> float:
    """Return the slope of log cost against log size by least squares, over the larger half of the sizes.

    It is nan if there are fewer than two sizes with a cost above 0.
    """
    known = sorted((size, cost) for size, cost in costs.items() if cost > 0)
    larger = known[len(known) // 2 :] if len(known) > 2 else known
    if len(larger) < 2:
        return math.nan
    x, y = np.log(np.array(larger, dtype=np.float64)).T
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `growth` as lines: a table for each group, each with what failed below it."""
    general = (
        "Time and memory by size, each point in a process of its own. The exponent is the slope of log cost against "
        "log size over the larger half of the sizes: 1 is linear, 2 quadratic. MiB: the most held at once beyond what "
        "is held before, pages of mapped files not counted."
    )
    lines = [general]
    for group, measured in record["groups"].items():
        rows = [*_rows(measured["sizes"], measured["rows"])]
        heads = ["", *(f"{size:,}" for size in measured["sizes"]), "exponent", "MiB at the largest", "its exponent"]
        lines += ["", *markdown(f"{CAPTIONS[group]}; milliseconds, or MB of a file:", heads, rows)]
        if failed := [*_failures(measured["rows"])]:
            lines += ["", *failed]
    return lines


def _rows(sizes: Sequence[int], rows: Mapping[str, Mapping[str, Figures]]) -> Iterator[list[str]]:
    for name, by_size in rows.items():
        found = {size: by_size[str(size)] for size in sizes if "seconds" in by_size.get(str(size), {})}
        times, memory, files = (
            {size: each[what] * scale for size, each in found.items() if each.get(what) is not None}
            for what, scale in (("seconds", 1000), ("MiB", 1), ("MB", 1))
        )
        if times:
            most = f"{memory[max(memory)]:,.0f}" if memory else ""
            grows = _slope(memory) if max(memory.values(), default=0) > LITTLE else ""
            figures = _cells(sizes, times), _slope(times), most, grows
            yield [name, *figures[0], *figures[1:]]
        if files:
            yield [f"{name}: MB", *_cells(sizes, files), _slope(files), "", ""]


def _cells(sizes: Sequence[int], values: Mapping[int, float]) -> list[str]:
    shown = {size: f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for size, value in values.items()}
    return [shown.get(size, "") for size in sizes]


def _slope(costs: Mapping[int, float]) -> str:
    slope = exponent(costs)
    return "" if math.isnan(slope) else f"{slope:.2f}"


def _failures(rows: Mapping[str, Mapping[str, Figures]]) -> Iterator[str]:
    for name, by_size in rows.items():
        for size, figures in by_size.items():
            if "error" in figures:
                yield f"- {name + ', ' if name else ''}{int(size):,}: {figures['error']}"
