"""Flags that depend on what a person names first: a preset or a config, images, rules, and modules of their own.

`train` has a flag for every setting, whose default is that of the preset; `mine` those of its rules.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cltools.config import Experiment, import_rules
from cltools.datasets import splits_of
from cltools.errors import CltoolsError, printable
from cltools.evaluation import figures, over_seeds
from cltools.files import check_writable, replacing
from cltools.mining import AugmentedView, NegativeRule, PositiveRule, RankBand
from cltools.mining.rules import rule_class
from cltools.presets import IMAGES, fitted, laptop, preset
from cltools.ranks import Ranks, joined
from cltools.training import Run, fit
from cltools.training.loggers import LOGS
from cltools.training.record import Split, read_run_record
from cltools.training.run import read_config

Imports = Annotated[tuple[str, ...], tyro.conf.arg(name="import")]
EARLY = ("--config", "--images", "--rule", "--positive-rule", "--import")
"""Flags that decide, beside --laptop, which others there are; tyro says where one is given wrongly."""


def flags_of(command: str, arguments: Sequence[str]) -> Any:
    """The flags of a command as they are where none is given.

    Raises:
        ValueError: a preset, rule, module or config that is not known.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--laptop", action="store_true")
    for flag in EARLY:
        early.add_argument(flag, nargs="*", default=[])
    known = early.parse_known_args([*arguments])[0]
    import_rules(vars(known)["import"])
    rules = {"negatives": (NegativeRule, known.rule), "positives": (PositiveRule, known.positive_rule)}
    chosen: dict[str, Any] = {name: _rule(given[0], base) for name, (base, given) in rules.items() if given}
    if command == "compare":
        from cltools.reports.comparing import CompareFlags

        return CompareFlags
    if command == "mine":
        return _mine_flags(**chosen)
    name = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    named = known.config[0] if known.config else name or "digits-moco"
    experiment = experiment_of(named, next(iter(known.images), None), known.laptop)
    if "negatives" in chosen and name:
        chosen["negatives"] = fitted(chosen["negatives"], IMAGES[name.partition("-")[0]])
    outside = replace(experiment.outside, rules=(*experiment.outside.rules, *vars(known)["import"]))
    return _train_flags(name, replace(experiment, outside=outside, **chosen), bool(known.config))


def experiment_of(name: str, images: Path | str | None = None, small: bool = False) -> Experiment:
    """The experiment of a preset or of a file of settings (.json), on these images, at the CPU setting if `small`."""
    experiment = read_config(Path(name)) if name.endswith(".json") else preset(name, images)
    data = replace(experiment.data, name=str(images or experiment.data.name))
    experiment = replace(experiment, data=data)
    return laptop(experiment) if small else experiment


def _rule(name: str, base: type[Any]) -> Any:
    """The rule of a class name, with the defaults as its class writes them.

    What it fills in by itself, as `MarginBand` its margin where no other is given, stays open, so that a flag may give
    the other form.
    """
    rule = rule_class(name, base)()
    vars(rule).update({f.name: f.default for f in fields(rule) if f.init and f.default is not MISSING})
    return rule


def _kind(rule: object) -> Any:
    """The type by which flags are made of a rule: none of `AugmentedView`, whose warm-up has no meaning."""
    return Annotated[type(rule), tyro.conf.Suppress, tyro.conf.Fixed] if type(rule) is AugmentedView else type(rule)


