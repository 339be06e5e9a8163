"""Download, verification and unpacking of archives, without changing existing files."""

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

PATIENCE, HOUR = 30, 3600  # seconds to wait for data; seconds to wait for another process to fetch the archive


@dataclass(frozen=True)
class Archive:
    """A published archive: its address, its checksum, its file name, and the folder it unpacks to."""

    url: str
    md5: str
    file: str
    folder: str


def obtain(archive: Archive, root: Path, download: bool) -> Path:
    """Return the unpacked folder of an archive below `root`, after unpacking and downloading it if necessary.

    Raises:
        FileNotFoundError: Neither the folder nor the archive exists, and `download` is False.
        ValueError: The archive is truncated or altered, or contains something that is not safe to unpack.
        ValueError: The download failed.
    """
    if os.path.exists(root) and not (os.path.isdir(root) and os.access(root, os.R_OK | os.X_OK)):
        raise CltoolsError(f"{root} is not a readable folder; give another: root= (--root) or CLTOOLS_DATA.")
    if root.name == archive.folder and root.is_dir():
        raise CltoolsError(f"{root} is the image folder itself; give the folder that contains it as the root.")
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
    """Check that a file has the published md5; the error names `path`, the expected md5 and `advice`.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Its contents are not the published ones.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing (expected with md5 {md5}). {advice}.")
    with path.open("rb") as stream:
        actual = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if actual != md5:
        wrong = f"expected md5 {md5}, but its {path.stat().st_size:,} bytes have {actual}"
        raise CltoolsError(f"{path} is truncated or altered: {wrong}. {advice}. Nothing was changed.")


def alone(file: Path) -> AbstractContextManager[None]:
    """Return a lock on an archive for one process at a time; others wait for it."""
    return claimed(file.with_name(f"{file.name}.{IN_USE}"), f"fetching or unpacking {file.name}", HOUR)


def fetch(archive: Archive, file: Path) -> None:
    """Download `file` if it does not exist: to a partial file first, which is renamed after it has been verified.

    A partial download is kept after an interruption, and continued if the server supports it.

    Raises:
        ValueError: No network, a broken connection, too little disk space, or contents that are not the published ones.
    """
    if file.is_file():
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with alone(file):
            if not file.exists():  # else another process has fetched it in the meantime
                receive(archive, part)
            if not file.exists():  # else someone has put it there in the meantime, and the caller checks it
                part.rename(file)
            part.unlink(missing_ok=True)
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else f"{type(error).__name__}: {error}"
        kept = " The partial download is kept, and the next attempt continues it." if part.exists() else ""
        remedy = f"Check the network connection, or put it at {file} yourself; 'digits' and 'shapes' need no network."
        raise CltoolsError(f"Could not download {archive.url}: {reason}.{kept} {remedy}") from error


def receive(archive: Archive, part: Path) -> None:
    """Download the rest of an archive to `part` and verify its md5; no more is read than the server has announced.

    Raises:
        OSError: the connection broke or timed out, or there is too little disk space.
        ValueError: the contents are not the published ones; the partial file is removed.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = Request(archive.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=PATIENCE) as source:
            have = have if source.status == 206 else 0  # else the server sends the whole file
            append(source, part, have)
    except HTTPError as error:
        if error.code != 416:  # 416: the partial file is already complete
            raise
    try:
        check(part, archive.md5, "The download did not arrive intact")
    except CltoolsError:
        part.unlink()
        raise


def append(source: Any, part: Path, have: int) -> None:
    """Append the rest of an archive to its partial file; http.client reads no more than the server has announced.

    Raises:
        OSError: the connection broke or timed out, or there is too little disk space.
    """
    total = have + int(source.headers.get("Content-Length") or 0)
    target = part.open("ab" if have else "wb")
    with target, tqdm.wrapattr(target, "write", total, initial=have, desc=f"Downloading {part.stem}") as counted:
        while chunk := source.read1(1 << 20):
            counted.write(chunk)
    if (left := total - part.stat().st_size) > 0:
        raise OSError(f"the connection ended {left:,} bytes before the end")


def unpack(file: Path, folder: Path) -> None:
    """Unpack `file`, whose members are all in one folder, so that `folder` appears complete or not at all.

    Raises:
        ValueError: The file is not an archive, or a member of a tar is a link or a device.
    """
    with alone(file):
        if folder.is_dir():  # another process has unpacked it in the meantime
            return
        for partial in folder.parent.glob(f"{escape(folder.name)}.*.part"):  # left by a process that was killed
            shutil.rmtree(partial, ignore_errors=True)
        with TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as scratch:
            try:
                if zipfile.is_zipfile(file):
                    with zipfile.ZipFile(file) as zipped:  # zipfile keeps every member below the folder
                        for name in tqdm(zipped.namelist(), desc=f"Unpacking {file.name}"):
                            zipped.extract(name, scratch)
                else:
                    with tarfile.open(file) as tar:
                        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # safe, too; from Python 3.11.4
                        tar.extractall(scratch)
            except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
                raise CltoolsError(f"{file} cannot be unpacked: {error}. Move it away and try again.") from error
            if not Path(scratch, folder.name).is_dir():
                raise CltoolsError(f"{file} does not hold the folder {folder.name}. Download it again.")
            Path(scratch, folder.name).rename(folder)
