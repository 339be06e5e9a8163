"""The command line, `cltools COMMAND` or `python -m cltools COMMAND`: one function per command.

The flags of a command are the arguments of its function, by tyro. Those of `train`, `compare` and `mine` depend on what
is trained or which rules mine; `flags.py` makes them. Nothing here imports torch before a command needs it.
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

from cltools.errors import CltoolsError, printable
from cltools.files import check_writable
from cltools.names import DISTRIBUTION, IMAGES, METHODS

ABOUT = """\
Which samples a contrastive loss learns from, and which it should.

Every command also takes --json, which prints the answer alone, as JSON, to standard output and all else to standard
error; and --debug, which shows the traceback of an error that is otherwise told in one message."""
PROTOCOLS: dict[str, tuple[str, ...] | None] = {
    "default": None, "knn": ("knn200", "knn10"), "finetune": ("finetune1", "finetune10"),
    "all": ("knn200", "knn10", "probe", "linear", "finetune1", "finetune10"),
}  # fmt: skip
"""Values of `--protocol` that name several; None is the default of `cltools.evaluate`."""
Protocol = Literal["default", "knn", "knn200", "knn10", "probe", "linear", "finetune", "finetune1", "finetune10", "all"]
Runs = tyro.conf.Positional[tuple[Path, ...]]
Answer = tuple[str, Any]
"""What a command found: in words for a person, and as data for --json."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    An error that a person can mend ends in one message and status 2, Ctrl-C in 130, SIGTERM in 143. Every other error
    keeps its traceback; with --debug all do.
    """
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    own = {"--json", "--debug"} if given[:1] != ["lab"] else set[str]()
    asked, arguments = own & {*given}, [each for each in given if each not in own] or ["--help"]
    try:
        with redirect_stdout(sys.stderr) if "--json" in asked else nullcontext():
            answer = _run(arguments)
        if answer is not None:
            print(json.dumps(answer[1], indent=2) if "--json" in asked else printable(answer[0]))
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a shell tells of SIGPIPE
    except (CltoolsError, OSError, FloatingPointError, MemoryError) as error:
        if "--debug" in asked:
            raise
        path = getattr(error, "filename", None)
        told = f"{path}: {getattr(error, 'strerror', '')}; check the path." if path else f"{error}"
        print(f"cltools: {printable(told) or 'There is too little memory.'}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as stopped:
        told = f"{stopped}" or "interrupted. A run goes on with --resume, a comparison by the same command."
        print(f"\ncltools: {printable(told)}", file=sys.stderr)
        raise SystemExit(128 + (getattr(stopped, "signal", SIGINT) or SIGTERM)) from None


def _run(arguments: list[str]) -> Answer | None:
    """Parse the arguments of a command, and call it."""
    command, *rest = arguments
    if command == "--version":
        return f"cltools {version(DISTRIBUTION)}", version(DISTRIBUTION)
    if "TORCHELASTIC_RUN_ID" in os.environ and command != "train":
        raise CltoolsError(f"{command} is for one process; start it without torchrun.")
    if command == "lab" and rest[:1] not in (["-h"], ["--help"]):  # all other arguments are JupyterLab's
        lab(tuple(rest))
        return None
    if "" in arguments:
        raise CltoolsError("An argument is empty, perhaps of a shell's variable that is not set; give or omit it.")
    commands: dict[str, Any] = {}
    for name, made in COMMANDS.items():
        about = None if name == command else f"{made.__doc__}".partition("\n")[0]
        commands[name] = tyro.conf.subcommand(name, constructor=made, description=about)
    if command in ("train", "compare", "mine"):
        from cltools import flags

        if isinstance(made := flags.flags_of(command, rest), type):
            commands[command] = tyro.conf.subcommand(command, constructor=made)
        else:
            commands[command] = tyro.conf.subcommand(command, default=made, prefix_name=False)
    kinds: Any = Union[tuple(Annotated[Any, made] for made in commands.values())]  # noqa: UP007 — made of a list
    forms = (tyro.conf.FlagCreatePairsOff,)
    found: Any = tyro.cli(kinds, prog="cltools", description=ABOUT, args=arguments, config=forms)
    answer: Answer | None = found() if callable(found) else found
    return answer


def train() -> None:
    """Train an encoder by a preset, such as digits-potential, and evaluate it."""


def compare() -> None:
    """Train rules and controls from one warm start, over several seeds, and say which differ."""


def mine() -> None:
    """Mine negatives of embeddings in files: a table of pairs, and why candidates were dropped."""


def evaluate(
    runs: Runs = (),
    protocol: Protocol = "default",
    split: Literal["test", "val"] = "test",
    images: Path | None = None,
    linear_epochs: int | None = None,
    device: str = "auto",
) -> Answer:
    """Evaluate trained runs.

    Each report goes into the run's record.json, and a confusion-SPLIT-PROTOCOL.csv beside it for each protocol. Several
    runs must differ in their seed alone; their mean and deviation are shown.

    Args:
        runs: The folder of a run, or one for each seed.
        protocol: Both kNN votes, the probe, the linear evaluation, fine-tuning with 1 and 10 % of the labels, one of
            these alone, or all. The default is kNN and, unless the run's settings leave it out, the probe.
        split: The test images, or those that the run held out or its folder has in val/.
        images: Judge on the images of this folder instead, which has train/ and test/; nothing is written.
        linear_epochs: Epochs of the linear evaluation, to shorten it; by default the recipe's 100.
        device: Where the encoder runs; "auto" is CUDA where there is one.
    """
    from cltools.reports.evaluating import evaluate_runs, loaded

    found = {path: loaded(path, images, device) for path in runs}
    if len(found) < len(runs) or not runs:
        raise CltoolsError("evaluate: name the folder of a run, or of several seeds, each once.")
    return evaluate_runs(found, PROTOCOLS.get(protocol, (protocol,)), split, linear_epochs)


def diagnose(
    run: tyro.conf.Positional[Path], n: int = 1000, seed: int = 0, images: Path | None = None, device: str = "auto"
) -> Answer:
    """Show what a run would select now, and how much of it is of the anchor's class.

    P(same class) by rank and by band stands beside the base rate.

    Args:
        run: The run's folder.
        n: Number of training images drawn as anchors.
        seed: Seed of the images, of their views, and of what rules draw.
        images: Folder where the images trained on lie now, if they were moved.
        device: Where the encoder runs; "auto" is CUDA where there is one.
    """
    from cltools.reports.evaluating import loaded

    found = loaded(run, images, device).diagnose(n=n, seed=seed)
    counted = asdict(found) | {"bands": {band.name.lower(): asdict(of) for band, of in found.bands.items()}}
    plain = json.loads(json.dumps(counted), parse_constant=lambda _: None)  # for JSON has no NaN
    return f"{found}", plain


def download(name: tyro.conf.Positional[str], root: str | None = None) -> Answer:
    """Download and check a set of images, and count its images.

    Args:
        name: Name of the set, such as cifar10.
        root: Folder to download into; else the variable CLTOOLS_DATA, else data/.
    """
    from cltools.datasets import load_images

    found = {split: load_images(name, split, root=root) for split in ("train", "test")}
    words = "\n".join(f"{name} {split}: {len(it)} images, {len(it.classes)} classes" for split, it in found.items())
    return words, {split: len(images) for split, images in found.items()}


def presets() -> Answer:
    """List the presets, IMAGES-METHOD."""
    names = [[f"{images}-{method}" for images in IMAGES] for method in METHODS]
    rows = ["  ".join(f"{name:24s}" for name in row).rstrip() for row in names]
    return "\n".join(rows), sorted(name for row in names for name in row)


def runs(folder: tyro.conf.Positional[Path] = Path("runs")) -> Answer:
    """List the runs of a folder, with the figures that they reached and the settings in which they differ.

    Args:
        folder: Folder that is searched, with all folders in it.
    """
    from cltools.reports.listing import listed

    return listed(folder)


def table(records: Runs = (), references: bool = False) -> Answer:
    """Show records of runs or of comparisons as one table in Markdown.

    Args:
        records: Folders of runs, of any images; or files that `compare` wrote, of the same images and budget.
        references: Show all published figures beside the runs, not only those on their images.
    """
    from cltools.reports.table import table as made

    text = made(records, references=references)
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
    """Train a preset and keep its embeddings at several epochs in one file; or keep those of a trained run.

    Args:
        source: A preset, such as shapes-potential; settings as --print-config writes them (.json); or the folder of a
            run, whose encoder is taken as it stands.
        out: The snapshot, .npz; a file that is there is replaced.
        after: Epochs after which embeddings are kept, of a preset or a config.
        n: Number of training images, at most.
        seed: Seed of the training, of the images drawn and of their views.
        umap: Seeds of maps by UMAP, beside the one by PCA; none where none is named.
        images: Folder of images of your own, for a preset such as own-moco.
        laptop: Use the CPU setting: tiny encoder, at most 10,000 images, 20 epochs.
    """
    from cltools.flags import experiment_of
    from cltools.reports.evaluating import loaded
    from cltools.snapshot.making import make_snapshot
    from cltools.training.run import CONFIG

    trained = (Path(source) / CONFIG).is_file()
    asked = loaded(Path(source), images) if trained else replace(experiment_of(source, images, laptop), seed=seed)
    return make_snapshot(asked, out, after, n, seed, umap), {"snapshot": str(out)}


def explore(
    source: tyro.conf.Positional[str],
    html: Path | None = None,
    epochs: Literal["present", "all"] = "present",
    imports: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = (),
) -> Answer:
    """Write a snapshot's explorer as one HTML file that needs no kernel and no network, and open it in the browser.

    Args:
        source: Name of a snapshot that comes with the package, such as shapes-moco, or a file (.npz).
        html: The page to write, which is then not opened; by default a temporary file.
        epochs: Whether the page holds the last epoch or all of them.
        imports: Modules that define rules of your own, if the snapshot is of a run with such rules.
    """
    from cltools.config import import_rules
    from cltools.explorer.session import Session
    from cltools.explorer.standalone import save_html
    from cltools.snapshot import load_snapshot

    import_rules(imports)
    if html is not None:
        check_writable(html)
    page = html or Path(mkdtemp(prefix="cltools-")) / f"{Path(source).stem}.html"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        save_html(Session(load_snapshot(source)), page, epochs)
    if html is None:
        webbrowser.open(page.as_uri())
    words = [f"{page}: {page.stat().st_size / 1e6:.1f} MB", *(str(each.message) for each in told)]
    return "\n".join(words), {"page": str(page)}


def doctor() -> Answer | None:
    """Look at versions, widgets, GPU, caches, data and disk, and say what to do; status 1 where there is a problem."""
    from cltools.doctor import report

    if status := report():
        raise SystemExit(status)
    return None


def lab(arguments: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Open JupyterLab on a notebook of the course: `cltools lab 2`; without a number, on the first.

    An installed package first copies the course into the folder cltools-course.

    Args:
        arguments: The number, and JupyterLab's own arguments, such as --no-browser.
    """
    from cltools.lab import open_lab

    if status := open_lab(arguments):
        raise SystemExit(status)


COMMANDS: dict[str, Callable[..., Any]] = {made.__name__: made for made in (
    train, evaluate, diagnose, runs, compare, table, presets, download, mine, snapshot, explore, lab, doctor,
)}  # fmt: skip
