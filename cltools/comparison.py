"""Every rule and control from one warm start, on one budget: `python -m cltools compare` and `table`.

A warm start is `moco` for some epochs; each arm then goes on from it, with the same images in the same order, and is
measured after its last epoch on the test images. Nothing is chosen by what is measured, and no arm is left out.
"""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cltools.config import Experiment, differences, to_plain
from cltools.datasets import ImageSet
from cltools.errors import unknown
from cltools.evaluation import evaluate
from cltools.mining import BandNegatives, OracleNegatives, PositiveRule, RandomNegatives
from cltools.presets import IMAGES, METHODS, laptop, preset
from cltools.records import commit, provenance, read_record, write_record
from cltools.training import Run, fit
from cltools.training.images import evaluation_images, training_images
from cltools.training.loop import resolve_device

KIND = "comparison"
BASELINE = "moco"
FIGURES = ("knn200", "knn10", "probe")


def arms(images: str) -> dict[str, Experiment]:
    """Every preset of these images, then the ablations and controls that make the effect of `potential` attributable.

    Raises:
        ValueError: no such images.
    """
    if images not in IMAGES:
        raise unknown("images", images, IMAGES)
    presets = {method: preset(f"{images}-{method}") for method in METHODS}
    moco, potential, chance = (presets[method] for method in ("moco", "potential", "random"))
    band, share = potential.negatives, chance.negatives
    assert isinstance(band, BandNegatives) and isinstance(share, RandomNegatives)

    def negatives(rule: BandNegatives | RandomNegatives) -> Experiment:
        return replace(moco, negatives=rule)

    def at(experiment: Experiment, temperature: float) -> Experiment:
        return replace(experiment, loss=replace(experiment.loss, temperature=temperature))

    return presets | {
        "mined-soft": replace(moco, positives=PositiveRule(weighting="soft")),
        "mined-hard": replace(moco, positives=PositiveRule(weighting="hard")),
        "mined-soft-hard": replace(moco, positives=PositiveRule()),
        "band": negatives(band),
        "band-annealed": negatives(replace(band, lower_from=0.0, upper_from=1.0)),
        "band-rescaled": negatives(replace(band, rescale=True)),
        "band-anchor": negatives(replace(band, reference="anchor")),
        "band-gradient": negatives(replace(band, reference="gradient")),
        "band-margin": negatives(BandNegatives(-0.8, -0.1, reference="margin", unit="cosine")),
        "drop-closest": negatives(replace(band, upper=1.0)),
        "drop-beyond": negatives(replace(band, lower=0.0)),
        "random-rescaled": negatives(replace(share, rescale=True)),
        "potential-random": replace(potential, negatives=share),
        "potential-oracle": replace(potential, negatives=OracleNegatives()),
        **{f"{name}-t{t}": at(presets[name], t) for name in ("moco", "potential") for t in (0.1, 0.5)},
    }


@dataclass(frozen=True)
class CompareFlags:
    """Train every rule and control from one warm start, and write what each reached as a record."""

    images: str
    """digits, shapes, cifar10, cifar100 or tinyimagenet."""
    out: Path
    """The record, JSON. One that is there is gone on with: what it holds is not done again."""
    seeds: tuple[int, ...] = (0,)
    """Each has its own warm start."""
    warm_epochs: int = 5
    """Of `moco`, before the arms part."""
    epochs: int = 10
    """Of each arm, from the warm start."""
    only: tuple[str, ...] = ()
    """These arms alone; the baseline is added. None: all."""
    laptop: bool = False
    """The CPU setting: tiny encoder, 10,000 images."""
    root: str | None = None
    """Where images lie; else the variable CLTOOLS_DATA, else data/."""
    device: str = "auto"
    """"auto" is CUDA where there is one."""

    def __post_init__(self) -> None:
        """Refuse to compare nothing."""
        if not self.seeds:
            raise ValueError("compare: seeds is empty; name at least one.")
        if self.epochs < 1 or self.warm_epochs < 1:
            raise ValueError(f"compare: {self.warm_epochs} and {self.epochs} epochs; both must be at least 1.")
        for name in self.only:
            if name not in arms(self.images):
                raise unknown("arm", name, arms(self.images))

    def chosen(self) -> dict[str, Experiment]:
        """The arms to train, the baseline first, each with the budget."""
        every = arms(self.images)
        names = [BASELINE, *(name for name in every if name != BASELINE and (not self.only or name in self.only))]
        return {name: self.budgeted(every[name], self.epochs) for name in names}

    def budgeted(self, experiment: Experiment, epochs: int) -> Experiment:
        """The experiment on this budget; it is evaluated once, at the end."""
        if self.laptop:
            experiment = laptop(experiment)
        return replace(
            experiment,
            data=replace(experiment.data, root=self.root),
            training=replace(experiment.training, epochs=epochs, device=self.device),
            evaluation=replace(experiment.evaluation, every=epochs),
        )


