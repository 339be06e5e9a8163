"""What this machine and this environment lack for the course and for training, each line with its remedy.

A check returns findings; none can stop the others. Nothing is changed, and no network is used. What a check looks at is
imported by the check, so that what is missing or broken is said, too.
"""

import os
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from cltools.errors import printable
from cltools.files import CLONE, cache_folder
from cltools.names import DISTRIBUTION

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


def python() -> str:
    """This environment's Python, as a shell is told it."""
    return shlex.quote(sys.executable or "python")


def pip_install(*what: str) -> str:
    """The command that installs requirements, or options of pip, into this environment."""
    words = [python(), "-m", "pip", "install"]
    if CLONE is not None and (CLONE / "constraints.txt").is_file():
        words += ["--constraint", shlex.quote(str(CLONE / "constraints.txt"))]
    return " ".join([*words, *map(shlex.quote, what)])


def install_cltools(extra: str) -> str:
    """The command that installs this package, with an extra of it, and what they need."""
    return pip_install("--editable", f"{CLONE}[{extra}]") if CLONE else pip_install(f"cltools-ssl[{extra}]")


def one_line(text: object) -> str:
    """A message without its line breaks."""
    return " ".join(str(text).split())


EXTRAS = ("", "train", "notebooks", "book")
"""What a reader may have installed, the package's own requirements first; "dev" is for those who change it."""
LOAD = "import torch; from torchvision.ops import nms; nms(torch.zeros(1, 4), torch.ones(1), 0.5)"
"""Calls one of torchvision's compiled functions, which a pair that does not fit lacks."""


def check_python() -> Finding:
    """Whether this Python is one that the package supports."""
    version = ".".join(map(str, sys.version_info[:3]))
    found = f"{version} at {sys.executable}"
    asked = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(asked).contains(version):
        return Finding("Python", "ok", found)
    again = "rm -r .venv && make setup PYTHON=python3.12" if CLONE else "python3.12 -m venv .venv"
    return Finding("Python", "problem", f"{found}; cltools needs {asked}", f"make an environment that fits: {again}")


def check_source() -> Finding:
    """Whether the package is a clone or an installed one, and whether pip knows of it."""
    found = f"a clone at {CLONE}" if CLONE else f"an installed package at {Path(__file__).resolve().parent}"
    return Finding("cltools", "ok", f"{metadata.version(DISTRIBUTION)}, {found}")


def check_path() -> list[Finding]:
    """Whether PYTHONPATH, which comes before all that pip installs, decides what is imported."""
    taken = ", ".join(f"{name} from {folder}" for name, folder in by_path().items())
    return [Finding("PYTHONPATH", "note", f"it takes {taken}, whatever pip installs", UNSET)] if taken else []


UNSET = "unset PYTHONPATH, or take that folder out of it, if this is not what you want"


def by_path() -> dict[str, Path]:
    """The distributions among those looked at of which PYTHONPATH decides what is imported, and its folder."""
    folders = [Path(each).resolve() for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    wanted = {DISTRIBUTION, *(Requirement(line).name for line in metadata.requires(DISTRIBUTION) or [])}
    modules = {**metadata.packages_distributions(), "cltools": [DISTRIBUTION]} if folders else {}
    found: dict[str, Path] = {}
    for module, owners in modules.items():
        if (names := wanted & {*owners}) and (spec := find_spec(module)) and spec.origin:
            origin = Path(spec.origin).resolve().parent
            found |= {name: folder for name in names for folder in folders if origin in (folder, folder / module)}
    return dict(sorted(found.items()))


def check_dependencies() -> list[Finding]:
    """Whether each required distribution is there, of a version that fits."""
    required = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    first: dict[str, tuple[Requirement, str]] = {}  # an extra that includes another asks for the same again
    for extra in EXTRAS:
        asked = [each for each in required if each.marker is None or each.marker.evaluate({"extra": extra})]
        first = {each.name: (each, extra) for each in asked if not each.extras} | first
    return [check_dependency(*each) for each in sorted(first.values(), key=lambda each: EXTRAS.index(each[1]))]


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
        needed = extra in ("train", "notebooks")
        lacks: State = "problem" if not extra or (needed and CLONE) else "note"
        remedy = f"{remedy}, or all that notebooks need: {install_cltools('notebooks')}" if needed else remedy
        return Finding(name, lacks, "not installed", remedy)
    except (ValueError, KeyError) as error:
        again = pip_install("--force-reinstall", "--no-deps", asked)
        return Finding(name, "problem", f"its version cannot be told: {one_line(error)}", again)
    if fitting:
        return Finding(name, "ok", version)
    remedy = UNSET if requirement.name in by_path() else remedy
    return Finding(name, "problem", f"{version}; cltools needs {requirement.specifier}", remedy)


def check_torchvision() -> Finding:
    """Whether torch and torchvision load together, tried in another process, because a wrong pair may crash it."""
    name = "torch + torchvision"
    remedy = pip_install("--upgrade", "torch", "torchvision")
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, encoding="utf-8")  # minutes on a cold disk
    if done.returncode == 0:
        return Finding(name, "ok", "they load together")
    said = done.stderr.strip().splitlines()
    reason = said[-1] if said else f"the process ended with status {done.returncode}"
    remedy = UNSET if {"torch", "torchvision"} & {*by_path()} else remedy
    return Finding(name, "problem", f"they do not load together: {one_line(reason)}", remedy)


EXTENSIONS = {"@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets", "anywidget": "anywidget"}
"""The extensions that draw the explorer, and the distribution that brings each."""


