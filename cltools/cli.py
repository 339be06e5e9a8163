"""The command line: `python -m cltools COMMAND`, one function per command.

Flags are made from the dataclasses of `Experiment` by tyro, so every setting is one; a preset gives their defaults.
"""

import argparse
import os
import re
import sys
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from signal import SIGTERM
from tempfile import mkdtemp
from typing import Annotated, Any, Literal

from cltools.config import Experiment
from cltools.datasets import image_sets, load_images, splits_of
from cltools.errors import CltoolsError, printable, unknown
from cltools.files import check_writable, replacing
from cltools.mining import AugmentedView, NegativeRule, PositiveRule
from cltools.mining.rules import rule_class
from cltools.presets import IMAGES, METHODS, fitted, laptop, preset
from cltools.ranks import joined, launched
from cltools.reports.evaluating import evaluate_runs, print_report
from cltools.training import Run, Stopped, TensorBoard, fit
from cltools.training.learner import resolve_device
from cltools.training.record import read_run_record

PROGRAM = "python -m cltools"
TRAIN_USAGE = f"""\
usage: {PROGRAM} train PRESET [--laptop] [--rule RULE] [--out FOLDER] [--resume] [--tensorboard] [settings]

Presets: IMAGES-METHOD, such as digits-potential
Images: {", ".join(IMAGES)}
Methods: {", ".join(METHODS)}
Settings: {PROGRAM} train PRESET --help"""
AFTER_INTERRUPT = {
    "train": "A run goes on from its last checkpoint with --resume.",
    "compare": "The same command goes on where the record ends.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error a person can cause ends in one message and status 2, Ctrl-C in 130, SIGTERM in 143."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[..., None]] = {
        "train": train, "mine": mine, "evaluate": evaluate_runs, "diagnose": diagnose, "download": download,
        "presets": presets, "compare": compare, "table": table, "snapshot": snapshot, "explore": explore,
        "doctor": doctor, "lab": lab,
    }  # fmt: skip
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            told = {name: (command.__doc__ or "").partition("\n")[0] for name, command in commands.items()}
            summaries = "\n".join(f"  {name:10s} {words}" for name, words in told.items())
            print(f"usage: {PROGRAM} {{{','.join(commands)}}} …\n\n{summaries}", flush=True)
            return
        if arguments[0] not in commands:
            raise unknown("command", arguments[0], commands)
        if launched() and arguments[0] != "train":
            raise CltoolsError(f"{arguments[0]} is for one process; start it without torchrun.")
        if "" in arguments and arguments[0] != "lab":
            raise CltoolsError("An argument is empty, perhaps of a shell's variable that is not set; give or omit it.")
        command = commands[arguments[0]]
        if command in (train, mine, compare, table, snapshot, lab):  # which import what they need, and parse themselves
            command(arguments[1:])
        else:
            _parse(command, arguments[1:], arguments[0])
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a shell tells of SIGPIPE
    except (ValueError, OSError, FloatingPointError, RuntimeError, MemoryError) as error:
        print(f"cltools: {printable(error) or 'too little memory'}", file=sys.stderr)
        raise SystemExit(2) from None
    except Stopped as stopped:
        print(f"\ncltools: {printable(stopped)}", file=sys.stderr)
        raise SystemExit(128 + (stopped.signal or SIGTERM)) from None
    except KeyboardInterrupt:
        print(f"\ncltools: interrupted. {AFTER_INTERRUPT.get(arguments[0], '')}".rstrip(), file=sys.stderr)
        raise SystemExit(130) from None


def train(arguments: list[str]) -> None:
    """Train a preset, e.g. `train digits-potential --epochs 30 --out runs/a`, and evaluate its last epoch."""
    import tyro

    if not arguments or arguments[0].startswith("-"):
        asked = arguments in (["-h"], ["--help"])
        print(TRAIN_USAGE, file=sys.stdout if asked else sys.stderr)
        raise SystemExit(0 if asked else 2)
    name, rest = arguments[0], arguments[1:]
    default = _flags(_defaults(name, rest), name)
    flags = tyro.cli(type(default), default=default, args=rest, prog=f"{PROGRAM} train {name}")
    experiment = Experiment(**{f.name: getattr(flags, f.name) for f in fields(Experiment)})
    trained: list[Run] = []
    boards = [TensorBoard(flags.out / "tensorboard")] if flags.tensorboard else []
    with joined() as ranks:
        run = fit(experiment, out=flags.out, resume=flags.resume, callbacks=[trained.append, *boards])
    if not ranks.first:
        return
    split: Literal["test", "val"] = "test" if "test" in splits_of(experiment.data.name) else "val"
    record = None if trained else read_run_record(flags.out)
    if record is not None and split in record.evaluations:  # a finished run: nothing is done again
        print_report(record.evaluations[split], flags.out)
        return
    print(printable(f"Trained {len(run.history.rows)} epochs: {flags.out}"))
    try:
        print_report(run.evaluate(split), flags.out)
    except ValueError as error:  # a folder without labels or without a test split trains all the same
        print(printable(f"Not evaluated: {error}"))


