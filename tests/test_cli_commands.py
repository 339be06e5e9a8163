"""Commands that need no trained run: comparing, keeping a snapshot, downloading."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from command_line import call, refused

from cltools.datasets import archives, load_images
from cltools.reports import comparing
from cltools.snapshot import Snapshot, making, taking

ROOT = Path(__file__).parent.parent


class TestCompare:
    def test_writes_a_record_and_shows_it_as_a_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        few = {split: load_images("digits", split).subset(300, seed=0) for split in ("train", "test")}
        monkeypatch.setattr(comparing, "training_images", lambda *_: (few["train"], None))
        monkeypatch.setattr(comparing, "evaluation_images", lambda *_: few["test"])
        record = str(tmp_path / "digits.json")
        outcome = call("compare", "digits", record, "--epochs", "1", "--warm-epochs", "1", "--only", "ring")
        assert outcome.status == 0 and [row["arm"] for row in json.loads(Path(record).read_text())["rows"]] == [
            "moco",
            "ring",
        ]
        table = call("table", record)
        assert table.status == 0 and "\n| arm | seeds |" in table.out and outcome.out.endswith(table.out)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "cltools compare"),
            (["cifar", "x.json"], "Did you mean cifar10 or cifar100"),
            (["digits", "x.json", "--only", "bund"], "Did you mean band"),
            (["digits", str(ROOT)], "name a record"),
        ],
    )
    def test_refuses(self, arguments: list[str], message: str) -> None:
        refused(call("compare", *arguments), message)

    def test_a_table_of_no_record_is_refused(self, tmp_path: Path) -> None:
        refused(call("table"), "cltools: table: name at least one record.")
        refused(call("table", str(tmp_path / "none.json")), "none.json is no file; name a record")
        foreign = tmp_path / "foreign.json"
        foreign.write_text("{}")
        refused(call("table", str(foreign)), "foreign.json holds no record of cltools")


class TestSnapshot:
    @pytest.mark.slow
    def test_trains_and_keeps_the_epochs_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        few = load_images("digits").subset(200, seed=0)
        monkeypatch.setattr(making, "training_images", lambda _: (few, None))
        monkeypatch.setattr(taking, "SEEDS", ())
        out = tmp_path / "new" / "digits.npz"
        outcome = call("snapshot", "digits-moco", str(out), "--after", "1", "2", "--n", "50", "--seed", "4")
        found = Snapshot.load(out)
        assert outcome.status == 0 and outcome.out.startswith(f"{out}: 50 images after epochs 1, 2, 0.")
        assert found.epochs == (1, 2) and found.experiment.seed == 4 and len(found) == 50
        assert set(found.ids.tolist()) <= set(few.ids.tolist())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["digits-mocco", "x.npz"], "Did you mean digits-moco"),
            (["digits-moco", "x.npz", "--after", "31"], "from 1 to 30"),
        ],
    )
    def test_refuses(self, arguments: list[str], message: str) -> None:
        refused(call("snapshot", *arguments), message)


class TestDownload:
    def test_counts_the_images(self) -> None:
        outcome = call("download", "digits")
        assert outcome.status == 0 and outcome.out.splitlines() == [
            "digits train: 1297 images, 10 classes",
            "digits test: 500 images, 10 classes",
        ]

    @pytest.fixture
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        tried: list[str] = []

        def urlopen(url: str, **_: Any) -> None:
            tried.append(url)
            raise URLError("Temporary failure in name resolution")

        monkeypatch.setattr(archives, "urlopen", urlopen)
        yield tried

    @pytest.mark.parametrize(("name", "by"), [("cifar10", "flag"), ("tinyimagenet", "variable")])
    def test_without_network_is_one_line_and_leaves_nothing(
        self, no_network: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, by: str
    ) -> None:
        monkeypatch.setenv("CLTOOLS_DATA", str(tmp_path if by == "variable" else tmp_path / "not here"))
        outcome = call("download", name, *(["--root", str(tmp_path)] if by == "flag" else []))
        assert len(no_network) == 1
        refused(outcome, no_network[0], f"put it at {tmp_path}")
        assert outcome.err.count("\n") == 1 and list(tmp_path.iterdir()) == []

    def test_without_network_no_folder_is_left_that_was_not_there(self, no_network: list[str], tmp_path: Path) -> None:
        refused(call("download", "cifar10", "--root", str(tmp_path / "deep" / "data")), "Could not download")
        assert list(tmp_path.iterdir()) == []

    def test_training_without_network_is_one_line_and_leaves_no_run(
        self, no_network: list[str], tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        data.mkdir()
        run = str(tmp_path / "a")
        refused(call("train", "cifar10-moco", "--root", str(data), "--out", run), "Could not download")
        refused(call("train", "cifar10-moco", "--no-download", "--root", str(data), "--out", run), "downloading is off")
        assert len(no_network) == 1 and list(tmp_path.rglob("*")) == [data]

    def test_refuses_an_unknown_name(self, tmp_path: Path) -> None:
        refused(call("download", "cifar"), "cltools: Unknown image set 'cifar'. Did you mean cifar10 or cifar100?")
        refused(call("download", str(tmp_path)), "Unknown image set")

    def test_refuses_no_name_and_unknown_flags(self) -> None:
        refused(call("download"), "such as cifar10")
        refused(call("download", "digits", "--rot", "x"), "--rot", "--root")
