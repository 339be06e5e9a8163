"""Archives that are downloaded, checked and unpacked without ever touching a file that is already there."""

import hashlib
import os
import shutil
import tarfile
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import escape
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from cltools.errors import CltoolsError
from cltools.files import IN_USE, claimed

PATIENCE, HOUR = 30, 3600  # seconds without a byte; until another process has the archive
MOST_BYTES = 1 << 31  # of an archive whose length the server does not say


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
        ValueError: The download failed.
    """
    if os.path.exists(root) and not (os.path.isdir(root) and os.access(root, os.R_OK | os.X_OK)):
        raise CltoolsError(f"{root} is no folder that can be read; name another: root= (--root) or CLTOOLS_DATA.")
    if root.name == archive.folder and root.is_dir():
        raise CltoolsError(f"{root} is the folder of the images itself; the root is the one that it lies in.")
    folder, file = root / archive.folder, root / archive.file
    if folder.is_dir():
        return folder
    if not file.is_file() and not download:
        raise FileNotFoundError(f"Found neither {folder} nor {file}; allow download=True, or put {archive.url} there.")
    fetch(archive, file)
    check(file, archive.md5, f"Move it away and download it again from {archive.url}")
    unpack(file, folder)
    return folder


def check(path: Path, md5: str, advice: str) -> None:
    """Raises an error that names `path`, what was expected and `advice`, unless the file has the md5 published.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Its contents are not the published ones.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing (expected with md5 {md5}). {advice}.")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        wrong = f"expected md5 {md5}, but its {path.stat().st_size:,} bytes have {found}"
        raise CltoolsError(f"{path} is truncated or altered: {wrong}. {advice}. Nothing was changed.")


def alone(file: Path) -> AbstractContextManager[None]:
    """For one process at a time to do something with an archive; others wait for it."""
    return claimed(file.with_name(f"{file.name}.{IN_USE}"), f"fetching or unpacking {file.name}", HOUR)


def fetch(archive: Archive, file: Path) -> None:
    """Downloads beside `file`, if it is not there, checks what came, and only then gives it its name.

    What came before an interruption is kept and gone on with, if the server can send the rest alone.

    Raises:
        ValueError: No network, a broken connection, too little room, or bytes that are not the published ones.
    """
    if file.is_file():
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with alone(file):
            if not file.exists():  # else another process has fetched it meanwhile
                receive(archive, part)
            if not file.exists():  # else somebody put it there meanwhile, and the caller checks it
                part.rename(file)
            part.unlink(missing_ok=True)
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else f"{type(error).__name__}: {error}"
        kept = " What came is kept, and the next start goes on from there." if part.exists() else ""
        remedy = f"Check the network connection, or put it at {file} yourself; 'digits' and 'shapes' need no network."
        raise CltoolsError(f"Could not download {archive.url}: {reason}.{kept} {remedy}") from error


def receive(archive: Archive, part: Path) -> None:
    """The whole archive in a part, whose beginning may be there; no more is read than the server has announced.

    Whether that beginning is of the same file, the published md5 says at the end.

    Raises:
        OSError: the connection broke or stood still, or there is too little room.
        ValueError: what came is not what was published, and is removed.
    """
    have = part.stat().st_size if part.is_file() else 0
    asked = Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(asked, timeout=PATIENCE) as source:
            have = have if source.status == 206 else 0  # else the server sends all of it
            append(source, part, have)
    except HTTPError as error:
        if error.code != 416:  # there is no more
            raise
    try:
        check(part, archive.md5, "The download did not arrive intact")
    except CltoolsError:
        part.unlink()
        raise


def append(source: Any, part: Path, have: int) -> None:
    """Writes the rest of an archive behind what there is of it.

    Raises:
        OSError: the connection broke or stood still, or there is too little room.
    """
    length = int(source.headers.get("Content-Length") or 0)
    left = length or MOST_BYTES
    bar = tqdm(total=length and have + length, initial=have, desc=f"Downloading {part.stem}", unit="B", unit_scale=True)
    with part.open("ab" if have else "wb") as target, bar:
        while left and (chunk := source.read1(min(1 << 20, left))):
            left -= target.write(chunk)
            bar.update(len(chunk))
    if length and left:
        raise OSError(f"the connection ended {left:,} bytes before the end")


def unpack(file: Path, folder: Path) -> None:
    """Unpacks `file`, whose members all lie in one folder, so that `folder` appears complete or not at all.

    Raises:
        ValueError: The file is no archive, or a member of a tar is a link or a device.
    """
    with alone(file):
        if folder.is_dir():  # another process has unpacked it meanwhile
            return
        for left in folder.parent.glob(f"{escape(folder.name)}.*.part"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        with TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as scratch:
            try:
                if zipfile.is_zipfile(file):
                    with zipfile.ZipFile(file) as zipped:  # which keeps every member below the folder
                        for name in tqdm(zipped.namelist(), desc=f"Unpacking {file.name}"):
                            zipped.extract(name, scratch)
                else:
                    with tarfile.open(file) as tar:
                        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # so too; from 3.11.4 on
                        tar.extractall(scratch)
            except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
                raise CltoolsError(f"{file} cannot be unpacked: {error}. Move it away and try again.") from error
            if not Path(scratch, folder.name).is_dir():
                raise CltoolsError(f"{file} does not hold the folder {folder.name}. Download it again.")
            Path(scratch, folder.name).rename(folder)
