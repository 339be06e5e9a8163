"""The command line called in this process; for tests."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from forked import forked

from cltools.cli import main

Outcome = SimpleNamespace


def call(*arguments: str) -> Outcome:
    """Run a command: its exit status, and what it wrote where, boxes and line breaks taken out of `message`."""
    status: Any = 0
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setenv("COLUMNS", "80")  # help is laid out for the width of the terminal
        try:
            main([*arguments])
        except SystemExit as stop:
            status = stop.code or 0
    message = re.sub(r"(?:[\s─│╭╮╰╯]|--{3,})+", " ", err.getvalue()).strip()
    return Outcome(status=status, out=out.getvalue(), err=err.getvalue(), message=message)


def started(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python code run in a process of its own, in that folder, which is not itself where Python looks for modules."""
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)


def answered(folder: Path, *arguments: str) -> Any:
    """The JSON that a command answers with, in a process of its own."""
    return _answer(forked(_started, [*arguments, "--json"], folder=folder))


def answered_anew(folder: Path, *arguments: str) -> Any:
    """The same from a new Python, started as the console script starts it."""
    return _answer(started(f"{START}; sys.argv = ['cltools', *{[*arguments, '--json']!r}]; start()", folder))


def _started(arguments: list[str]) -> None:
    from cltools.__main__ import start  # not here, where tests run it as a module

    sys.argv = ["cltools", *arguments]
    start()


def _answer(done: "subprocess.CompletedProcess[str]") -> Any:
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr, "no bar in a log"
    return json.loads(done.stdout)


START = "import sys; from cltools.__main__ import start"


def refused(outcome: Outcome, *parts: str) -> None:
    """Status 2 and one message on standard error that holds all of the parts."""
    assert outcome.status == 2 and outcome.out == "", outcome
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.message, outcome.message
