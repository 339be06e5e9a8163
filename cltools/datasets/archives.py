"""Archives that are downloaded, checked and unpacked without ever touching a file that is already there."""

import hashlib
import shutil
import tarfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

from tqdm.auto import tqdm

from cltools.errors import CltoolsError


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
            wrong = f"Found neither {folder} nor {file}, and downloading is off. Allow it (download=True),"
            raise FileNotFoundError(f"{wrong} or fetch {archive.url} yourself and put it at {file}.")
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
        raise CltoolsError(
            f"{path} is truncated or altered: expected md5 {md5}, but its {path.stat().st_size:,} bytes have "
            f"{found}. {advice}. Nothing was changed."
        )


def fetch(archive: Archive, file: Path) -> None:
    """Downloads into a folder of its own beside `file`, checks what came, and only then gives it its name.

    Raises:
        RuntimeError: No network, a broken connection, or bytes that are not the published ones.
    """
    missing = [folder for folder in file.parents if not folder.exists()]  # the innermost first
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f"{file.name}.", suffix=".part", dir=file.parent) as scratch:
            part = Path(scratch, file.name)
            with urlopen(archive.url, timeout=30) as source, part.open("wb") as target:
                total = int(source.headers.get("Content-Length") or 0) or None
                with tqdm.wrapattr(source, "read", total=total, desc=f"Downloading {file.name}") as counted:
                    shutil.copyfileobj(counted, target)
            check(part, archive.md5, "The download did not arrive intact")
            if not file.exists():  # else somebody put it there meanwhile, and the caller checks it
                part.rename(file)
    except (OSError, HTTPException, ValueError) as error:
        with suppress(OSError):  # what somebody else has filled meanwhile stays
            for folder in missing:
                folder.rmdir()
        reason = error.reason if isinstance(error, URLError) else f"{type(error).__name__}: {error}"
        raise RuntimeError(
            f"Could not download {archive.url}: {reason}. Check the network connection and try again, or fetch it on "
            f"another machine and put it at {file}. 'digits' and 'shapes' need no network."
        ) from error


def unpack(file: Path, folder: Path) -> None:
    """Unpacks `file`, whose members all lie in one folder, so that `folder` appears complete or not at all.

    Raises:
        ValueError: The file is no archive, or a member of a tar is a link or a device.
    """
    with TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as scratch:
        try:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as zipped:  # which keeps every member below the folder
                    for name in tqdm(zipped.namelist(), desc=f"Unpacking {file.name}"):
                        zipped.extract(name, scratch)
            else:
                with tarfile.open(file) as tar:
                    tar.extraction_filter = getattr(tarfile, "data_filter", None)  # does so too; from Python 3.11.4 on
                    tar.extractall(scratch)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            raise CltoolsError(f"{file} cannot be unpacked: {error}. Move it away and download it again.") from error
        if not Path(scratch, folder.name).is_dir():
            raise CltoolsError(f"{file} does not hold the folder {folder.name}. Download it again.")
        Path(scratch, folder.name).rename(folder)
