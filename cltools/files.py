"""Files that are whole or not there: written under another name, flushed to the disk, then moved into place.

And where those are kept that may be deleted at any time.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


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
        part.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Where what can be made again is kept: `CLTOOLS_CACHE`, else `$XDG_CACHE_HOME/cltools`, else `~/.cache/cltools`.

    Raises:
        RuntimeError: no variable names a folder, and this user has no home.
    """
    if given := os.environ.get("CLTOOLS_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "cltools"
