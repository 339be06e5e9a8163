"""The examples in docstrings: every public name has one, and each runs as it is written, alone in an empty folder."""

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest

import cltools

HOOKS = {"NegativeRule": ("judge", "weigh", "synthesise", "estimate", "weigh_anchors")}
NAMES = [*cltools.__all__, "testing.check_rule", "mining.rules.Rule.reads"]
NAMES += [f"{base}.{hook}" for base, hooks in HOOKS.items() for hook in hooks]
SLOW = {"with_umap"}
NEEDS = {"TensorBoard": "tensorboard", "as_metric_learning_miner": "pytorch_metric_learning"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def found(name: str) -> Any:
    """What a name of the package stands for; the name may have dots."""
    import cltools.testing

    value: Any = cltools
    for part in name.split("."):
        value = getattr(value, part)
    return value


def examples(value: object, name: str) -> doctest.DocTest:
    """The examples in the docstring of one object, without those of its members."""
    (test,) = doctest.DocTestFinder(exclude_empty=False, recurse=False).find(value, name, False, {"__name__": name})
    return test


def failures(test: doctest.DocTest) -> str:
    """Run examples; the text is empty if each gives what stands below it."""
    lines: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(test, out=lines.append)
    return "".join(lines)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in sorted(NAMES)]
)
def test_every_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors, as in all tests (`filterwarnings` in pyproject.toml)."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    test = examples(found(name), name)
    assert test.examples and "\nExample:\n" in inspect.cleandoc(test.docstring), "give it a section Example:"
    if wrong := failures(test):
        pytest.fail(wrong, pytrace=False)
    assert not [*tmp_path.iterdir()], "an example writes to a temporary folder"


def test_an_example_that_is_wrong_is_seen() -> None:
    def double(x: int) -> int:
        """Return twice a number.

        >>> 1 + 1
        3
        """
        return 2 * x

    def silent() -> None:
        """Return nothing."""

    assert "Expected:\n    3\nGot:\n    2" in failures(examples(double, "double"))
    assert not examples(silent, "silent").examples
