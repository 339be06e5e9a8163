"""How far the loss is from the loss without false negatives along training, and how alike the encoders become.

Legend: N images, d embedding, D features.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from tqdm.auto import tqdm

from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.errors import CltoolsError
from cltools.evaluation import embed
from cltools.files import IN_USE, claimed
from cltools.losses import LossSettings
from cltools.mining import OracleNegatives
from cltools.provenance import check_record, command, provenance, read_record, write_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import deciding
from cltools.snapshot import Recorder
from cltools.training import Run, fit
from experiments.images import Pictures, coarse, pictures, superclass_of
from experiments.starts import moco, with_rules

KIND, FORMAT = "loss gap", 1
SHOWN = 2000
"""Images on which the gap is measured, and test images on which features are compared."""


def loss_gap(
    z: Float[Tensor, "N d"], positive: Float[Tensor, "N d"], labels: Int64[Tensor, " N"], temperature: float
) -> float:
    """Return the mean of L − L_oracle in nats: InfoNCE with every other image as a negative, and without its class.

    Args:
        z: anchors, unit vectors.
        positive: positives, unit vectors; those of other images are the negatives.
        labels: classes.
        temperature: temperature of both losses.
    """
    logits = z @ positive.T / temperature
    same: Bool[Tensor, "N N"] = labels[:, None] == labels[None]
    same.fill_diagonal_(False)
    return float((logits.logsumexp(1) - logits.masked_fill(same, -torch.inf).logsumexp(1)).mean())


def linear_cka(x: Float[Tensor, "N D"], y: Float[Tensor, "N D"]) -> float:
    """Return linear CKA (arXiv:1905.00414): 1 if the features are equal up to rotation, shift and scale."""
    x, y = ((each - each.mean(0)).double() for each in (x, y))
    return float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def arms(epochs: int) -> dict[str, tuple[Experiment, str]]:
    """Return the runs by name, each with the labels that it reads."""
    base = moco("cifar100", epochs)
    oracle = with_rules(base, negatives=OracleNegatives())
    at = {tau: replace(base, loss=LossSettings(temperature=tau)) for tau in (0.1, 0.5)}
    return {
        BASELINE: (base, "fine"),
        "oracle-20": (oracle, "coarse"),
        "oracle-100": (oracle, "fine"),
        **{f"moco-t{tau:g}": (arm, "fine") for tau, arm in at.items()},
    }


class Log:
    """A callback that measures the gap after each epoch, and keeps the features of some test images."""

    def __init__(self, images: Pictures, temperatures: set[float]) -> None:
        """Create a log for an encoder that is trained on `images.train`."""
        self.recorder, self.test = Recorder(images.bank, SHOWN), images.judged.subset(SHOWN)
        fine = self.recorder.images.labels
        by_superclass = superclass_of(self.recorder.images)[fine]
        self.labels = {"100 classes": fine, "20 superclasses": by_superclass, "5 groups": by_superclass // 4}
        self.gaps: dict[str, dict[str, list[float]]] = {
            name: {f"{tau:g}": [] for tau in sorted(temperatures)} for name in self.labels
        }
        self.features: list[Tensor] = []

    def __call__(self, run: Run) -> None:
        """Measure after an epoch."""
        epoch = len(run.history.rows)
        self.recorder.record(run, epoch)
        z, positive = map(torch.from_numpy, self.recorder.taken.pop(epoch))
        for name, labels in self.labels.items():
            for tau, values in self.gaps[name].items():
                values.append(round(loss_gap(z, positive, labels, float(tau)), 4))
        self.features.append(embed(run.encoder, self.test))


def run_gap(out: Path, root: Path | None = None, *, epochs: int = 20, seeds: int = 3, count: int = 10_000) -> Path:
    """Train the runs that the record lacks, write it after each seed, and return its path.

    Raises:
        ValueError: the folder holds a record of other settings.
    """
    path = out / "gap-cifar100.json"
    with claimed(path.with_name(f"{path.name}.{IN_USE}"), command()):
        runs, images = arms(epochs), pictures("cifar100", root, count=count, judge="test")
        described = {"images": images.described, "arms": {name: deciding(arm) for name, (arm, _) in runs.items()}}
        origin = provenance(torch.device("cpu"))
        record: dict[str, Any] = {"kind": KIND, "format": FORMAT, **described, **origin, "rows": []}
        if path.exists():
            known = read_record(path)
            check_record(path, known, KIND, form=FORMAT)
            fixed = record.keys() - {"rows", "command"}
            if other := sorted(name for name in fixed if known.get(name) != record[name]):
                raise CltoolsError(f"{path} was made with other settings: {', '.join(other)}. Give another folder.")
            record = known
        done = {row["seed"] for row in record["rows"]}
        for seed in tqdm([seed for seed in range(seeds) if seed not in done], desc="gap", unit="seed"):
            logs = {name: trained(replace(arm, seed=seed), labels, images) for name, (arm, labels) in runs.items()}
            record["rows"] += [
                {"arm": name, "seed": seed, "gap": log.gaps, "cka": alike(log, logs[BASELINE])}
                for name, log in logs.items()
            ]
            write_record(path, record)
    return path


def trained(arm: Experiment, labels: str, images: Pictures) -> Log:
    """Train a run from scratch and return its log."""
    log = Log(images, {arm.loss.temperature, 1.0})
    train: ImageSet = coarse(images.train) if labels == "coarse" else images.train
    fit(arm, images=train, callbacks=[log])
    return log


def alike(log: Log, other: Log) -> list[float]:
    """Return CKA between two runs' features by epoch."""
    return [round(linear_cka(x, y), 4) for x, y in zip(log.features, other.features, strict=True)]
