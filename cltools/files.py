"""Atomic writes of files, locks on files and folders, strict reading of JSON, and the location of the cache.

A file is written under another name, flushed to the disk, then moved into place. The writer holds a lock of the
operating system, which is released when its process ends, however it ends.
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

from cltools.errors import LONGEST, CltoolsError, NotFound, printable, shown

_above = Path(__file__).resolve().parents[1]
CLONE = _above if (_above / "pyproject.toml").is_file() else None
"""The clone of the repository that this package is imported from; None where it was installed without one."""
CARRIED = CLONE or Path(__file__).resolve().parent / "shipped"
"""The folder that holds the course's notebooks/ and data/: the clone, or the copy that a wheel carries."""

IN_USE = "in-use"
"""Name of the lock file in a folder; for a single file, the suffix of the lock file beside it."""
_PART = re.compile(r"\.[0-9a-f]{8}\.part")
_LONGEST = 60  # characters of a file's name that derived names keep, because systems limit their length
DEEPEST = 32  # levels of nesting accepted in JSON: our files have eight, and Python's parser stops at a thousand
_locks: set[int] = set()
_own = threading.local()
"""Its attribute `marks` holds the lock files that this thread has claimed."""

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 1 << 30, os.SEEK_SET)  # Windows makes locked bytes unreadable, so lock beyond the text
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _hold(path: Path) -> int | None:
    """Create or open a file and lock it until `_release`; return None if another process or thread holds the lock.

    On a file system without locks, the creator of a file holds it for as long as the file exists.
    """
    created = True
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        created, file = False, os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(file)
    except OSError as error:
        if not created or isinstance(error, BlockingIOError | PermissionError):
            os.close(file)
            return None
    if os.fstat(file).st_nlink == 0:  # the previous holder has deleted it in the meantime
        os.close(file)
        return _hold(path)
    _locks.add(file)
    return file


def _is_locked_by(mark: Path, file: int) -> bool:
    """Return True if the lock file is still the one that was opened as `file`."""
    with suppress(OSError):
        return os.path.samestat(mark.stat(), os.fstat(file))
    return False


def _release(file: int | None) -> None:
    if file in _locks:  # false in a process that was forked in the meantime
        _locks.remove(file)
        os.close(file)


