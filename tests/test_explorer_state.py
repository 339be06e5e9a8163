"""The state: a line of JSON in and out, and what it refuses."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from snapshots import made

from cltools.explorer.state import Side, State, check, first_state
from cltools.mining import NearestKeys, RandomNegatives, RankBand, RingNegatives

rules = st.one_of(
    st.builds(RankBand, drop_closest=st.floats(0, 0.4), keep_within=st.floats(0.5, 1)),
    st.builds(RandomNegatives, share=st.floats(0.1, 1)),
    st.just(RingNegatives()),
)
sides = st.builds(
    Side,
    positives=st.builds(NearestKeys, k=st.integers(1, 9)),
    negatives=rules,
    temperature=st.floats(0.01, 5),
    epoch=st.integers(1, 30),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(a=sides, b=st.none() | sides, anchor=st.integers(0, 10**6), truth=st.booleans(), doubtful=st.booleans())
def test_a_state_comes_back_from_its_line(a: Side, b: Side | None, anchor: int, truth: bool, doubtful: bool) -> None:
    state = State(anchor=anchor, a=a, b=b, truth=truth, doubtful=doubtful, colour="difference" if b else "band")
    line = state.to_json()
    assert "\n" not in line and State.from_json(line) == state


def test_it_starts_from_the_runs_own_rules_at_full_strength_and_its_last_epoch() -> None:
    snapshot = made()
    state = first_state(snapshot)
    experiment = snapshot.experiment
    assert state.a == Side(experiment.positives.at(1), experiment.negatives.at(1), 0.2, 5)
    assert state.anchor == 7 and state.b is None and not state.truth and state.map == "UMAP, seed 0"
    two = first_state(snapshot, made(method="moco"))
    assert two.b is not None and two.b.negatives == made(method="moco").experiment.negatives
    assert two.colour == "difference"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor": 8}, "No image has the id 8; ids go from 7 to 184"),
        ({"map": "UMAP, sed 0"}, "Did you mean UMAP, seed 0"),
        ({"a.epoch": 3}, "Unknown epoch '3'. Known: 1, 5"),
        ({"a.temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    ],
)
def test_what_the_snapshot_does_not_have_is_refused(change: dict[str, Any], message: str) -> None:
    state = first_state(made())
    for name, value in change.items():
        if name.startswith("a."):
            state = replace(state, a=replace(state.a, **{name[2:]: value}))
        else:
            state = replace(state, **{name: value})
    with pytest.raises(ValueError, match=message):
        check(state, (made(),))


def test_without_labels_there_is_no_truth_to_show() -> None:
    plain = made(labelled=False)
    for change in ({"truth": True}, {"colour": "class"}):
        with pytest.raises(ValueError, match="no labels"):
            check(replace(first_state(plain), **change), (plain,))  # type: ignore[arg-type]


def test_there_is_no_side_b_without_one() -> None:
    state = first_state(made())
    for change in ({"active": "B"}, {"colour": "difference"}):
        with pytest.raises(ValueError, match="compare=True"):
            replace(state, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a side B"):
        check(state, (made(), made()))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing", "not a state"),
        ("[" * 10**5, "not a state: it is not valid JSON"),
        ("9" * 5000, "not a state: it is not valid JSON"),
        ('{"anchor": ' * 50 + "7" + "}" * 50, "not a state: it is nested deeper than 32 levels"),
        ("[]", "state must be an object"),
        ('{"anchor": 7}', "state lacks 'a'"),
        (json.dumps({"anchor": 7, "a": {}, "angle": 1}), "Unknown setting in state 'angle'"),
    ],
)
def test_a_line_that_is_no_state_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        State.from_json(line)