def _defaults(name: str, arguments: list[str]) -> Experiment:
    """The preset with the flags that change other flags' defaults applied."""
    known = _early(f"train {name}", arguments, "--rule", "--positive-rule", "--laptop")
    experiment = preset(name)
    if known.laptop:
        experiment = laptop(experiment)
    if known.positive_rule is not None:
        experiment = replace(experiment, positives=_rule(known.positive_rule, PositiveRule))
    if known.rule is None:
        return experiment
    return replace(experiment, negatives=fitted(_rule(known.rule, NegativeRule), IMAGES[name.partition("-")[0]]))


def _rule(name: str, base: type[Any]) -> Any:
    """The rule of a class name, with the defaults as its class writes them.

    What it fills in by itself, as `MarginBand` its margin where no other is given, stays open, so that a flag may give
    the other form.
    """
    rule = rule_class(name, base)()
    vars(rule).update({f.name: f.default for f in fields(rule) if f.init and f.default is not MISSING})
    return rule


def _kind(rule: object) -> Any:
    """The type by which flags are made of a setting: none of `AugmentedView`, whose warm-up has no meaning."""
    import tyro

    return Annotated[type(rule), tyro.conf.Suppress, tyro.conf.Fixed] if type(rule) is AugmentedView else type(rule)


def _early(command: str, arguments: list[str], *names: str) -> argparse.Namespace:
    """The flags that decide which others there are."""
    early = argparse.ArgumentParser(f"{PROGRAM} {command}", add_help=False, allow_abbrev=False)
    for name in names:
        early.add_argument(name, action="store_true" if name == "--laptop" else "store")
    return early.parse_known_args(arguments)[0]


@dataclass(frozen=True)
class TrainFlags:
    """Flags of `train` beside the settings of an experiment."""

    out: Path
    """The run's folder."""
    resume: bool
    """Go on from the folder's checkpoint."""
    tensorboard: bool
    """Also write the history for TensorBoard, into OUT/tensorboard."""
    laptop: bool
    """The CPU setting of any preset."""
    rule: str
    """Another negative rule, by class name."""
    positive_rule: str
    """Another positive rule, by class name."""


def _flags(experiment: Experiment, name: str) -> Any:
    """The flags as they are when none is given: every setting has one, and those of data and training no prefix."""
    import tyro

    settings = {f.name: getattr(experiment, f.name) for f in fields(Experiment)}
    kinds = {part: Annotated[type(settings[part]), tyro.conf.arg(name="")] for part in ("data", "training")}
    kinds["positives"] = _kind(experiment.positives)
    flags = [(part, kind, field(default_factory=type(settings[part]))) for part, kind in kinds.items()]
    made: Any = make_dataclass("Flags", flags, bases=(Experiment, TrainFlags), frozen=True)
    made.__doc__ = train.__doc__
    rules = type(experiment.negatives).__name__, type(experiment.positives).__name__
    return made(Path("runs") / name, False, False, False, *rules, **settings)


def diagnose(run: Path, n: int = 1000, seed: int = 0, device: str = "auto") -> None:
    """Show what a run would select now, and how much of it is of the anchor's class.

    P(same class) by rank and by band stands beside the base rate.

    Args:
        run: The run's folder.
        n: Training images drawn as anchors.
        seed: Seed of the images, of their views, and of what rules draw.
        device: Where the encoder runs; "auto" is CUDA where there is one.
    """
    print(printable(Run.load(run, device=resolve_device(device)).diagnose(n=n, seed=seed)))


def download(name: str, root: str | None = None) -> None:
    """Download and check a set of images, such as cifar10, and count its images.

    Args:
        name: Of the set, such as cifar10; a name that is not known is answered with those that are.
        root: Where to; else the variable CLTOOLS_DATA, else data/.
    """
    if name not in image_sets():
        raise unknown("image set", name, image_sets())
    for split in ("train", "test"):
        images = load_images(name, split, root=root)
        print(f"{name} {split}: {len(images)} images, {len(images.classes)} classes")


