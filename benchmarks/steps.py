"""Where the time of a training step goes, on random pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.measuring import (
    held_mebibytes,
    median_milliseconds,
    operations,
    peak_mebibytes,
    product_rate,
    products,
)
from benchmarks.parts import Workplace
from cltools.config import Experiment
from cltools.presets import laptop, preset
from cltools.provenance import check_record, provenance, write_record
from cltools.training.fit import fast_convolutions
from cltools.training.learner import resolve_device

KIND = "bench"
ENTRIES = ("commit", "hardware", "versions", "rows")
PARTS = ("views", "encoder", "selection", "loss", "optimiser")
STEPS = 20
"""Timed, unless asked otherwise."""
MEMORY = ("added MiB", "total MiB")
"""The most a step holds at once: beyond what is held before it, and in all."""
COLUMNS = ("views/s", "step ms", *(f"{part} ms" for part in PARTS), "rest ms", "product %", *MEMORY)


@dataclass(frozen=True)
class StepBenchFlags:
    """Time a training step of some presets by its parts, on random pixels of 32×32."""

    presets: tuple[str, ...] = ("cifar10-simclr", "cifar10-moco", "cifar10-potential")
    """Which presets."""
    full: bool = False
    """The preset as it is, not its laptop setting."""
    queue_sizes: tuple[int, ...] = ()
    """Also with queues of these many keys, where there is a queue."""
    bn_groups: tuple[int, ...] = ()
    """Also with batch statistics over groups of these many images; 0 for those of a whole view."""
    compile: bool = False
    """With the encoder's passes compiled by torch.compile; the first steps wait for it and count in no figure."""
    cuda_graph: bool = False
    """With the step recorded as a CUDA graph; its parts are still asked for one by one."""
    against: Literal["dataloader"] | None = None
    """Measure against a conventional pipeline: torchvision's transforms, image by image, in a DataLoader's workers."""
    data: str | None = None
    """With --against: these images (cifar10, …) in place of random pixels."""
    images: int | None = None
    """With --against: how many pictures (10,000)."""
    device: str = "auto"
    """Where."""
    repeats: int | None = None
    """Timed steps (20), or with --against epochs of each side (5); the median is reported."""
    out: Path | None = None
    """Also write the figures as JSON."""

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if not self.presets:
            raise ValueError("bench: presets is empty; name at least one.")
        if min(self.queue_sizes, default=1) < 1:
            raise ValueError(f"bench: queue_sizes is {self.queue_sizes}; each must be at least 1.")
        if any(group < 0 or group == 1 for group in self.bn_groups):
            raise ValueError(f"bench: bn_groups is {self.bn_groups}; each must be at least 2, or 0 for a whole view.")
        if self.repeats is not None and self.repeats < 1:
            raise ValueError(f"bench: repeats is {self.repeats}; it must be at least 1.")
        if self.images is not None and self.images < 1:
            raise ValueError(f"bench: images is {self.images}; it must be at least 1.")
        if self.against is None and (self.data is not None or self.images is not None):
            raise ValueError(
                "bench: --data and --images are of --against dataloader; steps are timed on one batch of random pixels."
            )
        if self.against is not None and (self.queue_sizes or self.bn_groups or self.compile or self.cuda_graph):
            raise ValueError(
                "bench: --against measures presets as they are; leave out --queue-sizes, --bn-groups, --compile and "
                "--cuda-graph."
            )


def bench_steps(flags: StepBenchFlags) -> None:
    """Measure, print a table, write JSON if asked."""
    device = resolve_device(flags.device)
    if flags.cuda_graph and device.type != "cuda":
        raise ValueError(
            "bench: --cuda-graph records a GPU's work, and this would be measured on the CPU; leave it out."
        )
    rows: list[dict[str, Any]] = []
    experiments = [(name, varied) for name in flags.presets for varied in variations(preset(name), flags)]
    for name, experiment in experiments:
        rows.append({**settings(name, experiment), **measure(experiment, device, flags.repeats or STEPS)})
        if len(rows) == 1:
            print("  ".join([f"{'preset':40s}", *(f"{c:>12s}" for c in COLUMNS)]))
        print("  ".join([f"{label(rows[-1]):40s}", *(f"{rows[-1][c]:12.2f}" for c in COLUMNS)]), flush=True)
    if flags.out is not None:
        write_record(flags.out, {"kind": KIND, **provenance(device), "rows": rows})


def variations(experiment: Experiment, flags: StepBenchFlags) -> Iterator[Experiment]:
    """The experiment at its setting, then with each other queue, then with each other group; made fast as asked."""
    experiment = experiment if flags.full else laptop(experiment)
    faster = replace(experiment.training, compile=flags.compile, cuda_graph=flags.cuda_graph)
    experiment = replace(experiment, training=faster)
    yield experiment
    training = experiment.training
    if training.mode == "moco":
        for size in flags.queue_sizes:
            if size != training.queue_size:
                yield replace(experiment, training=replace(training, queue_size=size))
    for group in flags.bn_groups:
        if (group or None) != experiment.encoder.bn_group:
            yield replace(experiment, encoder=replace(experiment.encoder, bn_group=group or None))


