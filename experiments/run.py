"""The run of an experiment: for each seed a warm start of `moco`, and every arm from it; one record for each setting.

A record has the format of `cltools compare`, so that `cltools table` and `compare_records` read it. Rows are written as
they come, so an interrupted experiment goes on with the next arm.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from cltools.config import EvaluationSettings, Experiment, differences
from cltools.encoders import Encoder, resolve_device
from cltools.errors import CltoolsError
from cltools.evaluation import evaluate
from cltools.files import IN_USE, claimed
from cltools.gradients import info_nce_gradients
from cltools.losses import LossSettings
from cltools.mining import terms
from cltools.provenance import command, provenance, read_record, write_record
from cltools.reports.arms import BASELINE
from cltools.reports.comparing import FIGURES, FORMAT, KIND, check_comparison, deciding, unlike
from cltools.snapshot import content_key
from cltools.training import Run, StepInfo, fit
from cltools.training.checkpoint import checksum_of
from experiments.images import Pictures

EVERY = 10
CURVES = {"loss": 4, "false_negative_share": 4, "mined_purity": 4}


@dataclass(frozen=True)
class Setting:
    """One record of an experiment.

    Attributes:
        name: the record's name.
        pictures: returns the images, given the folder of the image sets.
        baseline: the experiment of `moco`; its number of epochs is that of every arm.
        warm_epochs: epochs of the warm start.
        arms: the experiments to compare, by name, without the baseline.
        seeds: the seeds.
        backbone: makes a backbone with new weights by a seed; None for the experiment's own.
        start: the experiment of the warm start; None for the baseline.
    """

    name: str
    pictures: Callable[[Path | None], Pictures]
    baseline: Experiment
    warm_epochs: int
    arms: Mapping[str, Experiment]
    seeds: Sequence[int]
    backbone: Callable[[int], nn.Module] | None = None
    start: Experiment | None = None

    def also(self) -> list[str]:
        """Return in words what a record's settings do not say: the backbone, and another warm start."""
        said = (
            []
            if self.backbone is None
            else [f"backbone {self.backbone.__name__} {content_key(str(self.backbone(0)))[:8]}"]
        )
        if self.start is not None:
            said.append(f"warm start at τ {self.start.loss.temperature:g}, rate {self.start.training.learning_rate:g}")
        return said

    def fit(self, experiment: Experiment, **hooks: Any) -> Run:
        """Train from scratch, or from a run given as `start_from`, with the setting's backbone."""
        return fit(experiment, backbone=None if self.backbone is None else self.backbone(experiment.seed), **hooks)


@dataclass
class PositiveLog:
    """Means over the mined positives of an epoch: cosine with the anchor, purity by weight, and their pull.

    The pull is the share of the attraction, the sum of the positives' forces, that mined positives have. One step of
    `EVERY` is read.
    """

    loss: LossSettings
    sums: dict[str, list[float]] = field(default_factory=lambda: {"cosine": [], "purity": [], "pull": []})
    epochs: list[dict[str, float | None]] = field(default_factory=list)

    @torch.no_grad()
    def step(self, info: StepInfo) -> None:
        """Add a step."""
        if info.step % EVERY:
            return
        s, chosen = info.similarities, info.selection
        weight = chosen.positive_weight[:, 1:]
        if weight.numel() == 0 or (total := float(weight.sum())) == 0:
            return
        self.sums["cosine"].append(float((s.anchor_keys.gather(1, chosen.positive_index) * weight).sum()) / total)
        if s.same_class is not None:
            right = s.same_class.gather(1, chosen.positive_index)
            self.sums["purity"].append(float((right * weight).sum()) / total)
        of_positive = -info_nce_gradients(**terms(s, chosen), temperature=self.loss.temperature, form=self.loss.form)[0]
        self.sums["pull"].append(float((of_positive[:, 1:].sum(1) / of_positive.sum(1)).mean()))

    def epoch(self, _: Run) -> None:
        """End an epoch."""
        self.epochs.append({k: round(statistics.fmean(v), 4) if v else None for k, v in self.sums.items()})
        for values in self.sums.values():
            values.clear()


