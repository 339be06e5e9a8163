"""Which changes of the core would no test notice? `python tests/mutants.py --count 200 --seed 0 cltools/mining`.

A mutant is one small change of a source file: a comparison, an operator, a constant or a condition turned round, or an
argument left out. Each is tried in a copy of the project, where the core's tests run until one of them fails. It is
caught if one does, or if they do not end in time. A survivor is shown as a line of code: either a test is missing, or
the change makes no difference, which a person must say.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
CORE = ("circle", "mining*", "losses", "gradients", "contrast", "interop*", "queue", "parity", "numerics", "testing")
LEFT_BEHIND = (".git", ".venv", ".*_cache", ".cache", ".hypothesis", "__pycache__", "runs", "site", "*.egg-info")
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        path: of the file, from the project's root.
        line: where it begins.
        before: the code that is changed.
        after: what it becomes.
        source: the whole file with the change.
    """

    path: Path
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  →  {self.after}"


def sites(source: str) -> int:
    """How many mutants a file has."""
    return sum(len(list(changes(node))) for node in code_of(ast.parse(source)))


def mutant(path: Path, source: str, number: int) -> Mutant:
    """The mutant of that number, counted from the top."""
    tree = ast.parse(source)
    places = [(node, change) for node in code_of(tree) for change in changes(node)]
    node, change = places[number]
    before = code(node)
    replaced = changed(node, change)
    after = code(replaced)
    if replaced is not node:
        tree = Replaced(node, replaced).visit(tree)
    return Mutant(path, node.lineno, before, after, ast.unparse(ast.fix_missing_locations(tree)))  # type: ignore[attr-defined]


def code(node: ast.AST) -> str:
    """A node as a line; of a statement with a condition, that."""
    return ast.unparse(node.test if isinstance(node, ast.If | ast.While) else node)


def code_of(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that compute: no annotations, decorators, docstrings, or messages of errors."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases") or isinstance(value, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(
                child, ast.Raise | ast.Import | ast.ImportFrom | ast.Assert
            ):
                yield child
                yield from code_of(child)


def changes(node: ast.AST) -> Iterator[tuple[str, int]]:
    """What can be changed at a node, and at which place of it."""
    if isinstance(node, ast.Compare):
        yield from (("compare", i) for i, op in enumerate(node.ops) if type(op) in SWAPS)
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield ("operator", 0)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ("constant", 0)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
        yield ("sign", 0)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield ("condition", 0)
    elif isinstance(node, ast.Call):
        yield from (("argument", i) for i, keyword in enumerate(node.keywords) if keyword.arg)


def changed(node: ast.AST, change: tuple[str, int]) -> ast.AST:
    """The node after a change: itself, or another in its place."""
    kind, i = change
    if isinstance(node, ast.Compare):
        node.ops[i] = SWAPS[type(node.ops[i])]()  # type: ignore[assignment]
    elif kind == "operator":
        node.op = SWAPS[type(node.op)]()  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant):
        value = node.value
        return ast.Constant(not value if isinstance(value, bool) else value + 1)  # type: ignore[operator]
    elif isinstance(node, ast.UnaryOp):
        return node.operand
    elif kind == "condition":
        node.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
    else:
        del node.keywords[i]  # type: ignore[attr-defined]
    return node


class Replaced(ast.NodeTransformer):
    """A tree with one node in place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().visit(node)


def tests_of(patterns: list[str]) -> list[str]:
    """The test files that patterns name, from the project's root."""
    return sorted({str(path.relative_to(ROOT)) for each in patterns for path in ROOT.glob(f"tests/test_{each}.py")})


def nearest_first(tests: list[str], path: Path) -> list[str]:
    """The same files, that of the module a mutant is in before the others: it is the likeliest to fail."""
    name = "_".join(path.with_suffix("").parts[1:])
    return sorted(tests, key=lambda test: (Path(test).stem != f"test_{name}", not test.endswith(f"_{path.stem}.py")))


def noticed(project: Path, tests: list[str], seconds: float) -> tuple[bool, str]:
    """Whether the tests fail in this copy, and how: the first that did, or that they did not end."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    try:
        done = subprocess.run(
            [*command, *tests], cwd=project, env=environment, timeout=seconds, capture_output=True, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        return True, f"no end after {seconds:.0f} s"
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode != 0, failures[0] if failures else done.stdout[-500:] + done.stderr[-500:]


def main() -> int:
    """Try mutants and print the share that was caught; 1 where the tests fail already without any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="files and folders of Python code")
    parser.add_argument("--count", type=int, default=200, help="how many mutants are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--seconds", type=float, default=120, help="after which the tests of a mutant are ended")
    parser.add_argument("--tests", nargs="+", default=CORE, help="which test files, as patterns: mining* losses")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at a time")
    flags = parser.parse_args()
    tests = tests_of(flags.tests)
    files = sorted({file for path in flags.paths for file in (path.rglob("*.py") if path.is_dir() else [path])})
    sources = {file: file.read_text(encoding="utf-8") for file in files}
    every = [(file, number) for file in files for number in range(sites(sources[file]))]
    sample = random.Random(flags.seed).sample(every, min(flags.count, len(every)))
    drawn = [mutant(file, sources[file], number) for file, number in sample]
    print(f"{len(drawn)} of {len(every)} mutants of {len(files)} files, seed {flags.seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        copies: SimpleQueue[Path] = SimpleQueue()
        for job in range(flags.jobs):
            copies.put(Path(shutil.copytree(ROOT, Path(place) / str(job), ignore=shutil.ignore_patterns(*LEFT_BEHIND))))

        def tried(one: Mutant) -> bool:
            project = copies.get()
            file = project / one.path
            original, began = file.read_bytes(), time.monotonic()
            try:
                file.write_text(one.source, encoding="utf-8")
                caught, how = noticed(project, nearest_first(tests, one.path), flags.seconds)
            finally:
                file.write_bytes(original)
                copies.put(project)
            verdict = f"caught    {one}\n          by {how}" if caught else f"SURVIVED  {one}"
            print(f"{verdict}  ({time.monotonic() - began:.0f} s)", flush=True)
            return caught

        project = copies.get()
        began = time.monotonic()
        fails, how = noticed(project, tests, 10 * flags.seconds)
        copies.put(project)
        if fails:
            print(f"The tests fail without any change, so nothing can be told: {how}", file=sys.stderr)
            return 1
        print(f"unchanged, the tests pass in {time.monotonic() - began:.0f} s", flush=True)
        with ThreadPoolExecutor(flags.jobs) as pool:
            caught = list(pool.map(tried, drawn))
    print(f"{sum(caught)} of {len(caught)} caught: {100 * sum(caught) / max(1, len(caught)):.0f} %")
    for one, seen in zip(drawn, caught, strict=True):
        if not seen:
            print(f"survived: {one}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
