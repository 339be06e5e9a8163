"""Files that are whole or not there, places that one process at a time writes to, and what is read as JSON.

A file is written under another name, flushed to the disk, then moved into place. Whoever writes holds a lock of the
system, which ends with its process, however that ends. And where those files are kept that may be deleted at any time.
"""

import errno
import json
import os
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

from cltools.errors import LONGEST, CltoolsError, printable, shown

_above = Path(__file__).resolve().parents[1]
CLONE = _above if (_above / "pyproject.toml").is_file() else None
"""The clone of the repository that this package is imported from; None where it was installed without one."""
CARRIED = CLONE or Path(__file__).resolve().parent / "shipped"
"""Where notebooks/ and data/ of the course lie: in the clone, or in what a wheel carries of it."""

IN_USE = "in-use"
"""The file in a folder that says who writes there; of a file, the ending of one beside it."""
_PART = re.compile(r"\.[0-9a-f]{8}\.part")
_LONGEST = 60  # characters of a file's name that names made from it keep, as a system limits their length
DEEPEST = 32  # levels of JSON that are read: what is ours has eight, and Python ends at a thousand
_locks: set[int] = set()
_own = threading.local()
"""Its `marks` are what this thread has claimed."""

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 1 << 30, os.SEEK_SET)  # nobody reads what is locked there: not what was written
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _hold(path: Path) -> int | None:
    """Make or open a file and lock it, until `_let_go`; None where another does.

    Where a file system knows no locks, a file is held by who made it for as long as it is there.
    """
    made = True
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        made, file = False, os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file)
    except OSError as error:
        if not made or isinstance(error, BlockingIOError | PermissionError):
            os.close(file)
            return None
    if os.fstat(file).st_nlink == 0:  # whoever held it has deleted it meanwhile
        os.close(file)
        return _hold(path)
    _locks.add(file)
    return file


def _let_go(file: int | None) -> None:
    if file in _locks:  # not in a process that was forked off meanwhile
        _locks.remove(file)
        os.close(file)


