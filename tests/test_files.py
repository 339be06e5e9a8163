"""A file is whole or not there, whatever happens while it is written."""

import json
import os
from pathlib import Path

import pytest

from cltools.errors import CltoolsError
from cltools.files import cache_folder, parsed, replacing, write_text


def test_a_file_takes_its_place_when_it_is_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as part:
        part.write_text("half", encoding="utf-8")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "half"
    write_text(path, "größer")
    assert path.read_bytes() == "größer".encode()
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_while_writing_leaves_the_file_that_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("whole", encoding="utf-8")
    with pytest.raises(type(error)), replacing(path) as part:
        part.write_text("ha", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("whole", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_where_what_can_be_made_again_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLTOOLS_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("CLTOOLS_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("CLTOOLS_CACHE", "")
    assert cache_folder() == tmp_path / "xdg" / "cltools"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "cltools"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "x is not valid JSON: Expecting"),
        (b'{"a": "\xff"}', "x is not valid JSON"),
        ("[" * 10**5 + "]" * 10**5, "x is not valid JSON: maximum recursion"),
        ("9" * 5000, "x is not valid JSON: Exceeds the limit"),
        ("[" * 40 + "]" * 40, "x nests deeper than 32 levels"),
        ('{"a":' * 40 + "1" + "}" * 40, "x nests deeper than 32 levels"),
    ],
)
def test_json_that_python_or_we_could_not_bear_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(CltoolsError, match=said):
        parsed(text, "x")


@pytest.mark.parametrize("plain", [{"a": [1, {"b": None}]}, [], 5, "ü", [[[[[[[[]]]]]]]]])
def test_json_of_a_usual_depth_is_read(plain: object) -> None:
    assert parsed(json.dumps(plain), "x") == parsed(json.dumps(plain).encode(), "x") == plain