def compare(flags: CompareFlags) -> dict[str, Any]:
    """Train what the record lacks, and write it after every arm.

    Raises:
        ValueError: the file holds a record of other settings.
    """
    experiments = flags.chosen()
    baseline = experiments[BASELINE]
    settings = {
        "images": flags.images,
        "warm_epochs": flags.warm_epochs,
        "baseline": _deciding(baseline),
        "arms": {name: differences(baseline, experiment) for name, experiment in experiments.items()},
    }
    record = {"kind": KIND, **settings, **provenance(resolve_device(flags.device)), "rows": []}
    if flags.out.exists():
        record = _gone_on_with(flags.out, settings)
    done = {(row["arm"], row["seed"]) for row in record["rows"]}
    todo = [(seed, name) for seed in flags.seeds for name in experiments if (name, seed) not in done]
    train, _ = training_images(baseline)
    test = evaluation_images(baseline)
    warm: Run | None = None
    for seed, name in tqdm(todo, desc="arms", unit="arm"):
        if warm is None or warm.experiment.seed != seed:
            start = flags.budgeted(preset(f"{flags.images}-{BASELINE}"), flags.warm_epochs)
            warm = fit(replace(start, seed=seed), images=train)
        row = _row(name, replace(experiments[name], seed=seed), warm, train, test)
        record["rows"].append(row)
        write_record(flags.out, record)
        tqdm.write(f"{flags.images} {name} seed {seed}: " + ", ".join(f"{f} {row[f]:.1f}" for f in FIGURES))
    return record


def _row(name: str, experiment: Experiment, warm: Run, train: ImageSet, test: ImageSet) -> dict[str, Any]:
    """Train an arm, and what it reached and selected in its last epoch."""
    began = time.perf_counter()
    run = fit(experiment, images=train, start_from=warm)
    seconds = time.perf_counter() - began
    measured, last = evaluate(run.encoder, train, test, experiment.evaluation), run.history.rows[-1]
    return {
        "arm": name,
        "seed": experiment.seed,
        **{figure: round(measured[figure], 2) for figure in FIGURES},
        "kept": _number(last["potential"] / experiment.training.keys),
        "false_negative_share": _number(last["false_negative_share"]),
        "mined_purity": _number(last["mined_purity"]),
        "seconds": round(seconds),
        "commit": commit(),
    }


def _deciding(experiment: Experiment) -> dict[str, Any]:
    """The settings that decide a result: not where data lie or computing is done."""
    plain: dict[str, Any] = to_plain(experiment)
    del plain["data"]["root"], plain["training"]["device"], plain["seed"]
    return plain


def _gone_on_with(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The record of that file, with the arms that are new to it."""
    record = read_record(path, KIND)
    known, asked = record["arms"], settings["arms"]
    other = [name for name in ("images", "warm_epochs", "baseline") if record[name] != settings[name]]
    other += [f"arm {name}" for name in asked if name in known and known[name] != asked[name]]
    if other:
        raise ValueError(f"{path} was made with other settings: {', '.join(other)}. Give another file.")
    return {**record, "arms": known | asked}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


@dataclass(frozen=True)
class TableFlags:
    """Show records of comparisons as one table, in Markdown."""

    records: tuple[Path, ...]
    """Files that `compare` wrote, of the same images and budget; their seeds are put together."""


def table(paths: Sequence[Path]) -> str:
    """Mean ± deviation over seeds of each arm, and the mean difference to the baseline of the same seed.

    Raises:
        ValueError: no records, or records that cannot be put together.
    """
    if not paths:
        raise ValueError("table: name at least one record.")
    records = [read_record(path, KIND) for path in paths]
    first = records[0]
    for path, record in zip(paths, records, strict=True):
        for name in ("images", "warm_epochs", "baseline"):
            if record[name] != first[name]:
                raise ValueError(f"{path} differs from {paths[0]} in {name}; make a table of each.")
    rows = [row for record in records for row in record["rows"]]
    if len({(row["arm"], row["seed"]) for row in rows}) < len(rows):
        raise ValueError("Two of the records hold the same arm with the same seed; name one of them.")
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    baseline = by_arm.get(BASELINE, {})
    head = ["arm", "seeds", "kNN", "to moco", "probe", "to moco", "keys kept", "false negatives", "mined purity"]
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    for name in [BASELINE, *sorted(by_arm.keys() - {BASELINE}, key=lambda arm: -_mean(by_arm[arm], "knn200"))]:
        if name not in by_arm:
            continue
        seeds = by_arm[name]
        cells = [f"`{name}`", str(len(seeds))]
        for figure in ("knn200", "probe"):
            cells += [_spread([row[figure] for row in seeds.values()]), _gain(seeds, baseline, figure, name)]
        cells += [_percent(_mean(seeds, column)) for column in ("kept", "false_negative_share", "mined_purity")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(seeds: dict[int, dict[str, Any]], baseline: dict[int, dict[str, Any]], figure: str, name: str) -> str:
    shared = [seeds[seed][figure] - baseline[seed][figure] for seed in seeds if seed in baseline]
    return "" if name == BASELINE or not shared else _spread(shared, sign="+")


def _mean(seeds: dict[int, dict[str, Any]], column: str) -> float:
    values = [row[column] for row in seeds.values() if row[column] is not None]
    return statistics.fmean(values) if values else math.nan


def _spread(values: Sequence[float], sign: str = "") -> str:
    """Mean ± standard deviation of a sample; one value alone has no spread."""
    mean = f"{statistics.fmean(values):{sign}.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f} %"
