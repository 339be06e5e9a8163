"""The reference: every public name has its place, and signatures leave out which values are permitted."""

import re
from pathlib import Path
from typing import Any

import pytest

import cltools
from pages.reference import RANGE, _skipped

API = Path(__file__).parents[2] / "docs" / "api"


def test_every_public_name_is_described_once() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in sorted(API.glob("*.md")))
    described = re.findall(r"^\.\. auto(?:class|function):: cltools\.(\S+)$", pages, re.MULTILINE)
    assert sorted(described) == sorted(
        [*(name for name in cltools.__all__ if name != "__version__"), "testing.check_rule"]
    )


@pytest.mark.parametrize(
    ("annotated", "shown"),
    [
        ("(k: Annotated[int, 'a whole number of at least 1'] = 5)", "(k: int = 5)"),
        ('(a: Annotated[float | None, "x"] = None, b: bool = False)', "(a: float | None = None, b: bool = False)"),
        ("(k: Annotated[Literal['mean'] | float | None, 'a', 'b'])", "(k: Literal['mean'] | float | None)"),
        ("(z: Float32[Tensor, 'B d'])", "(z: Float32[Tensor, 'B d'])"),
    ],
)
def test_permitted_values_are_left_out_of_signatures(annotated: str, shown: str) -> None:
    assert RANGE.sub(r"\1", annotated) == shown


@pytest.mark.parametrize(("name", "value", "skipped"), [("EDGES", (), True), ("judge", print, None), ("HARD", 3, None)])
def test_constants_of_classes_are_left_out_and_members_of_an_enumeration_are_not(
    name: str, value: Any, skipped: bool | None
) -> None:
    assert _skipped(None, "class", name, value, False, None) is skipped
