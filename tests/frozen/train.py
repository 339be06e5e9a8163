"""Seven short trainings, and digests of all that they leave: `python train.py FOLDER`, also under torchrun."""

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cltools import Experiment, RankBand, fit, preset
from cltools.ranks import Ranks, joined

TIMES = ("seconds", "views_per_second")


def experiments(ranks: int) -> Iterator[tuple[str, Experiment]]:
    """Plain runs, and a band whose edges move, one that rescales, one compared in chunks, and one in blocks."""
    found = {name: preset(f"digits-{name}") for name in ("moco", "potential", "simclr")}
    moving = RankBand(0.05, 0.5, drop_closest_from=0.0, keep_within_from=1.0)
    potential = found["potential"]
    found["scheduled"] = replace(potential, negatives=moving)
    found["rescaled"] = replace(potential, negatives=RankBand(0.05, 0.5, rescale=True))
    found["chunked"] = replace(potential, training=replace(potential.training, chunk=50))
    found["blocks"] = replace(potential, training=replace(potential.training, shuffle_block=20))
    for name, each in found.items():
        short = replace(each, training=replace(each.training, epochs=4, device="cpu"))
        yield name, short if ranks == 1 else replace(short, encoder=replace(short.encoder, bn_group=32))


def digest(tensor: Tensor) -> str:
    """Of the numbers alone."""
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def digests(state: dict[str, Any] | None) -> list[str] | None:
    """Of each tensor of a state, by its place: names may change."""
    return None if state is None else [digest(value) for value in state.values()]


def main(out: Path) -> None:
    """Train, and write one file."""
    torch.set_num_threads(1)
    ranks, found = Ranks.current(), {}
    for name, experiment in experiments(ranks.count):
        run = fit(experiment, out=out / f"{name}-{ranks.count}")
        if not ranks.first:
            continue
        state = torch.load(out / f"{name}-{ranks.count}" / "checkpoint.pt", weights_only=True)
        queue, optimizer = state["queue"], state["optimizer"]["state"]
        found[name] = {
            "rows": [
                {k: None if math.isnan(v) else v for k, v in row.items() if k not in TIMES} for row in run.history.rows
            ],
            "encoder": digests(state["encoder"]),
            "copy": digests(state["momentum_copy"]),
            "queue": queue and {k: digest(v) if torch.is_tensor(v) else v for k, v in queue.items()},
            "optimizer": [digest(each["momentum_buffer"]) for each in optimizer.values()],
            "order": digest(state["shuffler"]),
            "draws": digest(state["draws"]),
            "chance": [digest(each["chance"]) for each in state["ranks"]],
        }
    if ranks.first:
        name = "one_process" if ranks.count == 1 else "two_processes"
        (out / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    with joined():
        main(Path(sys.argv[1]))
