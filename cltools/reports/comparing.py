"""`cltools compare`, which trains every rule and control from one warm start with one budget.

The warm start is `moco`, trained for some epochs. Each arm continues from it, with the same images in the same order,
and is evaluated on the test images after its last epoch. No choice depends on these results, and no arm is left out.
With `holdout`, arms are evaluated on training images that no arm is trained on, and choices may depend on the results.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm.auto import tqdm

from cltools.config import Experiment, differences, from_plain, to_plain, undeciding
from cltools.datasets import ImageSet
from cltools.encoders import resolve_device
from cltools.errors import CltoolsError, Settings, shown, unknown
from cltools.evaluation import evaluate
from cltools.files import IN_USE, check_writable, claimed, reading
from cltools.mining import NegativeRule, RandomNegatives
from cltools.mining.rules import rule_classes
from cltools.presets import IMAGES, laptop, preset
from cltools.provenance import check_record, command, provenance, read_record, write_record
from cltools.reports.arms import BASELINE, arms_of, grid_of, own_arms, varied
from cltools.training import Run, fit
from cltools.training.checkpoint import checksum_of
from cltools.training.fit import Callbacks
from cltools.training.inputs import evaluation_images, training_images
from cltools.training.record import Plain, settings_of

KIND, FORMAT = "comparison", 2
FIXED = ("seed", "data.name", "data.root", "data.holdout", "training.epochs", "training.device", "evaluation.every")
"""Settings that flags of their own decide, for all arms."""
FIGURES = ("knn200", "knn10", "probe")
CURVES = {"loss": 4, "knn": 2, "false_negative_share": 4, "mined_purity": 4}
"""Columns of the history that a row stores per epoch, and their decimals."""
_SHARES = ("kept", "false_negative_share", "mined_purity")
_MEASURED = [(name, float | None, None) for name in (*FIGURES, *_SHARES, "seconds")]
_ROW = make_dataclass(
    "Row", [("arm", str), ("seed", int), *_MEASURED, ("curves", Plain, None), ("diverged", str | None, None)]
)
RECORDED = make_dataclass(
    "Comparison",
    [
        *(("images", str), ("commit", str), ("warm_epochs", int), ("rows", tuple[_ROW, ...])),  # type: ignore[valid-type]
        *((name, Plain) for name in ("baseline", "arms", "versions", "hardware", "warm_starts")),
        ("command", str, ""),
    ],
)
"""The entries of a record and their types."""


@dataclass(frozen=True)
class CompareFlags(Settings):
    """Train every rule and control from one warm start, and write the results as a record."""

    images: tyro.conf.Positional[str]
    """Image set, as named in presets: digits, cifar10, …; "own" for a folder (--images)."""
    out: tyro.conf.Positional[Path]
    """The record, JSON. An existing record is continued: arms that it holds are not trained again."""
    folder: Annotated[Path | None, tyro.conf.arg(name="images")] = None
    """Train on the images in this folder."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules that define your own rules."""
    rules: tuple[str, ...] = ()
    """Train `moco`, the baseline, with each of these rules, by class name; by default, all presets and controls."""
    vary: tuple[str, ...] = ()
    """Train with several values of a setting: its path, then the values, such as loss.temperature 0.1 0.2 0.5. The
    setting is varied in the arms named by --only, or else in the baseline."""
    given: Annotated[tuple[tuple[str, str], ...], tyro.conf.arg(name="set")] = ()
    """Settings of every arm and of the warm start, as paths and values, such as training.batch 64."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs. Each has its own warm start, and arms are compared with the baseline of the same seed."""
    warm_epochs: Annotated[int, "a whole number of at least 1"] = 5
    """Epochs of `moco` in the warm start."""
    epochs: Annotated[int, "a whole number of at least 1"] = 10
    """Epochs of each arm after the warm start."""
    only: tuple[str, ...] = ()
    """Train only these arms and the baseline; by default all arms."""
    drop_closest: tuple[float, ...] = ()
    """With --keep-within: train a band for each pair of a dropped share and an end, and random controls."""
    keep_within: tuple[float, ...] = ()
    """With --drop-closest: shares of closest keys at which the bands end."""
    holdout: float = 0.0
    """Hold out this share of the training images, drawn by the seed, and evaluate on it, not on the test images."""
    every: Annotated[int | None, "a whole number of at least 1"] = None
    """With --holdout, also measure kNN-200 on the held-out images every N epochs, for a learning curve."""
    laptop: bool = False
    """Use the CPU setting: tiny encoder, at most 10,000 images."""
    root: str | None = None
    """Folder of the image sets; by default $CLTOOLS_DATA or, if unset, data/."""
    device: str = "auto"
    """Device to train on; "auto" is CUDA if available."""

    def __call__(self) -> tuple[str, Any]:
        """Compare; return the record as a table, and the verdicts on each arm."""
        from cltools.reports.table import frame_of, gains, table
        from cltools.reports.verdicts import SEEDS, verdicts

        record = compare(self)
        gained = gains(frame_of(record["rows"]), "knn200").drop(BASELINE, level="arm").dropna()
        by_arm = verdicts({str(arm): each.tolist() for arm, each in gained.groupby("arm", sort=False)})
        tested = "p holds for all arms together (max-T)" if "(p = " in str(by_arm) else f"below {SEEDS} seeds no test"
        head = f"kNN-200 against {BASELINE}, mean difference within a seed [95 % interval]; {tested}:"
        text = "\n".join([table([self.out]), "", head, *(f"  {arm}: {verdict}" for arm, verdict in by_arm.items())])
        return text, {"record": str(self.out), "rows": record["rows"], "verdicts": by_arm}

    def __post_init__(self) -> None:
        """Raise an error if flags are incomplete or contradict each other."""
        super().__post_init__()
        if self.images not in IMAGES:
            raise unknown("images", self.images, IMAGES)
        if len(self.vary) == 1:
            raise CltoolsError(f"compare: vary is {self.vary[0]}; add its values, such as: {self.vary[0]} 0.1 0.2")
        paths = [*self.vary[:1], *(path for path, _ in self.given)]
        if own := [path for path in paths if path.startswith((*FIXED, "outside."))]:
            raise CltoolsError(f"compare sets {own[0]} itself; see the flags of cltools compare --help.")
        if self.rules and (self.only or self.vary):
            raise CltoolsError("compare: rules names all arms, each with its control; leave out only and vary.")
        if not self.seeds:
            raise CltoolsError("compare: seeds is empty; name at least one.")
        if bool(self.drop_closest) != bool(self.keep_within):
            raise CltoolsError("compare: a grid needs both drop_closest and keep_within; give the other one too.")
        if self.every is not None and not self.holdout:
            raise CltoolsError("compare: every measures curves, which must not use test images; give holdout too.")
        for name in self.only:
            if name not in self.arms():
                raise unknown("arm", name, self.arms())

    def arms(self) -> dict[str, Experiment]:
        """Return all arms that can be compared: every rule and control, own rules, or a grid of bands."""
        moco = preset(f"{self.images}-{BASELINE}", self.folder)
        if self.drop_closest:
            return grid_of(moco, self.drop_closest, self.keep_within)
        if self.rules:
            return {BASELINE: moco} | own_arms(moco, self.rules, IMAGES[self.images])
        return arms_of(self.images, self.folder)

    def chosen(self) -> dict[str, Experiment]:
        """Return the arms to train, with the budget; the baseline is first."""
        every = {name: self.budgeted(each, self.epochs) for name, each in self.arms().items()}
        wanted = {name: every[name] for name in every if name in self.only or not (self.only or self.vary)}
        if self.vary:
            path, *values = self.vary
            of = wanted or {BASELINE: every[BASELINE]}
            wanted = {f"{name} {path}={x}": varied(each, path, x) for name, each in of.items() for x in values}
        return {BASELINE: every[BASELINE]} | wanted

    def controls(self) -> dict[str, str]:
        """Return, for each of the user's negative rules, the names of its random control and of the rule's arm."""
        return {f"random-as-{name}": name for name in self.rules if name in rule_classes(NegativeRule)}

    def matched(self, rule: str, rows: Sequence[Mapping[str, Any]]) -> Experiment:
        """Return a control that keeps a random share of keys: the share that the rule's arm kept of the baseline's.

        Both are counted over the last epoch of their first row.

        Raises:
            FloatingPointError: one of them has no row, because it diverged.
        """
        kept = {row["arm"]: row["kept"] for row in reversed(rows) if row.get("kept") is not None}
        if not {rule, BASELINE} <= kept.keys():
            raise FloatingPointError(f"It has no share to keep, because {rule} or {BASELINE} diverged.")
        share = min(1.0, max(1e-6, kept[rule] / kept[BASELINE]))
        return self.budgeted(replace(self.arms()[BASELINE], negatives=RandomNegatives(share)), self.epochs)

    def budgeted(self, experiment: Experiment, epochs: int) -> Experiment:
        """Return the experiment with this budget; how often it is evaluated does not affect training."""
        if self.laptop:
            experiment = laptop(experiment)
        for path, value in self.given:
            experiment = varied(experiment, path, value)
        data = replace(experiment.data, root=self.root, holdout=self.holdout)
        training = replace(experiment.training, epochs=epochs, device=self.device)
        evaluation = replace(experiment.evaluation, every=self.every or epochs)
        outside = replace(experiment.outside, rules=self.imports)
        return replace(experiment, data=data, training=training, evaluation=evaluation, outside=outside)


