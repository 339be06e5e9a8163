"""What is trained follows from what the machine has, and no two settings share a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import datasets

from cltools import NearestKeys, RandomNegatives, RankBand, fit, laptop, load_images, preset
from cltools.config import to_plain
from cltools.training.record import RunRecord, Stretch
from course import choose, results
from course.setting import RECIPE, SHORT, SHORTENED, STORED, how_long, is_here, with_rules


@pytest.fixture
def empty(tmp_path: Path) -> str:
    return str(tmp_path / "data")


@pytest.fixture
def with_cifar(tmp_path: Path) -> str:
    for split in ("train", "test"):
        (tmp_path / "with" / "cifar10" / split).mkdir(parents=True)
    return str(tmp_path / "with")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a fast one")


@pytest.fixture(autouse=True)
def no_gpu_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("paths", "there"),
    [
        ([], False),
        (["cifar10/train/"], False),
        (["cifar10/train/", "cifar10/test/"], True),
        (["cifar-10-batches-py/"], True),
        (["cifar-10-python.tar.gz"], True),
    ],
)
def test_a_set_is_here_as_a_tree_unpacked_or_packed(paths: list[str], there: bool, tmp_path: Path) -> None:
    for path in paths:
        (tmp_path / path).mkdir(parents=True) if path.endswith("/") else (tmp_path / path).touch()
    assert is_here("cifar10", str(tmp_path)) is there and not is_here("tinyimagenet", str(tmp_path))
    for name, kind in {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}.items():
        assert STORED[name][1:] == ((kind.base_folder,), (kind.filename,)), "the names that loading looks for"


def test_a_bare_machine_trains_a_short_run_on_shapes(empty: str) -> None:
    chosen = choose(root=empty)
    base = preset("shapes-potential")
    assert chosen.experiment.training == replace(base.training, epochs=SHORT["shapes"], checkpoint_every=1)
    assert (chosen.experiment.negatives, chosen.experiment.views) == (base.negatives, base.views)
    assert not chosen.experiment.data.download and chosen.linear_epochs == SHORTENED
    assert chosen.recipes.linear.epochs == SHORTENED and chosen.recipes.linear.views.flip == base.views.flip
    for words in ("**GPU:** none", "`digits`, `shapes`.", "a short run on `shapes`", "not measured"):
        assert words in repr(chosen)


def test_cifar_on_a_processor_is_the_laptop_setting(with_cifar: str) -> None:
    chosen = choose(root=with_cifar)
    expected = laptop(preset("cifar10-potential"))
    assert replace(chosen.experiment, data=expected.data) == expected
    assert "the `laptop` setting on `cifar10`" in chosen.words and "10,000 of the images" in chosen.words


@pytest.mark.usefixtures("gpu")
def test_cifar_on_a_gpu_is_the_whole_preset(with_cifar: str, empty: str) -> None:
    chosen = choose(root=with_cifar)
    expected = preset("cifar10-potential")
    assert replace(chosen.experiment, data=replace(chosen.experiment.data, root=None, download=True)) == expected
    assert chosen.linear_epochs == RECIPE and chosen.device == "cuda" and "a fast one" in chosen.words
    without = choose(root=empty)
    assert without.images == "shapes" and "set `DOWNLOAD = True`" in without.words
    fetched = choose(root=empty, download=True)
    assert fetched.images == "cifar10" and "DOWNLOAD" not in fetched.words and fetched.experiment.data.download
    assert "the whole preset on `cifar10`: 200 epochs" in fetched.words


def test_what_is_asked_for_is_trained_or_refused(empty: str) -> None:
    chosen = choose("digits", "moco", seed=3, root=empty)
    assert (chosen.images, chosen.experiment.seed) == ("digits", 3)
    assert "A full run**, of 30 epochs, took" in chosen.words  # there are records of it
    with pytest.raises(FileNotFoundError, match="DOWNLOAD = True"):
        choose("cifar100", root=empty)
    with pytest.raises(ValueError, match="shapes"):
        choose("shape", root=empty)
    with pytest.raises(ValueError, match="mocco"):
        choose("shapes", "mocco", root=empty)


def test_the_images_of_each_set_are_found_unread(tmp_path: Path) -> None:
    names = ("cifar10", "cifar100", "tinyimagenet")
    assert not any(is_here(name, str(tmp_path)) for name in names)
    (tmp_path / "cifar-10-python.tar.gz").touch()
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "tiny-imagenet-200.zip").touch()
    assert all(is_here(name, str(tmp_path)) for name in names)


def test_rules_of_an_explorer_take_the_place_of_the_presets() -> None:
    base, positives, band = preset("shapes-moco"), NearestKeys(k=7), RankBand(0.1, 0.4)
    assert with_rules(base, None) == base
    assert with_rules(base, (positives, band)) == replace(base, positives=positives, negatives=band)
    assert with_rules(base, band) == replace(base, negatives=band)
    assert with_rules(base, positives) == replace(base, positives=positives)
    with pytest.raises(ValueError, match=r"explorer\.rules"):
        with_rules(base, "RankBand")


def test_no_two_settings_share_a_folder_and_the_same_returns_to_its_own(empty: str) -> None:
    def folder(**more: Any) -> Path:
        return choose("shapes", root=empty, out="out", **more).folder

    many = [folder(), folder(seed=1), folder(method="moco"), folder(rule=RankBand(0.1, 0.4))]
    many.append(folder(rule=RankBand(0.1, 0.3)))
    assert len({*many}) == len(many) and folder() == many[0] and many[0].parent == Path("out")
    assert choose("shapes", root="elsewhere", out="out", download=True).folder == many[0]  # these decide no result


def test_the_folder_of_a_run_is_taken_as_it_is(tmp_path: Path, empty: str) -> None:
    base = preset("digits-moco")
    experiment = replace(base, training=replace(base.training, epochs=1, batch=64, queue_size=64), seed=5)
    fit(experiment, images=load_images("digits", limit=64), out=tmp_path / "mine")
    chosen = choose("shapes", "potential", root=empty, out=tmp_path / "mine")
    assert (chosen.experiment, chosen.folder) == (experiment, tmp_path / "mine")
    assert "holds one" in chosen.words and "1 epoch," in chosen.words
    elsewhere = replace(experiment, data=replace(experiment.data, name="cifar10", root=empty))
    (tmp_path / "mine" / "config.json").write_text(elsewhere.to_json(), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="DOWNLOAD = True"):  # its own settings would download without asking
        choose(out=tmp_path / "mine")


def test_what_is_loaded_is_what_the_run_trains_on_and_is_judged_by(empty: str) -> None:
    chosen = choose("digits", root=empty)
    experiment = replace(chosen.experiment, data=replace(chosen.experiment.data, limit=100))
    experiment = replace(experiment, evaluation=replace(experiment.evaluation, test_limit=50))
    small = replace(chosen, experiment=experiment)
    assert len(chosen.load("train")) == 1297 and len(chosen.load("test")) == 500
    assert len(small.load("train")) == 100 and small.load("test").ids.equal(
        load_images("digits", "test").subset(50, seed=0).ids
    )


def recorded(name: str, seconds: float, epochs: int = 30) -> RunRecord:
    """A record of a run of another seed."""
    experiment, abacus = to_plain(replace(preset(name), seed=9)), Stretch(hardware={"device": "abacus"})
    return RunRecord(experiment, "tiny", None, (abacus,), epochs, 0, seconds, None, None, (), {})


def test_how_long_is_said_by_records_of_the_same_settings_alone() -> None:
    found = [recorded("digits-moco", 60), recorded("digits-moco", 150), recorded("digits-moco", 900, epochs=29)]
    found += [recorded("digits-potential", 900), recorded("shapes-moco", 900)]
    of = {Path(str(place)): each for place, each in enumerate(found)}
    said = how_long(preset("digits-moco"), of)
    assert said == "**A full run**, of 30 epochs, took 1.0 to 2.5 minutes on abacus, by the records."
    assert "not measured" in how_long(with_rules(preset("digits-moco"), RandomNegatives(share=0.5)), of)
    assert "took" in how_long(preset("digits-moco")) and results.recorded_runs("digits")
    strange = replace(found[0], experiment={**found[0].experiment, "negatives": {"rule": "MyOwn"}})
    assert "not measured" in how_long(preset("digits-moco"), {Path("strange"): strange})
