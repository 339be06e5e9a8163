"""Files that are whole or not there: written under another name, flushed to the disk, then moved into place.

And where those are kept that may be deleted at any time.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from cltools.errors import CltoolsError

DEEPEST = 32
"""Levels of JSON that are read: what is ours has eight, and Python ends at a thousand."""


@contextmanager
def replacing(path: Path, *, unique: bool = False) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place when the block ends without an error.

    Whatever happens before, a crash of the process or of the machine or a full disk, the file that was there is whole.

    Args:
        path: the file's name when it is whole.
        unique: give the new file a name that no other process has, for a file that two may write at once; the last
            one stays. A process that is killed leaves it.

    Raises:
        OSError: it cannot be written, as on a full disk; the half-written file is removed.
    """
    part = path.with_name(f"{path.name}.{uuid4().hex[:8]}.part" if unique else f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):  # what went wrong before is what matters
            part.unlink()
        if not isinstance(error, OSError):
            raise
        wrong = f"{path} could not be written: {error}. A file that was there before is as it was."
        raise OSError(f"{wrong} Make room, or mend what hinders writing, and do it again.") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names may hold lone surrogates


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is computed by spreadsheets, which may start programs."""


def cell(text: str) -> str:
    """A stranger's text as a cell of a CSV: one that would be a formula begins with an apostrophe."""
    text = text.encode("utf-8", "backslashreplace").decode()
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
        ValueError: it is no JSON, a number in it is too long, or it nests deeper than anything of ours.
    """
    try:
        plain = json.loads(text)
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
