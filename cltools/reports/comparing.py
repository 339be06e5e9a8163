"""Every rule and control from one warm start, on one budget: `cltools compare`.

A warm start is `moco` for some epochs; each arm then goes on from it, with the same images in the same order, and is
measured after its last epoch on the test images. Nothing is chosen by what is measured, and no arm is left out.
With `holdout` it is measured on training images that no arm sees, and then something may be chosen by it.
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
from cltools.errors import CltoolsError, Settings, unknown
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
from cltools.training.state import resolve_device

KIND, FORMAT = "comparison", 2
FIGURES = ("knn200", "knn10", "probe")
CURVES = {"loss": 4, "knn": 2, "false_negative_share": 4, "mined_purity": 4}
"""Columns of the history that a row keeps by epoch, and their decimals."""
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
"""The entries of a record, and their types."""


@dataclass(frozen=True)
class CompareFlags(Settings):
    """Train every rule and control from one warm start, and write what each reached as a record."""

    images: tyro.conf.Positional[str]
    """Images that presets begin with, such as digits or cifar10; own for a folder (--images)."""
    out: tyro.conf.Positional[Path]
    """The record, JSON. An existing record is continued: arms that it holds are not trained again."""
    folder: Annotated[Path | None, tyro.conf.arg(name="images")] = None
    """Train on the images of this folder."""
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules that define rules of your own."""
    rules: tuple[str, ...] = ()
    """Train these rules, by class name, each alone in place of the baseline's; by default every preset and control."""
    vary: tuple[str, ...] = ()
    """Train with several values of a setting: its path, then the values, such as loss.temperature 0.1 0.2 0.5. With
    --only, of these arms; else of the baseline."""
    given: Annotated[tuple[str, ...], tyro.conf.arg(name="set")] = ()
    """Settings of every arm and of the warm start, each by its path and value, such as training.batch 64."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the runs; each has its own warm start, and arms are compared with the baseline of the same seed."""
    warm_epochs: Annotated[int, "a whole number of at least 1"] = 5
    """Epochs of `moco`, before the arms part."""
    epochs: Annotated[int, "a whole number of at least 1"] = 10
    """Epochs of each arm, from the warm start."""
    only: tuple[str, ...] = ()
    """Train only these arms and the baseline; by default all arms."""
    drop_closest: tuple[float, ...] = ()
    """With --keep-within: a grid of bands, and as many keys by chance, in place of the rules."""
    keep_within: tuple[float, ...] = ()
    """Shares beyond which the bands of the grid drop keys."""
    holdout: float = 0.0
    """Keep this share of the training images from every arm, another for each seed, and measure on it, not on test."""
    every: Annotated[int | None, "a whole number of at least 1"] = None
    """With --holdout: measure kNN-200 on it after every so many epochs too, for a curve; else after the last alone."""
    laptop: bool = False
    """The CPU setting: tiny encoder, 10,000 images."""
    root: str | None = None
    """Where images lie; else the variable CLTOOLS_DATA, else data/."""
    device: str = "auto"
    """"auto" is CUDA where there is one."""

    def __call__(self) -> tuple[str, Any]:
        """Compare, and show the record as a table, and which arms differ from the baseline."""
        from cltools.reports.table import frame_of, gains, table
        from cltools.reports.verdicts import verdicts

        record = compare(self)
        gained = gains(frame_of(record["rows"]), "knn200").drop(BASELINE, level="arm").dropna()
        found = verdicts({str(arm): each.tolist() for arm, each in gained.groupby("arm", sort=False)})
        head = f"kNN-200 against {BASELINE}, paired over seeds, p corrected for {len(found)} arms (Holm):"
        words = "\n".join([table([self.out]), "", head, *(f"  {arm}: {said}" for arm, said in found.items())])
        return words, {"record": str(self.out), "rows": record["rows"], "verdicts": found}

    def __post_init__(self) -> None:
        """Refuse to compare nothing."""
        super().__post_init__()
        if self.images not in IMAGES:
            raise unknown("images", self.images, IMAGES)
        if len(self.vary) == 1:
            raise CltoolsError(f"compare: vary is {self.vary[0]}; name its values too, such as: {self.vary[0]} 0.1 0.2")
        if len(self.given) % 2:
            raise CltoolsError(f"compare: set is {' '.join(self.given)}; give a path and a value in turn.")
        if not self.seeds:
            raise CltoolsError("compare: seeds is empty; name at least one.")
        if bool(self.drop_closest) != bool(self.keep_within):
            raise CltoolsError("compare: a grid takes both drop_closest and keep_within; give the other one too.")
        if self.every is not None and not self.holdout:
            raise CltoolsError("compare: every is for curves, which are never measured on test; give holdout too.")
        for name in self.only:
            if name not in self.arms():
                raise unknown("arm", name, self.arms())

    def arms(self) -> dict[str, Experiment]:
        """What may be compared: every rule and control, or a grid of bands."""
        moco = preset(f"{self.images}-{BASELINE}", self.folder)
        if self.drop_closest:
            return grid_of(moco, self.drop_closest, self.keep_within)
        if self.rules:
            return {BASELINE: moco} | own_arms(moco, self.rules, IMAGES[self.images])
        return arms_of(self.images, self.folder)

    def chosen(self) -> dict[str, Experiment]:
        """The arms to train, the baseline first, each with the budget."""
        every = self.arms()
        wanted = {name: every[name] for name in every if name in self.only or not (self.only or self.vary)}
        if self.vary:
            path, *values = self.vary
            of = wanted or {BASELINE: every[BASELINE]}
            wanted = {f"{name} {path}={x}": varied(each, path, x) for name, each in of.items() for x in values}
        return {name: self.budgeted(each, self.epochs) for name, each in ({BASELINE: every[BASELINE]} | wanted).items()}

    def controls(self) -> dict[str, str]:
        """For each own negative rule the arm that keeps as many keys by chance, and the rule's arm."""
        known = rule_classes(NegativeRule)
        return {f"random-as-{name}": name for name in self.rules if name in known}

    def matched(self, rule: str, rows: Sequence[Mapping[str, Any]]) -> Experiment:
        """A control that keeps at random the share that a rule's arm kept of what the baseline keeps, by its first row.

        Both are counted over the last epoch. Where the arm diverged, all keys are kept.
        """
        kept = {row["arm"]: row["kept"] for row in reversed(rows) if row.get("kept")}
        share = min(1.0, kept[rule] / kept[BASELINE]) if {rule, BASELINE} <= kept.keys() else 1.0
        moco = preset(f"{self.images}-{BASELINE}", self.folder)
        return self.budgeted(replace(moco, negatives=RandomNegatives(share)), self.epochs)

    def budgeted(self, experiment: Experiment, epochs: int) -> Experiment:
        """The experiment on this budget; how often it is measured changes nothing of what it learns."""
        if self.laptop:
            experiment = laptop(experiment)
        for path, value in zip(self.given[::2], self.given[1::2], strict=True):
            experiment = varied(experiment, path, value)
        data = replace(experiment.data, root=self.root, holdout=self.holdout)
        training = replace(experiment.training, epochs=epochs, device=self.device)
        evaluation = replace(experiment.evaluation, every=self.every or epochs)
        outside = replace(experiment.outside, rules=self.imports)
        return replace(experiment, data=data, training=training, evaluation=evaluation, outside=outside)