def settings(name: str, experiment: Experiment) -> dict[str, Any]:
    """What tells the rows apart."""
    queue = experiment.training.queue_size if experiment.training.mode == "moco" else None
    return {
        "preset": name,
        "backbone": experiment.encoder.backbone,
        "batch": experiment.training.batch,
        "queue_size": queue,
        "bn_group": experiment.encoder.bn_group,
        "compile": experiment.training.compile,
        "cuda_graph": experiment.training.cuda_graph,
    }


def label(row: dict[str, Any]) -> str:
    """A row's settings in a few words."""
    queue = "" if row["queue_size"] is None else f", K {row['queue_size']:,}"
    return f"{row['preset']}, {row['backbone']}{queue}, bn {row['bn_group'] or 'view'}{made_fast(row)}"


def made_fast(row: dict[str, Any]) -> str:
    """By what a row's step was made fast; records from before there were recorded steps say nothing of them."""
    compiled = ", compiled" if row["compile"] else ""
    return compiled + (", recorded" if row.get("cuda_graph") else "")


def measure(experiment: Experiment, device: torch.device, repeats: int) -> dict[str, float]:
    """The figures of a row: trained views a second, milliseconds of a step and of its parts, and what they say.

    `product %` is the rate of the encoder's operations over the whole step, counted by torch, as a share of the best
    rate of a product of square matrices in the precision of the encoder, timed in the same rounds. Parts are waited for
    one by one: on a GPU they may take longer together than the step, and the rest is then below zero. `added MiB`
    is the most that a step holds beyond what is held before it, `total MiB` that and what is held before it, as
    `Workplace.held` has it: one batch of pictures, not a whole data set.
    """
    if experiment.training.compile:
        torch.compiler.reset()  # after some encoders torch would compile no more, and run them as they are
    with fast_convolutions():  # as training does
        place = Workplace(experiment, device)
        ideal = products(device, place.dtype)
        times = median_milliseconds({"step": place.step, **place.parts(), **ideal}, device, repeats)
        del ideal
        place.forget()
        held = held_mebibytes(place.held(), device)
        added = peak_mebibytes(place.plain_step, device)  # a replayed step allocates nothing: it has kept its memory
        rate = encoder_operations(experiment, device) / times["step"] * 1000
        figures = (
            place.anchors / times["step"] * 1000,
            times["step"],
            *(times[part] for part in PARTS),
            times["step"] - sum(times[part] for part in PARTS),
            100 * rate / product_rate(times),
            added,
            held + added,
        )
        return dict(zip(COLUMNS, figures, strict=True))


def encoder_operations(experiment: Experiment, device: torch.device) -> int:
    """Operations of a step's passes through the encoder, counted where they are not compiled.

    Torch counts in compiled code only what is handed to it, and compiles anew for the counting.
    """
    plain = replace(experiment, training=replace(experiment.training, compile=False, cuda_graph=False))
    return operations(Workplace(plain, device).encoder)


def steps_table(paths: Sequence[Path], records: Sequence[dict[str, Any]]) -> str:
    """Records of `bench` on one device as a table.

    Raises:
        ValueError: a damaged record, or records of several devices or commits.
    """
    for path, record in zip(paths, records, strict=True):
        check_record(path, record, KIND, ENTRIES)
        needed = ("compile", *COLUMNS)
        if missing := {name for row in record["rows"] for name in needed if name not in row}:
            raise ValueError(f"{path} is damaged or of another version: its rows lack {', '.join(sorted(missing))}.")
    first = records[0]
    if any((r["commit"], r["hardware"]) != (first["commit"], first["hardware"]) for r in records):
        raise ValueError("Times of several commits or devices cannot be put together; make a table of each.")
    lines = [
        "Milliseconds of a training step and of its parts, timed in turn; pictures of 32×32. Each part is waited for: "
        "on a GPU parts may take longer together than the step, and the rest be below zero. `product %`: the encoder's "
        "operations a second over the whole step, as a share of the rate of a large matrix product. "
        "`added MiB`: the most that a step holds at once beyond what is held between steps; `total MiB`: in all, with "
        "weights, gradients, optimiser, momentum copy, queue and one batch of pictures. Commit "
        f"{first['commit'] or 'unknown'}, {first['hardware']['device']}, {first['hardware']['threads']} threads.",
        "",
        f"| preset | encoder | K | statistics over | {' | '.join(c.removesuffix(' ms') for c in COLUMNS)} |",
        f"|---|---|---:|---{'|---:' * len(COLUMNS)}|",
    ]
    for row in [row for record in records for row in record["rows"]]:
        keys = "" if row["queue_size"] is None else f"{row['queue_size']:,}"
        over = f"{row['bn_group']} images" if row["bn_group"] else "a view"
        figures = " | ".join(f"{row[c]:,.0f}" if abs(row[c]) >= 100 else f"{row[c]:.1f}" for c in COLUMNS)
        encoder = row["backbone"] + made_fast(row)
        lines.append(f"| `{row['preset']}` | {encoder} | {keys} | {over} | {figures} |")
    return "\n".join(lines)
