"""Longer runs on all of CIFAR-10: what mining finds along training, and embeddings to look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cltools.config import Experiment
from cltools.evaluation import evaluate
from cltools.files import IN_USE, claimed
from cltools.mining import NearestKeys
from cltools.provenance import command, provenance, write_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import FIGURES, deciding
from cltools.snapshot import Recorder
from cltools.training import fit
from experiments.images import pictures
from experiments.run import number
from experiments.starts import moco, with_rules

KIND, FORMAT = "long runs", 1
EPOCHS = 60
RECORDED = (1, 5, 20, 60)
"""Epochs whose embeddings are kept."""
SHOWN = 1500
"""Images whose embeddings are kept."""
CURVES = {"loss": 4, "false_negative_share": 4, "mined_purity": 4, "effective_rank": 2}


def arms(epochs: int) -> dict[str, Experiment]:
    """Return `moco`, and the same with the five nearest keys mined from the rule's own start on."""
    base = moco("cifar10", epochs)
    return {BASELINE: base, "mined": with_rules(base, NearestKeys(weighting="uniform"))}


def run_long(
    out: Path,
    root: Path | None = None,
    *,
    epochs: int = EPOCHS,
    count: int = 50_000,
    recorded: tuple[int, ...] = RECORDED,
) -> Path:
    """Train each arm, or go on with it from its last checkpoint, and return the record's path.

    The embeddings of some training images are saved beside it, without their pictures.
    """
    path = out / "long-cifar10.json"
    with claimed(path.with_name(f"{path.name}.{IN_USE}"), command()):
        images = pictures("cifar10", root, count=count, judge="test")
        rows: list[dict[str, Any]] = []
        for name, arm in arms(epochs).items():
            folder = out / "long" / name
            arm = replace(arm, training=replace(arm.training, checkpoint_every=1))
            recorder = Recorder(images.train, SHOWN, epochs=[])
            keep = folder / "embeddings.pt"
            if keep.exists():
                recorder.taken = torch.load(keep, weights_only=False)

            def save(run: Any, recorder: Recorder = recorder, keep: Path = keep) -> None:
                if (epoch := len(run.history.rows)) in recorded:
                    recorder.record(run, epoch)
                    torch.save(recorder.taken, keep)

            run = fit(arm, images=images.train, out=folder, resume=(folder / "config.json").exists(), callbacks=[save])
            kept = replace(recorder.snapshot(run), sprite=b"", tile=(0, 0))
            kept.save(out / f"cifar10-{name}.npz")
            measured = evaluate(run.encoder, images.bank, images.judged, arm.evaluation, FIGURES)
            curves = {c: [number(x, to) for x in run.history.column(c)] for c, to in CURVES.items()}
            rows.append(
                {"arm": name, "seed": arm.seed, **{f: round(measured[f], 2) for f in FIGURES}, "curves": curves}
            )
            described = {"images": images.described, "baseline": deciding(arms(epochs)[BASELINE])}
            origin = provenance(torch.device("cpu"))
            write_record(path, {"kind": KIND, "format": FORMAT, **described, **origin, "rows": rows})
    return path