def run(setting: Setting, out: Path, root: Path | None = None) -> dict[str, Any]:
    """Train the arms that the record lacks, and write the record after each.

    Args:
        setting: what to run.
        out: folder of the record.
        root: folder of the image sets.

    Raises:
        ValueError: the folder holds a record of another version of this setting.
    """
    path, images = out / f"{setting.name}.json", setting.pictures(root)
    arms = {BASELINE: setting.baseline, **setting.arms}
    with claimed(path.with_name(f"{path.name}.{IN_USE}"), command()):
        described = {
            "images": "; ".join([images.described, f"digest {images.digest()}", *setting.also()]),
            "warm_epochs": setting.warm_epochs,
            "baseline": deciding(setting.baseline),
            "arms": {
                name: [each.to_plain() for each in differences(setting.baseline, arm)] for name, arm in arms.items()
            },
        }
        origin = provenance(resolve_device(setting.baseline.training.device))
        record = {"kind": KIND, "format": FORMAT, **described, **origin, "warm_starts": {}, "rows": []}
        if path.exists():
            record = read_record(path)
            check_comparison(path, record)
        done = {(row["arm"], row["seed"]) for row in record["rows"]}
        todo = [(seed, name) for seed in setting.seeds for name in arms if (name, seed) not in done]
        if todo and (other := unlike(record, described | origin)):
            raise CltoolsError(f"{path} was made with other settings: {', '.join(other)}. Give another folder.")
        warm: Run | None = None
        for seed, name in tqdm(todo, desc=setting.name, unit="arm"):
            if warm is None or warm.experiment.seed != seed:
                first = setting.start or setting.baseline
                warm_up = replace(first.training, epochs=setting.warm_epochs)
                warm = setting.fit(replace(first, training=warm_up, seed=seed), images=images.train)
                checksum = checksum_of(warm.encoder.state_dict(), str(seed))
                if record["warm_starts"].setdefault(str(seed), checksum) != checksum:
                    raise CltoolsError(
                        f"The warm start of seed {seed} differs from the one of {path}. Give another folder."
                    )
            record["rows"].append(row(setting, name, replace(arms[name], seed=seed), warm, images))
            write_record(path, record)
        return record


def row(setting: Setting, name: str, arm: Experiment, warm: Run, images: Pictures) -> dict[str, Any]:
    """Train an arm from the warm start; return its figures and what its last epoch selected."""
    log, began = PositiveLog(arm.loss), time.perf_counter()
    try:
        trained = setting.fit(arm, images=images.train, start_from=warm, on_step=log.step, callbacks=[log.epoch])
    except FloatingPointError as error:  # also a result
        return {"arm": name, "seed": arm.seed, "diverged": str(error)}
    seconds = time.perf_counter() - began
    measured = judged(trained.encoder, images, arm.evaluation)
    history = trained.history
    curves = {column: [number(value, to) for value in history.column(column)] for column, to in CURVES.items()}
    curves |= {f"mined_{what}": [each[what] for each in log.epochs] for what in ("cosine", "purity", "pull")}
    last = history.rows[-1]
    return {
        "arm": name,
        "seed": arm.seed,
        **{figure: round(measured[figure], 2) for figure in FIGURES},
        "kept": number((last["potential"] + last["softened"]) / arm.training.keys),
        **{share: number(last[share]) for share in ("false_negative_share", "mined_purity")},
        "curves": curves,
        "seconds": round(seconds),
    }


def judged(encoder: Encoder, images: Pictures, settings: EvaluationSettings) -> dict[str, float]:
    """Return the figures of an encoder; with groups, their means over the groups by number of images."""
    if images.groups is None:
        return evaluate(encoder, images.bank, images.judged, settings, FIGURES)
    total, sums = len(images.judged), dict.fromkeys(FIGURES, 0.0)
    for group in sorted({*images.groups[1].tolist()}):
        sets = zip((images.bank, images.judged), images.groups, strict=True)
        bank, queries = (each.select((of == group).nonzero()[:, 0]) for each, of in sets)
        measured = evaluate(encoder, bank, queries, settings, FIGURES)
        for figure in FIGURES:
            sums[figure] += measured[figure] * len(queries) / total
    return sums


def number(value: float, decimals: int = 4) -> float | None:
    """Return a rounded number, or None for NaN, which JSON lacks."""
    return round(value, decimals) if value == value else None
