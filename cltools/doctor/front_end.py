"""What shows the notebooks: JupyterLab's extensions for widgets, and which JupyterLab a shell would start."""

import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from cltools.doctor.finding import Finding, pip_install, python

EXTENSIONS = {
    "@jupyter-widgets/jupyterlab-manager": "jupyterlab_widgets",
    "anywidget": "anywidget",
}
"""The extensions that draw the explorer, and the distribution that brings each."""


def check_front_end() -> list[Finding]:
    """Whether JupyterLab of this environment finds the extensions that draw widgets."""
    if find_spec("jupyter_core") is None:
        remedy = pip_install("jupyterlab", "ipywidgets", "anywidget")
        return [Finding("widgets in JupyterLab", "note", "JupyterLab is not installed", remedy)]
    # It comes with JupyterLab, which looks for extensions by it.
    folders = [Path(folder) for folder in import_module("jupyter_core.paths").jupyter_path("labextensions")]
    return [_extension(name, distribution, folders) for name, distribution in EXTENSIONS.items()]


def _extension(extension: str, distribution: str, folders: list[Path]) -> Finding:
    """The first folder wins, as in JupyterLab; one outside of this environment may be of another version."""
    name = f"widgets: {extension.rpartition('/')[2]}"
    remedy = f"{pip_install('--force-reinstall', '--no-deps', distribution)}, then reload JupyterLab's page"
    found = next((folder for folder in folders if (folder / extension / "package.json").is_file()), None)
    if found is None:
        return Finding(name, "problem", "no such extension, so the explorer shows as text or not at all", remedy)
    if not found.resolve().is_relative_to(Path(sys.prefix).resolve()):
        return Finding(name, "note", f"found only in {found}, which is not this environment's", remedy)
    return Finding(name, "ok", f"found in {found}")


def check_jupyter() -> Finding:
    """Whether `jupyter` in a shell is this environment's: another one's JupyterLab shows no explorer."""
    ours = f"{python()} -m cltools lab"
    command = shutil.which("jupyter")
    if command is None:
        return Finding("jupyter in the shell", "ok", f"none, so open the course by: {ours}")
    # The folder is resolved, not the program: in a virtual environment python itself is a link that leads out of it.
    if Path(command).parent.resolve() == Path(sys.executable).parent.resolve():
        return Finding("jupyter in the shell", "ok", command)
    found = f"{command} is of another environment, which may lack widgets and cltools"
    return Finding("jupyter in the shell", "note", found, f"open the course by: {ours}")
