"""Runs evaluated from the command line; `tests/test_cli.py` runs the command itself."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image
from test_training import MINING, asked, made

from cltools import cli, fit
from cltools.config import OutsideSettings
from cltools.evaluation import PROTOCOLS
from cltools.reports.evaluating import loaded


def test_every_choice_of_the_flag_has_its_protocols() -> None:
    choices = {each: cli.PROTOCOLS.get(each, (each,)) for each in get_args(cli.Protocol)}
    assert choices.keys() >= {*PROTOCOLS, *cli.PROTOCOLS} and choices.pop("default") is None
    assert all({*(found or ())} <= {*PROTOCOLS} for found in choices.values()) and choices["all"] == PROTOCOLS
    assert choices["knn10"] == ("knn10",) and choices["knn"] == ("knn200", "knn10")


@pytest.mark.parametrize("named", [True, False])
def test_a_run_on_images_of_ones_own_is_judged_on_the_folder_that_is_given(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "images_of_mine.py").write_text("from test_training import made\n", encoding="utf-8")
    experiment = asked(MINING, epochs=1)
    if named:
        fit(replace(experiment, outside=OutsideSettings(images="images_of_mine:made")), out=tmp_path / "run")
    else:
        fit(experiment, images=made(), out=tmp_path / "run")
    for image in range(12):
        for split in ("train", "test"):
            folder = tmp_path / "images" / split / "ab"[image % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(made().images[image].permute(1, 2, 0).numpy()).save(folder / f"{image}.png")
    report = loaded(tmp_path / "run", tmp_path / "images").evaluate(protocols=["knn10"])
    assert report["train_images"] == report["test_images"] == 12
