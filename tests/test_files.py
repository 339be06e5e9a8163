"""A file is whole or not there, whatever happens while it is written, and one process at a time writes into a place."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cltools import files
from cltools.errors import CltoolsError
from cltools.files import IN_USE, cache_folder, check_writable, claimed, parsed, replacing, write_text

ROOT = Path(__file__).parents[1]


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
    with pytest.raises(OSError, match=r"No space left.*Free some space"):
        write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "room"),
    [(number, number in (errno.ENOSPC, errno.EDQUOT)) for number in (28, errno.EDQUOT, 1, 13, 20, 21, 27, 30, 36)],
)
def test_room_is_asked_for_only_where_it_is_short(number: int, room: bool, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="name another path") as told, replacing(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(told.value) and ("Free some space" in str(told.value)) == room


def test_two_that_write_at_once_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as first:
        first.write_text("first", encoding="utf-8")
        with replacing(path) as second:
            second.write_text("second", encoding="utf-8")
            assert first.read_text(encoding="utf-8") == "first" and first != second
        assert path.read_text(encoding="utf-8") == "second" and first.exists()
    assert path.read_text(encoding="utf-8") == "first" and os.listdir(tmp_path) == ["a.txt"]


def test_names_as_long_as_a_system_takes_are_written(tmp_path: Path) -> None:
    for name in ("a" * 255, "ü" * 127):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text(encoding="utf-8") == "whole"
    assert len(os.listdir(tmp_path)) == 2


DIES = """
import os, signal, sys, time
from pathlib import Path
from cltools.files import claimed, replacing
with claimed(Path(sys.argv[1]) / "in-use", "the first"):
    with replacing(Path(sys.argv[1]) / "a.txt") as part:
        part.write_text("ha")
        if sys.argv[2] == "fork" and os.fork() == 0:
            os.close(1)
            time.sleep(60)
        print("ready", flush=True)
        time.sleep(60)