@dataclass(frozen=True)
class MineFlags:
    """Mine the negatives of embeddings in files, as a table of pairs, and tell what became of the candidates."""

    anchors: str
    """Embeddings, .npy, .npz or .parquet, a row each; FILE:NAME says which array or column, if there are several, and
    FILE:NAME,NAME,… which columns of a table."""
    positive: str
    """The known positive of each anchor, in the same order."""
    corpus: str
    """What negatives are taken from."""
    out: Path
    """The table of pairs, .csv."""
    count: int = 10
    """Negatives per anchor."""
    pick: Literal["closest", "random"] = "closest"
    """Which of the kept: those most similar to the anchor, or any."""
    temperature: float = 0.2
    """Temperature for rules that look at forces or weigh by it."""
    seed: int = 0
    """Seed of what rules and --pick random draw."""
    rule: str = "RankBand"
    """The negative rule, by class name."""
    positive_rule: str = "AugmentedView"
    """The positive rule, by class name; this one mines nothing."""


def mine(arguments: list[str]) -> None:
    """Mine negatives of embeddings in files: a table of pairs, and why candidates were dropped."""
    from cltools.interop import mine_pairs

    known = _early("mine", arguments, "--rule", "--positive-rule")
    negatives = _rule(known.rule or MineFlags.rule, NegativeRule)
    positives = _rule(known.positive_rule or MineFlags.positive_rule, PositiveRule)
    rules = {"negatives": negatives, "positives": positives}
    kinds = [(name, _kind(rule), field(default=rule)) for name, rule in rules.items()]
    flags = _parse(make_dataclass("Flags", kinds, bases=(MineFlags,), frozen=True), arguments, "mine")
    if flags.out.suffix != ".csv":
        raise CltoolsError(f"{flags.out} ends in {flags.out.suffix!r}; the table is written as .csv.")
    check_writable(flags.out)
    anchors, positive, corpus = map(_embeddings, (flags.anchors, flags.positive, flags.corpus))
    found = mine_pairs(
        anchors, positive, corpus, flags.positives, flags.negatives,
        negatives=flags.count, pick=flags.pick, temperature=flags.temperature, seed=flags.seed,
    )  # fmt: skip
    with replacing(flags.out) as part:
        found.pairs.to_csv(part, index=False)
    print(printable(f"{found.report}\n{flags.out}: {len(found.pairs):,} pairs"))


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


def presets() -> None:
    """List the presets."""
    for method in METHODS:
        print("".join(f"{f'{images}-{method}':26s}" for images in IMAGES).rstrip())


def compare(arguments: list[str]) -> None:
    """Train every rule and control from one warm start, and write what each reached."""
    from cltools.reports.comparing import CompareFlags, compare as run
    from cltools.reports.table import table as rendered

    flags = _parse(CompareFlags, arguments, "compare")
    run(flags)
    print(printable(rendered([flags.out])))


def table(arguments: list[str]) -> None:
    """Show records of runs or of comparisons as a table in Markdown."""
    from cltools.reports.table import table as rendered

    print(printable(_parse(rendered, arguments, "table")))


def snapshot(arguments: list[str]) -> None:
    """Train a preset and keep its embeddings at several epochs in one file."""
    from cltools.snapshot.making import make_snapshot

    print(printable(_parse(make_snapshot, arguments, "snapshot")))


def explore(source: str, html: Path | None = None, epochs: Literal["present", "all"] = "present") -> None:
    """Write a snapshot's explorer as one HTML file that needs no kernel and no network, and open it in the browser.

    Args:
        source: Name of a snapshot that comes with the repository, such as shapes-moco, or a file (.npz).
        html: The page, which is then not opened; without it a temporary file is written.
        epochs: Whether the page holds the last epoch or all of them.
    """
    from cltools.explorer.session import Session
    from cltools.explorer.standalone import save_html
    from cltools.snapshot import load_snapshot

    if html is not None:
        check_writable(html)
    page = html or Path(mkdtemp(prefix="cltools-")) / f"{Path(source).stem}.html"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        save_html(Session(load_snapshot(source)), page, epochs)
    print(printable("\n".join([f"{page}: {page.stat().st_size / 1e6:.1f} MB", *(str(each.message) for each in told)])))
    if html is None:
        webbrowser.open(page.as_uri())


def doctor() -> None:
    """Look at versions, widgets, GPU, caches, data and disk, and say what to do; status 1 where there is a problem."""
    from cltools.doctor import report

    if status := report():
        raise SystemExit(status)


def lab(arguments: list[str]) -> None:
    """Open JupyterLab on the notebook of a number, such as 2, else on the first; what follows is passed on to it."""
    from cltools.lab import open_lab

    if arguments in (["-h"], ["--help"]):
        print(f"usage: {PROGRAM} lab [NUMBER] [--no-browser] [JupyterLab's arguments]\n\n{lab.__doc__}")
        return
    if status := open_lab(arguments):
        raise SystemExit(status)


def _parse(function: Callable[..., Any], arguments: list[str], command: str) -> Any:
    """Call a function with what its flags say; what has no default stands without a flag's name."""
    import tyro

    return tyro.cli(function, args=arguments, prog=f"{PROGRAM} {command}", config=(tyro.conf.PositionalRequiredArgs,))