def check_front_end() -> Iterator[Finding]:
    """Whether JupyterLab of this environment finds the extensions that draw widgets.

    The first folder wins, as in JupyterLab; one outside of this environment may be of another version.
    """
    if find_spec("jupyter_core") is None:
        remedy = pip_install("jupyterlab", "ipywidgets", "anywidget")
        yield Finding("widgets in JupyterLab", "note", "JupyterLab is not installed", remedy)
        return
    # It comes with JupyterLab, which looks for extensions by it.
    folders = [Path(folder) for folder in import_module("jupyter_core.paths").jupyter_path("labextensions")]
    for extension, distribution in EXTENSIONS.items():
        name = f"widgets: {extension.rpartition('/')[2]}"
        remedy = f"{pip_install('--force-reinstall', '--no-deps', distribution)}, then reload JupyterLab's page"
        found = next((folder for folder in folders if (folder / extension / "package.json").is_file()), None)
        if found is None:
            yield Finding(name, "problem", "no such extension, so the explorer shows as text or not at all", remedy)
        elif not found.resolve().is_relative_to(Path(sys.prefix).resolve()):
            yield Finding(name, "note", f"found only in {found}, which is not this environment's", remedy)
        else:
            yield Finding(name, "ok", f"found in {found}")


LITTLE = 2e9
"""Bytes of disk below which it is said: CIFAR-10 takes half of it, archive, pictures and pixels together."""
NVIDIA = Path("/dev/nvidia0")


def check_gpu() -> Finding:
    """The GPUs that torch can use, or why it can use none; none is needed."""
    import torch

    with warnings.catch_warnings(record=True) as caught:  # how torch tells that a driver is too old
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        return Finding("GPU", "ok", ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))))
    if not NVIDIA.exists():
        return Finding("GPU", "ok", "none; the course needs none, and the presets train on a CPU with --laptop")
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        remedy = "unset CUDA_VISIBLE_DEVICES, if that is not what you want"
        return Finding("GPU", "note", f"none that torch may use: CUDA_VISIBLE_DEVICES is {hidden!r}", remedy)
    if (built := torch.version.cuda) is None:
        remedy = f"{python()} -m pip uninstall torch torchvision, then install builds for CUDA as pytorch.org says"
        return Finding("GPU", "note", f"the machine has one, but torch {torch.__version__} is for CPUs only", remedy)
    said = "; ".join(one_line(warning.message) for warning in caught) or "torch gives no reason"
    found = f"the machine has one, but torch (built for CUDA {built}) cannot use it: {said}"
    remedy = f"run nvidia-smi, and update the driver until it lists CUDA {built} or later; till then: --device cpu"
    return Finding("GPU", "problem", found, remedy)


def check_folders() -> list[Finding]:
    """Where data, runs and what can be made again are kept: whether it can be written, and has room."""
    from cltools.datasets import data_root

    found = [_folder("data", data_root(), "CLTOOLS_DATA"), _folder("runs", Path.cwd() / "runs", "--out")]
    try:
        return [*found, _folder("cache", cache_folder(), "CLTOOLS_CACHE")]
    except RuntimeError as error:
        return [*found, Finding("cache", "problem", f"no folder for it: {error}", "set CLTOOLS_CACHE to a folder")]


def _folder(name: str, folder: Path, by: str) -> Finding:
    """A folder, which is made when it is first written to; `by` is the variable or flag that names another."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not place.is_dir():
        return Finding(name, "problem", f"{place} is a file, not a folder", f"give another folder by {by}")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(name, "note", f"{place} cannot be written", f"give a folder that you may write by {by}")
    free = shutil.disk_usage(place).free
    holds = ", ".join(sorted(each.name for each in folder.iterdir())[:12]) or "empty" if folder.exists() else ""
    found = f"{folder} ({holds or 'made when it is needed'}), {free / 1e9:,.1f} GB free on its disk"
    if free < LITTLE:
        return Finding(name, "note", found, f"make room, or give a folder on a larger disk by {by}")
    return Finding(name, "ok", found)


CHECKS: Mapping[str, Callable[[], Finding | Iterable[Finding]]] = {
    "Python": check_python, "cltools": check_source, "PYTHONPATH": check_path, "dependencies": check_dependencies,
    "torch + torchvision": check_torchvision, "widgets in JupyterLab": check_front_end,
    "GPU": check_gpu, "folders": check_folders,
}  # fmt: skip


def examine(checks: Mapping[str, Any] = CHECKS) -> list[Finding]:
    """What all checks find, in their order; nothing is changed, and no network is used.

    A check that cannot be made is itself a problem, told in words, and the others are made all the same.
    """
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            found = check()
            findings += [found] if isinstance(found, Finding) else found
        except Exception as error:
            told = f"could not be looked at: {type(error).__name__}: {one_line(error)}"
            ours = isinstance(error, metadata.PackageNotFoundError)  # what we require is looked for one by one
            other = "mend what the message names; the other lines stand without this one"
            findings.append(Finding(name, "problem", told, install_cltools("notebooks") if ours else other))
    return findings


def rendered(findings: Sequence[Finding]) -> str:
    """The findings as aligned lines, a remedy below its finding, and how many problems and notes there are."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8s}{finding.name:{width}s}  {finding.found}")
        if finding.remedy is not None:
            lines.append(f"{'':{width + 10}s}→ {finding.remedy}")
    counted = {state: sum(finding.state == state for finding in findings) for state in ("problem", "note")}
    total = ", ".join(f"{count} {state}{'s' * (count != 1)}" for state, count in counted.items())
    return "\n".join([*lines, "", f"{total}."])


def report() -> int:
    """Print what all checks find; the exit status is 1 where there is a problem."""
    findings = examine()
    print(printable(rendered(findings)))
    return int(any(finding.state == "problem" for finding in findings))
