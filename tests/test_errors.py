"""Messages for mistyped names and for objects of another kind."""

import pickle
from collections.abc import Callable
from inspect import unwrap
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cltools import AllNegatives, NearestKeys, explore, fit, select
from cltools.errors import CltoolsError, printable, shown, unknown

KNOWN = ("moco", "simclr", "potential", "oracle")


@pytest.mark.parametrize(
    ("typed", "near"), [("mocco", "moco"), ("simlcr", "simclr"), ("potentail", "potential"), ("orcale", "oracle")]
)
def test_names_the_nearest_and_no_other(typed: str, near: str) -> None:
    assert str(unknown("method", typed, KNOWN)) == f"Unknown method {typed!r}. Did you mean {near}?"


def test_names_up_to_three_that_are_near_and_the_nearest_first() -> None:
    message = str(unknown("image set", "cifar11", ["cifar1000", "cifar100", "cifar10", "cifar1", "digits"]))
    assert message == "Unknown image set 'cifar11'. Did you mean cifar1 or cifar10 or cifar100?"


def test_names_the_few_that_begin_with_what_was_typed() -> None:
    rules = ["AllNegatives", "Debiased", "RankBand", "RandomNegatives"]
    assert str(unknown("rule", "rankband", rules)) == "Unknown rule 'rankband'. Did you mean RankBand?"
    assert "Did you mean" not in str(unknown("rule", "", rules))


def test_where_many_begin_so_all_are_named() -> None:
    names = ["digits-moco", "digits-sce", "digits-hcl", "digits-fnc"]
    error = unknown("preset", "digits", names, otherwise="Name a method too.")
    assert str(error) == "Unknown preset 'digits'. Name a method too."


@pytest.mark.parametrize("given", [None, 1, 0.5])
def test_what_is_no_text_has_no_near_name(given: object) -> None:
    assert str(unknown("unit", given, ["rank", "cosine"])) == f"Unknown unit {given!r}. Known: cosine, rank."


def test_names_all_in_order_when_none_is_near() -> None:
    assert str(unknown("method", "xyz", KNOWN)) == "Unknown method 'xyz'. Known: moco, oracle, potential, simclr."
    assert str(unknown("method", "", iter(KNOWN))) == "Unknown method ''. Known: moco, oracle, potential, simclr."


def test_says_so_where_nothing_is_known() -> None:
    assert str(unknown("setting", "lower", [])) == "Unknown setting 'lower'. Known: none."


def test_takes_names_of_any_kind_of_collection() -> None:
    messages = {str(unknown("method", "mocco", names)) for names in (KNOWN, set(KNOWN), dict.fromkeys(KNOWN))}
    assert messages == {"Unknown method 'mocco'. Did you mean moco?"}


@given(st.text(), st.lists(st.text()))
def test_is_an_error_to_raise_whatever_was_typed(typed: str, known: list[str]) -> None:
    error = unknown("name", typed, known)
    assert type(error) is CltoolsError
    hint = str(error).removeprefix(f"Unknown name {typed!r}. ")
    if hint.startswith("Did you mean "):
        named = hint.removeprefix("Did you mean ").removesuffix("?")
        assert any(printable(name) in named for name in known)
    else:
        assert hint == printable(f"Known: {', '.join(sorted(known)) or 'none'}.")


@pytest.mark.parametrize(
    ("call", "arguments", "said"),
    [
        (
            explore,
            ("shapes-moco",),
            r'load_snapshot\("shapes-moco"\) or snapshot_of_embeddings\(array\), is expected here',
        ),
        (fit, ("digits-moco",), r'preset\("digits-moco"\), is expected here, but this is of type str'),
        (
            select,
            (None, AllNegatives(), NearestKeys(min_weight="mean")),
            "A positive rule such as .* but this is of type AllNegatives",
        ),
        (select, (None, NearestKeys(min_weight="mean"), 0.5), "A negative rule such as .* but this is of type float"),
        (select, (None, NearestKeys(min_weight="mean"), AllNegatives), "but this is the class AllNegatives"),
    ],
)
def test_an_object_of_another_kind_is_told_with_what_is_wanted(
    call: Callable[..., Any], arguments: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        unwrap(call)(*arguments)  # as a reader calls it, without the checker of types that tests put around


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"), ("a\rb", "a\\rb"), ("\x9b2J", "\\x9b2J"), ("\x7f\x00", "\\x7f\\x00"),
        ("abc\u202ecba", "abc\\u202ecba"), ("\u2066x\u2069", "\\u2066x\\u2069"), ("half \udc80", "half \\udc80"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"), ("Änderung → 猫 😀 50 %", "Änderung → 猫 😀 50 %"),
    ],
)  # fmt: skip
def test_a_terminal_shows_every_character_and_obeys_none(given: str, shown: str) -> None:
    assert printable(given) == shown
    assert str(CltoolsError(f"{given} is wrong.")) == f"{shown} is wrong."


def test_an_error_travels_between_processes_as_it_is() -> None:
    again = pickle.loads(pickle.dumps(CltoolsError("a \x1b b")))
    assert type(again) is CltoolsError and again.args == ("a \\x1b b",)


def test_of_a_long_or_deep_value_a_message_shows_the_beginning() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert shown("a\x1b[31m") == repr("a\x1b[31m"), "control characters are written out"
    for value in ("x" * 10**6, deep, {"a": deep}, 10**4000, [*range(10**5)]):
        assert len(shown(value)) < 300
    assert len(str(unknown("name", "x" * 10**6, ["y" * 10**6]))) < 700


def test_a_very_long_message_keeps_both_ends() -> None:
    message = str(CltoolsError(f"views is {'x' * 50_000}; give another"))
    assert len(message) < 4000 and message.startswith("views is") and message.endswith("give another")
