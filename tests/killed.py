"""A run that is killed again and again, each time somewhere else, and resumed: run as a program, for the tests.

    python killed.py FOLDER CASE KILL…        KILL is step:N, POINT:N of checkpoint writing, or moment:MILLISECONDS
                                              after the process's first checkpoint, whatever it is doing then

Each kill has a process of its own, which is forked so that torch is imported once. Every step appends its number to
FOLDER/steps.txt, a line a process.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from test_training_checkpoint import POTENTIAL, RANDOM, SIMCLR, made, training

from cltools.training import fit

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

CASES = {"potential": POTENTIAL, "simclr": SIMCLR, "random": RANDOM, "moments": POTENTIAL}
EPOCHS = 16
STEPS = 3  # an epoch
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
    return isinstance(path, Path) and path.name == f"{CHECKPOINT}.part"


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
        Path.write_bytes = at_call(n, Path.write_bytes, lambda path, *_: path.name == "encoder.safetensors.part", half)
    else:
        raise ValueError(kill)


def noted(folder: Path) -> None:
    """Write down every step."""
    step = fitting.train_step

    def train_step(learner: Any, *arguments: Any, **named: Any) -> Any:
        with (folder / "steps.txt").open("a", encoding="utf-8") as file:
            file.write(f"{learner.step} ")
        return step(learner, *arguments, **named)

    fitting.train_step = train_step


def written(folder: Path) -> int:
    """When the checkpoint was written."""
    path = folder / "run" / CHECKPOINT
    return path.stat().st_mtime_ns if path.exists() else 0


def main(folder: Path, case: str, kills: list[str]) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
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