def compare(flags: CompareFlags) -> dict[str, Any]:
    """Train the arms that the record lacks, and write the record after each; the file is locked meanwhile.

    Raises:
        ValueError: the file holds a record of other settings, or another comparison is writing it.
        OSError: the file cannot be written; this is checked before training.
    """
    check_writable(flags.out)
    with claimed(flags.out.with_name(f"{flags.out.name}.{IN_USE}"), command()):
        experiments, controls = flags.chosen(), flags.controls()
        baseline = experiments[BASELINE]
        settings: dict[str, Any] = {
            "images": flags.images,
            "warm_epochs": flags.warm_epochs,
            "baseline": deciding(baseline),
            "arms": {name: [each.to_plain() for each in differences(baseline, of)] for name, of in experiments.items()},
        }
        origin = provenance(resolve_device(flags.device))
        record = {"kind": KIND, "format": FORMAT, **settings, **origin, "warm_starts": {}, "rows": []}
        if flags.out.exists():
            record = read_record(flags.out)
            check_comparison(flags.out, record)
            if other := unlike(record, settings | origin):
                raise CltoolsError(f"{flags.out} was made with other settings: {', '.join(other)}. Give another file.")
            record["arms"] |= settings["arms"]  # adds new arms
        done = {(row["arm"], row["seed"]) for row in record["rows"]}
        names = [*experiments, *controls]
        todo = [(seed, name) for seed in dict.fromkeys(flags.seeds) for name in names if (name, seed) not in done]
        images = whole(baseline)
        test = None if flags.holdout else evaluation_images(baseline)
        warm: Run | None = None
        for seed, name in tqdm(todo, desc="arms", unit="arm"):
            if warm is None or warm.experiment.seed != seed:
                warm = warm_start(flags, seed, images)
                _check_same_start(flags.out, record["warm_starts"], warm)
            record["arms"].setdefault(name, [])  # of a control whose rule has diverged nothing else is known
            try:
                if name in controls:
                    experiments[name] = flags.matched(controls[name], record["rows"])
                    record["arms"][name] = [each.to_plain() for each in differences(baseline, experiments[name])]
                row = train_arm(name, replace(experiments[name], seed=seed), warm, images, test)
                outcome = ", ".join(f"{figure} {row[figure]:.1f}" for figure in FIGURES)
            except FloatingPointError as error:  # also a result; a diverged warm start ends the comparison
                row, outcome = {"arm": name, "seed": seed, "diverged": str(error)}, f"diverged. {error}"
            record["rows"].append(row)
            write_record(flags.out, record)
            tqdm.write(f"{flags.images} {name} seed {seed}: {outcome}")
        return record


