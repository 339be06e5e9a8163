"""Pictures decoded into a file, by several processes where it is much work.

Processes, because decoding small pictures is mostly Python: two threads decode no more than one. Processes started by
hand instead of by `multiprocessing`, which would run a reader's script a second time (spawn) or copy a process that
has threads (fork). Each is told a chunk at a time by a line of JSON, writes the pixels itself, and answers with their
checksums.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import numpy as np
from jaxtyping import UInt32
from numpy import ndarray
from tqdm.auto import tqdm

from cltools.datasets.pictures import read_like
from cltools.datasets.pixel_file import checksum
from cltools.provenance import usable_processors

CHUNK = 500  # pictures told at a time: a tenth of a second of work
MOST = 8  # processes; more would wait for the disk
SERVE = "from cltools.datasets.decoding import serve; serve()"

Decode = Callable[[int, list[Path]], list[int]]


@dataclass(frozen=True)
class Target:
    """Where pixels go, and what all pictures must be like.

    Attributes:
        file: an existing file.
        start: where in it the first picture begins, in bytes.
        first: a picture of the right size, for the message about one that is not.
        shape: 3, H, W.
        size: what each picture is scaled to; None keeps it as it is.
    """

    file: Path
    start: int
    first: Path
    shape: tuple[int, int, int]
    size: int | None

    def decode(self, row: int, paths: list[Path]) -> list[int]:
        """Decode pictures into the rows from `row` on; their checksums.

        Raises:
            ValueError: a picture cannot be read or has another size.
            OSError: the file cannot be written.
        """
        pictures = [read_like(path, self.size, self.first, self.shape).contiguous().numpy() for path in paths]
        # Written, not mapped: on a full disk that is an error here, where a map would end the process.
        with self.file.open("r+b") as file:
            file.seek(self.start + row * pictures[0].nbytes)
            file.write(b"".join(picture.tobytes() for picture in pictures))
        return [checksum(picture) for picture in pictures]


def decode_all(target: Target, paths: list[Path], processes: int) -> UInt32[ndarray, " N"]:
    """Decode all pictures into their rows; the checksum of each.

    Raises:
        ValueError: a picture cannot be read or has another size.
        OSError: the file cannot be written.
    """
    sums = np.zeros(len(paths), np.uint32)
    rows = range(0, len(paths), CHUNK)
    with ExitStack() as stack:
        idle: SimpleQueue[Decode] = SimpleQueue()
        for _ in range(processes):
            idle.put(stack.enter_context(Worker(target)).decode if processes > 1 else target.decode)

        def decode(row: int) -> list[int]:
            free = idle.get()
            try:
                return free(row, paths[row : row + CHUNK])
            finally:
                idle.put(free)

        bar = stack.enter_context(tqdm(total=len(paths), desc="Decoding images", leave=False, delay=1))
        pool = ThreadPoolExecutor(processes)
        stack.callback(pool.shutdown, cancel_futures=True)  # after an error the rest is not wanted
        for row, found in zip(rows, pool.map(decode, rows), strict=True):
            sums[row : row + len(found)] = found
            bar.update(len(found))
    return sums


def processors() -> int:
    """How many processes may decode at once: one for each processor this process may use."""
    return min(usable_processors(), MOST)


class Worker:
    """Another process that decodes; where it does not start, or dies, the work is done in this one."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.process: Popen[str] | None = None

    def __enter__(self) -> "Worker":
        # It finds the same packages as this process, and starts no threads beside those of the others.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-c", SERVE]
        try:
            self.process = Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=env, encoding="ascii")
        except OSError:
            return self
        self._tell({**vars(self.target), "file": str(self.target.file), "first": str(self.target.first)})
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()  # what it was told and has answered is written, anything else is not wanted
            self.process.communicate()

    def decode(self, row: int, paths: list[Path]) -> list[int]:
        """As `Target.decode`, there."""
        reply = self._ask({"row": row, "paths": [str(path) for path in paths]})
        if reply is None:
            return self.target.decode(row, paths)
        if "unreadable" in reply:
            raise ValueError(reply["unreadable"])
        if "unwritable" in reply:
            raise OSError(*reply["unwritable"])
        sums: list[int] = reply["sums"]
        return sums

    def _tell(self, message: dict[str, Any]) -> bool:
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # it has ended
            return False
        return True

    def _ask(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if self.process is None or not self._tell(message):
            return None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        reply: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
        return reply


def serve() -> None:
    """What the other process does: one chunk for each line it reads, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the first process ends this one by it
    told, answers, sys.stdout = sys.stdin, sys.stdout, sys.stderr
    job = json.loads(told.readline())
    job |= {"file": Path(job["file"]), "first": Path(job["first"]), "shape": tuple(job["shape"])}
    target = Target(**job)
    for line in told:
        asked = json.loads(line)
        print(json.dumps(_answer(target, asked["row"], asked["paths"])), file=answers, flush=True)


def _answer(target: Target, row: int, paths: list[str]) -> dict[str, Any]:
    try:
        return {"sums": target.decode(row, [Path(path) for path in paths])}
    except ValueError as error:
        return {"unreadable": str(error)}
    except OSError as error:
        return {"unwritable": [error.errno, error.strerror]}
