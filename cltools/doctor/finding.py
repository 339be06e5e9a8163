"""`Finding`: what one check found, and what to do about it; and how remedies name commands of this environment."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: What was looked at.
        state: "ok"; "note", worth knowing, but nothing is hindered; "problem", something will not work.
        found: What is the case, in one line.
        remedy: What to do, with the exact command where there is one; None where nothing is to be done.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None


def project() -> Path | None:
    """The clone of the repository that this package is imported from; None where it was installed without one."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def python() -> str:
    """This environment's Python, as a shell is told it."""
    return shlex.quote(sys.executable or "python")


def pip_install(*what: str) -> str:
    """The command that installs requirements, or options of pip, into this environment."""
    words = [python(), "-m", "pip", "install"]
    if (clone := project()) is not None and (clone / "constraints.txt").is_file():
        words += ["--constraint", shlex.quote(str(clone / "constraints.txt"))]
    return " ".join([*words, *map(shlex.quote, what)])


def install_cltools(extra: str = "") -> str:
    """The command that installs this package, with an extra of it, and what they need."""
    options = f"[{extra}]" if extra else ""
    if (clone := project()) is not None:
        return pip_install("--editable", f"{clone}{options}")
    return pip_install(f"cltools{options}")


def one_line(text: object) -> str:
    """A message without its line breaks."""
    return " ".join(str(text).split())


def plural(count: int, noun: str) -> str:
    """A number and what it counts: "1 note", "2 notes"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Bytes as a person reads them, in powers of 1,000: "3 kB", "12 MB", "1.4 GB"."""
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"