def whole(experiment: Experiment) -> ImageSet:
    """Return the training images including those to be held out, which depend on the seed."""
    return training_images(replace(experiment, data=replace(experiment.data, holdout=0.0)))[0]


def warm_start(flags: CompareFlags, seed: int, images: ImageSet) -> Run:
    """Train the run of `moco` from which every arm of a seed continues."""
    start = flags.budgeted(preset(f"{flags.images}-{BASELINE}", flags.folder), flags.warm_epochs)
    return fit(replace(start, seed=seed), images=images)


def train_arm(
    name: str, arm: Experiment, warm: Run, images: ImageSet, test: ImageSet | None = None, callbacks: Callbacks = ()
) -> dict[str, Any]:
    """Train an arm, and return its row: figures on the test or held-out images, and the last epoch's selection."""
    began = time.perf_counter()
    run = fit(arm, images=images, start_from=warm, callbacks=callbacks)
    seconds = time.perf_counter() - began
    train, held_out = training_images(arm, images)
    judged = test if test is not None else held_out
    assert judged is not None
    measured, last = evaluate(run.encoder, train, judged, arm.evaluation, FIGURES), run.history.rows[-1]
    return {
        "arm": name,
        "seed": arm.seed,
        **{figure: round(measured[figure], 2) for figure in FIGURES},
        "kept": _number(last["potential"] / arm.training.keys),
        **{share: _number(last[share]) for share in ("false_negative_share", "mined_purity")},
        "curves": {name: [_number(value, to) for value in run.history.column(name)] for name, to in CURVES.items()},
        "seconds": round(seconds),
    }


