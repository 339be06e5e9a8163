"""The core works where nothing but torch, NumPy and jaxtyping is installed."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
CORE = ("errors", "mining", "losses", "gradients", "contrast", "queue", "views", "interop", "testing")
ALLOWED = {"torch", "numpy", "jaxtyping"}

BLOCK = """
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

allowed = {*sys.argv[1].split(), *sys.stdlib_module_names, "cltools"}

class OnlyTheCore(MetaPathFinder):
    # finds nothing else, as where it is not installed

    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        return PathFinder.find_spec(name, path, target) if first in allowed or first[0] == "_" else None

    find_distributions = staticmethod(PathFinder.find_distributions)

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, OnlyTheCore()]
"""
USE = """
import torch
from importlib import import_module
for module in sys.argv[2].split():
    import_module(f"cltools.{module}")

import cltools
from cltools.mining import *
from cltools.mining.rules import NegativeRule, PositiveRule, rule_classes
from cltools.losses import LossSettings, info_nce
from cltools.gradients import info_nce_gradients
from cltools.contrast import contrastive_loss
from cltools.queue import Queue
from cltools.views import ViewSettings, augment
from cltools.interop import ContrastiveLoss
from cltools.testing import check_rule

torch.manual_seed(0)
unit = lambda *shape: torch.nn.functional.normalize(torch.randn(*shape), dim=-1)
z, positive = unit(4, 8).requires_grad_(), unit(4, 8)
queue = Queue(16, 8)
queue.enqueue(unit(16, 8), torch.arange(16) % 6, torch.arange(16) % 3)
ids, labels = (torch.arange(4), queue.ids), (torch.arange(4) % 3, queue.labels)
shipped = [{name: rule() for name, rule in rule_classes(base).items()} for base in (PositiveRule, NegativeRule)]
of, over = list(shipped[0].values()), list(shipped[1].values())
for number in range(max(len(of), len(over))):
    positives, negatives = of[number % len(of)], over[number % len(over)]
    losses = contrastive_loss(z, positive, queue.keys, positives, negatives, LossSettings(), ids=ids, labels=labels)
    loss = losses.mean()
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite() and gradient.isfinite().all(), (positives, negatives)
s = similarities(z, positive, queue.keys, ids[0][:, None] == ids[1])
given = terms(s, select(s, shipped[0]["NearestKeys"], shipped[1]["RankBand"]))
assert info_nce(**given, temperature=0.2).isfinite()
assert all(x.isfinite().all() for x in info_nce_gradients(**given, temperature=0.2))
pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
views = augment(pixels, ViewSettings(blur=0.5), generator=torch.Generator())
assert views.shape == (2, 3, 8, 8)
bank = ContrastiveLoss(shipped[0]["NearestKeys"], shipped[1]["RankBand"], memory_bank_size=(16, 8))
bank(z, positive).backward()
check_rule(shipped[1]["RankBand"])

assert cltools.RankBand is shipped[1]["RankBand"].__class__ and cltools.info_nce is info_nce
for name, extra in (("fit", "train"), ("load_images", "train"), ("Encoder", "train"), ("preset", "train"),
                    ("Experiment", "train"), ("evaluate", "train"), ("explore", "notebooks"),
                    ("load_snapshot", "notebooks")):
    try:
        getattr(cltools, name)
    except ImportError as error:
        assert f'pip install "cltools-ssl[{extra}]"' in str(error) and name in str(error), error
    else:
        raise AssertionError(f"{name} was found")
print("done")
"""


def needed_by(names: set[str]) -> set[str]:
    """Distributions that these need, directly or not, and they themselves."""
    found: set[str] = set()
    left = {*names}
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requires = distribution(name).requires or []
        except ModuleNotFoundError:
            continue
        for line in requires:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.add(re.sub(r"[-_.]+", "-", requirement.name).lower())
    return found


def modules_of(distributions: set[str]) -> set[str]:
    """The names under which they are imported."""
    return {
        module
        for module, of in packages_distributions().items()
        if {re.sub(r"[-_.]+", "-", name).lower() for name in of} & distributions
    }


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, " ".join(modules_of(needed_by(ALLOWED))), " ".join(CORE)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


@pytest.mark.slow
def test_the_core_needs_torch_numpy_and_jaxtyping_alone() -> None:
    done = run(BLOCK + USE)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr[-3000:]


def test_other_libraries_are_blocked() -> None:
    blocked = ["tqdm", "torchvision", "sklearn", "pandas", "safetensors", "PIL", "plotly"]
    tried = "for each in {}:\n    try: __import__(each)\n    except ModuleNotFoundError as error: print(error.name)"
    done = run(f"{BLOCK}\n{tried.format(blocked)}")
    assert done.stdout.split() == blocked, done.stderr


def test_an_installation_without_extras_brings_the_core_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {Requirement(line).name for line in project["dependencies"]} == ALLOWED


def test_every_other_extra_that_imports_the_package_brings_train_too() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name in ("notebooks", "docs", "dev"):
        brought = [Requirement(line) for line in extras[name]]
        assert any("train" in each.extras or each.name == "cltools" for each in brought), name


def test_the_command_line_names_the_extra_that_it_lacks() -> None:
    code = "import runpy, sys; sys.modules['tqdm'] = None; sys.argv = ['', 'download', 'digits']\n"
    code += "runpy.run_module('cltools', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2 and "tqdm" in done.stderr and "[train]" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