# --- train -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainFlags:
    """Train an encoder by a preset, such as digits-potential, and evaluate it.

    Every setting is a flag, whose default is that of the preset. What cannot be evaluated is said before training.
    """

    preset: tyro.conf.Positional[str]
    """IMAGES-METHOD, as `cltools presets` lists them; images of your own are own-METHOD. Leave it out with --config."""
    out: Path | None
    """The run's folder. By default runs/PRESET, or the first of runs/PRESET-2, runs/PRESET-3, … that is free."""
    resume: bool
    """Go on from the folder's checkpoint. A finished run goes on if --epochs is more than it had."""
    start_from: Path | None
    """Start from the encoder, momentum copy and queue of the run in this folder."""
    seeds: tuple[int, ...]
    """Train once per seed, each into OUT-seedS, and show mean and deviation."""
    config: Path | None
    """Take the settings of this config.json instead of a preset's; flags change them."""
    images: Path | None
    """Train on the images of this folder."""
    imports: Imports
    """Modules that define rules of your own, such as my_rules for my_rules.py; the run's config names them."""
    rule: str
    """Use this negative rule, by class name."""
    positive_rule: str
    """Use this positive rule, by class name."""
    laptop: bool
    """Use the CPU setting: tiny encoder, at most 10,000 images, 20 epochs."""
    log: tuple[Literal["tensorboard", "wandb"], ...]
    """Also log the history there."""
    print_config: bool
    """Print the settings as JSON, and train nothing."""

    def __call__(self) -> tuple[str, Any] | None:
        """Train and evaluate."""
        asked = Experiment(**{f.name: getattr(self, f.name) for f in fields(Experiment)})
        if self.print_config:
            return asked.to_json().rstrip(), json.loads(asked.to_json())
        split = _judged_on(asked)
        with joined() as ranks:
            start = Run.load(self.start_from) if self.start_from else None
            trained = [self._trained(replace(asked, seed=seed), ranks, start) for seed in self.seeds or (asked.seed,)]
        if not ranks.first:
            return None
        lines, plain, reports = [], [], [_report(run, split) for run in trained]
        for run, report in zip(trained, reports, strict=True):
            epochs = len(run.history.rows)
            lines.append(
                f"{run.path}: {epochs} epoch{'s' * (epochs != 1)}" + (f"; {split}: {figures(report)}" if report else "")
            )
            plain.append({"run": str(run.path), "epochs": epochs, "report": report})
        if len(reports) > 1 and all(reports):
            lines.append(over_seeds(reports))
        return "\n".join(lines), plain if self.seeds else plain[0]

    def _trained(self, experiment: Experiment, ranks: Ranks, start: Run | None) -> Run:
        """Train with one seed."""
        name = self.preset or experiment.data.name
        out = self.out or Path("runs") / re.sub(r"[^\w.-]+", "-", name).strip("-")
        out = out.with_name(f"{out.name}-seed{experiment.seed}") if self.seeds else out
        if self.out is None and not self.resume:
            out = ranks.from_first(_free(out) if ranks.first else None)
        told = [LOGS[log](out / log) for log in self.log] + ([] if sys.stderr.isatty() else [_say_epoch])
        try:
            return fit(experiment, out=out, resume=self.resume, start_from=start, callbacks=told)
        finally:
            with suppress(OSError):  # what was refused leaves no empty folder
                out.rmdir()


def _train_flags(name: str, experiment: Experiment, config: bool) -> TrainFlags:
    """The flags of `train`: every setting has one, and those of data and training have no prefix."""
    settings = {f.name: getattr(experiment, f.name) for f in fields(Experiment)}
    kinds = {part: type(value) for part, value in settings.items()} | {"positives": _kind(experiment.positives)}
    unprefixed = {part: Annotated[kinds[part], tyro.conf.arg(name="")] for part in ("data", "training")}
    seed = Annotated[int, tyro.conf.arg(help="Seed of weights, order, views and draws.")]
    flags = [(part, kind, field()) for part, kind in (kinds | unprefixed | {"seed": seed}).items()]
    made: Any = make_dataclass("Flags", flags, bases=(TrainFlags,), frozen=True)
    made.__doc__ = TrainFlags.__doc__
    none: dict[Any, Any] = {bool: False, Path | None: None}
    unset = {f.name: none.get(f.type, ()) for f in fields(TrainFlags)}
    unset["preset"] = name or ("" if config else tyro.MISSING)
    rules = {"rule": type(experiment.negatives).__name__, "positive_rule": type(experiment.positives).__name__}
    found: TrainFlags = made(**unset | rules | settings)
    return found


def _free(out: Path) -> Path:
    """The folder, or the first of that name with a number that is free; it is made, so that nobody else takes it."""
    path, number = out, 1
    while True:
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
        number += 1
        path = out.with_name(f"{out.name}-{number}")


def _judged_on(experiment: Experiment) -> Split | None:
    """The split that a run will be evaluated on; where there is none, that is said now."""
    data, own = experiment.data, experiment.outside.images is not None
    splits = () if own else splits_of(data.name)
    if "test" in splits:
        return "test"
    if "val" in splits or data.holdout > 0:
        return "val"
    wrong = "has no test images" if own else "is not divided into train and test"
    tell(f"The run will not be evaluated: {printable(data.name)} {wrong}. Hold some out with --holdout 0.2.")
    return None


