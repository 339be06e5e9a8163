"""The command line called in this process; for tests."""

import contextlib
import io
import re
from types import SimpleNamespace
from typing import Any

import pytest

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


def refused(outcome: Outcome, *parts: str) -> None:
    """Status 2 and one message on standard error that holds all of the parts."""
    assert outcome.status == 2 and outcome.out == "", outcome
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.message, outcome.message
