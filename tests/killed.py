"""Processes that are killed again and again, or started together: run as a program, for the tests.

    python killed.py FOLDER CASE KILL…        a run that is resumed after each KILL: step:N, POINT:N of checkpoint
                                              writing, or moment:MILLISECONDS after the process's first checkpoint,
                                              whatever it is doing then
    python killed.py FOLDER commands SEED KILLS     each command in turn, killed at any moment, until it is let end
    python killed.py FOLDER together SEED GROUPS    three trainings into one folder, of different seeds

Each has a process of its own, which is forked so that torch is imported once. Of a run that is resumed every step
appends its number to FOLDER/steps.txt, a line a process.
"""

import hashlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from test_training_checkpoint import POTENTIAL, RANDOM, SIMCLR, made, training

from cltools.cli import main as cli
from cltools.datasets import load_images
from cltools.datasets.archives import Archive, fetch
from cltools.evaluation import PROTOCOLS
from cltools.provenance import read_record
from cltools.snapshot import Snapshot, making
from cltools.training import Run, fit
from cltools.training.record import read_run_record

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

CASES = {"potential": POTENTIAL, "simclr": SIMCLR, "random": RANDOM, "moments": POTENTIAL}
EPOCHS = 16
STEPS = 3  # an epoch
LASTS = {"train": 3.0, "evaluate": 3.0, "compare": 8.0, "snapshot": 3.0, "download": 0.5}
"""Seconds within which a command is killed, about as long as it takes."""
COMPARED = ("--epochs", "1", "--warm-epochs", "1", "--only", "ring", "random", "--laptop", "--device", "cpu")
CHECKPOINT = "checkpoint.pt"


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, function: Callable[..., Any], matches: Callable[..., bool], then: Callable[..., Any]) -> Any:
    """The function, with `then` in place of the call of that number among those that match."""
    seen = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        if matches(*arguments):
            seen += 1
            if seen == number:
                return then(*arguments, **named)
        return function(*arguments, **named)

    return counted


def of_checkpoint(path: object, *_: object) -> bool:
    return part_of(CHECKPOINT, path)


def part_of(name: str, path: object) -> bool:
    return isinstance(path, Path) and path.name.startswith(f"{name}.") and path.suffix == ".part"


def half(path: Path, content: memoryview) -> None:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    die()


def moved(part: Path, path: Path) -> None:
    os.replace(part, path)
    die()


def arm(kill: str) -> None:
    """Make this process kill itself where `kill` says."""
    point, _, number = kill.partition(":")
    n = int(number)
    always = lambda *_: True  # noqa: E731
    if point == "step":
        fitting.train_step = at_call(n, fitting.train_step, always, die)
    elif point == "before":  # the run's other files are of the new epoch, the checkpoint of the one before
        fitting.save_checkpoint = at_call(n, fitting.save_checkpoint, always, die)
    elif point == "half":
        Path.write_bytes = at_call(n, Path.write_bytes, of_checkpoint, half)
    elif point == "unmoved":
        Path.replace = at_call(n, Path.replace, of_checkpoint, die)
    elif point == "moved":
        Path.replace = at_call(n, Path.replace, of_checkpoint, moved)
    elif point == "weights":
        Path.write_bytes = at_call(n, Path.write_bytes, lambda path, *_: part_of("encoder.safetensors", path), half)
    else:
        raise ValueError(kill)


def noted(folder: Path) -> None:
    """Write down every step."""
    step = fitting.train_step

    def train_step(state: Any, *arguments: Any, **named: Any) -> Any:
        with (folder / "steps.txt").open("a", encoding="utf-8") as file:
            file.write(f"{state.step} ")
        return step(state, *arguments, **named)

    fitting.train_step = train_step


def written(folder: Path) -> int:
    """When the checkpoint was written."""
    path = folder / "run" / CHECKPOINT
    return path.stat().st_mtime_ns if path.exists() else 0


SMALL = ("--laptop", "--limit", "200", "--batch", "64", "--evaluation.test-limit", "100", "--device", "cpu")
TRAIN = ("train", "digits-moco", *SMALL, "--queue-size", "128", "--epochs", "3", "--resume", "--out")


