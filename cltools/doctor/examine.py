"""All checks, none of which can stop the others, and their findings as lines."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError

from cltools.doctor.finding import Finding, install_cltools, one_line, plural
from cltools.doctor.front_end import check_front_end, check_jupyter
from cltools.doctor.machine import check_disk, check_gpu, check_memory, check_processors
from cltools.doctor.packages import check_dependencies, check_python, check_source, check_torchvision
from cltools.doctor.storage import check_cache, check_root, check_sets

Check = Callable[[], Finding | list[Finding]]

CHECKS: Mapping[str, Check] = {
    "Python": check_python,
    "cltools": check_source,
    "dependencies": check_dependencies,
    "torch + torchvision": check_torchvision,
    "widgets in JupyterLab": check_front_end,
    "jupyter in the shell": check_jupyter,
    "GPU": check_gpu,
    "processors": check_processors,
    "free memory": check_memory,
    "free disk": check_disk,
    "cache": check_cache,
    "data": check_root,
    "images": check_sets,
}


def examine(checks: Mapping[str, Check] = CHECKS) -> list[Finding]:
    """What all checks find, in their order; nothing is changed, and no network is used.

    A check that cannot be made is itself a problem, told in words, and the others are made all the same.
    """
    return [finding for name, check in checks.items() for finding in _made(name, check)]


def _made(name: str, check: Check) -> list[Finding]:
    try:
        found = check()
    except PackageNotFoundError:  # of our own metadata; what we require is looked for one by one
        told = "not known, because cltools is not installed in this environment"
        return [Finding(name, "problem", told, install_cltools("notebooks"))]
    except Exception as error:
        told = f"could not be looked at: {type(error).__name__}: {one_line(error)}"
        return [Finding(name, "problem", told, "mend what the message names; the other lines stand without this one")]
    return [found] if isinstance(found, Finding) else found


def rendered(findings: Iterable[Finding]) -> str:
    """The findings as aligned lines, a remedy below its finding, and how many problems and notes there are."""
    findings = list(findings)
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8s}{finding.name:{width}s}  {finding.found}")
        if finding.remedy is not None:
            lines.append(f"{'':{width + 10}s}→ {finding.remedy}")
    counted = {state: sum(finding.state == state for finding in findings) for state in ("problem", "note")}
    return "\n".join([*lines, "", ", ".join(plural(count, state) for state, count in counted.items()) + "."])
