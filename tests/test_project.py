"""The rules of the house: one-way imports, light start, versions and pages that agree with each other."""

import ast
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import call
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cltools"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# A part imports only from those to its left.
ORDER = (
    "errors", "names", "files", "ranks", "provenance",  # which all may use
    "mining", "losses", "gradients", "contrast", "queue", "views", "interop",  # the core
    "datasets", "encoders", "config", "testing", "presets", "evaluation", "training", "reports",
    "snapshot", "explorer", "doctor", "lab", "flags", "cli", "__main__",
)  # fmt: skip
HEAVY = {"torchvision", "sklearn", "scipy", "tyro", "ipywidgets", "matplotlib", "umap", "PIL", "pandas"}
HEAVY |= {"pytorch_metric_learning", "lightly", "tensorboard", "wandb"}
PURE = ("mining", "losses", "gradients")
CORE = ("errors", "mining", "losses", "gradients", "contrast", "queue", "views", "interop", "testing")
DISTRIBUTIONS = {"IPython": "ipython", "PIL": "pillow", "sklearn": "scikit-learn", "umap": "umap-learn"}
DISTRIBUTIONS |= {"pytorch_metric_learning": "pytorch-metric-learning", "scipy": "scikit-learn"}  # which requires it

PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))


# What imports what


def part_of(path: Path) -> str:
    """The part of the package a file belongs to: a module, or a folder of modules."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, at any depth; `from cltools import x` counts as cltools.x."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "cltools" else [str(module)]
            yield from names


def wrong_imports(source: str, path: Path) -> list[str]:
    """The imports of a file that are not from its left."""
    left = ORDER[: ORDER.index(part_of(path)) + 1]
    inside = [name for name in imported(ast.parse(source), path) if name.split(".")[0] == "cltools"]
    return [name for name in inside if name.split(".")[1:2] == [] or name.split(".")[1] not in left]


def test_imports_go_one_way() -> None:
    files = [path for path in PYTHON_FILES if path != PACKAGE / "__init__.py"]
    assert {part_of(path) for path in files} <= {*ORDER}, "a new part wants its place in the order of imports"
    wrong = {str(path.relative_to(PACKAGE)): wrong_imports(path.read_text(encoding="utf-8"), path) for path in files}
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from cltools.training import fit",
        "def f():\n    from cltools.training import fit",
        "from ..training import fit",
        "import cltools.training.fit",
        "from cltools import fit",
        "import cltools",
    ],
)
def test_an_import_from_the_right_is_seen(source: str) -> None:
    assert wrong_imports(source, PACKAGE / "mining" / "bands.py")
    assert not wrong_imports("from ..errors import unknown\nimport torch", PACKAGE / "mining" / "bands.py")


def test_the_package_gives_every_public_name_and_tells_type_checkers_the_same() -> None:
    import cltools

    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    typed = [alias.name for node in imports if str(node.module).startswith("cltools.") for alias in node.names]
    assert sorted(typed) == sorted(cltools.__all__) and not [name for name in typed if name.startswith("_")]
    assert all(getattr(cltools, name).__module__.startswith("cltools.") for name in cltools.__all__)
    with pytest.raises(AttributeError):
        cltools.no_such_name  # noqa: B018


def undeclared(path: Path) -> set[str]:
    """What a file imports that its extra does not bring; of the core, what is not torch, jaxtyping or numpy."""
    declared = {requirement.name for requirement in requirements("")} | {r.name for r in requirements("notebooks")}
    if part_of(path) == "interop":  # whoever calls an adapter has the other library; the tests need it
        declared |= {requirement.name for requirement in requirements("dev")}
    if path.name == "loggers.py":  # each refuses to begin where its library is not installed
        declared |= {"tensorboard", "wandb"}
    roots = {name.split(".")[0] for name in imported(ast.parse(path.read_text(encoding="utf-8")), path)}
    outside = {DISTRIBUTIONS.get(root, root) for root in roots - set(sys.stdlib_module_names) - {"cltools"}}
    return outside - ({"torch", "jaxtyping", "numpy"} if part_of(path) in PURE else declared)


def test_what_is_imported_is_declared() -> None:
    found = {str(path.relative_to(PACKAGE)): undeclared(path) for path in PYTHON_FILES}
    assert {name: names for name, names in found.items() if names} == {}


def test_import_loads_no_heavy_library() -> None:
    code = f"import cltools, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_an_explorer_loads_no_library_that_it_may_not_need() -> None:
    """Each takes longer to import than an explorer to make; `rfc3987_syntax`, of jsonschema, takes seconds."""
    late = HEAVY - {"ipywidgets"} | {"rfc3987_syntax"}
    code = f"""import sys
