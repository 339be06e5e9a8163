"""Names of classes, files, maps and runs are text, whatever they hold: never markup, a formula, an escape sequence."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from snapshots import made

from cltools import explore, snapshot_of_embeddings
from cltools.datasets import DataSettings
from cltools.errors import printable
from cltools.evaluation.embed import confusion_csv
from cltools.explorer import standalone
from cltools.explorer.session import Session
from cltools.files import cell, text_of, write_text
from cltools.snapshot import Snapshot
from cltools.training import History
from cltools.training.record import COLUMNS

MATHS = ["$_$", "$\\frac{", "%s{}$x"]
FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\tx", "'=1"]
MARKUP = ["</script><script>x", "<!--", "a|b`<i>*"]
CONTROLS = ["a\nb\r\nc", "\x1b[31mred\x1b[0m", "\u202egnp.exe", "a\0b", "caf\udce9"]
STRANGE = [*MATHS, *FORMULAS, *MARKUP, *CONTROLS, "_hidden", "x" * 5000, "👩‍🔬 😀", "שלום", "猫", " "]
DRAWN = {MATHS[0], MATHS[1], CONTROLS[1], CONTROLS[-1], "👩‍🔬 😀"}


def of_strangers() -> Snapshot:
    """A snapshot in which every text is a stranger's."""
    count = len(STRANGE)
    places = np.arange(2 * count) % count
    named = {"texts": [STRANGE[i] for i in places], "metadata": {name: [name] * 2 * count for name in STRANGE}}
    vectors = np.random.default_rng(0).normal(size=(2 * count, 4))
    return snapshot_of_embeddings(vectors, labels=places, classes=STRANGE, name=MARKUP[0], **named)


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
def test_an_explorer_shows_them(name: str, tmp_path: Path) -> None:
    """A class called $_$ ended the picture: matplotlib took it for a formula."""
    snapshot = replace(made(24, groups=2), classes=("other", name))
    session = Session(replace(snapshot, experiment=replace(snapshot.experiment, data=DataSettings(name="images"))))
    session.set(truth=True, anchor=10)
    assert f"({printable(name, lines=False)})" in session.sentence == printable(session.sentence, lines=False)
    drawn = standalone.draw(session)
    assert drawn.get_suptitle().replace("\n", "").replace(" ", "") == session.sentence.replace(" ", "")
    if name in DRAWN:
        assert standalone.png(session)[:4] == b"\x89PNG"
    session.to_csv(tmp_path / "keys.csv")
    with (tmp_path / "keys.csv").open(encoding="utf-8", newline="") as file:
        read = {row["class"] for row in csv.DictReader(file)}
    assert not any(text[:1] in "=+-@\t\r" for text in read)
    if "\udce9" not in name and "\0" not in name and "\r" not in name:
        assert {*map(text_of, read)} == {"other", name}


def test_a_page_holds_them_as_text(tmp_path: Path) -> None:
    snapshot = of_strangers()
    session = Session(snapshot).set(truth=True)
    from cltools.explorer.standalone import save_html

    page = save_html(session, tmp_path / "page.html").read_text(encoding="utf-8")
    data = page.split('id="cltools-data">')[1].split("</script>")[0]
    assert "<" not in data
    held = json.loads(data)["snapshots"][0]
    assert held["classes"] == STRANGE and held["title"] == MARKUP[0] and [*held["metadata"]] == STRANGE
    assert held["texts"] == [text[:1000] for text in STRANGE * 2]
    assert "<title>&lt;/script&gt;&lt;script&gt;x" in page


def test_a_kernel_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer, sent = explore(of_strangers()), list[Any]()
    monkeypatch.setattr(explorer.widget, "send", lambda content, buffers=None: sent.append(content))
    explorer._on_message(None, {"number": 1, "want": "digest"}, [])
    (answer,) = sent
    assert "error" not in answer
    json.dumps(answer, ensure_ascii=False).encode("utf-8")
    assert answer["held"][0]["classes"] == [name.replace("\udce9", "?") for name in STRANGE]
    explorer.close()


def test_a_file_keeps_them(tmp_path: Path) -> None:
    snapshot = of_strangers()
    snapshot.save(tmp_path / "s.npz")
    found = Snapshot.load(tmp_path / "s.npz")
    assert found.classes == tuple(STRANGE) and found.texts == snapshot.texts and found.metadata == snapshot.metadata


def test_no_table_opens_a_formula(tmp_path: Path) -> None:
    """Of every CSV that a person may open: the names come back as they were, and no cell begins as a formula does."""
    for name in [*MATHS, *FORMULAS, *MARKUP, *(f"'{each}" for each in FORMULAS)]:
        assert text_of(cell(name)) == name and cell(name)[:1] not in ("=", "+", "-", "@", "\t", "\r")
    text = confusion_csv(torch.eye(len(FORMULAS), dtype=torch.int64), FORMULAS, "knn10")
    rows = [*csv.reader(io.StringIO(text))]
    assert [*map(text_of, rows[0][1:])] == [text_of(row[0]) for row in rows[1:]] == FORMULAS
    assert not any(each[:1] in "=+-@\t\r" for row in rows for each in row)
    assert "\r" not in confusion_csv(torch.eye(2, dtype=torch.int64), ["a", "\r=1"], "knn10"), "a row of its own"
    history = History([dict.fromkeys(COLUMNS, 0.5) | {"epoch": 1.0} | dict.fromkeys(FORMULAS, -0.5)])
    history.save(tmp_path / "history.csv")
    assert History.load(tmp_path / "history.csv") == history
    assert (tmp_path / "history.csv").read_text(encoding="utf-8").splitlines()[1].endswith("0.5,-0.5"), "numbers stay"


def test_what_cannot_be_encoded_is_written_out(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "caf\udce9 ü")
    assert (tmp_path / "a").read_bytes() == "caf\\udce9 ü".encode()
    assert [printable(text, lines=False) for text in ("ü 猫 😀", "a\nb", "\x1b[31m", "\u202eb", "\udce9", "\0")] == [
        "ü 猫 😀", "a\\nb", "\\x1b[31m", "\\u202eb", "\\udce9", "\\x00"
    ]  # fmt: skip
