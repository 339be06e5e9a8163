"""The command line, `cltools COMMAND` or `python -m cltools COMMAND`, with one function per command.

tyro makes the flags of a command from the arguments of its function. The flags of `train` and `mine` depend on the
preset and the rules, and are made in `flags.py`, which also finds those of `compare`. This module does not import torch
before a command needs it.
"""

import json
import os
import sys
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from signal import SIGINT, SIGTERM
from tempfile import mkdtemp
from typing import Annotated, Any, Literal, Union

import tyro

from cltools.errors import CltoolsError, printable, unknown
from cltools.files import check_writable
from cltools.names import DISTRIBUTION, IMAGES, METHODS

ABOUT = """\
Which samples a contrastive loss learns from, and which it should.

Every command also takes two flags: --json prints only the answer to standard output, as JSON, and all else to standard
error; --debug shows the traceback of errors otherwise reported as one message."""
PROTOCOLS: dict[str, tuple[str, ...] | None] = {
    "default": None, "knn": ("knn200", "knn10"), "finetune": ("finetune1", "finetune10"),
    "all": ("knn200", "knn10", "probe", "linear", "finetune1", "finetune10"),
}  # fmt: skip
"""Values of `--protocol` that stand for several protocols; None is the default of `cltools.evaluate`."""
Protocol = Literal["default", "knn", "knn200", "knn10", "probe", "linear", "finetune", "finetune1", "finetune10", "all"]
Runs = tyro.conf.Positional[tuple[Path, ...]]
Answer = tuple[str, Any]
"""The answer of a command: as text, and as data for --json."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    An error that the user can fix is reported as one message with exit status 2; Ctrl-C gives status 130, and SIGTERM
    143. Other errors show their traceback, and with --debug all do.
    """
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    own = {"--json", "--debug"} if given[:1] != ["lab"] else set[str]()
    common, arguments = own & {*given}, [each for each in given if each not in own] or ["--help"]
    try:
        with redirect_stdout(sys.stderr) if "--json" in common else nullcontext():
            answer = _run(arguments)
        if answer is not None:
            print(json.dumps(answer[1], indent=2) if "--json" in common else printable(answer[0]))
        sys.stdout.flush()
    except BrokenPipeError:  # such as `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # the shell's status for SIGPIPE
    except (CltoolsError, OSError, FloatingPointError, MemoryError) as error:
        if "--debug" in common:
            raise
        path, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
        message = f"{path}: {reason}; check the path." if path else f"{reason or error}"
        print(f"cltools: {printable(message) or 'There is too little memory.'}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stopped:
        message = f"{stopped}" or "interrupted. Continue a run with --resume, and a comparison by the same command."
        print(f"\ncltools: {printable(message)}", file=sys.stderr)
        raise SystemExit(128 + (getattr(stopped, "signal", SIGINT) or SIGTERM)) from None


def _run(arguments: list[str]) -> Answer | None:
    """Parse the arguments of a command and call it."""
    command, *rest = arguments
    if command == "--version":
        return f"cltools {version(DISTRIBUTION)}", version(DISTRIBUTION)
    if "TORCHELASTIC_RUN_ID" in os.environ and command != "train":
        raise CltoolsError(f"{command} runs in a single process; start it without torchrun.")
    if command == "lab" and rest[:1] not in (["-h"], ["--help"]):  # other arguments are passed to JupyterLab
        lab(tuple(rest))
        return None
    if "" in arguments:
        raise CltoolsError("An argument is empty, perhaps from an unset shell variable; set it, or leave it out.")
    if command not in COMMANDS and not command.startswith("-"):
        raise unknown("command", command, COMMANDS)
    given = [each.partition("=")[0] for each in rest if each.startswith("--")]
    if twice := [flag for flag in given if given.count(flag) > 1]:
        raise CltoolsError(f"{twice[0]} is given twice; give it once, followed by all of its values.")
    commands: dict[str, Any] = {}
    for name, function in COMMANDS.items():
        about = None if name == command else f"{function.__doc__}".partition("\n")[0]
        commands[name] = tyro.conf.subcommand(name, constructor=function, description=about)
    if command in ("train", "compare", "mine"):
        from cltools import flags

        if isinstance(parsed := flags.flags_of(command, rest), type):
            commands[command] = tyro.conf.subcommand(command, constructor=parsed)
        else:
            commands[command] = tyro.conf.subcommand(command, default=parsed, prefix_name=False)
    kinds: Any = Union[tuple(Annotated[Any, each] for each in commands.values())]  # noqa: UP007 — from a list
    forms = (tyro.conf.FlagCreatePairsOff,)
    result: Any = tyro.cli(kinds, prog="cltools", description=ABOUT, args=arguments, config=forms)
    answer: Answer | None = result() if callable(result) else result
    return answer


def train() -> None:
    """Train an encoder with the settings of a preset, such as digits-potential, and evaluate it."""


def compare() -> None:
    """Train rules and controls from one warm start, over several seeds, and test which differ."""


def mine() -> None:
    """Mine negatives from embeddings in files; write a table of pairs, and report why candidates were dropped."""


def evaluate(
    runs: Runs = (),
    protocol: Protocol = "default",
    split: Literal["test", "val"] = "test",
    images: Path | None = None,
    linear_epochs: int | None = None,
    device: str = "auto",
) -> Answer:
    """Evaluate trained runs.

    Each report is added to the run's record.json, and each protocol's confusion matrix is written beside it as
    confusion-SPLIT-PROTOCOL.csv. Several runs must differ only in their seed; their mean and deviation are shown.

    Args:
        runs: The folder of a run, or one for each seed.
        protocol: kNN; probe: logistic regression; linear: a layer by SGD; finetune: with 1 or 10 % of the labels;
            "knn", "finetune": both of that kind; "all"; or "default": kNN and, unless the run turns it off, the probe.
        split: The test images; or "val": the held-out images, or those in the val/ of the image folder.
        images: Evaluate on the train/ and test/ images in this folder instead; nothing is written.
        linear_epochs: Number of epochs of the linear evaluation; by default the recipe's 100.
        device: Device that the encoder runs on; "auto" is CUDA if available.
    """
    from cltools.reports.evaluating import evaluate_runs, loaded

    by_path = {path: loaded(path, images, device) for path in runs}
    if len(by_path) < len(runs) or not runs:
        raise CltoolsError("evaluate: name the folder of a run, or of several seeds, each once.")
    return evaluate_runs(by_path, PROTOCOLS.get(protocol, (protocol,)), split, linear_epochs)


def diagnose(
    run: tyro.conf.Positional[Path], n: int = 1000, seed: int = 0, images: Path | None = None, device: str = "auto"
) -> Answer:
    """Show which keys a run would select, and how many share the anchor's class.

    P(same class) is shown by rank and by band, beside the base rate.

    Args:
        run: The run's folder.
        n: Number of training images drawn as anchors.
        seed: Seed of the images, of their views, and of the rules' random draws.
        images: The training images' new folder, if they have been moved.
        device: Device that the encoder runs on; "auto" is CUDA if available.
    """
    from cltools.reports.evaluating import loaded

    diagnosis = loaded(run, images, device).diagnose(n=n, seed=seed)
    counts = asdict(diagnosis) | {"bands": {band.name.lower(): asdict(of) for band, of in diagnosis.bands.items()}}
    plain = json.loads(json.dumps(counts), parse_constant=lambda _: None)  # JSON has no NaN
    return f"{diagnosis}", plain


def download(name: tyro.conf.Positional[str], root: str | None = None) -> Answer:
    """Download and check a set of images, and count its images.

    Args:
        name: Name of the set, such as cifar10.
        root: Folder to download into; by default $CLTOOLS_DATA or, if unset, data/.
    """
    from cltools.datasets import load_images

    sets = {split: load_images(name, split, root=root) for split in ("train", "test")}
    text = "\n".join(f"{name} {split}: {len(it)} images, {len(it.classes)} classes" for split, it in sets.items())
    return text, {split: len(images) for split, images in sets.items()}


def presets() -> Answer:
    """List the presets, named IMAGES-METHOD."""
    names = [[f"{images}-{method}" for images in IMAGES] for method in METHODS]
    rows = ["  ".join(f"{name:24s}" for name in row).rstrip() for row in names]
    return "\n".join(rows), sorted(name for row in names for name in row)


def runs(folder: tyro.conf.Positional[Path] = Path("runs")) -> Answer:
    """List the runs in a folder, with their results and the settings that differ.

    Args:
        folder: Folder to search, with all its subfolders.
    """
    from cltools.reports.listing import listed

    return listed(folder)


def table(records: Runs = (), references: bool = False) -> Answer:
    """Show the records of runs or comparisons as one Markdown table.

    Args:
        records: Folders of runs, on any images; or files by `compare`, with equal images and epochs.
        references: Show all published results with the runs, not just those on their images.
    """
    from cltools.reports.table import table as table_of

    text = table_of(records, references=references)
    return text, {"markdown": text}


def snapshot(
    source: tyro.conf.Positional[str],
    out: tyro.conf.Positional[Path],
    after: tuple[int, ...] = (1, 5, 10, 20, 30),
    n: int = 1500,
    seed: int = 0,
    umap: tuple[int, ...] = (0, 1, 2),
    images: Path | None = None,
    laptop: bool = False,
) -> Answer:
    """Train a preset and save its embeddings at several epochs in one file, or save those of a trained run.

    Args:
        source: A preset, such as shapes-potential; settings as printed by `train --print-config` (.json); or a run's
            folder, whose latest encoder is used.
        out: The snapshot, .npz; an existing file is replaced.
        after: Epochs after which embeddings are recorded, for a preset or a config.
        n: Maximum number of training images.
        seed: Seed of the training, of the images drawn and of their views.
        umap: Seeds of UMAP maps, in addition to the PCA map; `--umap` alone skips UMAP.
        images: Folder of your own images, for a preset such as own-moco.
        laptop: Use the CPU setting: tiny encoder, at most 10,000 images, 20 epochs.
    """
    from cltools.flags import experiment_of
    from cltools.reports.evaluating import loaded
    from cltools.snapshot.making import make_snapshot
    from cltools.training.run import CONFIG

    trained = (Path(source) / CONFIG).is_file()
    settings = Path(source) if source.endswith(".json") else source
    subject = loaded(Path(source), images) if trained else replace(experiment_of(settings, images, laptop), seed=seed)
    return make_snapshot(subject, out, after, n, seed, umap), {"snapshot": str(out)}


def explore(
    source: tyro.conf.Positional[str],
    html: Path | None = None,
    epochs: Literal["present", "all"] = "present",
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = (),
) -> Answer:
    """Write a snapshot's explorer as one HTML file that needs no kernel and no network, and open it in the browser.

    Args:
        source: Name of a snapshot that comes with the package, such as shapes-moco, or a file (.npz).
        html: Write the page here without opening it; by default, a temporary file is opened.
        epochs: Epochs in the page: "present" (the last only) or "all".
        imports: Modules that define your own rules, if the snapshot's run was trained with such rules.
    """
    from cltools.config import import_rules
    from cltools.explorer.session import Session
    from cltools.explorer.standalone import save_html
    from cltools.snapshot import load_snapshot

    import_rules(imports)
    if html is not None:
        check_writable(html)
    page = html or Path(mkdtemp(prefix="cltools-")) / f"{Path(source).stem}.html"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_html(Session(load_snapshot(source)), page, epochs)
    if html is None:
        webbrowser.open(page.as_uri())
    lines = [f"{page}: {page.stat().st_size / 1e6:.1f} MB", *(str(each.message) for each in caught)]
    return "\n".join(lines), {"page": str(page)}


def doctor() -> Answer | None:
    """Check versions, widgets, GPU, caches, data and disk, and suggest remedies; status 1 if there is a problem."""
    from cltools.doctor import report

    if status := report():
        raise SystemExit(status)
    return None


def lab(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Open a course notebook in JupyterLab, as in `cltools lab 2`; by default, the first.

    If cltools is installed as a package, the course is first copied into the folder cltools-course.

    Args:
        arguments: The notebook's number, and arguments for JupyterLab, such as --no-browser.
    """
    from cltools.lab import open_lab

    if status := open_lab(arguments):
        raise SystemExit(status)


COMMANDS: dict[str, Callable[..., Any]] = {each.__name__: each for each in (
    train, evaluate, diagnose, runs, compare, table, presets, download, mine, snapshot, explore, lab, doctor,
)}  # fmt: skip
