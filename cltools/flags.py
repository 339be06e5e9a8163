"""Flags that depend on other arguments: a preset or a config, images, rules, and the user's modules.

`train` has a flag for every setting, with the preset's value as its default; `mine` has flags for its rules' settings.
"""

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

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
from cltools.training.run import CONFIG, FILES, read_config

Imports = Annotated[tuple[str, ...], tyro.conf.arg(name="import")]
EARLY = ("--config", "--images", "--rule", "--positive-rule", "--import")
"""Flags that, beside --laptop, determine which others exist; tyro reports wrong uses of them."""


def flags_of(command: str, arguments: Sequence[str]) -> Any:
    """Return the flags of a command with their defaults, or the class of its flags.

    Raises:
        ValueError: a preset, rule, module or config is unknown.
    """
    early = argparse.ArgumentParser(prog=f"cltools {command}", add_help=False, allow_abbrev=False)
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
    if known.config and name:
        raise CltoolsError(f"{name} and --config both name settings; give one of them. Flags change single settings.")
    named = Path(known.config[0]) if known.config else name or "digits-moco"
    experiment = experiment_of(named, next(iter(known.images), None), known.laptop)
    if "negatives" in chosen and name:
        chosen["negatives"] = fitted(chosen["negatives"], IMAGES[name.partition("-")[0]])
    outside = replace(experiment.outside, rules=(*experiment.outside.rules, *vars(known)["import"]))
    return _train_flags(name, replace(experiment, outside=outside, **chosen), bool(known.config))


def experiment_of(name: Path | str, images: Path | str | None = None, small: bool = False) -> Experiment:
    """Return the experiment of a preset or a settings file with these images, at the CPU setting if `small`.

    Args:
        name: a preset, or the path of a file or of a run's folder.
        images: a folder of images; None for those of the settings.
        small: whether to change the settings to those for a CPU.
    """
    if isinstance(name, Path):
        experiment = read_config(name / CONFIG if name.is_dir() else name)
    else:
        experiment = preset(name, images)
    data = replace(experiment.data, name=str(images or experiment.data.name))
    experiment = replace(experiment, data=data)
    return laptop(experiment) if small else experiment


def _rule(name: str, base: type[Any]) -> Any:
    """Return the rule of a class name, with the defaults as written in the class.

    Values that `__post_init__` derives, such as the margin of a `MarginBand` without one, are reset, so that a flag can
    give the alternative setting.
    """
    rule = rule_class(name, base)()
    vars(rule).update({f.name: f.default for f in fields(rule) if f.init and f.default is not MISSING})
    return rule


def _kind(rule: object) -> Any:
    """Return the type from which tyro makes a rule's flags; `AugmentedView` gets none, as its warm-up has no effect."""
    return Annotated[type(rule), tyro.conf.Suppress, tyro.conf.Fixed] if type(rule) is AugmentedView else type(rule)


