"""That an explorer in JupyterLab shows what `select` says, and that page and Python come to one state."""

import json
import time

import numpy as np
from lab import Shown

from cltools.explorer.judgement import difference
from cltools.explorer.session import Session
from cltools.explorer.state import State
from cltools.mining.bands import KEPT
from cltools.snapshot import Snapshot

PATIENCE = 20.0  # seconds; it ends a hang and measures nothing
START = "from cltools import Snapshot, explore\nsnapshot = Snapshot.load('{}')"
SHOW = "explorer = explore(snapshot)\nexplorer"


def agrees(shown: Shown, snapshot: Snapshot) -> Session:
    """Assert that the page shows what `select` says in the state that it claims, key by key; gives that exploration."""
    told = shown.told
    session = Session(snapshot, told["state"])
    state = session.state
    sides = [session.judged("A"), *([session.judged("B")] if state.b else [])]
    for judged, bands in zip(sides, told["bands"], strict=False):
        assert np.array_equal(judged.band, bands), told["state"]
    kept = int(np.isin(session.judgement.band, KEPT).sum())
    assert f" {kept:,} of " in told["sentence"], (told["sentence"], told["state"])
    assert told["anchor"].split(" of ")[0] == f"image {state.anchor}"
    codes = difference(*sides) if state.b else session.judgement.band
    place = {identity: at for at, identity in enumerate(snapshot.ids.tolist())}
    assert len(told["groups"]) > 0
    for group in told["groups"]:
        assert group["title"].endswith(f" {int((codes == group['code']).sum()):,}"), (group, told["state"])
        assert all(codes[place[each]] == group["code"] for each in group["ids"]), (group, told["state"])
    return session


def python(shown: Shown, name: str = "explorer") -> State:
    """The state that Python has."""
    return State.from_json(shown.lab.ask(f"print({name}.state.to_json())"))


def meet(shown: Shown, snapshot: Snapshot, name: str = "explorer") -> Session:
    """Assert that page and Python come to have one state, and that nothing went wrong on the way."""
    until = time.monotonic() + PATIENCE
    while (page := State.from_json(shown.state)) != (found := python(shown, name)):
        assert time.monotonic() < until, (page, found)
        shown.page.wait_for_timeout(50)
    session = agrees(shown, snapshot)
    lines = shown.lab.ask(f"print({name}.errors, {name}.selection.band[0].tolist(), sep='\\n')").splitlines()
    assert lines[0] == "[]" and json.loads(lines[1]) == session.selection.band[0].tolist()
    return session