def compare(flags: CompareFlags) -> dict[str, Any]:
    """Train what the record lacks, and write it after every arm; nobody else may write it meanwhile.

    Raises:
        ValueError: the file holds a record of other settings, or another comparison writes it.
        OSError: it cannot be written; found before anything is trained.
    """
    check_writable(flags.out)
    with claimed(flags.out.with_name(f"{flags.out.name}.{IN_USE}"), command()):
        experiments, controls = flags.chosen(), flags.controls()
        baseline = experiments[BASELINE]
        settings: dict[str, Any] = {
            "images": flags.images,
            "warm_epochs": flags.warm_epochs,
            "baseline": _deciding(baseline),
            "arms": {name: [each.to_plain() for each in differences(baseline, of)] for name, of in experiments.items()},
        }
        here = provenance(resolve_device(flags.device))
        record = {"kind": KIND, "format": FORMAT, **settings, **here, "warm_starts": {}, "rows": []}
        if flags.out.exists():
            record = read_record(flags.out)
            check_comparison(flags.out, record)
            if other := unlike(record, settings | here):
                raise CltoolsError(f"{flags.out} was made with other settings: {', '.join(other)}. Give another file.")
            record["arms"] |= settings["arms"]  # with those that are new to it
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
            if name in controls:
                experiments[name] = flags.matched(controls[name], record["rows"])
                record["arms"][name] = [each.to_plain() for each in differences(baseline, experiments[name])]
            try:
                row = train_arm(name, replace(experiments[name], seed=seed), warm, images, test)
                said = ", ".join(f"{figure} {row[figure]:.1f}" for figure in FIGURES)
            except FloatingPointError as error:  # what an arm came to, too; a warm start that fails ends the comparison
                row, said = {"arm": name, "seed": seed, "diverged": str(error)}, f"diverged. {error}"
            record["rows"].append(row)
            write_record(flags.out, record)
            tqdm.write(f"{flags.images} {name} seed {seed}: {said}")
        return record


