"""The page that stands alone: what lies in its file, that names in it are text, and the command that writes it."""

import base64
import json
import re
import warnings
import webbrowser
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import call, refused
from snapshots import made
from torch import Tensor

from cltools.explorer import standalone
from cltools.explorer.session import Session
from cltools.explorer.standalone import page_data, page_of, page_script, save_html
from cltools.explorer.state import first_state
from cltools.mining import Band, NegativeRule, Similarities, select
from cltools.mining.rules import Context
from cltools.snapshot import Snapshot

NAMES = (
    "</script><script>alert(1)</script>", "<!--<script>", '"quoted" \'twice\'', "$x_1$ a_b_c", "&amp; &lt;",
    "x" * 400, "🐙 café", "שלום עליכם", "line\u2028end\u2029", "\\u003c \\n",
)  # fmt: skip
CODED = ("anchors", "keys", "maps", "kept")


class Parsed(HTMLParser):
    """What a browser would find: every element's name, and the text of scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.scripts: dict[str, str] = {}
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._within = str(dict(attrs).get("id")) if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self._within:
            self.scripts[self._within] = self.scripts.get(self._within, "") + data

    @property
    def data(self) -> Any:
        return json.loads(self.scripts["cltools-data"])


def bytes_of(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


class ByItsOwn(NegativeRule):
    """A rule that only Python knows."""

    def judge(self, s: Similarities, context: Context) -> Tensor:
        return torch.full_like(s.anchor_keys, Band.POTENTIAL, dtype=torch.int8)


@dataclass(frozen=True)
class Unevenly(NegativeRule):
    """Another, which weighs keys and anchors."""

    least: float = 0.5

    def judge(self, s: Similarities, context: Context) -> Tensor:
        return torch.where(s.anchor_keys < self.least, Band.POTENTIAL, Band.HARD).to(torch.int8)

    def weigh(self, s: Similarities, kept: Tensor, context: Context) -> Tensor:
        return torch.where(kept, 1 - s.anchor_keys, 0)

    def weigh_anchors(self, s: Similarities, context: Context) -> Tensor:
        return s.anchor_keys.amax(1)


def test_the_file_holds_the_snapshot_to_the_bit() -> None:
    snapshot = made(20, epochs=(1, 3, 9))
    held = Parsed(page_of([snapshot], first_state(snapshot), epochs="all")).data["snapshots"][0]
    for name in ("anchors", "keys"):
        want = getattr(snapshot, name).astype(np.float16)
        assert np.array_equal(np.stack([bytes_of(each, "<f2") for each in held[name]]), want.reshape(3, -1))
    assert held["ids"] == snapshot.ids.tolist() and held["labels"] == snapshot.labels.tolist()
    assert held["classes"] == [*snapshot.classes] and held["epochs"] == [1, 3, 9]
    assert base64.b64decode(held["sprite"]) == snapshot.sprite
    places = np.stack([[bytes_of(each, "<f4") for each in epochs] for epochs in held["maps"]])
    assert places.min() >= 0 and places.max() <= 1 + 1e-6
    kept = np.stack([[bytes_of(each, "u1") for each in epochs] for epochs in held["kept"]])
    assert np.array_equal(kept, np.rint(100 * snapshot.kept))


def test_only_the_epochs_that_are_shown_go_along_unless_all_are_asked_for() -> None:
    snapshot = made(12, epochs=(1, 3, 9))
    state = first_state(snapshot)
    assert page_data(snapshot, list, [2])["epochs"] == [9]
    both = replace(state, b=replace(state.a, epoch=1))
    held = [Parsed(page_of([snapshot], each)).data["snapshots"][0] for each in (state, both)]
    assert [each["epochs"] for each in held] == [[9], [1, 9]]
    other = replace(made(12, epochs=(2, 4)), labels=snapshot.labels)
    pair = Parsed(page_of([snapshot, other], first_state(snapshot, other))).data["snapshots"]
    assert [each["epochs"] for each in pair] == [[9], [4]]


@pytest.mark.parametrize(("most", "whose"), [(1600, [*range(40)]), (1599, [13])])
def test_what_rules_of_ones_own_choose_is_recorded(
    most: int, whose: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "RECORDED", most)
    snapshot = made(40, epochs=(1, 3))
    anchor = int(snapshot.ids[13])
    first = replace(first_state(snapshot), anchor=anchor)
    assert Parsed(page_of([snapshot], first)).data["recorded"] == [None], "the page knows built-in rules itself"
    state = replace(first, b=replace(first.a, negatives=Unevenly(0.25), epoch=1))
    none, found = Parsed(page_of([snapshot], state)).data["recorded"]
    assert none is None and found["places"] == whose
    chosen = select(snapshot.similarities(torch.tensor(whose), epoch=0), first.a.positives, Unevenly(0.25))
    assert np.array_equal(bytes_of(found["band"], "i1").reshape(-1, 40), chosen.band.numpy())
    assert np.array_equal(bytes_of(found["weight"], "<f4").reshape(-1, 40), chosen.negative_weight.numpy())
    assert chosen.anchor_weight is not None and found["anchorWeight"] == chosen.anchor_weight.tolist()
    _, plain = Parsed(page_of([snapshot], replace(state, b=replace(state.a, negatives=ByItsOwn())))).data["recorded"]
    assert plain["weight"] is None and plain["anchorWeight"] is None, "a key that is kept has the weight 1"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_and_never_markup(name: str) -> None:
    snapshot = made(10, groups=5)
    usual = Parsed(page_of([snapshot], first_state(snapshot), words="usual"))
    named = replace(
        snapshot,
        classes=(name, *snapshot.classes[1:]),
        map_names=(name, "PCA"),
        experiment=replace(snapshot.experiment, data=replace(snapshot.experiment.data, name=f"shapes{name}")),
    )
    found = Parsed(page_of([named], first_state(named), words=name))
    assert found.elements == usual.elements
    held = found.data["snapshots"][0]
    assert held["classes"][0] == held["mapNames"][0] == name and held["title"] == f"shapes{name}"
    assert found.scripts["cltools-code"] == usual.scripts["cltools-code"]


@pytest.mark.parametrize(
    "snapshot",
    [made(30, labelled=False), made(3, groups=3), made(20, epochs=(5,))],
    ids=["no labels", "three images", "one epoch"],
)
def test_snapshots_at_the_edge_are_written(snapshot: Snapshot, tmp_path: Path) -> None:
    held = Parsed(save_html(Session(snapshot), tmp_path / "page.html").read_text(encoding="utf-8")).data
    assert held["snapshots"][0]["ids"] == snapshot.ids.tolist() and held["state"]["anchor"] == snapshot.ids[0]


def test_the_file_has_the_sentence_and_the_picture_for_who_runs_no_scripts(tmp_path: Path) -> None:
    session = Session(made(30))
    text = save_html(session, tmp_path / "page.html").read_text(encoding="utf-8")
    aside = re.search(r"<noscript><p>(.*?)</p><img alt=\"\" src=\"data:image/png;base64,(.*?)\"></noscript>", text)
    assert aside is not None and base64.b64decode(aside[2]).startswith(b"\x89PNG")
    assert aside[1] == session.sentence.replace("'", "&#x27;").replace(">", "&gt;")
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text), "the page asks the network for nothing"
    for wrong in ({"epochs": "some"}, {"show": ["maps"]}):
        with pytest.raises(ValueError, match="Unknown"):
            save_html(session, tmp_path / "page.html", **wrong)  # type: ignore[arg-type]


def test_a_rule_of_ones_own_goes_along_as_it_is(tmp_path: Path) -> None:
    session = Session(made(20))
    session.restore(replace(session.state, a=replace(session.state.a, negatives=ByItsOwn())).to_json())
    held = Parsed(save_html(session, tmp_path / "page.html").read_text(encoding="utf-8")).data
    assert held["state"]["a"]["negatives"] == {"rule": "ByItsOwn"}


def test_the_script_is_small_and_one_text_each_time() -> None:
    first = page_script()
    page_script.cache_clear()
    assert page_script() == first and len(first.encode()) <= 150_000 and "</script" not in first


def test_a_large_page_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_html(Session(made(20)), tmp_path / "small.html")
    monkeypatch.setattr(standalone, "LARGE", 4)
    with pytest.warns(UserWarning, match=r"MB opens slowly; take fewer rows \(n=…\), or one epoch"):
        save_html(Session(made(20)), tmp_path / "large.html")
    assert (tmp_path / "large.html").read_bytes() == (tmp_path / "small.html").read_bytes()


class TestCommand:
    def test_writes_a_page_of_a_file_or_of_a_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made(20, epochs=(1, 5)).save(tmp_path / "such.npz")
        page = tmp_path / "page.html"
        outcome = call("explore", str(tmp_path / "such.npz"), "--html", str(page), "--epochs", "all")
        assert outcome.status == 0 and outcome.out.startswith(f"{page}: 0.") and outcome.out.endswith(" MB\n")
        assert Parsed(page.read_text(encoding="utf-8")).data["snapshots"][0]["epochs"] == [1, 5]
        opened: list[str] = []
        monkeypatch.setattr(webbrowser, "open", opened.append)
        monkeypatch.setattr(standalone, "LARGE", 4)
        outcome = call("explore", "shapes-moco")
        assert outcome.status == 0 and "take fewer rows" in outcome.out
        assert opened[0].endswith("/shapes-moco.html") and Path(opened[0].removeprefix("file://")).exists()

    def test_refuses(self, tmp_path: Path) -> None:
        refused(call("explore", "shapes-mocco"), "Did you mean shapes-moco")
        refused(call("explore", str(tmp_path / "none.npz")), "none.npz")
        refused(call("explore", "shapes-moco", "--epochs", "some"), "epochs")
