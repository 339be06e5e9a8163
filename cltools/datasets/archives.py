"""Archives that are downloaded, checked and unpacked without ever touching a file that is already there."""

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, cast
from urllib.error import URLError
from urllib.request import urlopen

from tqdm.auto import tqdm

CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A published archive: where it comes from, how its bytes are recognised, what it unpacks to."""

    url: str
    md5: str
    file: str
    folder: str


def obtain(archive: Archive, root: Path, download: bool) -> Path:
    """The unpacked folder of an archive below `root`: as it lies there, else unpacked, else downloaded.

    Raises:
        FileNotFoundError: Neither folder nor archive is there and `download` is off.
        ValueError: The archive is truncated or altered, or holds something that is not safe to unpack.
        RuntimeError: The download failed.
    """
    folder, file = root / archive.folder, root / archive.file
    if folder.is_dir():
        return folder
    if not file.is_file():
        if not download:
            raise FileNotFoundError(
                f"Found neither {folder} nor {file}, and downloading is off. Allow it (download=True), or fetch "
                f"{archive.url} yourself and put it at {file}."
            )
        fetch(archive, file)
    check(file, archive.md5, f"Move it away and download it again from {archive.url}")
    unpack(file, folder)
    return folder


def md5_of(path: Path) -> str:
    """The md5 of a file, to recognise it; md5 is what the sources publish."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check(path: Path, md5: str, advice: str) -> None:
    """Raises a ValueError that names `path`, what was expected and `advice`, unless the file has this md5.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Its contents are not the published ones.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing (expected with md5 {md5}). {advice}.")
    found = md5_of(path)
    if found != md5:
        raise ValueError(
            f"{path} is truncated or altered: expected md5 {md5}, but its {path.stat().st_size:,} bytes have "
            f"{found}. {advice}. Nothing was changed."
        )


def fetch(archive: Archive, file: Path) -> None:
    """Downloads to a new file ending in `.part`, checks it, and only then gives it its name.

    Raises:
        RuntimeError: No network, a broken connection, or bytes that are not the published ones.
    """
    missing = [folder for folder in file.parents if not folder.exists()]  # the innermost first
    file.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two downloads at once, or a `.part` somebody else left, must not meet.
    handle, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".part", dir=file.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            _copy_from(archive.url, target, file.name)
        check(part, archive.md5, "The download did not arrive intact")
        _give_name(part, file)
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else f"{type(error).__name__}: {error}"
        raise RuntimeError(
            f"Could not download {archive.url}: {reason}. Check the network connection and try again, or fetch it on "
            f"another machine and put it at {file}. 'digits' and 'shapes' need no network."
        ) from error
    finally:
        part.unlink(missing_ok=True)
        if not file.exists():
            for folder in missing:
                folder.rmdir()


def _give_name(part: Path, file: Path) -> None:
    """The name of a file that nobody has made meanwhile; if somebody has, the caller checks what lies there."""
    try:
        os.link(part, file)  # unlike a rename, fails if the name is taken
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not file.exists():
            part.rename(file)


def _copy_from(url: str, target: BufferedIOBase, title: str) -> None:
    with urlopen(url, timeout=30) as source:
        length = source.headers.get("Content-Length")
        total = int(length) if length else None
        with tqdm(total=total, unit="B", unit_scale=True, desc=f"Downloading {title}") as bar:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                bar.update(len(chunk))
            if total is not None and bar.n < total:
                raise URLError(f"the connection ended after {bar.n:,} of {total:,} bytes")


def unpack(file: Path, folder: Path) -> None:
    """Unpacks `file`, whose members all lie in one folder, so that `folder` appears complete or not at all.

    Raises:
        ValueError: The file is no archive, or a member is a link or points outside the folder.
    """
    scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with _members(file) as (members, total):
            for name, is_folder, open_member in tqdm(members, total=total, desc=f"Unpacking {file.name}"):
                target = scratch / safe_path(name, file)
                if is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member() as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        if not (scratch / folder.name).is_dir():
            raise ValueError(f"{file} does not hold the folder {folder.name}. Download it again.")
        (scratch / folder.name).rename(folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{file} cannot be unpacked: {error}. Move it away and download it again.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def safe_path(name: str, file: Path) -> PurePosixPath:
    """The member's path, if it stays inside the folder it is unpacked to.

    Raises:
        ValueError: The path is absolute, names a drive, or climbs out by "..".
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise ValueError(
            f"{file} was not unpacked: its member {name!r} points outside the folder. Get the archive from its source."
        )
    return path


Member = tuple[str, bool, Callable[[], IO[bytes]]]


@contextmanager
def _members(file: Path) -> Iterator[tuple[Iterator[Member], int | None]]:
    """Name, whether it is a folder, and a way to open it, for each member; then how many, where that is known."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            yield ((info.filename, info.is_dir(), partial(archive.open, info)) for info in infos), len(infos)
        return
    with tarfile.open(file) as tar:
        yield (_tar_member(tar, info, file) for info in tar), None


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo, file: Path) -> Member:
    if not (info.isfile() or info.isdir()):
        raise ValueError(
            f"{file} was not unpacked: its member {info.name!r} is a link or a device, which can point outside the "
            "folder. Get the archive from its source."
        )
    return info.name, info.isdir(), lambda: cast(IO[bytes], tar.extractfile(info))  # None only for links and folders
