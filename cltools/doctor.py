"""Checks of what this machine and environment lack for the course and for training, with a remedy for each problem.

A check returns findings, and its failure does not stop the others. Nothing is changed, and no network is used. Checks
import the libraries that they examine themselves, so that missing or broken ones are reported.
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
from packaging.version import Version

from cltools.errors import printable
from cltools.files import CLONE, cache_folder
from cltools.names import DISTRIBUTION

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        name: The subject of the check.
        state: "ok"; "note", worth knowing, but everything works; or "problem", something will not work.
        found: The result, in one line.
        remedy: The remedy, with the exact command if there is one; None if nothing needs to be done.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None


def python() -> str:
    """Return the path of this environment's Python, quoted for a shell."""
    return shlex.quote(sys.executable or "python")


def pip_install(*what: str) -> str:
    """Return the command that installs requirements into this environment; `what` may include options of pip."""
    words = [python(), "-m", "pip", "install"]
    if CLONE is not None and (CLONE / "constraints.txt").is_file():
        words += ["--constraint", shlex.quote(str(CLONE / "constraints.txt"))]
    return " ".join([*words, *map(shlex.quote, what)])


def install_cltools(extra: str) -> str:
    """Return the command that installs this package with an extra and their dependencies."""
    return pip_install("--editable", f"{CLONE}[{extra}]") if CLONE else pip_install(f"cltools-ssl[{extra}]")


def one_line(text: object) -> str:
    """Return a message without line breaks."""
    return " ".join(str(text).split())


EXTRAS = ("", "train", "notebooks", "docs")
"""The extras that are checked, "" for the package's own requirements; not "dev", which is for its developers."""
LOAD = "import torch; from torchvision.ops import nms; nms(torch.zeros(1, 4), torch.ones(1), 0.5)"
"""Calls a compiled function of torchvision, which fails if the versions do not match."""


def check_python() -> Finding:
    """Report the version of Python; pip refuses to install the package for one that it does not support."""
    return Finding("Python", "ok", f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")


def check_source() -> Finding:
    """Check whether the package is a clone or an installed one, and that it is installed by pip."""
    found = f"a clone at {CLONE}" if CLONE else f"an installed package at {Path(__file__).resolve().parent}"
    return Finding("cltools", "ok", f"{metadata.version(DISTRIBUTION)}, {found}")


def check_dependencies() -> list[Finding]:
    """Check that each required distribution is installed in a compatible version."""
    required = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    first: dict[str, tuple[Requirement, str]] = {}  # extras that include others repeat requirements
    for extra in EXTRAS:
        active = [each for each in required if each.marker is None or each.marker.evaluate({"extra": extra})]
        first = {each.name: (each, extra) for each in active if not each.extras} | first
    return [check_dependency(*each) for each in sorted(first.values(), key=lambda each: EXTRAS.index(each[1]))]


def check_dependency(requirement: Requirement, extra: str = "") -> Finding:
    """Check that one distribution is installed in a compatible version.

    A missing requirement of the extras "train" or "notebooks" is a problem in a clone, where it is needed for the
    course, and otherwise a note. An incompatible version is always a problem.
    """
    name = f"{requirement.name} ({extra})" if extra else requirement.name
    wanted = f"{requirement.name}{requirement.specifier}"
    remedy = pip_install(wanted)
    try:
        version = metadata.version(requirement.name) or ""  # None if its metadata are damaged
        fitting = requirement.specifier.contains(Version(version), prereleases=True)
    except metadata.PackageNotFoundError:
        needed = extra in ("train", "notebooks")
        lacks: State = "problem" if not extra or (needed and CLONE) else "note"
        remedy = f"{remedy}, or everything for the notebooks: {install_cltools('notebooks')}" if needed else remedy
        return Finding(name, lacks, "not installed", remedy)
    except (ValueError, KeyError) as error:
        again = pip_install("--force-reinstall", "--no-deps", wanted)
        return Finding(name, "problem", f"its version cannot be determined: {one_line(error)}", again)
    if fitting:
        return Finding(name, "ok", version)
    return Finding(name, "problem", f"{version}; cltools needs {requirement.specifier}", remedy)


def check_torchvision() -> Finding:
    """Check that torch and torchvision load together, in another process, because mismatched versions may crash."""
    name = "torch + torchvision"
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, encoding="utf-8")  # minutes on a cold disk
    if done.returncode == 0:
        return Finding(name, "ok", "they load together")
    reason = (done.stderr.strip() or f"the process ended with status {done.returncode}").splitlines()[-1]
    remedy = pip_install("--upgrade", "torch", "torchvision")
    return Finding(name, "problem", f"they do not load together: {one_line(reason)}", remedy)


EXTENSIONS = {"@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets", "anywidget": "anywidget"}
"""The extensions that display the explorer, and the distribution that provides each."""