from cltools import explore, load_snapshot
explore(load_snapshot("shapes-moco"))._repr_mimebundle_()
print(sorted({late!r} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.nightly
def test_import_takes_little_longer_than_torch() -> None:
    def cpu_seconds(module: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    cpu_seconds("cltools")  # once, so that files are cached and compiled
    pairs = [(cpu_seconds("torch"), cpu_seconds("cltools")) for _ in range(5)]
    # Other work on the machine only ever adds time, and strikes neighbours alike.
    least = min(ours for _, ours in pairs) / min(torchs for torchs, _ in pairs)
    assert min(least, statistics.median(ours / torchs for torchs, ours in pairs)) <= 1.3, pairs


# Versions


def requirements(extra: str) -> list[Requirement]:
    """The package's own requirements, or those of an extra and of the extras that it includes."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    named = [Requirement(line) for line in lines]
    ours = {more for each in named if each.name == PROJECT["name"] for more in each.extras}
    included = [each for more in sorted(ours) for each in requirements(more)]
    return [each for each in named if each.name != PROJECT["name"]] + included


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_constraints_are_names_and_versions_only() -> None:
    wrong = [line for line in constraint_lines() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)]
    assert wrong == []
    assert "://" not in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_constraints_name_one_fitting_version_of_everything_required() -> None:
    lines = [line.split("==") for line in constraint_lines()]
    pinned = {canonicalize_name(name): version for name, version in lines}
    assert len(pinned) == len(lines)
    for requirement in [each for extra in ("", "train", "notebooks", "docs", "dev") for each in requirements(extra)]:
        version = pinned.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), f"{requirement}, constrained to {version}"


def test_the_lowest_versions_tested_are_those_allowed() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    allowed = [each for extra in ("", "train", "notebooks") for each in requirements(extra)]
    lowest = {r.name: s.version for r in allowed for s in r.specifier if s.operator == ">="}
    assert tested == lowest, "test the new bounds as docs/start.md says, then write them into constraints-lowest.txt"


def test_conda_installs_the_same() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "cltools"
    python, pip, by_pip = environment["dependencies"]
    assert python.split() == ["python", PROJECT["requires-python"]]
    assert pip == "pip"
    assert by_pip == {"pip": [f"-e .[{','.join(PROJECT['optional-dependencies'])}]"]}


def test_the_citation_agrees() -> None:
    import cltools

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"] == cltools.__version__
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert citation["authors"] == PROJECT["authors"]


# Commands


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


@needs_make
def test_make_knows_what_it_lists() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    listed = {
        *re.findall(
            r"make (\w+)", (ROOT / "Makefile").read_text(encoding="utf-8").split("help:")[1].split("\nsetup:")[0]
        )
    }
    assert {"lab", "test", "fast", "nightly"} <= listed
    done = subprocess.run(
        ["make", "-n", *sorted(listed)], cwd=ROOT, capture_output=True, encoding="utf-8", env=environment
    )
    assert done.returncode == 0, done.stderr


@needs_make
def test_full_runs_are_of_presets_and_no_method_has_more_seeds_than_the_baseline() -> None:
    from cltools import preset

    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make", "-n", "full"], cwd=ROOT, capture_output=True, encoding="utf-8", env=environment)
    runs = re.findall(r"cltools train (\w+)-(\w+) --seed (\d)", done.stdout)
    assert len(runs) == len({*runs}) == 18 and [name for name, _, _ in runs[:4]] == ["cifar10"] * 4
    for images, method, seed in runs:
        preset(f"{images}-{method}")
        assert (images, "moco", seed) in runs
    kept = re.findall(r"^cp runs/full-(\S+)/record.json data/results/run-(\S+).json$", done.stdout, flags=re.MULTILINE)
    assert kept == [("-".join(run), "-".join(run)) for run in runs]


@needs_make
@pytest.mark.parametrize("reported", ["Python 3.10.2", ""])
def test_a_python_that_does_not_fit_is_named(reported: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "oldpython"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && [ -n "{reported}" ] && echo "{reported}" && exit\nexit 1\n',
        encoding="utf-8",
    )
    python.chmod(0o755)
    command = ["make", "setup", "PYTHON=./oldpython"]
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode != 0
    assert "3.11, 3.12 or 3.13" in done.stderr and "./oldpython" in done.stderr and reported in done.stderr
    assert "make setup PYTHON=python3.12" in done.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
@pytest.mark.parametrize("cpu", ["", "1"])
def test_builds_for_cpus_are_installed_where_they_are_asked_for(cpu: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$3" = --version ] || echo "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = ["make", "setup", f"CPU={cpu}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", env=environment)
    used = re.search(r"^-m pip install --constraint (\S+)", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0 and used is not None
    paths = ROOT / "constraints.txt", tmp_path / used[1]
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in paths)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    builds = [(old, f"{old}+cpu") for old in before if re.match("(torch|torchvision)==", old)]
    assert len(builds) == 2 and changed == (builds if cpu else [])


# Pages


def markdown(path: Path) -> str:
    """The prose of a page: a Markdown file, or the Markdown cells of a notebook."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


PAGES = [ROOT / name for name in ("README.md", "TEACHING.md", "CONTRIBUTING.md", "data/README.md")]
PAGES += [*sorted((ROOT / "docs").rglob("*.md")), *NOTEBOOKS]


def test_a_page_that_names_the_paper_calls_ours_a_reconstruction() -> None:
    naming = [path for path in PAGES if "2311.00358" in path.read_text(encoding="utf-8")]
    assert naming and [path.name for path in naming if "reconstruction" not in markdown(path)] == []


def test_no_page_installs_the_other_project_of_our_import_name() -> None:
    wrong = re.compile(r"pip install[^\n`]*(?<![\w/.-])cltools(?![\w-])")
    assert wrong.search('pip install "cltools[train]"') and not wrong.search("pip install ./cltools_ssl-0.2.0.whl[x]")
    assert [path.name for path in PAGES if wrong.search(path.read_text(encoding="utf-8"))] == []


def blocks(language: str, page: str = "README.md") -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_explorer_in_the_readme_opens() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    assert names["explorer"].rules[1].drop_closest == 0.02 and "class" in names["explorer"].sentence


def test_the_loss_in_the_readme_trains() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    assert names["loss"].isfinite() and names["loss"] > 0 and len(names["criterion"].bank.queue) == 3 * 128


@pytest.mark.slow
def test_the_training_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, but for its length."""
    import cltools
    from cltools.presets import preset

    short = preset("digits-potential")
    short = replace(short, training=replace(short.training, epochs=2))
    monkeypatch.setattr(cltools, "preset", {"digits-potential": short}.__getitem__)
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[2], {})
    assert (tmp_path / "runs" / "mine" / "record.json").is_file()


@pytest.mark.slow
def test_the_rule_in_the_readme_trains_by_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cltools.training import Run

    (tmp_path / "my_rules.py").write_text(blocks("python")[3], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = [line.partition("#")[0].split() for line in "".join(blocks("sh")).splitlines() if "my_rules" in line]
    assert [line[1] for line in lines] == ["train", "compare"]
    assert call(*lines[0][1:], "--epochs", "3").status == 0
    run = Run.load("runs/closest")
    assert len(run.history.rows) == 3 and 9 < run.history.rows[-1]["hard"] <= 10  # some of the ten are the anchor's own
    assert type(run.experiment.negatives).__name__ == "DropClosest" and run.experiment.outside.rules == ("my_rules",)
    seeds = slice(lines[1].index("--seeds") + 1, None)
    lines[1][seeds] = ["0", "--warm-epochs", "1", "--epochs", "1"]
    assert "`random-as-DropClosest`" in call(*lines[1][1:]).out


def method_rows() -> list[list[str]]:
    """The cells of the table of methods: method, source, here, preset, test."""
    table = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").split("## Methods")[1].split("## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_the_table_of_methods_names_every_preset_and_rule() -> None:
    from cltools import mining
    from cltools.presets import METHODS

    rows = method_rows()
    assert sorted(re.findall(r"`([^`]+)`", " ".join(row[3] for row in rows))) == sorted(METHODS)
    named = set(re.findall(r"`(\w+)", " ".join(row[2] for row in rows)))
    assert {type(method.negatives).__name__ for method in METHODS.values()} <= named
    assert {name for name in named if name.endswith("Negatives")} <= set(vars(mining))


def test_the_page_of_methods_names_every_rule_and_every_arm() -> None:
    import cltools
    from cltools.mining import NegativeRule, PositiveRule
    from cltools.reports.arms import arms_of

    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").partition("## Glossary")[0]
    named = {*re.findall(r"`([\w.-]+)", text)}
    public = [getattr(cltools, name) for name in cltools.__all__]
    rules = [each for each in public if isinstance(each, type) and issubclass(each, NegativeRule | PositiveRule)]
    assert len(rules) > 15 and {each.__name__ for each in rules} - named == {"NegativeRule", "PositiveRule"}
    assert {*arms_of("digits")} - named == set()


def test_the_source_of_each_preset_is_named_where_it_is_coded() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for method, source, _, presets, _ in method_rows():
        if presets:
            assert all(paper in sources for paper in re.findall(r"\d{4}\.\d{5}", source)), (method, source)


def test_the_readme_names_presets_and_targets_that_exist() -> None:
    from cltools import preset

    text = "\n".join(blocks("sh") + blocks("python"))
    presets = re.findall(r"cltools train (\S+)", text) + re.findall(r'preset\("([^"]+)"\)', text)
    assert presets
    for name in presets:
        preset(name, "FOLDER" if name.startswith("own-") else None)
    targets = re.findall(r"^make (\w+)", text, flags=re.MULTILINE)
    assert targets and all(f"\n{target}: " in (ROOT / "Makefile").read_text(encoding="utf-8") for target in targets)


def test_notebooks_are_kept_small_and_without_outputs() -> None:
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        full = [n for n, cell in enumerate(notebook["cells"]) if cell.get("outputs") or cell.get("execution_count")]
        assert full == [] and "widgets" not in notebook["metadata"], (
            f"run: .venv/bin/nbstripout --keep-id {path.relative_to(ROOT)}"
        )
        assert path.stat().st_size <= 300_000, path.name


def test_the_main_picture_is_there_and_small() -> None:
    for path in NOTEBOOKS:
        picture = NOTEBOOKS[0].parent / "figures" / f"{path.name[:2]}.png"
        assert f"](figures/{picture.name})" in markdown(path), "readable on a repository's page"
        assert picture.stat().st_size <= 100_000, picture.name


def test_code_cells_are_short() -> None:
    for path in NOTEBOOKS:
        code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        lengths = [sum(bool(line.strip()) for line in "".join(cell["source"]).splitlines()) for cell in code]
        assert max(lengths) <= 20 and statistics.median(lengths) <= 4, (path.name, lengths)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 12_000


def test_the_readme_lists_every_notebook() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"(notebooks/{path.name})" not in text] == []


def test_the_course_quotes_its_record_rightly() -> None:
    record = json.loads((ROOT / "data" / "results" / "shapes-false-negatives.json").read_text(encoding="utf-8"))
    of = {m: [row["knn200"] for row in record["rows"] if row["method"] == m] for m in ("moco", "oracle")}
    text = markdown(ROOT / "notebooks" / "00_start_here.ipynb")
    for figures in of.values():
        assert f"{figures[0]}, {figures[1]} and {figures[2]}" in text
    gap = statistics.mean(of["oracle"]) - statistics.mean(of["moco"])
    assert f"{gap:.1f} points on average" in text and gap >= 5


def test_no_file_holds_the_marks_of_a_merge() -> None:
    """A style sheet with them still loads, without the rules beside them."""
    folders = (".github", "benchmarks", "cltools", "data", "docs", "experiments", "notebooks", "tests")
    kinds = {".py", ".md", ".js", ".mjs", ".css", ".html", ".ipynb", ".json", ".toml", ".yml", ".txt"}
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    files += [path for path in ROOT.iterdir() if path.is_file() and path.suffix in kinds]
    marks = tuple(mark * 7 for mark in "<>|")
    marked = [str(path) for path in files if any(line.startswith(marks) for line in _lines(path))]
    assert len(files) > 300 and marked == []


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
