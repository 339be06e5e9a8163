"""Whole files made into hostile ones, by a generator of random numbers: bytes, JSON, arrays, tables, pictures."""

import copy
import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

Altered = tuple[bytes, str]
"""What a file holds now, and in words what was done to it."""
BOMB = 700 << 20
"""Bytes that a member unpacks to, where one is a bomb."""
DEEP, DIGITS = "@deep@", "@digits@"
"""Stand in JSON for what `json.dumps` cannot write: 100,000 nested lists, and a number of 5,000 digits."""
NAMES = (
    "",
    "\0",
    "a\nb",
    "\x1b[31mred",
    "\u202egnp.exe",
    "\ud800",
    "x" * 50_000,
    "=cmd|' /C calc'!A0",
    "$_$",
    "_hidden",
    "</script><!--",
    "a|b`<i>",
    "ünïcode ☃ \U0001f600 שלום",
)
"""Texts from strangers."""


def nested(levels: int) -> list[Any]:
    """A list in a list in a list."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def nasty(rng: Random) -> Any:
    """A value that nobody expects, as JSON holds it."""
    numbers = (0, 1, -1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**400, 10**9, 0.5, 1e308, 1e-320, math.nan, math.inf)
    others = (None, True, False, [], {}, [[]], [None], {"": None}, {"rule": "RankBand"}, nested(50), nested(900), DEEP)
    return rng.choice((rng.choice(numbers), rng.choice(others), rng.choice((*NAMES, DIGITS)), -rng.choice(numbers)))


def places(plain: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested dicts and lists."""
    yield path
    inner = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list | tuple) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def with_value(plain: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy in which one value is changed."""
    if not path:
        return change(plain)
    found = copy.copy(plain) if isinstance(plain, dict) else [*plain]
    found[path[0]] = with_value(found[path[0]], path[1:], change)
    return found


def tree_altered(plain: Any, rng: Random) -> tuple[Any, str]:
    """Nested dicts and lists with one to three values changed, left out, renamed, added or doubled."""
    told = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        path = rng.choice([*places(plain)])
        what, key = (
            rng.choice(("value", "value", "value", "lost", "added", "renamed", "doubled")),
            f"key {rng.random()}",
        )
        value = nasty(rng)

        def change(was: Any, what: str = what, key: str = key, value: Any = value) -> Any:
            if isinstance(was, dict) and was and what != "value":
                some = rng.choice([*was])
                kept = {name: each for name, each in was.items() if name != some or what not in ("lost", "renamed")}
                return kept | {"lost": {}, "renamed": {key: was[some]}}.get(what, {key: value})
            if isinstance(was, list | tuple) and was and what != "value":
                at = rng.randrange(len(was))
                put = {"lost": [], "doubled": [was[at]] * 2}.get(what, [was[at], value])
                return [*was[:at], *put, *was[at + 1 :]]
            return value

        plain = with_value(plain, path, change)
        told.append(f"{what} at {'.'.join(map(str, path)) or 'the top'} ({str(value)[:40]!r})")
    return plain, "; ".join(told)


def json_text(plain: Any, indent: int | None = None) -> bytes:
    """JSON with what stands in it for deep lists and for long numbers."""
    text = json.dumps(plain, indent=indent)
    return text.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000).replace(f'"{DIGITS}"', "9" * 5_000).encode()


def json_altered(content: bytes, rng: Random) -> Altered:
    """A text of JSON, altered as a tree or as bytes."""
    if rng.random() < 0.25:
        return bytes_altered(content, rng)
    plain, told = tree_altered(json.loads(content), rng)
    try:
        return json_text(plain), told
    except RecursionError:  # a tree that was deep before and was put into itself
        return bytes_altered(content, rng)


def bytes_altered(content: bytes, rng: Random) -> Altered:
    """Bytes flipped, cut off, cut out, put in, doubled or set to 0; now and then near the beginning."""
    end = min(len(content), 512) if rng.random() < 0.3 else len(content)
    at = rng.randrange(max(1, end))
    length = rng.choice((1, 2, 8, 64, 1000))
    what = rng.choice(("flipped", "flipped", "flipped", "cut off", "cut out", "put in", "doubled", "zeros", "empty"))
    part, rest = content[at : at + length], content[at + length :]
    if what == "flipped":
        bit = 1 << rng.randrange(8)
        content = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :] if content else b"\0"
    elif what == "cut off":
        content = content[:at]
    elif what == "empty":
        content = rng.choice((b"", b"\0" * 100, b"\xff\xfe", b"PK\x03\x04", b"\x93NUMPY", rng.randbytes(1000)))
    else:
        put = {"cut out": b"", "put in": part + rng.randbytes(length), "doubled": part * 2, "zeros": bytes(len(part))}
        content = content[:at] + put[what] + rest
    return content, f"{what} at {at}, {length} bytes"


# arrays


def npy_of(array: np.ndarray, **header: Any) -> bytes:
    """An array in NumPy's format; its header may say something else than what follows."""
    file = io.BytesIO()
    said = np.lib.format.header_data_from_array_1_0(array) | header
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue() + array.tobytes()


def array_altered(array: np.ndarray, rng: Random) -> Altered:
    """An array with other values, another type, another shape, or a header that is untrue."""
    what = rng.choice(("nan", "inf", "zero", "huge", "twice", "negative", "type", "shape", "less", "header", "objects"))
    if not array.size:
        return npy_of(array), "an array without a number"
    array = array.copy()
    flat = array.reshape(-1)
    if what in ("nan", "inf", "zero", "huge", "negative", "twice") and array.size and array.dtype.kind in "fiu":
        row = rng.randrange(len(array)) if array.ndim else 0
        part = array[row, ...] if array.ndim > 1 and rng.random() < 0.5 else flat[rng.randrange(array.size) :][:1]
        some = {"nan": math.nan, "inf": -math.inf, "zero": 0, "huge": 1e30, "negative": -1, "twice": flat[0]}[what]
        with np.errstate(all="ignore"):
            limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
            whole = {"nan": 0, "inf": 1, "huge": 1}.get(what)
            some = some if limits is None or whole is None else (limits.min, limits.max)[whole]
            part[...] = np.asarray(some).astype(array.dtype)
    elif what == "type":
        kind = rng.choice(("float64", "float32", "float16", "int8", "int64", "uint8", "bool", "U5", "S3", "c16", ">f4"))
        with np.errstate(all="ignore"), suppress(ValueError):  # texts are no numbers
            array = array.astype(kind)
    elif what == "shape":
        shapes = ((-1,), (1, -1), array.shape[::-1], (*array.shape, 1), (0, 5), (5, 0), ())
        shape = rng.choice(shapes)
        array = array[:0].reshape(shape) if 0 in shape else array.reshape(shape) if shape else flat[0]
        array = np.ascontiguousarray(array)
    elif what == "less":
        array = array[: rng.randrange(len(array))] if array.ndim and len(array) else array
    elif what == "objects":
        file = io.BytesIO()
        np.save(file, np.array([{"a": 1}, os.getcwd], object), allow_pickle=True)
        return file.getvalue(), "pickled objects"
    else:
        shape = rng.choice(((10**12,), (10**9, 16), (2**62, 4), (10**12, 0), (0, 10**12), (-1,), array.shape * 2))
        kind = rng.choice((array.dtype.str, array.dtype.str, "<U100000000", "|V0", "<f8", "|O"))
        return npy_of(array, shape=shape, descr=kind), f"header says {kind} {shape}"
    return npy_of(np.ascontiguousarray(array)), what


def npy_altered(content: bytes, rng: Random) -> Altered:
    """An `.npy`, altered as an array or as bytes."""
    if rng.random() < 0.4:
        return bytes_altered(content, rng)
    return array_altered(np.load(io.BytesIO(content)), rng)


def npz_altered(content: bytes, rng: Random) -> Altered:
    """An `.npz` with members altered, lost, renamed, added, exchanged or doubled; or altered as bytes."""
    if rng.random() < 0.2:
        return bytes_altered(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    told, bomb, doubled, spoilt = [], None, None, set[str]()
    for _ in range(rng.choice((1, 1, 1, 2))):
        name = rng.choice([*members])
        what = rng.choice(("array",) * 8 + ("lost", "renamed", "added", "exchanged", "bytes", "bomb", "doubled"))
        if what in ("array", "exchanged") and name in spoilt:
            continue
        if name == "about.npy" and what in ("array", "exchanged"):
            with np.errstate(all="ignore"):
                text, what = json_altered(np.load(io.BytesIO(members[name])).tobytes(), rng)
            members[name] = npy_of(np.frombuffer(text, np.uint8))
            spoilt.add(name)
        elif what == "array":
            members[name], what = array_altered(np.load(io.BytesIO(members[name])), rng)
            spoilt.add(name)
        elif what == "lost":
            del members[name]
        elif what == "renamed":
            spoilt.add(other := rng.choice(("other.npy", name.removesuffix(".npy"), "../up.npy", "a/b.npy")))
            members[other] = members.pop(name)
        elif what == "added":
            spoilt.add(other := rng.choice(("extra.npy", "notes.txt", "query_ids.npy")))
            members[other] = members[name]
        elif what == "exchanged":
            members[name] = members[rng.choice([*members])]
            spoilt.add(name)
        elif what == "bytes":
            members[name], what = bytes_altered(members[name], rng)
            spoilt.add(name)
        elif what == "bomb":
            bomb = rng.choice((name, "extra.npy"))
        else:
            doubled = name
        told.append(f"{name}: {what}")
        if not members:
            break
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in [*members.items(), *([(doubled, members.get(doubled, b""))] if doubled else [])]:
            if name != bomb:
                _quietly(archive, name, data)
        if bomb is not None:
            with archive.open(bomb, "w") as member:
                member.write(npy_of(np.zeros(0, np.uint8), shape=(BOMB,)))
                for _ in range(BOMB >> 20):
                    member.write(bytes(1 << 20))
    return file.getvalue(), "; ".join(told)


def _quietly(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Write a member; of a name that is there already without its warning."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr(name, data)


# tables, tensors, pictures


def parquet_altered(content: bytes, rng: Random) -> Altered:
    """A Parquet table with a column lost, renamed, added or of another type, or altered as bytes."""
    import pandas as pd

    if rng.random() < 0.5:
        return bytes_altered(content, rng)
    table = pd.read_parquet(io.BytesIO(content))
    name = rng.choice([*table.columns])
    what = rng.choice(("lost", "renamed", "column", "value", "rows"))
    if what == "lost":
        table = table.drop(columns=name)
    elif what == "renamed":
        table = table.rename(columns={name: rng.choice([each for each in NAMES if each != "\ud800"])})
    elif what == "rows":
        table = table.iloc[: rng.choice((0, 1, 2))]
    else:
        some = rng.choice((None, math.nan, math.inf, 0.0, True, "text", 2**62, b"bytes", [1.0], [], [[1.0]], [None]))
        column = table[name].tolist()
        at = range(len(column)) if what == "column" else [rng.randrange(len(column))]
        for place in at:
            column[place] = some
        table[name] = pd.Series(column, dtype=object)
        what += f" {some!r}"
    file = io.BytesIO()
    try:
        table.to_parquet(file)
    except Exception:  # what Parquet cannot hold is no file
        return bytes_altered(content, rng)
    return file.getvalue(), f"{name}: {what}"


def csv_altered(content: bytes, rng: Random) -> Altered:
    """A table of texts with a cell, a row or a column changed, or altered as bytes."""
    if rng.random() < 0.3:
        return bytes_altered(content, rng)
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[row]))
    what = rng.choice(("cell", "cell", "cell", "row lost", "row doubled", "short", "long", "column"))
    if what == "cell":
        cells = ("nan", "inf", "-1", "1e400", "0x10", "1_0", "٣", '"', "x" * 200_000, "9" * 5000, *NAMES)
        rows[row][column] = rng.choice([each for each in cells if each != "\ud800"])
    elif what == "column":
        rows = [[*cells[:column], *cells[column + 1 :]] for cells in rows]
    else:
        put = {"row lost": [], "row doubled": [rows[row]] * 2, "short": [rows[row][:column]], "long": [rows[row] * 2]}
        rows[row : row + 1] = put[what]
    return "\n".join(map(",".join, rows)).encode(), f"{what} in row {row}, column {column}"


def torch_altered(content: bytes, rng: Random) -> Altered:
    """What `torch.save` wrote, with a value changed in its tree, or altered as bytes."""
    import torch

    if rng.random() < 0.5:
        return bytes_altered(content, rng)
    state, told = tree_altered(torch.load(io.BytesIO(content), weights_only=True), rng)
    file = io.BytesIO()
    try:
        torch.save(state, file)
    except (RecursionError, OverflowError, UnicodeEncodeError):
        return bytes_altered(content, rng)
    return file.getvalue(), told


def safetensors_altered(content: bytes, rng: Random) -> Altered:
    """A file of safetensors, altered in its header of JSON or as bytes."""
    if rng.random() < 0.5:
        return bytes_altered(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    header, told = tree_altered(json.loads(content[8 : 8 + length]), rng)
    text = json_text(header)
    said = rng.choice((len(text), len(text), len(text), 2**62, 0))
    return struct.pack("<Q", said) + text + content[8 + length :], f"header: {told}, of length {said}"


def png_altered(content: bytes, rng: Random) -> Altered:
    """A PNG that declares another size, or altered as bytes."""
    if rng.random() < 0.7:
        return bytes_altered(content, rng)
    width, height = rng.choice(((30_000, 1), (13_000, 13_000), (2**31 - 1, 2**31 - 1), (0, 5), (1, 30_000)))
    head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:], f"declares {width}×{height}"


def special_file(path: Path, rng: Random) -> str:
    """Something else in the place of a file."""
    path.unlink()
    what = rng.choice(("link", "loop", "pipe", "folder", "unreadable", "nothing"))
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what in ("link", "loop"):
        path.symlink_to("nowhere" if what == "link" else path.name)
    elif what == "unreadable":
        path.write_bytes(b"secret")
        path.chmod(0)
    return what