def check_front_end() -> Iterator[Finding]:
    """Check that this environment's JupyterLab finds the extensions that display widgets.

    As in JupyterLab, the first folder is used; one outside of this environment may have another version.
    """
    if find_spec("jupyter_core") is None:  # JupyterLab is missing, which the check of dependencies reports
        return
    # Installed with JupyterLab, which uses it to find extensions.
    folders = [Path(folder) for folder in import_module("jupyter_core.paths").jupyter_path("labextensions")]
    for extension, distribution in EXTENSIONS.items():
        name = f"widgets: {extension.rpartition('/')[2]}"
        remedy = f"{pip_install('--force-reinstall', '--no-deps', distribution)}, then reload JupyterLab's page"
        found = next((folder for folder in folders if (folder / extension / "package.json").is_file()), None)
        if found is None:
            yield Finding(name, "problem", "not found, so the explorer is shown as text or not at all", remedy)
        elif not found.resolve().is_relative_to(Path(sys.prefix).resolve()):
            yield Finding(name, "note", f"found only in {found}, which is not this environment's", remedy)
        else:
            yield Finding(name, "ok", f"found in {found}")


LITTLE = 2e9
"""Free bytes below which a note is given; CIFAR-10 takes half of this: archive, images and decoded pixels."""
NVIDIA = Path("/dev/nvidia0")


def check_gpu() -> Finding:
    """Report the GPUs that torch can use, or why it can use none; no GPU is required."""
    import torch

    with warnings.catch_warnings(record=True, action="always") as caught:  # torch warns if the driver is too old
        usable = torch.cuda.is_available()
    if usable:
        return Finding("GPU", "ok", ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))))
    if not NVIDIA.exists():
        return Finding("GPU", "ok", "none; the course needs none, and presets train on a CPU with --laptop")
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        remedy = "unset CUDA_VISIBLE_DEVICES, unless this is intended"
        return Finding("GPU", "note", f"none visible to torch: CUDA_VISIBLE_DEVICES is {hidden!r}", remedy)
    if (built := torch.version.cuda) is None:
        remedy = f"{python()} -m pip uninstall torch torchvision, then install CUDA builds as described at pytorch.org"
        return Finding("GPU", "note", f"the machine has one, but torch {torch.__version__} is for CPUs only", remedy)
    reason = "; ".join(one_line(warning.message) for warning in caught) or "torch gives no reason"
    found = f"the machine has one, but torch (built for CUDA {built}) cannot use it: {reason}"
    remedy = f"update the driver until nvidia-smi shows CUDA {built} or later; until then use --device cpu"
    return Finding("GPU", "problem", found, remedy)


def check_folders() -> list[Finding]:
    """Check that the folders of data, runs and the cache are writable and have enough free space."""
    from cltools.datasets import data_root

    findings = [_folder("data", data_root(), "CLTOOLS_DATA"), _folder("runs", Path.cwd() / "runs", "--out")]
    try:
        return [*findings, _folder("cache", cache_folder(), "CLTOOLS_CACHE")]
    except RuntimeError as error:
        return [*findings, Finding("cache", "problem", f"no folder for it: {error}", "set CLTOOLS_CACHE to a folder")]


def _folder(name: str, folder: Path, by: str) -> Finding:
    """Check a folder, which is created when first needed; `by` is the variable or flag that sets another one."""
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not existing.is_dir():
        return Finding(name, "problem", f"{existing} is a file, not a folder", f"set another folder by {by}")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "note", f"{existing} cannot be written", f"set a writable folder by {by}")
    free = shutil.disk_usage(existing).free
    holds = ", ".join(sorted(each.name for each in folder.iterdir())[:12]) or "empty" if folder.exists() else ""
    found = f"{folder} ({holds or 'created when needed'}), {free / 1e9:,.1f} GB free on its disk"
    if free < LITTLE:
        return Finding(name, "note", found, f"make room, or set a folder on a larger disk by {by}")
    return Finding(name, "ok", found)


CHECKS: Mapping[str, Callable[[], Finding | Iterable[Finding]]] = {
    "Python": check_python, "cltools": check_source, "dependencies": check_dependencies,
    "torch + torchvision": check_torchvision, "widgets in JupyterLab": check_front_end,
    "GPU": check_gpu, "folders": check_folders,
}  # fmt: skip


def examine(checks: Mapping[str, Any] = CHECKS) -> list[Finding]:
    """Run all checks and return their findings in order; nothing is changed, and no network is used.

    A check that fails with an exception is reported as a problem, and the remaining checks are still run.
    """
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            result = check()
            findings += [result] if isinstance(result, Finding) else result
        except Exception as error:
            message = f"could not be checked: {type(error).__name__}: {one_line(error)}"
            remedy = "fix what the message names; the other lines do not depend on this one"
            if isinstance(error, metadata.PackageNotFoundError):  # cltools itself
                remedy = install_cltools("notebooks")
            findings.append(Finding(name, "problem", message, remedy))
    return findings


def rendered(findings: Sequence[Finding]) -> str:
    """Format the findings as aligned lines, each remedy below its finding, and the numbers of problems and notes."""
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
    """Print the findings of all checks, and return the exit status: 1 if there is a problem."""
    findings = examine()
    print(printable(rendered(findings)))
    return int(any(finding.state == "problem" for finding in findings))