# --- train -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train an encoder with the settings of a preset, such as digits-potential, and evaluate it.

    Every setting is a flag, with the preset's value as its default. If the run cannot be evaluated, a message says so
    before training.
    """

    named: ClassVar[str]
    """The preset from which the flags were made."""

    preset: tyro.conf.Positional[str]
    """IMAGES-METHOD, as listed by `cltools presets`; own-METHOD for your own images. Leave it out with --config."""
    out: Path | None = None
    """The run's folder. By default runs/PRESET, or the first of runs/PRESET-2, runs/PRESET-3, … that is free."""
    resume: bool = False
    """Resume from the folder's checkpoint. A finished run is continued if --epochs is increased."""
    start_from: Path | None = None
    """Start from the encoder, momentum copy and queue of the run in this folder."""
    seeds: tuple[int, ...] = ()
    """Train once per seed S, into OUT-seedS; show the mean and standard deviation."""
    config: Path | None = None
    """Use the settings of this config.json instead of a preset's; flags still override them."""
    images: Path | None = None
    """Train on the images in this folder."""
    imports: Imports = ()
    """Modules that define your own rules, such as my_rules for my_rules.py; they are stored in the run's config."""
    rule: str
    """Use this negative rule, by class name."""
    positive_rule: str
    """Use this positive rule, by class name."""
    laptop: bool = False
    """Use the CPU setting: tiny encoder, at most 10,000 images, 20 epochs."""
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also log the history to TensorBoard or Weights & Biases."""
    print_config: bool = False
    """Print the settings as JSON without training."""

    def __call__(self) -> tuple[str, Any] | None:
        """Train and evaluate."""
        base = Experiment(**{f.name: getattr(self, f.name) for f in fields(Experiment)})
        if self.preset != self.named:
            raise CltoolsError(f"Name the preset before its flags: cltools train {self.preset} …")
        if self.print_config:
            return base.to_json().rstrip(), json.loads(base.to_json())
        seeds = dict.fromkeys(self.seeds or (base.seed,))
        for out in (self._out(base.data.name, seed) for seed in seeds if self.out and not self.resume):
            if any((out / file).exists() for file in FILES):
                raise FileExistsError(f"{out} already holds a run. Add --resume, or use another folder.")
        split = _split_to_evaluate(base)
        with joined() as ranks:
            start = Run.load(self.start_from) if self.start_from else None
            trained = [self._trained(replace(base, seed=seed), ranks, start) for seed in seeds]
        if not ranks.first:
            return None
        lines, plain, reports = [], [], [_report(run, split) for run in trained]
        for run, report in zip(trained, reports, strict=True):
            epochs, path = len(run.history.rows), f"{run.path}".removeprefix(f"{Path.cwd()}{os.sep}")
            lines.append(f"{path}: {epochs} epoch{'s' * (epochs != 1)}{f'; {split}: {figures(report)}' * bool(report)}")
            plain.append({"run": path, "epochs": epochs, "report": report})
        if len(reports) > 1 and all(reports):
            lines.append(over_seeds(reports))
        return "\n".join(lines), plain if self.seeds else plain[0]

    def _trained(self, experiment: Experiment, ranks: Ranks, start: Run | None) -> Run:
        """Train with one seed."""
        out = self._out(experiment.data.name, experiment.seed)
        if self.out is None and not self.resume:
            out = ranks.from_first(_free(out) if ranks.first else None)
        callbacks = [LOGS[log](out / log) for log in self.log] + ([] if sys.stderr.isatty() else [_print_epoch])
        try:
            return fit(experiment, out=out, resume=self.resume, start_from=start, callbacks=callbacks)
        finally:
            with suppress(OSError):  # removes the folder if it is still empty after an error
                out.rmdir()

    def _out(self, images: str, seed: int) -> Path:
        """Return the folder of a seed's run; without --out it may be taken."""
        out = self.out or Path("runs") / re.sub(r"[^\w.-]+", "-", self.preset or images).strip("-")
        return out.with_name(f"{out.name}-seed{seed}") if self.seeds else out


def _train_flags(name: str, experiment: Experiment, config: bool) -> TrainFlags:
    """Return the flags of `train`, with one for every setting; those of data and training have no prefix."""
    settings = {f.name: getattr(experiment, f.name) for f in fields(Experiment)}
    kinds = {part: type(value) for part, value in settings.items()} | {"positives": _kind(experiment.positives)}
    unprefixed = {part: Annotated[kinds[part], tyro.conf.arg(name="")] for part in ("data", "training")}
    seed = Annotated[int, tyro.conf.arg(help="Seed for weights, image order, views and rules' draws.")]
    flags = [(part, kind, field()) for part, kind in (kinds | unprefixed | {"seed": seed}).items()]
    flags_class: Any = make_dataclass("Flags", flags, bases=(TrainFlags,), frozen=True, kw_only=True)
    flags_class.__doc__, flags_class.named = TrainFlags.__doc__, name
    rules = {"rule": type(experiment.negatives).__name__, "positive_rule": type(experiment.positives).__name__}
    defaults: TrainFlags = flags_class(preset=name or ("" if config else tyro.MISSING), **rules, **settings)
    return defaults


def _free(out: Path) -> Path:
    """Return the folder or, if it exists, the first free one with a number; it is created, which reserves the name."""
    path, number = out, 1
    while True:
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
        number += 1
        path = out.with_name(f"{out.name}-{number}")


def _split_to_evaluate(experiment: Experiment) -> Split | None:
    """Return the split that a run will be evaluated on; if there is none, print a message."""
    data, own = experiment.data, experiment.outside.images is not None
    splits = () if own else splits_of(data.name)
    if "test" in splits:
        return "test"
    if "val" in splits or data.holdout > 0:
        return "val"
    wrong = "has no test images" if own else "is not divided into train and test"
    note(f"The run will not be evaluated: {printable(data.name)} {wrong}. Hold some out with --holdout 0.2.")
    return None


