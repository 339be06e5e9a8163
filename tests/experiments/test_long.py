"""That longer runs go on from their checkpoints and keep embeddings without pictures."""

import json
from pathlib import Path

import pytest

from cltools.errors import CltoolsError
from cltools.snapshot import Recorder, load_snapshot
from experiments import long
from tests.experiments.test_images import CIFAR10, folder


@pytest.mark.slow
def test_a_longer_run_goes_on_and_its_snapshot_has_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "images" / "cifar10", CIFAR10, 30, 3)
    given = {"epochs": 2, "count": 300, "recorded": (1, 2)}
    whole = json.loads(long.run_long(tmp_path / "whole", root, **given).read_text(encoding="utf-8"))  # type: ignore[arg-type]
    assert [row["arm"] for row in whole["rows"]] == ["moco", "mined"]
    assert whole["rows"][1]["curves"]["mined_purity"][-1] is not None
    recorded = Recorder.record

    def interrupted(self: Recorder, run: object, epoch: int) -> None:
        if epoch == 2:  # after its checkpoint, and before its embeddings are kept
            raise KeyboardInterrupt
        recorded(self, run, epoch)  # type: ignore[arg-type]

    monkeypatch.setattr(Recorder, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        long.run_long(tmp_path / "cut", root, **given)  # type: ignore[arg-type]
    monkeypatch.setattr(Recorder, "record", recorded)
    again = json.loads(long.run_long(tmp_path / "cut", root, **given).read_text(encoding="utf-8"))  # type: ignore[arg-type]
    assert again["rows"] == whole["rows"]
    for name in ("moco", "mined"):
        one, two = (load_snapshot(tmp_path / how / f"cifar10-{name}.npz") for how in ("whole", "cut"))
        assert one.epochs == two.epochs == (1, 2) and not one.sprite and len(one) == 300
        assert (one.anchors == two.anchors).all()
    with pytest.raises(CltoolsError, match="other settings: images"):
        long.run_long(tmp_path / "cut", root, **given | {"count": 290})  # type: ignore[arg-type]
