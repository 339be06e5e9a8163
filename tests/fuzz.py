"""Hostile files, read: whole ones of every format are altered at random, and a reader may only refuse them in words.

    python tests/fuzz.py [--seed S] [--count N] [--minutes M] [--only FORMAT…] [--case I] [--keep FOLDER]

Case I of a seed is the same file each time. Each is read in a process of its own kind, which is ended where it takes
too long. Findings are: an error that is none of ours, more than 500 MB, a hang, the end of the process, and what is not
the same when it is written and read again. Each finding's folder is kept, with how to repeat it; the status is then 1.
"""

import argparse
import ctypes
import gc
import multiprocessing
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT = 500 << 20
"""Bytes that reading one file may take."""
ADDRESSES = 4 * LIMIT
"""Bytes of addresses: what is only reserved takes no memory, yet somewhere it must end."""
SECONDS = 30.0
"""Until a case counts as a hang; on two busy cores the slowest takes three."""
STARTING = 300.0
"""Seconds until a process has imported the package and made the whole files."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        case: its number.
        name: of the format.
        altered: what was done to the file.
        kind: "refused", "read", or what was found.
        told: the error.
    """

    case: int
    name: str
    altered: str
    kind: str
    told: str = ""

    @property
    def found(self) -> bool:
        """Whether it should not be."""
        return self.kind not in ("refused", "read")


def drawn(seed: int, case: int, only: tuple[str, ...] = ()) -> tuple[str, int, Random]:
    """The format of a case, which of its whole files, and what the rest is drawn by."""
    from fuzz_formats import FAULTS, FORMATS, UNREAD, VARIANTS

    rng = Random(f"{seed} {case}")
    names = [name for name in only or FORMATS for _ in range((FORMATS | FAULTS)[name].share)]
    while (name := rng.choice(names)) in UNREAD:
        pass
    return name, rng.randrange(VARIANTS), rng


def whole(root: Path, name: str, which: int) -> Path:
    """The folder with a whole file, which is made once."""
    from fuzz_formats import FAULTS, FORMATS

    folder = root / f"{name.replace(' ', '-').replace(':', '')}-{which}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        (FORMATS | FAULTS)[name].make(part, which)
        part.rename(folder)
    return folder


def prepared(root: Path, folder: Path, seed: int, case: int, only: tuple[str, ...] = ()) -> tuple[str, int, str]:
    """The hostile files of a case in a new folder: their format, which whole one they were, what was done."""
    from fuzz_formats import FAULTS, FORMATS
    from fuzz_mutations import special_file

    name, which, rng = drawn(seed, case, only)
    form = (FORMATS | FAULTS)[name]
    shutil.copytree(whole(root, name, which), folder)
    file = folder / form.file
    if form.special and rng.random() < 0.3:
        return name, which, special_file(file, rng)
    content, told = form.alter(file.read_bytes(), rng)
    file.write_bytes(content)
    return name, which, told


def ours(error: BaseException) -> bool:
    """Whether an error is one that our code raises for a person to mend."""
    from cltools.errors import CltoolsError

    last = traceback.extract_tb(error.__traceback__)[-1].filename
    words = isinstance(error, CltoolsError) or (isinstance(error, OSError) and error.errno is None)
    return words and Path(last).is_relative_to(ROOT / "cltools") and len(str(error)) < 5000


def judged(root: Path, folder: Path, seed: int, case: int, only: tuple[str, ...] = ()) -> Outcome:
    """Prepare a case, read it, write what was read, and read that."""
    from fuzz_formats import FAULTS, FORMATS, alike, told

    name, which, altered = prepared(root, folder, seed, case, only)
    form, again = (FORMATS | FAULTS)[name], folder.with_name("again")
    before = _rest()
    try:
        found = form.read(folder)
    except BaseException as error:
        if not ours(error):
            last = "".join(traceback.format_exception(error))
            return Outcome(case, name, altered, f"{type(error).__name__}", last)
        kind, said = "refused", f"{type(error).__name__}: {error}"
    else:
        kind, said = "read", ""
        try:
            # bytes that were altered must be noticed; a figure that was altered by hand may be what it says
            if form.sealed and not altered.endswith("')") and not _kept(found, form.read(whole(root, name, which))):
                return Outcome(case, name, altered, "other than was saved")
            if form.write is not None:
                shutil.copytree(folder, again, symlinks=True)
                form.write(found, again)
                if not alike(told(found), told(form.read(again)), 2e-3):
                    return Outcome(case, name, altered, "not the same when written and read again")
        except BaseException as error:
            last = "".join(traceback.format_exception(error))
            return Outcome(case, name, altered, f"{type(error).__name__} when written again", last)
        finally:
            shutil.rmtree(again, ignore_errors=True)
    grown = _peak() - before
    if grown > LIMIT:
        return Outcome(case, name, altered, f"{grown >> 20} MB", said)
    return Outcome(case, name, altered, kind, said)


