"""Longer runs on all of CIFAR-10: what mining finds along training, and embeddings to look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cltools.config import Experiment
from cltools.errors import CltoolsError
from cltools.evaluation import evaluate
from cltools.files import IN_USE, claimed, replacing
from cltools.mining import NearestKeys
from cltools.provenance import check_record, command, provenance, read_record, write_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import FIGURES, deciding
from cltools.snapshot import Recorder
from cltools.training import Run, fit
from experiments.images import Pictures, pictures
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
    base = replace(base, training=replace(base.training, checkpoint_every=1))
    return {BASELINE: base, "mined": with_rules(base, NearestKeys(weighting="uniform"))}


class Embeddings:
    """A callback that keeps embeddings of some training images in a file."""

    def __init__(self, path: Path, images: Pictures, recorded: tuple[int, ...]) -> None:
        """Create it, with what the file already holds."""
        self.path, self.recorded = path, recorded
        self.recorder = Recorder(images.train, SHOWN, epochs=[])
        if path.exists():
            with np.load(path) as held:
                of_epoch = zip(held["z"], held["keys"], strict=True)
                self.recorder.taken = dict(zip(held["epochs"].tolist(), of_epoch, strict=True))

    def __call__(self, run: Run) -> None:
        """Keep the embeddings after this epoch, if they are wanted and not kept yet."""
        if (epoch := len(run.history.rows)) not in self.recorded or epoch in self.recorder.taken:
            return
        self.recorder.record(run, epoch)
        z, keys = (np.stack(side) for side in zip(*self.recorder.taken.values(), strict=True))
        with replacing(self.path) as part, part.open("wb") as file:
            np.savez(file, epochs=np.array([*self.recorder.taken]), z=z, keys=keys)


def run_long(
    out: Path,
    root: Path | None = None,
    *,
    epochs: int = EPOCHS,
    count: int = 50_000,
    recorded: tuple[int, ...] = RECORDED,
) -> Path:
    """Train each arm that the record lacks, from its last checkpoint, and return the record's path.

    The embeddings of some training images are saved beside it, without their pictures.

    Raises:
        ValueError: the folder holds a record of other settings.
    """
    path = out / "long-cifar10.json"
    with claimed(path.with_name(f"{path.name}.{IN_USE}"), command()):
        images = pictures("cifar10", root, count=count, judge="test")
        plans = {name: deciding(arm) for name, arm in arms(epochs).items()}
        described = {"images": images.described, "images_digest": images.digest(), "arms": plans}
        record: dict[str, Any] = {"kind": KIND, "format": FORMAT, **described, **provenance(torch.device("cpu"))}
        record["rows"] = []
        if path.exists():
            known = read_record(path)
            check_record(path, known, KIND, form=FORMAT)
            if other := [name for name in described if known.get(name) != record[name]]:
                raise CltoolsError(f"{path} was made with other settings: {', '.join(other)}. Give another folder.")
            record = known
        done = {row["arm"] for row in record["rows"]}
        for name, arm in arms(epochs).items():
            if name not in done:
                record["rows"].append(trained(name, arm, images, out, recorded))
                write_record(path, record)
    return path


def trained(name: str, arm: Experiment, images: Pictures, out: Path, recorded: tuple[int, ...]) -> dict[str, Any]:
    """Train an arm or go on with it, save its snapshot, and return its row."""
    folder = out / "long" / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = Embeddings(folder / "embeddings.npz", images, recorded)
    resumed = (folder / "config.json").exists()
    if resumed:
        kept(Run.load(folder))  # the epoch whose checkpoint is the last may lack them
    run = fit(arm, images=images.train, out=folder, resume=resumed, callbacks=[kept])
    replace(kept.recorder.snapshot(run), sprite=b"", tile=(0, 0)).save(out / f"cifar10-{name}.npz")
    measured = evaluate(run.encoder, images.bank, images.judged, arm.evaluation, FIGURES)
    curves = {column: [number(value, to) for value in run.history.column(column)] for column, to in CURVES.items()}
    return {"arm": name, "seed": arm.seed, **{each: round(measured[each], 2) for each in FIGURES}, "curves": curves}