def whole(experiment: Experiment) -> ImageSet:
    """The training images with those that will be held out; each seed holds out others."""
    return training_images(replace(experiment, data=replace(experiment.data, holdout=0.0)))[0]


def warm_start(flags: CompareFlags, seed: int, images: ImageSet) -> Run:
    """The run of `moco` that every arm of a seed goes on from."""
    start = flags.budgeted(preset(f"{flags.images}-{BASELINE}", flags.folder), flags.warm_epochs)
    return fit(replace(start, seed=seed), images=images)


def train_arm(
    name: str, asked: Experiment, warm: Run, images: ImageSet, test: ImageSet | None = None, callbacks: Callbacks = ()
) -> dict[str, Any]:
    """Train an arm, and what it reached and selected in its last epoch; without test images, on those held out."""
    began = time.perf_counter()
    run = fit(asked, images=images, start_from=warm, callbacks=callbacks)
    seconds = time.perf_counter() - began
    train, held_out = training_images(asked, images)
    judged = test if test is not None else held_out
    assert judged is not None
    measured, last = evaluate(run.encoder, train, judged, asked.evaluation), run.history.rows[-1]
    return {
        "arm": name,
        "seed": asked.seed,
        **{figure: round(measured[figure], 2) for figure in FIGURES},
        "kept": _number(last["potential"] / asked.training.keys),
        **{share: _number(last[share]) for share in ("false_negative_share", "mined_purity")},
        "curves": {name: [_number(value, to) for value in run.history.column(name)] for name, to in CURVES.items()},
        "seconds": round(seconds),
    }


def _check_same_start(path: Path, known: dict[str, str], warm: Run) -> None:
    """Note the checksum of a seed's warm start, or refuse one that is no longer the same."""
    seed = str(warm.experiment.seed)
    checksum = checksum_of(warm.encoder.state_dict(), seed)
    if known.setdefault(seed, checksum) != checksum:
        wrong = f"The arms in {path} went on from another warm start of seed {seed} (checksum {known[seed]}, now"
        raise CltoolsError(f"{wrong} {checksum}): the code was changed since. Give another file.")


def _deciding(experiment: Experiment) -> dict[str, Any]:
    """The settings that decide a result; a record has several seeds."""
    plain: dict[str, Any] = to_plain(experiment)
    del plain["seed"]
    for path in undeciding():
        section, name = path.split(".")
        del plain[section][name]
    return plain


def check_comparison(path: Path, record: Mapping[str, Any]) -> None:
    """Raise ValueError for a record that is no comparison of this version, or a damaged one."""
    told = check_record(path, record, KIND, form=FORMAT)
    with reading(f"{path} is damaged or of another version"):
        settings_of(from_plain(RECORDED, told, "record").baseline | {"seed": 0})


def unlike(record: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two records differ that must be alike to put them together."""
    names = ("images", "warm_epochs", "commit", "versions", "hardware")
    decides = any(each.decides for each in differences(record["baseline"], other["baseline"]))
    found = [name for name in names if record[name] != other[name]] + ["baseline"] * decides
    arms = [name for name in other["arms"] if record["arms"].get(name, other["arms"][name]) != other["arms"][name]]
    return found + [f"arm {name}" for name in arms]


def _number(value: float, decimals: int = 4) -> float | None:
    return None if math.isnan(value) else round(value, decimals)
