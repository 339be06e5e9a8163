"""That longer runs go on from their checkpoints and keep embeddings without pictures."""

import json
from pathlib import Path

import pytest

from cltools.snapshot import load_snapshot
from experiments import long
from tests.experiments.test_images import CIFAR10, folder


@pytest.mark.slow
def test_a_longer_run_goes_on_and_its_snapshot_has_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "images" / "cifar10", CIFAR10, 30, 3)
    given = {"epochs": 2, "count": 300, "recorded": (1, 2)}
    whole = json.loads(long.run_long(tmp_path / "whole", root, **given).read_text(encoding="utf-8"))  # type: ignore[arg-type]
    assert [row["arm"] for row in whole["rows"]] == ["moco", "mined"]
    assert whole["rows"][1]["curves"]["mined_purity"][-1] is not None
    recorded = long.Recorder.record

    def interrupted(self: long.Recorder, run: object, epoch: int) -> None:
        recorded(self, run, epoch)  # type: ignore[arg-type]
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(long.Recorder, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        long.run_long(tmp_path / "cut", root, **given)  # type: ignore[arg-type]
    monkeypatch.setattr(long.Recorder, "record", recorded)
    again = json.loads(long.run_long(tmp_path / "cut", root, **given).read_text(encoding="utf-8"))  # type: ignore[arg-type]
    assert again["rows"] == whole["rows"]
    one, two = (load_snapshot(tmp_path / how / "cifar10-mined.npz") for how in ("whole", "cut"))
    assert one.epochs == two.epochs == (1, 2) and not one.sprite and len(one) == 300
    assert (one.anchors == two.anchors).all()