def _report(run: Run, split: Split | None) -> dict[str, Any]:
    """What the run's record has of the split, else what is measured now; nothing of images without labels."""
    record = read_run_record(run.path) if run.path else None
    if split is None:
        return {}
    if record is not None and split in record.evaluations:  # of this very state: nothing is measured twice
        return {**record.evaluations[split]}
    try:
        return run.evaluate(split)
    except CltoolsError as error:
        tell(f"{run.path} is not evaluated: {error}")
        return {}


def _say_epoch(run: Run) -> None:
    """A line per epoch for a log file, which shows no bar."""
    row = run.history.rows[-1]
    knn = "" if math.isnan(row["knn"]) else f", kNN {row['knn']:.1f} %"
    tell(f"epoch {len(run.history.rows)}/{run.experiment.training.epochs}, loss {row['loss']:.3f}{knn}")


def tell(message: str) -> None:
    """A line for the person who waits, beside the answer."""
    print(printable(message), file=sys.stderr, flush=True)


# --- mine ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MineFlags:
    """Mine negatives of embeddings in files: a table of pairs, and why candidates were dropped."""

    anchors: tyro.conf.Positional[str]
    """Embeddings, .npy, .npz or .parquet, one per row; FILE:NAME says which array or column, if there are several, and
    FILE:NAME,NAME,… which columns of a table."""
    positive: tyro.conf.Positional[str]
    """The known positive of each anchor, in the same order."""
    corpus: tyro.conf.Positional[str]
    """Embeddings that negatives are taken from."""
    out: tyro.conf.Positional[Path]
    """The table of pairs, .csv."""
    count: int
    """Number of negatives per anchor."""
    pick: Literal["closest", "random"]
    """Which of the kept: those most similar to the anchor, or any."""
    temperature: float
    """Temperature for rules that look at forces or weigh by it."""
    seed: int
    """Seed of what rules and --pick random draw."""
    imports: Imports
    """Modules that define rules of your own."""
    rule: str
    """The negative rule, by class name."""
    positive_rule: str
    """The positive rule, by class name; this one mines nothing."""

    def __call__(self) -> tuple[str, Any]:
        """Mine, and write the table."""
        from cltools.interop import mine_pairs

        if self.out.suffix != ".csv":
            raise CltoolsError(f"{self.out} ends in {self.out.suffix!r}; the table is written as .csv.")
        check_writable(self.out)
        rules: Any = self  # whose class has fields for the two
        anchors, positive, corpus = map(_embeddings, (self.anchors, self.positive, self.corpus))
        found = mine_pairs(
            anchors, positive, corpus, rules.positives, rules.negatives,
            negatives=self.count, pick=self.pick, temperature=self.temperature, seed=self.seed,
        )  # fmt: skip
        with replacing(self.out) as part:
            found.pairs.to_csv(part, index=False)
        words = f"{found.report}\n{self.out}: {len(found.pairs):,} pairs"
        return words, {"table": str(self.out), "pairs": len(found.pairs)}


def _mine_flags(**chosen: Any) -> Any:
    """The flags of `mine` with those of its rules."""
    rules = {"negatives": RankBand(), "positives": AugmentedView()} | chosen
    made: Any = make_dataclass(
        "Flags", [(name, _kind(rule)) for name, rule in rules.items()], bases=(MineFlags,), frozen=True
    )
    made.__doc__ = MineFlags.__doc__
    names = {"rule": type(rules["negatives"]).__name__, "positive_rule": type(rules["positives"]).__name__}
    return made(*[tyro.MISSING] * 4, 10, "closest", 0.2, 0, (), **names, **rules)


def _embeddings(given: str) -> Any:
    """Those of FILE, of FILE:NAME, or of a table's columns as FILE:NAME,NAME,…."""
    from cltools.snapshot.reading import read_embeddings

    named = re.fullmatch(r"(.+?\.(?:npz|parquet)):(.+)", given)
    file, name = named.groups() if named else (given, None)
    try:
        return read_embeddings(file, vectors=name.split(",") if name and "," in name else name)[0]
    except CltoolsError as error:  # which may advise an argument of Python's
        told = str(error).replace("name one with vectors=…", f"name one as {file}:NAME")
        raise CltoolsError(told.replace("vectors=[…], in order", f"{file}:NAME,NAME,…, in order")) from None