def _kept(found: list[Any], before: list[Any]) -> bool:
    """Whether all that was read is as it was; None is what was left out, and told of."""
    from fuzz_formats import alike, told

    return all(alike(told(a), told(b)) for a, b in zip(found, before, strict=True) if a is not None)


def _status(name: str) -> int:
    """A size of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def _rest() -> int:
    """Memory of this process; the peak is counted from now, and the addresses are limited."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESSES, resource.RLIM_INFINITY))
    return _status("VmRSS")


def _peak() -> int:
    """The most memory since `_rest`."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return _status("VmHWM")


def work(asked: Connection, root: Path, scratch: Path, seed: int, only: tuple[str, ...]) -> None:
    """Answer cases, one after the other, in a process of its own."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import torch
    from fuzz_formats import FAULTS, FORMATS, UNREAD, VARIANTS

    torch.set_num_threads(1)
    for name in {*(only or FORMATS)} - UNREAD:
        for which in range(VARIANTS):
            (FORMATS | FAULTS)[name].read(shutil.copytree(whole(root, name, which), scratch / "whole"))
            shutil.rmtree(scratch / "whole")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # what readers tell of
    os.dup2(nothing, 2)
    warnings.simplefilter("ignore")
    gc.collect()
    gc.freeze()  # so that what is left of a case is found quickly
    asked.send("ready")
    while (case := asked.recv()) is not None:
        shutil.rmtree(scratch / "case", ignore_errors=True)
        asked.send(judged(root, scratch / "case", seed, case, only))


def outcomes(
    seed: int,
    cases: range,
    minutes: float,
    root: Path,
    only: tuple[str, ...] = (),
    keep: Path | None = None,
    seconds: float = SECONDS,
) -> Iterator[Outcome]:
    """What becomes of each case, until the time is over; folders of findings are kept.

    Args:
        seed: of all cases.
        cases: their numbers.
        minutes: at most, from the moment when the first process reads.
        root: an empty folder for whole files and for hostile ones.
        only: names of formats; none for all.
        keep: where folders of findings go.
        seconds: until a case counts as a hang.
    """
    context, process, end = multiprocessing.get_context("spawn"), None, None
    here: Any = None
    scratch = root / "scratch"
    try:
        for case in cases:
            if process is None:
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                here, there = context.Pipe()
                process = context.Process(target=work, args=(there, root, scratch, seed, only), daemon=True)
                process.start()
                there.close()
                if not here.poll(STARTING) or here.recv() != "ready":
                    raise RuntimeError("The process that reads files did not start.")
            end = end or time.monotonic() + 60 * minutes
            if time.monotonic() > end:
                return
            here.send(case)
            ended = ""
            try:
                if here.poll(seconds):
                    found = here.recv()
                else:
                    ended = "hang"
            except EOFError:
                process.join()
                ended = f"the process ended with status {process.exitcode}"
            if ended:
                process.kill()
                process.join()
                process = None
                shutil.rmtree(scratch / "case", ignore_errors=True)
                name, _, altered = prepared(root, scratch / "case", seed, case, only)
                found = Outcome(case, name, altered, ended)
            if found.found and keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(keep / f"{seed}-{case}", ignore_errors=True)
                shutil.move(scratch / "case", keep / f"{seed}-{case}")
            yield found
    finally:
        if process is not None:
            with suppress(OSError):
                here.send(None)
            process.join(10)
            process.kill()
            process.join()
            here.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the cases that are asked for, and tell of findings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="by default another one each time")
    parser.add_argument("--count", type=int, default=10**9, help="cases at most")
    parser.add_argument("--minutes", type=float, default=5.0, help="minutes at most, without those of the start")
    parser.add_argument("--only", nargs="+", default=[], metavar="FORMAT", help="names of formats")
    parser.add_argument("--case", type=int, help="only this case of the seed")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where folders of findings go")
    asked = parser.parse_args(arguments)
    cases = range(asked.count) if asked.case is None else range(asked.case, asked.case + 1)
    counted: Counter[tuple[str, str]] = Counter()
    findings = []
    with TemporaryDirectory(prefix="cltools-fuzz-") as root:
        for each in outcomes(asked.seed, cases, asked.minutes, Path(root), tuple(asked.only), asked.keep):
            counted[each.name, each.kind if not each.found else "found"] += 1
            if each.found or asked.case is not None:
                print(
                    f"{each.name}, case {each.case}: {each.kind}\n  {each.altered[:300]}\n{each.told[-3000:]}",
                    flush=True,
                )
            if each.found:
                findings.append(each)
                only = f" --only {' '.join(map(repr, asked.only))}" if asked.only else ""
                print(f"  again: python tests/fuzz.py --seed {asked.seed} --case {each.case}{only}\n", flush=True)
    for name in dict.fromkeys(name for name, _ in counted):
        print(f"{name:20}" + "".join(f"{kind} {counted[name, kind]:<6}" for kind in ("refused", "read", "found")))
    print(
        f"seed {asked.seed}: {sum(counted.values()):,} files, {len(findings)} findings"
        + f", kept in {asked.keep}" * bool(findings)
    )
    return int(bool(findings))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    raise SystemExit(main())