def _forked() -> None:
    """A lock does not outlive its process in those that were forked off from it."""
    vars(_own).clear()
    for file in list(_locks):
        _let_go(file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def _writing(path: Path | str) -> Iterator[None]:
    """Say of a place that cannot be written why that is, and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Make room" if full else "Mend what hinders writing there"
        reason = "a file lies where a folder is needed" if isinstance(error, FileExistsError) else error.strerror
        wrong = f"{path} could not be written: {reason or error}. A file that was there before is as it was."
        raise OSError(f"{wrong} {remedy}, or name another place, and do it again.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place when the block ends without an error.

    Whatever happens before, a crash of the process or of the machine or a full disk, the file that was there is whole.
    Of several that write at once the last one stays. What a process that was killed has left is deleted here.

    Raises:
        OSError: it cannot be written, as on a full disk; the half-written file is removed.
    """
    part, file = path.with_name(f"{path.name[:_LONGEST]}.{uuid4().hex[:8]}.part"), None
    with _writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_parts(path)
            file = _hold(part)
            yield part
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            if sys.platform == "win32":
                _let_go(file)  # an open file is not moved there
            part.replace(path)
        finally:
            with suppress(OSError):  # it is there if something went wrong, which is what matters
                part.unlink()
            _let_go(file)


def _remove_parts(path: Path) -> None:
    """Delete what processes that are gone have half written of a file; of a folder's mark, of all in the folder."""
    begin = "" if path.name == IN_USE else path.name.removesuffix(f".{IN_USE}")[:_LONGEST]
    for part in path.parent.glob("*.part"):
        if part.name.startswith(begin) and _PART.fullmatch(part.name[-14:]):
            with suppress(OSError):
                if (file := _hold(part)) is not None:
                    part.unlink()
                    _let_go(file)


@contextmanager
def claimed(mark: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Be the only one that writes, as long as the block lasts or this process: a file of this name says so.

    The claim is of a thread, which may claim the same within it, as a callback of a training that evaluates. Folders
    that were made for it and are empty at the end go again.

    Args:
        mark: `IN_USE` in a folder, whose files are claimed; or a file's name with that ending.
        what: what is done, for those who come after.
        patience: seconds to wait for another to end.

    Raises:
        ValueError: another process, or another thread, has claimed it; the message says which, and since when.
        OSError: nothing can be written there.
    """
    marks: set[Path] = vars(_own).setdefault("marks", set())
    if mark in marks:
        yield
        return
    place, until, file, told = str(mark)[: -len(IN_USE) - 1] or ".", time.monotonic() + patience, None, False
    with _writing(place):
        made = [each for each in mark.parents if not each.exists()]  # the innermost first
        mark.parent.mkdir(parents=True, exist_ok=True)
        while (file := _hold(mark)) is None:
            time.sleep(0.05)
            with suppress(FileNotFoundError):  # it has just ended
                by = mark.read_text(encoding="utf-8", errors="replace") or "another process"
                if time.monotonic() >= until:
                    wrong = f"{place} is in use by {by}. Nothing was changed. Wait until that ends, or use"
                    raise CltoolsError(f"{wrong} another place (--out, out=); if it is gone, delete {mark}.")
                if not told:
                    told = True
                    print(printable(f"Waiting for {place}, which is in use by {by}."), file=sys.stderr, flush=True)
    marks.add(mark)
    try:
        with _writing(place):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}: {what}".encode())
        _remove_parts(mark)
        yield
    finally:
        marks.discard(mark)
        if file in _locks:
            with suppress(OSError):
                mark.unlink()
                for each in made:
                    each.rmdir()
            _let_go(file)


def check_writable(path: Path) -> None:
    """Refuse a place where no file can be written: before the work whose result it shall hold, not after it.

    Raises:
        OSError: it is a folder, or nothing may be written there.
    """
    with _writing(path):
        taken = path.exists() and not path.is_file()
    if taken:
        kind = "a folder" if path.is_dir() else "no regular file"
        raise IsADirectoryError(f"{path} is {kind}; name a file, which is written there.")
    with _writing(path), TemporaryFile(dir=next(above for above in path.absolute().parents if above.exists())):
        pass


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold lone surrogates


@contextmanager
def reading(wrong: str, remedy: str = "") -> Iterator[None]:
    """Say what is wrong with a file that the block reads, and what to do, whatever a library raises of a damaged one.

    Raises:
        ValueError: in place of any error of the block, but of those by which the system refuses to open a file.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "filename", None) is not None:
            raise
        reason = str(error) if isinstance(error, CltoolsError) else f"{type(error).__name__}: {error}"[: 2 * LONGEST]
        raise CltoolsError(f"{wrong}: {reason.removesuffix('.')}. {remedy}".rstrip()) from error


FORMULA = ("=", "+", "-", "@", "\t")
"""A cell that begins so is computed by spreadsheets, which may start programs."""


def cell(text: str) -> str:
    """A stranger's text as a cell of a CSV: one that would be a formula begins with an apostrophe.

    A carriage return, at which a spreadsheet begins a row that pandas has not quoted, is written out.
    """
    text = text.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r")
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def text_of(cell: str) -> str:
    """The text that `cell` was given."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(FORMULA) else cell


def parsed(text: str | bytes, what: str) -> Any:
    """What a text of JSON holds.

    Args:
        text: also as UTF-8.
        what: begins the message, such as the file's name.

    Raises:
        ValueError: it is not JSON; a name stands twice in an object, of which one would be lost; a number is not
            finite, or too long; or it nests deeper than anything of ours.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise CltoolsError(f"{shown(twice)} stands twice in an object")
        return found

    def finite(number: str) -> float:
        if not abs(value := float(number)) < float("inf"):
            raise CltoolsError(f"{shown(number)} is no finite number")
        return value

    try:
        plain = json.loads(text, object_pairs_hook=once, parse_constant=finite, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise CltoolsError(f"{what} is not valid JSON: {error}.") from None
    level: list[Any] = [[plain]]
    for _ in range(DEEPEST):
        inner = (value for each in level for value in (each.values() if isinstance(each, dict) else each))
        level = [value for value in inner if isinstance(value, dict | list)]
    if level:
        raise CltoolsError(f"{what} nests deeper than {DEEPEST} levels, as nothing of ours does.")
    return plain


def cache_folder() -> Path:
    """Where what can be made again is kept: `CLTOOLS_CACHE`, else `$XDG_CACHE_HOME/cltools`, else `~/.cache/cltools`.

    Raises:
        RuntimeError: no variable names a folder, and this user has no home.
    """
    if given := os.environ.get("CLTOOLS_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "cltools"


def leaves(plain: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested objects of JSON, each with its path, such as "loss.temperature"."""
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
