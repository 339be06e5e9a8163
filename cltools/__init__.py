"""Which samples a contrastive loss learns from, and which it should."""

import re
from functools import cache
from importlib import import_module, resources

__version__ = "0.2.0"

_EXTRA_OF = {"explorer": "notebooks", "snapshot": "notebooks"} | dict.fromkeys(
    ("config", "datasets", "encoders", "evaluation", "presets", "training"), "train"
)
"""The extra that installs the libraries a module needs; the core needs none."""


@cache
def _module_of() -> dict[str, str]:
    """Map each public name to its module, as `__init__.pyi` lists them."""
    stub = (resources.files("cltools") / "__init__.pyi").read_text(encoding="utf-8")
    imports = re.findall(r"^from (\S+) import (?:\(([^)]+)\)|(.+))", stub, re.MULTILINE)
    return {name: module for module, *names in imports for name in re.findall(r"(\w+) as", "".join(names))}


def __getattr__(name: str) -> object:
    """Import the module of a public name when the name is first used, so that `import cltools` alone loads nothing.

    Raises:
        AttributeError: no such name.
        ImportError: a library that the name needs is not installed; the message names the extra that installs it.
    """
    if name == "__all__":
        return __dir__()
    if name.startswith("_") or name not in _module_of():
        raise AttributeError(f"module 'cltools' has no attribute {name!r}")
    module = _module_of()[name]
    try:
        value: object = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get(module.split(".")[1])
        if extra is None or (error.name or "").split(".")[0] == "cltools":
            raise
        raise ImportError(f'{name} needs {error.name}: pip install "cltools-ssl[{extra}]"', name=error.name) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return all public names, whether loaded or not."""
    return sorted(_module_of())