def _check_same_start(path: Path, known: dict[str, str], warm: Run) -> None:
    """Store the checksum of a seed's warm start; raise an error if it differs from the stored one."""
    seed = str(warm.experiment.seed)
    checksum = checksum_of(warm.encoder.state_dict(), seed)
    if known.setdefault(seed, checksum) != checksum:
        raise CltoolsError(f"{path} has another warm start of seed {seed}, as the code has changed; name another file.")


def deciding(experiment: Experiment) -> dict[str, Any]:
    """Return the settings that affect results, without the seed: a record has several."""
    plain: dict[str, Any] = to_plain(experiment)
    del plain["seed"]
    for path in undeciding():
        section, name = path.split(".")
        del plain[section][name]
    return plain


def check_comparison(path: Path, record: Mapping[str, Any]) -> None:
    """Raise ValueError if a record is not a comparison of this version, or is damaged."""
    checked = check_record(path, record, KIND, form=FORMAT)
    with reading(f"{path} is damaged or of another version"):
        known: Any = from_plain(RECORDED, checked, "record")
        settings_of(known.baseline | {"seed": 0})
        for row in known.rows:
            figures = [each for name in FIGURES if (each := getattr(row, name)) is not None]
            fits = row.arm in known.arms and row.seed >= 0 and (row.diverged is None) == bool(figures)
            if not (fits and known.warm_epochs >= 0 and all(0 <= each <= 100 for each in figures)):
                wrong = f"arm {shown(row.arm)}, seed {row.seed}, or warm_epochs {known.warm_epochs}"
                raise CltoolsError(f"{wrong}: an unknown arm, a number below 0, a figure above 100, or none")


def unlike(record: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the entries that must be equal to combine two records, but differ."""
    names = ("images", "warm_epochs", "commit", "versions", "hardware")
    decides = any(each.decides for each in differences(record["baseline"], other["baseline"]))
    differing = [name for name in names if record[name] != other[name]] + ["baseline"] * decides
    arms = [name for name in other["arms"] if record["arms"].get(name, other["arms"][name]) != other["arms"][name]]
    return differing + [f"arm {name}" for name in arms]


def _number(value: float, decimals: int = 4) -> float | None:
    return None if math.isnan(value) else round(value, decimals)
