"""Processes for tests that start at once: each is forked from one that has imported large libraries.

That one has imported nothing of ours, so what is done in a process is done as in a new one, but for these imports.
"""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "torchvision", "pandas", "sklearn.linear_model", "scipy.stats", "tyro"])


def forked(
    act: Callable[..., object], *given: object, folder: Path, environment: Mapping[str, str] = os.environ
) -> "CompletedProcess[str]":
    """Call a module's function in a process, folder and environment of its own: how it ended, and what it wrote."""
    with tempfile.TemporaryDirectory() as texts:
        paths = [Path(texts, name) for name in ("out", "err")]
        process = FORKS.Process(target=_acting, args=(act, given, folder, dict(environment), paths))
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            process.join()
        out, err = (path.read_text(encoding="utf-8") for path in paths)
        assert process.exitcode is not None
        return CompletedProcess([], process.exitcode, out, err)


def _acting(
    act: Callable[..., object], given: tuple[object, ...], folder: Path, environment: dict[str, str], paths: list[Path]
) -> None:
    for number, path in enumerate(paths, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    warnings.resetwarnings()
    if threads := environment.get("OMP_NUM_THREADS"):  # which torch has read when it was imported
        import torch

        torch.set_num_threads(int(threads))
    act(*given)
