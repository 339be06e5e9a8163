"""The cost of mining: selection and loss of each method, beside plain InfoNCE by cross-entropy."""

import statistics
from typing import Any

from tqdm.auto import tqdm

from benchmarks.measuring import USUAL, AsRun, Run, markdown, peak_mebibytes
from benchmarks.vectors import Contrast
from cltools.config import Experiment
from cltools.presets import METHODS, preset

KIND = "bench rules"
DIM = 128
PLAIN = "plain InfoNCE, cross-entropy"
EVERY = tuple(name for name in METHODS if name != "simclr")
"""All methods except simclr, which differs from moco only in its keys."""


def costs(
    anchors: tuple[int, ...] = (256,),
    keys: tuple[int, ...] = (4096, 16384, 65536),
    methods: tuple[str, ...] = EVERY,
    run: AsRun = USUAL,
) -> dict[str, Any]:
    """Measure time and memory of selection and loss of each method, on random unit vectors of 128 dimensions.

    Args:
        anchors: Numbers of anchors.
        keys: Numbers of keys; every number of anchors is measured with each.
        methods: Which methods.
        run: How to measure.
    """
    run.check(anchors=anchors, keys=keys, methods=methods)
    experiments = {method: preset(f"cifar10-{method}") for method in methods}
    sizes = [measure((b, k, DIM), experiments, run) for b in anchors for k in keys]
    return run.record(KIND, sizes=sizes)


def measure(shape: tuple[int, int, int], methods: dict[str, Experiment], run: Run) -> dict[str, Any]:
    """Return milliseconds and MiB at one size, for cross-entropy and for each method in the same rounds."""
    rows = {}
    for method, experiment in tqdm(methods.items(), desc=" × ".join(map(str, shape)), unit="method", leave=False):
        work = Contrast(shape, experiment, run.where)
        times = run.medians(
            {"plain": work.cross_entropy, "select": work.selection, "loss": work.loss, "all": work.in_training}
        )
        rows[method] = {f"{name} ms": taken for name, taken in times.items()}
        rows[method] |= {
            "× plain": times["all"] / times["plain"],
            "peak MiB": peak_mebibytes(work.in_training, run.where),
        }
    plain = {"parts ms": {PLAIN: statistics.median(row["plain ms"] for row in rows.values())}}
    plain |= {"parts MiB": {PLAIN: peak_mebibytes(work.cross_entropy, run.where)}}
    return {"anchors": shape[0], "keys": shape[1], "plain": PLAIN, **plain, "methods": rows}


def table(record: dict[str, Any]) -> list[str]:
    """Return the record of `rules` as lines of a table: each method's time as a multiple of plain InfoNCE's."""
    sizes, last = record["sizes"], record["sizes"][-1]
    heads = [f"{size['anchors']:,} × {size['keys']:,}" for size in sizes]
    plain = last["plain"]
    rows = [[plain, *(f"{size['parts ms'][plain]:.1f} ms" for size in sizes), f"{last['parts MiB'][plain]:,.0f}"]]
    for method, row in last["methods"].items():
        times = (f"{size['methods'][method]['× plain']:.1f}" for size in sizes)
        rows.append([f"`{method}`", *times, f"{row['peak MiB']:,.0f}"])
    caption = (
        f"Products, selection and loss, forward and backward, over those of {plain}, in the same rounds; anchors × "
        f"keys, {DIM} dimensions. MiB: the most held at once beyond what is held before."
    )
    return markdown(caption, ["method", *heads, f"MiB at {heads[-1]}"], rows)