def started(act: Callable[[], object], said: Path) -> int:
    """A process that does it, and writes what it says into a file."""
    if child := os.fork():
        return child
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status = 0
    try:
        act()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ended(child: int) -> int:
    """The status that a process ends with, below 0 the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def left(folder: Path) -> list[str]:
    """What nobody should find when all is done."""
    return [str(path) for path in folder.rglob("*") if path.suffix == ".part" or path.name.endswith("in-use")]


def check(right: bool, what: object) -> None:
    if not right:
        raise SystemExit(f"killed.py: {what}")


def rows(path: Path) -> list[Any]:
    return list(read_record(path)["rows"]) if path.exists() else []


def figures(run: Path) -> list[Any]:
    """What a record has, in the order in which an evaluation measures it."""
    record = read_run_record(run)
    assert record is not None
    known = record.evaluations.get("test", {})
    return [(name, known[name]) for name in PROTOCOLS if name in known]


@contextmanager
def served(content: bytes) -> Iterator[str]:
    """An address under which a file comes slowly, as a whole or from any byte on."""

    class Slow(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ranged = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            at = int(ranged or 0)
            self.send_response(206 if ranged else 200)
            if ranged:
                self.send_header("Content-Range", f"bytes {at}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", '"one"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - at))
            self.end_headers()
            for begin in range(at, len(content), len(content) // 40):
                try:
                    self.wfile.write(content[begin : begin + len(content) // 40])
                    self.wfile.flush()
                except OSError:  # who asked is dead
                    return
                time.sleep(0.01)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    port = server.server_address[1]
    if (child := os.fork()) == 0:  # so that this process has no threads when it forks
        server.serve_forever()
    server.server_close()
    try:
        yield f"http://127.0.0.1:{port}/archive"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def commands(folder: Path, seed: int, kills: int) -> None:
    """Kill each command at moments drawn from the seed, and look after each kill and at the end at what is there."""
    draw = random.Random(seed)
    run, compared, kept = folder / "run", folder / "compared.json", folder / "snapshot.npz"
    few = load_images("digits").subset(300, seed=0)
    making.training_images = lambda _: (few, None)  # type: ignore[assignment]
    content = random.Random(0).randbytes(400_000)
    (folder / "data").mkdir()

    with served(content) as address:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        archive = Archive(address, md5, "archive.zip", "archive")
        ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "train": (lambda: cli([*TRAIN, str(run)]), lambda: (run / "checkpoint.pt").exists() and Run.load(run)),
            "evaluate": (lambda: cli(["evaluate", str(run), "--protocol", "all"]), lambda: figures(run)),
            "compare": (lambda: cli(["compare", "digits", str(compared), *COMPARED]), lambda: rows(compared)),
            "snapshot": (
                lambda: cli(["snapshot", "digits-moco", str(kept), "--after", "1", "--n", "50", "--laptop", "--umap"]),
                lambda: kept.exists() and Snapshot.load(kept),
            ),
            "download": (
                lambda: fetch(archive, folder / "data" / "archive.zip"),
                lambda: not (folder / "data" / "archive.zip").exists() or whole(),
            ),
        }

        def whole() -> bool:
            found = (folder / "data" / "archive.zip").read_bytes() == content
            check(found, "the archive is another")
            return found

        for name, (act, look) in ways.items():
            known: Any = None
            for _ in range(kills):
                child = started(act, folder.with_name("said.txt"))
                time.sleep(draw.uniform(0, LASTS[name]))
                os.kill(child, signal.SIGKILL)
                ended(child)
                now = look()
                if name in ("compare", "evaluate") and known is not None:
                    check(now[: len(known)] == known, f"{name} lost what it had: {known}, {now}")
                known = now
            check(
                ended(started(act, folder.with_name("said.txt"))) == 0,
                folder.with_name("said.txt").read_text(encoding="utf-8"),
            )
            look()
            check(not left(folder), f"{name} left {left(folder)}")
            print(name, flush=True)


def together(folder: Path, seed: int, groups: int) -> None:
    """Three trainings at once into one folder, again and again."""
    for group in range(groups):
        out = folder / str(group)
        said = [folder / f"{group}-{number}.txt" for number in range(3)]
        seeds = [str(seed + number) for number in range(3)]
        asked = [[*TRAIN, str(out), "--seed", each] for each in seeds]
        asked = [[word for word in words if word != "--resume" or group % 2] for words in asked]
        children = [started(lambda words=words: cli(words), text) for words, text in zip(asked, said, strict=True)]  # type: ignore[misc]
        results = [ended(child) for child in children]
        texts = [text.read_text(encoding="utf-8") for text in said]
        check(sorted(results) == [0, 2, 2], texts)
        winner = results.index(0)
        for number in {0, 1, 2} - {winner}:
            told = f"in use by process {children[winner]} on "
            known = ("already holds a run", "made with other settings")
            check(told in texts[number] or any(words in texts[number] for words in known), texts[number])
        run, record = Run.load(out), read_run_record(out)
        assert record is not None
        check(run.experiment.seed == record.seed == seed + winner, "a mixture")
        check(len(run.history.rows) == record.epochs == 3 and bool(record.evaluations), "not finished")
        check(not left(folder), left(folder))
        print(sum(f"process {children[winner]}" in text for text in texts), flush=True)


def main(folder: Path, case: str, kills: list[str]) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    if case in ("commands", "together"):
        return (commands if case == "commands" else together)(folder, *map(int, kills))
    experiment = training(CASES[case], epochs=EPOCHS)
    for kill in [*kills, ""]:
        point, _, number = kill.partition(":")
        before = written(folder)
        child = os.fork()
        if child == 0:
            if kill and point != "moment":
                arm(kill)
            noted(folder)
            fit(experiment, images=made(), out=folder / "run", resume=True)
            os._exit(0)
        if point == "moment":
            while written(folder) == before:
                time.sleep(0.002)
            time.sleep(int(number) / 1000)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        expected = signal.SIGKILL if kill else 0
        if os.WIFSIGNALED(status) != bool(kill) or (os.WTERMSIG(status) if kill else status) != expected:
            raise SystemExit(f"{kill or 'the last process'} ended with status {status}")
        with (folder / "steps.txt").open("a", encoding="utf-8") as file:
            file.write("\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
