"""Commands that need no trained run: comparing, keeping a snapshot, downloading."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import numpy as np
import pandas as pd
import pytest
from command_line import call, refused

from cltools import flags
from cltools.datasets import archives, load_images
from cltools.reports import comparing
from cltools.snapshot import Snapshot, making

ROOT = Path(__file__).parent.parent


class TestCompare:
    def test_writes_a_record_and_shows_it_as_a_table(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        few = {split: load_images("digits", split).subset(300, seed=0) for split in ("train", "test")}
        monkeypatch.setattr(comparing, "training_images", lambda *_: (few["train"], None))
        monkeypatch.setattr(comparing, "evaluation_images", lambda *_: few["test"])
        record = str(tmp_path / "digits.json")
        outcome = call("compare", "digits", record, "--epochs", "1", "--warm-epochs", "1", "--only", "ring")
        assert outcome.status == 0 and [
            row["arm"] for row in json.loads(Path(record).read_text(encoding="utf-8"))["rows"]
        ] == ["moco", "ring"]
        table = call("table", record)
        assert table.status == 0 and "\n| arm | seeds |" in table.out and table.out in outcome.out
        assert re.search(r"below 8 seeds no test:\n  ring: [+-]\d+\.\d\n$", outcome.out)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "cltools compare"),
            (["cifar", "x.json"], "Did you mean cifar10 or cifar100"),
            (["digits", "x.json", "--only", "bund"], "Did you mean band"),
            (["digits", str(ROOT)], "is a folder; give the name of a file"),
        ],
    )
    def test_refuses(self, arguments: list[str], message: str) -> None:
        refused(call("compare", *arguments), message)

    def test_a_table_of_no_record_is_refused(self, tmp_path: Path) -> None:
        refused(call("table"), "cltools: table: name at least one record.")
        refused(call("table", str(tmp_path / "none.json")), "none.json is not a file; give a record")
        foreign = tmp_path / "foreign.json"
        foreign.write_text("{}", encoding="utf-8")
        refused(call("table", str(foreign)), "foreign.json holds no record of cltools")


class TestSnapshot:
    @pytest.mark.slow
    def test_trains_and_keeps_the_epochs_asked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        few = load_images("digits").subset(200, seed=0)
        monkeypatch.setattr(making, "training_images", lambda _: (few, None))
        out = tmp_path / "new" / "digits.npz"
        outcome = call("snapshot", "digits-moco", str(out), "--after", "1", "2", "--n", "50", "--seed", "4", "--umap")
        found = Snapshot.load(out)
        assert outcome.status == 0 and outcome.out.startswith(f"{out}: 50 images after epochs 1, 2, 0.")
        assert found.epochs == (1, 2) and found.experiment.seed == 4 and len(found) == 50
        assert set(found.ids.tolist()) <= set(few.ids.tolist())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["digits-mocco", "x.npz"], "Did you mean digits-moco"),
            (["digits-moco", "x.npz", "--after", "31"], "from 1 to 30"),
            (["digits-moco", str(ROOT)], "is a folder; give the name of a file"),
            (["digits-moco", ""], "An argument is empty"),
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

        def urlopen(request: Request, **_: Any) -> None:
            tried.append(request.full_url)
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
        refused(
            call("train", "cifar10-moco", "--no-download", "--root", str(data), "--out", run), "allow download=True"
        )
        assert len(no_network) == 1 and list(tmp_path.rglob("*")) == [data]

    def test_refuses_an_unknown_name(self, tmp_path: Path) -> None:
        refused(call("download", "cifar"), "cltools: Unknown image set 'cifar'. Did you mean cifar10 or cifar100?")
        refused(call("download", str(tmp_path)), "No images in")

    def test_refuses_no_name_and_unknown_flags(self) -> None:
        refused(call("download"), "such as cifar10")
        refused(call("download", "digits", "--rot", "x"), "--rot", "--root")


class TestMine:
    """A fan of keys at 1°, 2°, … from the anchor, whose ranks are degrees; the positive is among them, at 3°."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[str]:
        paths = [tmp_path / f"{name}.npy" for name in ("anchors", "positives", "corpus")]
        for path, degrees in zip(paths, ([0.0], [3.0], range(1, 21)), strict=True):
            np.save(path, fan(*degrees))
        return [*map(str, paths)]

    @pytest.mark.parametrize("form", [".npy", ".npz", ".parquet"])
    def test_writes_pairs_and_tells_what_was_dropped(
        self, form: str, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given, out = [str(Path(path).with_suffix(form)) for path in files], tmp_path / "pairs.csv"
        arrays = {new: np.load(path) for new, path in zip(given, files, strict=True)}
        if form == ".npz":
            for path, array in arrays.items():
                np.savez(path, z=array, ids=np.arange(len(array)))
        if form == ".parquet":  # without a reader: pandas is told what the files hold
            tables = {path: pd.DataFrame({"id": range(len(z)), "z": list(z)}) for path, z in arrays.items()}
            monkeypatch.setattr(pd, "read_parquet", lambda path, engine: tables[str(path)])
            for path in given:
                Path(path).touch()
        rule = ("--negatives.by", "anchor", "--negatives.drop-closest", "0.1", "--negatives.keep-within", "0.5")
        outcome = call("mine", *given, str(out), "--count", "5", *rule)
        assert outcome.status == 0, outcome.err
        assert pd.read_csv(out)["key"].tolist() == [3, 4, 5, 6, 7], "3° is the positive, 1° and 2° are too close"
        assert "1 anchors, 20 keys" in outcome.out and f"{out}: 5 pairs" in outcome.out
        assert re.search(r"^cosines +0 % +5 %.*\n  positive +0\.999 +0\.999", outcome.out, re.MULTILINE), outcome.out
        for name, count in (("own", 1), ("hard", 2), ("potential", 8), ("easy", 9)):
            assert re.search(rf"^  {name} +{count} ", outcome.out, re.MULTILINE), outcome.out

    def test_takes_rules_by_name_and_says_what_to_loosen(self, files: list[str], tmp_path: Path) -> None:
        out = str(tmp_path / "pairs.csv")
        rules = ("--rule", "MarginBand", "--negatives.relative", "0.95", "--positive-rule", "NearestKeys")
        outcome = call("mine", *files, out, *rules, "--positives.k", "2", "--positives.min-cosine", "0.999")
        assert outcome.status == 0, outcome.err
        assert set(pd.read_csv(out)["band"]) == {"mined", "potential"}
        assert (
            "1 anchor has fewer than the 10 negatives asked for. Loosen MarginBand(relative=…), then NearestKeys(k=…)."
            in outcome.out
        )

    @pytest.mark.parametrize(
        ("which", "array", "flags", "message"),
        [
            (2, np.ones((3, 4)), (), "corpus are [1, 2], [1, 2] and [3, 4]; give as many"),
            (2, np.ones(3), (), "corpus.npy holds float64 [3]; give numbers [rows, d]"),
            (
                0,
                np.array([[np.nan, 1.0]]),
                (),
                "1 of 1 rows of anchors hold numbers that are not finite (NaN or infinite): 0. Leave",
            ),
            (1, np.ones((4, 2)), (), "are [1, 2], [4, 2] and"),
            (0, np.array([["a", "b"]]), (), "anchors.npy holds <U1 [1, 2]; give numbers"),
            (0, None, ("--rule", "RankBund"), "Did you mean RankBand"),
            (0, None, ("--rule", "LearnedThreshold"), "learns a state per image while training"),
            (0, None, ("--rule", "OracleNegatives"), "reads classes"),
            (0, None, ("--negatives.drop-closest", "2"), "drop_closest"),
        ],
    )
    def test_refuses(
        self, which: int, array: Any, flags: tuple[str, ...], message: str, files: list[str], tmp_path: Path
    ) -> None:
        if array is not None:
            np.save(files[which], array)
        refused(call("mine", *files, str(tmp_path / "pairs.csv"), *flags), message)
        assert not (tmp_path / "pairs.csv").exists()

    def test_refuses_files_that_are_not_there_and_endings_that_are_not_known(
        self, files: list[str], tmp_path: Path
    ) -> None:
        refused(call("mine", *files, "pairs.xls"), "pairs.xls ends in '.xls'; name a .csv file for the table")
        refused(call("mine", "none.npy", *files[1:], "pairs.csv"), "none.npy is not a file; check the path")
        np.savez(tmp_path / "two.npz", a=fan(0), b=fan(1))
        two = [str(tmp_path / "two.npz"), *files[1:], "pairs.csv"]
        refused(call("mine", *two), "Several could be the embeddings: name one", f"{two[0]}:NAME")
        refused(call("mine", f"{two[0]}:c", *two[1:]), "Unknown array or column of two.npz 'c'")
        refused(call("mine", f"{files[0]}:c", *two[1:]), "embeddings can be read from .npy, .npz, .parquet")

    def test_columns_of_a_table_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        table, file = pd.DataFrame({"x": [1.0, 0.0], "y": [0.0, 1.0], "age": [30.5, 40.5]}), tmp_path / "a.parquet"
        file.touch()
        monkeypatch.setattr(pd, "read_parquet", lambda *_, **__: table)
        told = call("mine", *[str(file)] * 3, str(tmp_path / "pairs.csv"))
        refused(told, "name one", "a column for each number", f"{file}:NAME,NAME,…")
        assert np.array_equal(flags._embeddings(f"{file}:y,x"), [[0, 1], [1, 0]])

    def test_takes_all_three_from_one_archive_by_name(self, files: list[str], tmp_path: Path) -> None:
        anchors, positives, corpus = map(np.load, files)
        archive, out = tmp_path / "all:of it.npz", tmp_path / "pairs.csv"
        np.savez(archive, z=anchors, **{"their/positive:s": positives}, corpus=corpus)
        names = ("z", "their/positive:s", "corpus")
        outcome = call("mine", *(f"{archive}:{name}" for name in names), str(out), "--count", "5")
        assert outcome.status == 0, outcome.err
        apart = tmp_path / "apart.csv"
        assert call("mine", *files, str(apart), "--count", "5").status == 0
        assert out.read_text(encoding="utf-8") == apart.read_text(encoding="utf-8")

    def test_its_help_has_no_warm_up_of_what_mines_nothing(self) -> None:
        told = call("mine", "--help").out
        assert "--negatives.drop-closest" in told and "--positives" not in told
        assert "--positives.start" in call("mine", "--positive-rule", "NearestKeys", "--help").out


def fan(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # of any length