def _report(run: Run, split: Split | None) -> dict[str, Any]:
    """Return the split's report from the run's record, or else evaluate; empty for images without labels."""
    record = read_run_record(run.path) if run.path else None
    if split is None:
        return {}
    if record is not None and split in record.evaluations:  # of the run's present state
        return {**record.evaluations[split]}
    try:
        return run.evaluate(split)
    except CltoolsError as error:
        note(f"{run.path} was not evaluated: {error}")
        return {}


def _print_epoch(run: Run) -> None:
    """Print a line per epoch, in place of the progress bar, to a log file."""
    row = run.history.rows[-1]
    knn = "" if math.isnan(row["knn"]) else f", kNN {row['knn']:.1f} %"
    note(f"epoch {len(run.history.rows)}/{run.experiment.training.epochs}, loss {row['loss']:.3f}{knn}")


def note(message: str) -> None:
    """Print a line to standard error, apart from the answer."""
    print(printable(message), file=sys.stderr, flush=True)


# --- mine ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MineFlags:
    """Mine negatives from embeddings in files; write a table of pairs, and report why candidates were dropped."""

    anchors: tyro.conf.Positional[str]
    """Anchors, one per row: .npy, .npz or .parquet. FILE:NAME picks an array or column; FILE:X,Y,… a column per
    dimension."""
    positive: tyro.conf.Positional[str]
    """The known positive of each anchor, in the same order."""
    corpus: tyro.conf.Positional[str]
    """Embeddings from which negatives are mined."""
    out: tyro.conf.Positional[Path]
    """The table of pairs to write, .csv."""
    count: int = 10
    """Number of negatives per anchor."""
    pick: Literal["closest", "random"] = "closest"
    """Which kept candidates to take: those most similar to the anchor, or random ones."""
    temperature: float = 0.2
    """Temperature for rules that use forces or weights."""
    seed: int = 0
    """Seed of the rules' draws and of --pick random."""
    imports: Imports = ()
    """Modules that define your own rules."""
    rule: str
    """The negative rule, by class name."""
    positive_rule: str
    """The positive rule, by class name; the default mines nothing."""

    def __call__(self) -> tuple[str, Any]:
        """Mine, and write the table."""
        from cltools.interop import mine_pairs

        if self.out.suffix != ".csv":
            raise CltoolsError(f"{self.out} ends in {self.out.suffix!r}; name a .csv file for the table.")
        check_writable(self.out)
        rules: Any = self  # the generated class has fields for both rules
        anchors, positive, corpus = map(_embeddings, (self.anchors, self.positive, self.corpus))
        mined = mine_pairs(
            anchors, positive, corpus, rules.positives, rules.negatives,
            negatives=self.count, pick=self.pick, temperature=self.temperature, seed=self.seed,
        )  # fmt: skip
        with replacing(self.out) as part:
            mined.pairs.to_csv(part, index=False)
        text = f"{mined.report}\n{self.out}: {len(mined.pairs):,} pairs"
        return text, {"table": str(self.out), "pairs": len(mined.pairs)}


def _mine_flags(**chosen: Any) -> Any:
    """Return the flags of `mine`, including those of its rules."""
    rules = {"negatives": RankBand(), "positives": AugmentedView()} | chosen
    kinds = [(name, _kind(rule)) for name, rule in rules.items()]
    flags_class: Any = make_dataclass("Flags", kinds, bases=(MineFlags,), frozen=True, kw_only=True)
    flags_class.__doc__ = MineFlags.__doc__
    names = {"rule": type(rules["negatives"]).__name__, "positive_rule": type(rules["positives"]).__name__}
    files = dict.fromkeys(("anchors", "positive", "corpus", "out"), tyro.MISSING)
    return flags_class(**files, **names, **rules)


def _embeddings(given: str) -> Any:
    """Read embeddings from FILE, FILE:NAME, or a table's columns FILE:NAME,NAME,…."""
    from cltools.snapshot.reading import read_embeddings

    named = re.fullmatch(r"(.+?\.(?i:npz|parquet)):(.+)", given)
    file, name = named.groups() if named else (given, None)
    return read_embeddings(file, vectors=name.split(",") if name and "," in name else name)[0]
