"""Every flag that a page, a cell or a docstring names is one: of the command it stands with, or of some command."""

import contextlib
import io
import json
import os
import re
from functools import cache
from itertools import chain
from pathlib import Path
from unittest import mock

import pytest
from test_project import PACKAGE, PAGES, ROOT

from benchmarks.__main__ import main as benchmarks
from cltools.cli import main
from cltools.presets import IMAGES, METHODS, preset_names

FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
COMMAND = re.compile(r"(?:-m cltools |(?<=[`\n])cltools |-m (?=benchmarks ))((?:benchmarks )?[a-z]+)\b([^`\"\n#]*)")
DEFINED = re.compile(r"(?:^[^\w-]*(?:-h, )?|, |\[)(--[a-z][\w.-]*)", flags=re.MULTILINE)
"""A flag in a page of help: at a line's beginning, behind another form of it, or in a usage."""

OTHERS = {
    "conda": {"--file"},
    "jupyterlab": {"--no-browser"},
    "git": {"--error-unmatch", "--porcelain", "--short", "--untracked-files"},
    "nbstripout": {"--keep-id"},
    "pip": {"--constraint", "--editable", "--force-reinstall", "--no-deps", "--upgrade"},
    "python": {"--version"},
    "tensorboard": {"--logdir"},
    "torchrun": {"--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint"},
}
"""Flags of other programs that are named."""

GENERAL = {"--json", "--debug"}
"""Flags of every command."""

TEXTS = [*PAGES, ROOT / "Makefile", *sorted(PACKAGE.rglob("*.py"))]


def text_of(path: Path) -> str:
    """All that a file says, continued lines as one: a page, a module, or every cell of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    return re.sub(r"\\\n\s*", "", text)


@cache
def help_of(*arguments: str) -> str:
    """What the command line answers, on a terminal too narrow for two columns."""
    answer, narrow = io.StringIO(), mock.patch.dict(os.environ, COLUMNS="80")
    with contextlib.redirect_stdout(answer), narrow, contextlib.suppress(SystemExit):
        benchmarks(arguments[1:]) if arguments[:1] == ("benchmarks",) else main(arguments)
    return answer.getvalue()


@cache
def flags_of(*command: str) -> set[str]:
    """The flags of a command, `--help` of each among them."""
    return {"--help", *DEFINED.findall(help_of(*command, "--help"))}


@cache
def commands() -> tuple[str, ...]:
    """As the two command lines list them."""
    listed, measuring = (re.search(r"\{([\w,]+)\}", text) for text in (help_of(), help_of("benchmarks", "--help")))
    assert listed is not None and measuring is not None
    return (*listed[1].split(","), *(f"benchmarks {name}" for name in measuring[1].split(",")))


@cache
def flags_of_any_training() -> set[str]:
    """Those of every method: its rules decide some."""
    images = next(iter(IMAGES))
    return {"--help"}.union(*(flags_of("train", f"{images}-{method}") for method in METHODS))


@cache
def every_flag() -> set[str]:
    others = (flags_of(*command.split()) for command in commands() if command != "train")
    return GENERAL.union(flags_of_any_training(), *others, *OTHERS.values())


def known_to(command: str, rest: str) -> set[str]:
    """The flags that a command line may have; of a training those of its preset and its rule, where it names them."""
    if command != "train":
        return GENERAL | flags_of(*command.split())
    named = next(iter(rest.split()), "")
    rule = re.search(r"--rule \w+", rest)
    if "--import" in rest:  # whose rule is the reader's own, with flags of its own
        own = {flag for flag in flags_in(rest) if flag.startswith(("--negatives.", "--positives."))}
        return GENERAL | flags_of_any_training() | own
    if named not in preset_names():
        return GENERAL | flags_of_any_training()
    return GENERAL | flags_of("train", named, *(rule[0].split() if rule else ()))


def flags_in(text: str) -> list[str]:
    return [flag.rstrip(".-") for flag in FLAG.findall(text)]


def wrong_lines(text: str) -> list[str]:
    """In command lines: commands that there are not, and flags that their command has not."""
    wrong = []
    for command, rest in COMMAND.findall(text):
        if command not in commands():
            wrong.append(command)
        else:
            wrong += [f"{command} {flag}" for flag in flags_in(rest) if flag not in known_to(command, rest)]
    return wrong


def wrong_flags(text: str) -> list[str]:
    """Flags that no command has, and no other program that is named; and all that is wrong in command lines."""
    return wrong_lines(text) + [flag for flag in flags_in(COMMAND.sub("", text)) if flag not in every_flag()]


def test_every_flag_that_is_named_is_one() -> None:
    wrong = {}
    for path in (text for text in TEXTS if text.name != "readings.md"):  # which quotes sentences that are gone
        text = text_of(path)
        wrong[str(path.relative_to(ROOT))] = wrong_lines(text) if path.name == "Makefile" else wrong_flags(text)
    assert {name: found for name, found in wrong.items() if found} == {}


def test_there_are_commands_in_the_texts_and_each_other_program_is_named() -> None:
    found = [text_of(path) for path in TEXTS]
    assert {command for text in found for command, _ in COMMAND.findall(text)} >= {
        "train",
        "compare",
        "benchmarks costs",
    }
    assert set(chain.from_iterable(OTHERS.values())) <= set(chain.from_iterable(map(flags_in, found)))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`--data.holdout 0.1` keeps a split `val`", ["--data.holdout"]),
        ("python -m cltools train digits-moco --data.holdout 0.1", ["train --data.holdout"]),
        ("python -m cltools train digits-moco --negatives.keep-beyond 0.1", ["train --negatives.keep-beyond"]),
        ("python -m benchmarks steps --keys 4096", ["benchmarks steps --keys"]),
        ("python -m cltools measure runs/a", ["measure"]),
        ("`cltools measure runs/a`", ["measure"]),
        ("torchrun --nproc-per-gpu 8 -m cltools train digits-moco --out \\\n    runs/a --big", ["train --big"]),
    ],
)
def test_a_flag_that_is_none_is_seen(text: str, wrong: list[str]) -> None:
    found = wrong_flags(re.sub(r"\\\n\s*", "", text))
    assert found == wrong + ["--nproc-per-gpu"] * ("per-gpu" in text)


@pytest.mark.parametrize(
    "text",
    [
        "`--holdout 0.1` keeps a split `val`; go on with --resume.",
        "\ncltools train digits-moco --import my_rules --rule MyRule --negatives.mine 1 --json",
        "python -m cltools train digits-moco --rule RankBand --negatives.drop-closest 0.1",
        "python -m cltools train PRESET --negatives.drop-closest 0.1 --no-download",
        "torchrun --nproc-per-node 8 -m cltools train cifar10-moco --out runs/a  # or --any",
        "python -m benchmarks costs --keys 4096; a rule --- a dash -- `|---|` and <!-- a comment -->",
    ],
)
def test_a_flag_that_is_one_is_let_pass(text: str) -> None:
    assert wrong_flags(text.partition("#")[0]) == []