"""


@contextmanager
def writing(folder: Path, how: str = "") -> Iterator["subprocess.Popen[str]"]:
    """Another process that has claimed a folder and writes there, until it is killed."""
    command = [sys.executable, "-c", DIES, str(folder), how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, encoding="utf-8", env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["", "fork"])
def test_what_a_process_held_is_free_when_it_is_killed_and_its_part_goes(how: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("whole", encoding="utf-8")
    (tmp_path / "other.12345678.part").write_text("of nobody any more", encoding="utf-8")
    (tmp_path / "video.part").write_text("of another program", encoding="utf-8")
    with writing(tmp_path, how) as process:
        taken = pytest.raises(ValueError, match=rf"in use by process {process.pid} on .* since 20.*: the first")
        with taken, claimed(tmp_path / IN_USE, "the second"):
            raise AssertionError
        assert len(list(tmp_path.glob("a.txt.*.part"))) == 1
        write_text(tmp_path / "a.txt", "from another")  # which leaves alone what is being written
        (part,) = tmp_path.glob("a.txt.*.part")
        assert part.read_text(encoding="utf-8") == "ha"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with claimed(tmp_path / IN_USE, "the second", 5):
            pass
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "video.part"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "from another"


def test_a_claim_is_of_one_thread_and_ends_with_its_block(tmp_path: Path) -> None:
    told: list[str] = []

    def second() -> None:
        try:
            with claimed(tmp_path / "new" / IN_USE, "the second"):
                told.append("had it")
        except CltoolsError as error:
            told.append(str(error))

    for _ in range(2):  # an interrupted training is started again in the same process
        with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "new" / IN_USE, "the first"):
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
            raise KeyboardInterrupt
        assert "in use by process" in told.pop() and not told and not list(tmp_path.iterdir())
    second()
    assert told == ["had it"]


def test_a_claim_whose_file_was_deleted_is_made_again_unless_another_has_it(tmp_path: Path) -> None:
    mark, done = tmp_path / "run" / IN_USE, list[str]()

    def second(wait: threading.Event) -> None:
        with claimed(mark, "the second"):
            done.append("second")
            wait.wait(60)

    with claimed(mark, "the first"):
        shutil.rmtree(mark.parent)  # by somebody who starts again
        with claimed(mark, "the first"):
            assert "the first" in mark.read_text(encoding="utf-8")
        wait = threading.Event()
        thread = threading.Thread(target=second, args=(wait,))
        thread.start()
        while not done:
            time.sleep(0.001)
        with pytest.raises(CltoolsError, match=r"in use by .*the second"), claimed(mark, "the first"):
            pass
    assert mark.exists(), "the end of the first claim leaves the second's"
    wait.set()
    thread.join()
    assert not mark.exists()


def test_who_waits_says_so_once_and_has_it_when_the_other_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[str] = []

    def first() -> None:
        with claimed(tmp_path / IN_USE, "the first"):
            done.append("begun")
            time.sleep(0.2)
            done.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    while not done:
        time.sleep(0.001)
    with claimed(tmp_path / IN_USE, "the second", 60):
        assert done == ["begun", "first"]
    thread.join()
    told = capsys.readouterr().err
    assert told.count("Waiting for") == 1 and f"{tmp_path}, which is in use by process" in told and "the first" in told


def test_where_a_file_system_knows_no_locks_the_file_is_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(file: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files, "_lock", none)
    told: list[str] = []

    def second() -> None:
        with pytest.raises(CltoolsError) as error, claimed(tmp_path / IN_USE, "the second"):
            raise AssertionError
        told.append(str(error.value))

    with claimed(tmp_path / IN_USE, "the first"):
        with replacing(tmp_path / "a.txt") as part:
            part.write_text("whole", encoding="utf-8")
            write_text(tmp_path / "a.txt", "other")
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert re.search(r"in use by .*: the first.*if it no longer runs, delete .*in-use", told[0])
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text(encoding="utf-8") == "whole"


def test_what_cannot_be_written_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a letter", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a folder"), (Path(), "a folder"), (tmp_path / "pipe", "not a regular file")):
        with pytest.raises(OSError) as told:
            check_writable(path)
        assert str(told.value) == f"{path} is {kind}; give the name of a file to write."
    for path, reason in (
        (tmp_path / "file" / "a.txt", "Not a directory"),
        (tmp_path / ("a" * 300), "too long"),
        (Path("/proc/a.txt"), r"No such file|denied|not permitted"),
    ):
        with pytest.raises(OSError, match=rf"could not be written: .*({reason}).*name another path"):
            check_writable(path)
    for path in (tmp_path / "file", tmp_path / "new" / "deeper" / "a.txt"):
        check_writable(path)
    for act in (
        lambda: write_text(tmp_path / "file" / "a.txt", "lost"),
        claimed(tmp_path / "pipe" / IN_USE, "").__enter__,
    ):
        with pytest.raises(OSError, match="could not be written: a file exists where a folder is needed"):
            act()
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for act in (lambda: check_writable(Path("a.txt")), lambda: write_text(Path("a.txt"), "lost")):
        with pytest.raises(OSError, match=r"a\.txt could not be written: .*No such file"):
            act()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        ("[NaN]", "'NaN' is not a finite number"),
        ("[-Infinity]", "'-Infinity' is not a finite number"),
        ("[1e999]", "'1e999' is not a finite number"),
        ("[" * 33 + "]" * 33, "is nested deeper than 32 levels"),
        ("[" * 10**6, "recursion depth"),
        ('{"a":' * 10**5, "recursion depth"),
        (f"[{'9' * 5000}]", "integer string"),
        ("", "Expecting value"),
        ("\ufeff{}", "BOM"),
    ],
)
def test_json_that_no_file_of_ours_holds_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed(text, "This")
    assert parsed('{"a": [1, 2.5, null, "NaN"]}', "This") == {"a": [1, 2.5, None, "NaN"]}


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
        ("[" * 40 + "]" * 40, "x is nested deeper than 32 levels"),
        ('{"a":' * 40 + "1" + "}" * 40, "x is nested deeper than 32 levels"),
    ],
)
def test_json_that_python_or_we_could_not_bear_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(CltoolsError, match=said):
        parsed(text, "x")


@pytest.mark.parametrize("plain", [{"a": [1, {"b": None}]}, [], 5, "ü", [[[[[[[[]]]]]]]]])
def test_json_of_a_usual_depth_is_read(plain: object) -> None:
    assert parsed(json.dumps(plain), "x") == parsed(json.dumps(plain).encode(), "x") == plain
