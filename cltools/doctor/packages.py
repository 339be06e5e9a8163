"""Python, this package, and what they need: there, of a version that fits, and able to load together."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from cltools.doctor.finding import Finding, install_cltools, one_line, pip_install, project, python

EXTRAS = ("", "train", "notebooks", "book", "tensorboard")
"""What a reader may have installed, the package's own requirements first; "dev" is for those who change it."""
SECONDS = 120.0
"""How long loading torch and torchvision may take: on a cold network disk it takes minutes."""
LOAD = (
    "import torch, torchvision; from torchvision.ops import nms; "
    "nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)"
)
"""Calls one of torchvision's compiled functions, which a pair that does not fit lacks."""


def check_python() -> Finding:
    """Whether this Python is one that the package supports."""
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{version} at {sys.executable}"
    asked = metadata.metadata("cltools")["Requires-Python"]
    if SpecifierSet(asked).contains(version):
        return Finding("Python", "ok", found)
    again = "rm -r .venv && make setup PYTHON=python3.12" if project() else "python3.12 -m venv .venv"
    return Finding("Python", "problem", f"{found}; cltools needs {asked}", f"make an environment that fits: {again}")


def check_source() -> Finding:
    """Whether the package is a clone or an installed one, and whether it is the one that pip knows of."""
    here = Path(__file__).resolve().parents[1]
    clone = project()
    found = f"a clone at {clone}" if clone else f"an installed package at {here}"
    try:
        known = metadata.distribution("cltools")
    except metadata.PackageNotFoundError:
        return Finding("cltools", "problem", f"{found}, which pip knows nothing of", install_cltools("notebooks"))
    found = f"{known.version}, {found}"
    other = _other_place(known, here)
    if other is None:
        return Finding("cltools", "ok", found)
    remedy = f"cd elsewhere to use that one, or make this one the installed: {install_cltools('notebooks')}"
    return Finding("cltools", "note", f"{found}, because of the folder you stand in; pip installed {other}", remedy)


def _other_place(known: metadata.Distribution, here: Path) -> Path | None:
    """Where pip's cltools lies, if that is not the imported one."""
    told = known.read_text("direct_url.json")
    origin = json.loads(told) if told else {}
    if origin.get("dir_info", {}).get("editable"):
        folder = Path(unquote(urlparse(origin["url"]).path)).resolve()
        return None if folder == here.parent else folder
    place = Path(str(known.locate_file("cltools"))).resolve()
    return None if place == here else place


def check_dependencies() -> list[Finding]:
    """Whether each required distribution is there, of a version that fits."""
    required = [Requirement(line) for line in metadata.requires("cltools") or []]
    wanted: dict[str, tuple[Requirement, str]] = {}
    for extra in EXTRAS:  # what several ask for is the first one's
        for each in required:
            if _asked_by(each) == extra:
                wanted.setdefault(each.name, (each, extra))
    return [check_dependency(each, extra) for each, extra in wanted.values()]


def _asked_by(requirement: Requirement) -> str | None:
    """The first extra that asks for it; "" where it is always asked for, None where no reader's extra does."""
    marker = requirement.marker
    return next((extra for extra in EXTRAS if marker is None or marker.evaluate({"extra": extra})), None)


def check_dependency(requirement: Requirement, extra: str = "") -> Finding:
    """Whether one distribution is there, of a version that fits.

    Without the notebooks' own the course does not open, which is a problem where the notebooks are; what is there and
    does not fit always is one.
    """
    name = f"{requirement.name} ({extra})" if extra else requirement.name
    asked = f"{requirement.name}{requirement.specifier}"
    remedy = pip_install(asked)
    try:
        version = metadata.version(requirement.name) or ""  # None where its metadata are damaged
        fitting = requirement.specifier.contains(Version(version), prereleases=True)
    except metadata.PackageNotFoundError:
        return _missing(extra, name, remedy)
    except (ValueError, KeyError) as error:
        again = pip_install("--force-reinstall", "--no-deps", asked)
        return Finding(name, "problem", f"its version cannot be told: {one_line(error)}", again)
    if fitting:
        return Finding(name, "ok", version)
    return Finding(name, "problem", f"{version}; cltools needs {requirement.specifier}", remedy)


def _missing(extra: str, name: str, remedy: str) -> Finding:
    course = extra == "notebooks" and project() is not None
    if extra == "notebooks":
        remedy = f"{remedy}, or all that notebooks need: {install_cltools('notebooks')}"
    return Finding(name, "problem" if course or not extra else "note", "not installed", remedy)


def check_torchvision() -> Finding:
    """Whether torch and torchvision load together, tried in another process, because a wrong pair may crash it."""
    name = "torch + torchvision"
    remedy = pip_install("--upgrade", "torch", "torchvision")
    try:
        done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        slow = f'see what it waits for: {python()} -X importtime -c "import torchvision"'
        return Finding(name, "problem", f"they were not loaded after {SECONDS:.0f} seconds", slow)
    if done.returncode == 0:
        return Finding(name, "ok", "they load together")
    said = done.stderr.strip().splitlines()
    reason = said[-1] if said else f"the process ended with status {done.returncode}"
    return Finding(name, "problem", f"they do not load together: {one_line(reason)}", remedy)
