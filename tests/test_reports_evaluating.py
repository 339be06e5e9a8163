"""Runs evaluated from the command line; `tests/test_cli.py` runs the command itself."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from cltools.evaluation import PROTOCOLS
from cltools.reports.evaluating import PROTOCOLS_OF, evaluate_runs, print_report


def test_every_choice_of_the_flag_has_its_protocols() -> None:
    assert get_args(get_type_hints(evaluate_runs)["protocol"]) == tuple(PROTOCOLS_OF)
    alone = [name for choice in ("knn", "probe", "linear", "finetune") for name in PROTOCOLS_OF[choice] or ()]
    assert tuple(alone) == PROTOCOLS == PROTOCOLS_OF["all"]


@pytest.mark.parametrize("by_class", [{}, {"per_class": {"probe": {"a cat": 12.5}}}])
def test_a_report_is_shown_without_classes_and_says_where_they_lie(
    by_class: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"split": "val", "probe": 12.5}
    print_report({**short, **by_class}, Path("runs") / "a")
    out, err = capsys.readouterr()
    assert json.loads(out) == short
    assert (len(err.splitlines()), "confusion-val-*.csv" in err) == ((1, True) if by_class else (0, False))