def _forked() -> None:
    """Release inherited locks in a forked process, so that no lock outlives the process that took it."""
    vars(_own).clear()
    for file in list(_locks):
        _release(file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def _writing(path: Path | str) -> Iterator[None]:
    """Turn an OSError of the block into one that says why the path cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Free some space" if full else "Fix the cause"
        reason = "a file exists where a folder is needed" if isinstance(error, FileExistsError) else error.strerror
        wrong = f"{path} could not be written: {reason or error}. An earlier file of that name is unchanged."
        raise OSError(f"{wrong} {remedy}, or name another path, and try again.") from error


def absolute(path: Path | str) -> Path:
    """Return the absolute path, which names the same file after a change of the working folder."""
    with _writing(path):
        return Path(path).absolute()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which replaces it when the block ends without an error.

    Until then the existing file stays intact, even if the process or the machine crashes or the disk is full. If
    several processes write at once, the last one wins. Partial files that killed processes left behind are deleted.

    Raises:
        OSError: it cannot be written, as on a full disk; the partial file is removed.
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
                _release(file)  # Windows cannot move an open file
            part.replace(path)
        finally:
            with suppress(OSError):  # the partial file exists only after an error, and that error is what is raised
                part.unlink()
            _release(file)


def _remove_parts(path: Path) -> None:
    """Delete partial files of `path` left by ended processes; for a folder's lock file, all in the folder."""
    begin = "" if path.name == IN_USE else path.name.removesuffix(f".{IN_USE}")[:_LONGEST]
    for part in path.parent.glob("*.part"):
        if part.name.startswith(begin) and _PART.fullmatch(part.name[-14:]):
            with suppress(OSError):
                if (file := _hold(part)) is not None:
                    part.unlink()
                    _release(file)


@contextmanager
def claimed(mark: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Claim a folder or a file for writing by this thread alone until the block, or this process, ends.

    The thread may claim the same path again inside the block, as an evaluation in a training callback does; if the lock
    file was deleted or moved meanwhile, that is a claim of its own, which fails if another process holds the path by
    then. Folders that were created for the lock file are removed at the end if they are empty.

    Args:
        mark: the lock file: `IN_USE` in a folder whose files are claimed, or a file's name with that suffix.
        what: what the claim is for; others that find the path in use are shown it.
        patience: seconds to wait for another holder to finish.

    Raises:
        ValueError: another process or thread has claimed it; the message says which, and since when.
        OSError: the lock file cannot be written.
    """
    mark, marks = Path(os.path.abspath(mark)), vars(_own).setdefault("marks", {})
    if mark in marks and _is_locked_by(mark, marks[mark]):
        yield
        return
    path, until, file, announced = str(mark)[: -len(IN_USE) - 1] or ".", time.monotonic() + patience, None, False
    with _writing(path):
        created = [each for each in mark.parents if not each.exists()]  # the innermost first
        while True:
            mark.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another claim has just removed the folder
                if (file := _hold(mark)) is not None:
                    break
            time.sleep(0.05)
            with suppress(FileNotFoundError):  # the holder has just finished
                by = mark.read_text(encoding="utf-8", errors="replace") or "another process"
                if time.monotonic() >= until:
                    wrong = f"{path} is in use by {by}. Nothing was changed. Wait until it has finished, or write to"
                    raise CltoolsError(f"{wrong} another path (--out, out=); if it no longer runs, delete {mark}.")
                if not announced:
                    announced = True
                    print(printable(f"Waiting for {path}, which is in use by {by}."), file=sys.stderr, flush=True)
    marks[mark] = file
    try:
        with _writing(path):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}: {what}".encode())
        _remove_parts(mark)
        yield
    finally:
        marks.pop(mark, None)
        if file in _locks:
            with suppress(OSError):
                if _is_locked_by(mark, file):
                    mark.unlink()
                for each in created:
                    each.rmdir()
            _release(file)


def check_writable(path: Path) -> None:
    """Check that a file can be written at `path`, before the work whose result it will hold.

    Raises:
        OSError: it is a folder, or it is not writable.
    """
    with _writing(path):
        taken = path.exists() and not path.is_file()
    if taken:
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise IsADirectoryError(f"{path} is {kind}; give the name of a file to write.")
    with _writing(path), TemporaryFile(dir=next(above for above in path.absolute().parents if above.exists())):
        pass


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold lone surrogates


@contextmanager
def reading(wrong: str, remedy: str = "") -> Iterator[None]:
    """Turn any error that a library raises on a damaged file into a message with a remedy.

    Raises:
        ValueError: in place of any error of the block, except MemoryError, NotFound, and errors on opening a file.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError | NotFound) or getattr(error, "filename", None) is not None:
            raise
        reason = str(error) if isinstance(error, CltoolsError) else f"{type(error).__name__}: {error}"[: 2 * LONGEST]
        raise CltoolsError(f"{wrong}: {reason.removesuffix('.')}. {remedy}".rstrip()) from error


FORMULA = ("=", "+", "-", "@", "\t")
"""Spreadsheets evaluate a cell that begins with one of these as a formula, which may start programs."""


def cell(text: str) -> str:
    """Make untrusted text safe as a CSV cell: one that would be a formula gets a leading apostrophe.

    A carriage return is escaped: pandas does not quote it, and a spreadsheet would begin a new row there.
    """
    text = text.encode("utf-8", "backslashreplace").decode().replace("\r", "\\r")
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def text_of(cell: str) -> str:
    """Undo `cell`: remove the apostrophe that it added."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(FORMULA) else cell


def parsed(text: str | bytes, what: str) -> Any:
    """Parse JSON strictly.

    Args:
        text: JSON, as a string or as UTF-8 bytes.
        what: the beginning of the message, such as the file's name.

    Raises:
        ValueError: it is not JSON; a name occurs twice in an object, so that one value would be lost; a number is not
            finite, or too long; or it is nested more than `DEEPEST` levels deep.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(members := dict(pairs)) < len(pairs):
            ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
            raise CltoolsError(f"{shown(twice)} occurs twice in an object")
        return members

    def finite(number: str) -> float:
        if not abs(value := float(number)) < float("inf"):
            raise CltoolsError(f"{shown(number)} is not a finite number")
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
        raise CltoolsError(f"{what} is nested deeper than {DEEPEST} levels, which no file of cltools is.")
    return plain


def cache_folder() -> Path:
    """Return the cache folder: `CLTOOLS_CACHE`, else `$XDG_CACHE_HOME/cltools`, else `~/.cache/cltools`.

    Everything in it can be computed again, so it may be deleted at any time.

    Raises:
        RuntimeError: neither variable is set, and the user has no home folder.
    """
    if given := os.environ.get("CLTOOLS_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "cltools"


def leaves(plain: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the values in nested JSON objects, each with its path, such as "loss.temperature"."""
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
