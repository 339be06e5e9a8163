"""What `fit` takes from outside: images, backbone, views, optimizer, protocols and hooks, as objects or by a name."""

import csv
import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_checkpoint import (
    MOCO,
    POTENTIAL,
    SIMCLR,
    Dropping,
    assert_equal_runs,
    checkpoint,
    files,
    made,
    same,
    stopped,
    training,
)
from torch import Tensor, nn

from cltools.config import EvaluationSettings, Experiment, OutsideSettings, TrainingSettings
from cltools.errors import CltoolsError
from cltools.evaluation import uniformity
from cltools.evaluation.embed import embed
from cltools.losses import LossSettings
from cltools.mining import Band, NegativeRule, PositiveRule
from cltools.training import Run, StepInfo, Stopped, fit
from cltools.training.fit import learning_rate
from cltools.training.inputs import Parts
from cltools.views import ViewSettings, augment

SHORT = training(MOCO, epochs=2)


def plain_views(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """What the recipe does by itself."""
    return augment(images, ViewSettings(), generator=generator)


class Noisy(nn.Module):
    """Views with noise from torch's own generator, as of libraries that take no generator."""

    def forward(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        shown = images.float() / 255 * torch.rand(len(images), 1, 1, 1, generator=generator)
        return (shown + 0.1 * torch.rand(shown.shape)).clamp(0, 1)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """Two groups, each with a rate of its own."""
    parameters = list(parameters)
    groups = [{"params": parameters[:2], "lr": 0.003}, {"params": parameters[2:]}]
    return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)


def spread(run: Run) -> float:
    return float(uniformity(embed(run.encoder, made(32), projection=True)))


def own() -> dict[str, Any]:
    """Every part of one's own."""
    return {"backbone": Dropping(), "views": Noisy(), "optimizer": adamw, "protocols": {"spread": spread}}


def recorded(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return record


# --- views


@pytest.mark.parametrize("experiment", [SHORT, training(SIMCLR, epochs=1)], ids=["moco", "simclr"])
def test_own_views_that_do_what_the_recipe_does_train_the_same_run(experiment: Experiment) -> None:
    plain, mine = fit(experiment, images=made()), fit(experiment, images=made(), views=plain_views)
    assert_equal_runs(plain, mine)
    again = mine.diagnose(images=made(), n=20)
    assert repr(again) == repr(plain.diagnose(images=made(), n=20))


def test_views_are_asked_for_twice_a_step_with_the_batch_and_the_runs_draws() -> None:
    asked: list[tuple[Tensor, int]] = []

    def views(images: Tensor, *, generator: torch.Generator) -> Tensor:
        asked.append((images, generator.initial_seed()))
        return images[:, :, ::2]  # views may have another size, and whole numbers

    fit(training(MOCO, epochs=1), images=made(), views=views)
    assert len(asked) == 2 * 3 and {seed for _, seed in asked} == {1}
    for (first, _), (second, _) in zip(asked[::2], asked[1::2], strict=True):
        assert first.dtype == torch.uint8 and first.shape == (16, 3, 16, 16) and torch.equal(first, second)


@pytest.mark.parametrize(
    ("views", "error", "reason"),
    [
        (
            lambda images, generator: [images],
            ValueError,
            "returned a value that is of type list for .*; it must return one view",
        ),
        (
            lambda images, generator: images[:3],
            ValueError,
            r"returned \[3, 3, 16, 16\] for .*; it must return one view",
        ),
        (lambda images, generator: images[:, 0], ValueError, r"returned \[16, 16, 16\] for images"),
    ],
)
def test_views_that_are_none_are_refused(views: Any, error: type[Exception], reason: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=reason):
        fit(SHORT, images=made(), views=views, out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


# --- optimizer


def test_the_schedule_is_a_factor_of_each_groups_own_rate() -> None:
    optimizers: list[torch.optim.Optimizer] = []
    rates: list[list[float]] = []

    def made_here(parameters: Any) -> torch.optim.Optimizer:
        optimizers.append(adamw(parameters))
        return optimizers[-1]

    def look(info: StepInfo) -> None:
        rates.append([group["lr"] for group in optimizers[0].param_groups])

    experiment = training(MOCO, epochs=3, learning_rate=777.0, warmup_epochs=1.0)
    fit(experiment, images=made(), optimizer=made_here, on_step=look)
    one = TrainingSettings(epochs=3, warmup_epochs=1.0, learning_rate=1.0)
    factors = [learning_rate(one, step / 3) for step in range(9)]
    assert max(factors) == 1 and rates == [pytest.approx([0.003 * f, 0.01 * f], rel=1e-6) for f in factors]


def test_sgd_from_outside_learns_what_the_recipes_learns() -> None:
    settings = SHORT.training
    run = fit(
        SHORT,
        images=made(),
        optimizer=lambda parameters: torch.optim.SGD(
            parameters, lr=settings.learning_rate * 16 / 256, momentum=0.9, weight_decay=settings.weight_decay
        ),
    )
    plain = fit(SHORT, images=made())
    assert run.history.column("loss") == pytest.approx(plain.history.column("loss"), rel=1e-3)


@pytest.mark.parametrize(
    ("part", "given", "reason"),
    [
        ("images", torch.ones(4, 3, 8, 8), "images=: an ImageSet"),
        ("backbone", lambda x: x.mean((2, 3)), r"backbone=: a torch\.nn\.Module"),
        ("views", "augment", r"views=: a callable, views\(images, generator=…\), is expected"),
        ("optimizer", torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1), "a function of the encoder's parameters"),
        ("protocols", [spread], "protocols=: a mapping of names to functions"),
        ("protocols", {"spread": 3.0}, "protocols=: a mapping of names to functions"),
    ],
)
def test_a_part_of_another_kind_is_refused(part: str, given: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        Parts.of(SHORT, **{part: given})


def test_a_factory_that_makes_no_optimizer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a function that returns a torch\.optim\.Optimizer"):
        fit(SHORT, images=made(), optimizer=lambda parameters: None)  # type: ignore[arg-type, return-value]


# --- resuming


def test_a_run_with_parts_of_ones_own_resumes_exactly(tmp_path: Path) -> None:
    whole = fit(POTENTIAL, images=made(), out=tmp_path / "whole", **own())
    stopped(POTENTIAL, tmp_path / "cut", **own())
    assert_equal_runs(whole, fit(POTENTIAL, images=made(), out=tmp_path / "cut", resume=True, **own()))
    assert [math.isnan(value) for value in whole.history.column("spread")] == [True, False, True, False]


def test_adamw_stopped_within_an_epoch_resumes_exactly(tmp_path: Path) -> None:
    def ask(info: StepInfo) -> None:
        if info.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = fit(SHORT, images=made(), out=tmp_path / "whole", optimizer=adamw)
    with pytest.raises(Stopped):
        fit(SHORT, images=made(), out=tmp_path / "cut", optimizer=adamw, on_step=ask)
    state = checkpoint(tmp_path / "cut")
    assert state["step"] == 4 and state["optimizer"]["param_groups"][0]["initial_lr"] == 0.003
    assert_equal_runs(whole, fit(SHORT, images=made(), out=tmp_path / "cut", resume=True, optimizer=adamw))


def test_resuming_asks_again_for_what_was_given_and_refuses_what_was_not(tmp_path: Path) -> None:
    before = files(stopped(SHORT, tmp_path, epoch=1, **own()))
    for name in own():
        rest = {other: part for other, part in own().items() if other != name}
        with pytest.raises(ValueError, match=rf"other objects for {name}=, .*'{name}': .*These are .*\. Give the same"):
            fit(SHORT, images=made(), out=tmp_path, resume=True, **rest)
    with pytest.raises(
        ValueError, match=r"other objects for backbone=, images=, optimizer=, protocols=, views=, .* are {}"
    ):
        fit(SHORT, out=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"'protocols': 'spread'.*These are .*'protocols': 'other'"):
        fit(SHORT, images=made(), out=tmp_path, resume=True, **own() | {"protocols": {"other": spread}})
    with pytest.raises(ValueError, match=r"'optimizer': .*adamw.*These are .*'optimizer': .*SGD"):
        fit(SHORT, images=made(), out=tmp_path, resume=True, **own() | {"optimizer": torch.optim.SGD})
    assert files(tmp_path) == before
    stopped(SHORT, tmp_path / "plain", epoch=1)
    with pytest.raises(ValueError, match=r"These are .*'views': .*plain_views.*\. Give the same, or start a new run"):
        fit(SHORT, images=made(), out=tmp_path / "plain", resume=True, views=plain_views)


def test_a_loaded_run_asks_for_the_backbone_and_to_be_looked_at_for_the_views(tmp_path: Path) -> None:
    run = fit(training(SHORT, epochs=1), images=made(), out=tmp_path, **own())
    with pytest.raises(ValueError, match=r"trained with backbone=.*Dropping.*passed as an object, .*backbone=…"):
        Run.load(tmp_path)
    bare = Run.load(tmp_path, backbone=Dropping())
    assert same(bare.encoder.state_dict(), run.encoder.state_dict())
    with pytest.raises(ValueError, match=r"trained with views=.*Noisy.*passed as an object, .*views=…"):
        bare.diagnose(images=made())
    whole = Run.load(tmp_path, backbone=Dropping(), views=plain_views)
    assert whole.diagnose(images=made(), n=20).anchors == 20
    bare.save()
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"trained with backbone=.*passed as an object"):  # the record knows it too
        Run.load(tmp_path)


def test_the_record_says_what_was_given_as_an_object(tmp_path: Path) -> None:
    fit(training(SHORT, epochs=1), images=made(), out=tmp_path, **own())
    here = "test_training_outside"
    assert recorded(tmp_path)["given"] == {
        "images": "made",
        "backbone": "test_training_checkpoint.Dropping",
        "views": f"{here}.Noisy",
        "optimizer": f"{here}.adamw",
        "protocols": "spread",
    }


# --- by name

MODULE = """
import torch
from torch import nn
from test_training_checkpoint import made
from test_training_outside import Noisy, adamw, plain_views, spread

class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, x):
        return self.layer(x.mean((2, 3)))

def protocols():
    return {"spread": spread}

class holder:
    views = staticmethod(plain_views)

number = 3
"""


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module of one's own, which nothing has imported yet."""
    (tmp_path / "own_laboratory.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_laboratory"


def test_a_run_whose_parts_are_named_repeats_resumes_and_loads_from_its_config(laboratory: str, tmp_path: Path) -> None:
    outside = OutsideSettings(
        images=f"{laboratory}:made",
        backbone=f"{laboratory}:Backbone",
        views=f"{laboratory}:Noisy",
        optimizer="torch.optim:AdamW",
        protocols=f"{laboratory}:protocols",
    )
    experiment = replace(SHORT, outside=outside)
    assert Experiment.from_json(experiment.to_json()) == experiment
    torch.manual_seed(5)
    state = torch.get_rng_state()
    whole = fit(experiment, out=tmp_path / "whole")
    assert torch.equal(torch.get_rng_state(), state), "making the backbone draws nothing of the caller's"
    with pytest.raises(KeyboardInterrupt):
        fit(experiment, out=tmp_path / "cut", callbacks=[interrupting])
    assert_equal_runs(whole, fit(experiment, out=tmp_path / "cut", resume=True))
    record = recorded(tmp_path / "whole")
    assert record["given"] == {} and record["backbone"] == "Backbone" and record["images"]["name"] == "made"
    loaded = Run.load(tmp_path / "whole")
    assert same(loaded.encoder.state_dict(), whole.encoder.state_dict())
    found = []
    for run in (loaded, whole):
        torch.manual_seed(0)  # these views draw from torch's own generator too
        found.append(repr(run.diagnose(n=20)))
    assert found[0] == found[1]
    assert loaded.evaluate("val", ["knn10"])["test_images"] == 16
    with pytest.raises(ValueError, match="own images have no test split"):
        loaded.evaluate("test")
    assert type(whole.encoder.backbone.module).__name__ == "Backbone"


def interrupting(run: Run) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("part", "name", "error", "reason"),
    [
        ("views", "nowhere_at_all:views", ValueError, "finds no module 'nowhere_at_all'.*PYTHONPATH"),
        ("views", "own_laboratory:absent", ValueError, "own_laboratory has no 'absent'"),
        ("optimizer", "own_laboratory:number", ValueError, "is of type int and cannot be called"),
        ("backbone", "own_laboratory:protocols", TypeError, r"outside\.backbone: a torch\.nn\.Module"),
        ("images", "own_laboratory:protocols", TypeError, r"outside\.images: an ImageSet"),
        ("protocols", "own_laboratory:made", TypeError, r"outside\.protocols: a mapping of names"),
    ],
)
def test_a_name_under_which_nothing_fitting_is_found_is_refused(
    part: str, name: str, error: type[Exception], reason: str, laboratory: str
) -> None:
    with pytest.raises(error, match=reason):
        fit(replace(SHORT, outside=OutsideSettings(**{part: name})), images=None if part == "images" else made())


def test_names_reach_into_classes(laboratory: str) -> None:
    named = replace(SHORT, outside=OutsideSettings(views=f"{laboratory}:holder.views"))
    assert_equal_runs(fit(named, images=made()), fit(SHORT, images=made()))


@pytest.mark.parametrize("name", ["torch.optim.AdamW", "torch.optim:", ":AdamW", "os; x:y", "a:b:c", "1a:b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="write module:callable"):
        OutsideSettings(optimizer=name)


def test_a_part_is_named_or_given_and_not_both() -> None:
    experiment = replace(SHORT, outside=OutsideSettings(optimizer="torch.optim:AdamW"))
    with pytest.raises(ValueError, match=r"Both optimizer= and outside\.optimizer \(torch\.optim:AdamW\) are given"):
        fit(experiment, images=made(), optimizer=adamw)


# --- protocols


def test_protocols_are_columns_of_the_history_where_they_are_measured(tmp_path: Path) -> None:
    seen: list[int] = []

    def epochs(run: Run) -> Tensor:
        seen.append(len(run.history.rows))
        return torch.tensor(7.5)

    experiment = replace(training(MOCO, epochs=3), evaluation=EvaluationSettings(every=2))
    run = fit(experiment, images=made(), out=tmp_path, protocols={"spread": spread, "rows": epochs})
    assert seen == [1, 2], "the rows of the epochs before"
    assert run.history.column("rows")[1:] == [7.5, 7.5] and math.isnan(run.history.column("rows")[0])
    assert run.history.column("spread")[2] == spread(run)
    with (tmp_path / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]][-4:] == ["knn", "effective_rank", "spread", "rows"] and [row["rows"] for row in rows] == [
        "",
        "7.5",
        "7.5",
    ]
    assert same(run.encoder.state_dict(), fit(experiment, images=made()).encoder.state_dict())


def test_protocols_that_cannot_be_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="already has a column 'loss'"):
        fit(SHORT, images=made(), protocols={"loss": spread})
    with pytest.raises(CltoolsError, match=r"The protocol 'words' returned .* str; it must return one number"):
        fit(SHORT, images=made(), protocols={"words": lambda run: "good"})  # type: ignore[dict-item, return-value]


# --- hooks


@pytest.mark.parametrize(
    "experiment", [POTENTIAL, pytest.param(SIMCLR, marks=pytest.mark.slow)], ids=["potential", "simclr"]
)
def test_the_step_hook_sees_what_the_history_sums_up_and_changes_nothing(experiment: Experiment) -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []

    def look(info: StepInfo) -> None:
        assert not torch.is_grad_enabled() and not info.loss.requires_grad
        assert info.similarities.own.shape == info.selection.band.shape
        seen.append((info.step, info.loss, info.selection.band))
        torch.rand(3)

    run, plain = fit(experiment, images=made(), on_step=look), fit(experiment, images=made())
    assert_equal_runs(run, plain)
    assert [step for step, _, _ in seen] == list(range(1, 13))
    for epoch, row in enumerate(run.history.rows):
        steps = seen[3 * epoch : 3 * epoch + 3]
        assert row["loss"] == pytest.approx(float(torch.stack([loss for _, loss, _ in steps]).mean()), rel=1e-6)
        for code in Band:
            kept = sum(int((band == code).sum()) for _, _, band in steps) / sum(len(band) for _, _, band in steps)
            assert row[code.name.lower()] == pytest.approx(kept, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "parts", "reason"),
    [
        ({"chunk": 5}, {"on_step": print}, r"needs all anchors of a step at once; leave out training\.chunk=5"),
        ({"cuda_graph": True}, {"on_step": print}, r"excludes on_step="),
        ({"cuda_graph": True}, {"views": plain_views, "optimizer": adamw}, r"excludes views=, optimizer="),
    ],
)
def test_parts_that_would_not_be_asked_are_refused(settings: Any, parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit(training(SHORT, **settings), images=made(), **parts)


def test_a_limit_holds_for_images_of_ones_own_too() -> None:
    run = fit(replace(training(SHORT, batch=4), data=replace(SHORT.data, limit=20, holdout=0.0)), images=made())
    assert run.images is not None and run.images.count == 20
    assert run.diagnose(images=made(), n=10).anchors == 10


def test_images_of_ones_own_are_limited_aloud_and_not_resized(capsys: pytest.CaptureFixture[str]) -> None:
    fit(replace(training(SHORT, batch=4), data=replace(SHORT.data, limit=20, holdout=0.0)), images=made())
    told = capsys.readouterr()
    assert f"20 of {len(made()):,} images are used" in told.out + told.err
    with pytest.raises(ValueError, match=r"data\.size is 4"):
        fit(replace(SHORT, data=replace(SHORT.data, size=4)), images=made())


@pytest.mark.parametrize("part", [{"negatives": NegativeRule()}, {"positives": PositiveRule()}])
def test_a_rule_that_chooses_nothing_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"has no (judge|mine)\(self, s, context\)"):
        Experiment(**part)


# --- settings that nothing would read


@dataclass(frozen=True)
class SolarizedViews(ViewSettings):
    solarize: float = 0.2


@dataclass(frozen=True)
class FocalLoss(LossSettings):
    gamma: float = 2.0


@dataclass(frozen=True)
class NamedViews(ViewSettings):
    """No field of its own."""


@pytest.mark.parametrize(
    ("part", "given", "reason"),
    [
        ("views", SolarizedViews(), r"SolarizedViews, but only fields of ViewSettings are read\. .*views=…"),
        ("loss", FocalLoss(), r"FocalLoss, .* LossSettings are read\. .* your own training loop"),
    ],
)
def test_settings_of_which_a_part_would_be_ignored_are_refused(part: str, given: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(SHORT, **{part: given})
    assert replace(SHORT, views=NamedViews()).views == NamedViews()


@pytest.mark.parametrize(
    ("part", "given", "instead"), [("views", plain_views, "views=…"), ("data", made(), "images=…")]
)
def test_an_object_in_the_place_of_settings_is_refused(part: str, given: Any, instead: str) -> None:
    experiment = replace(SHORT)
    object.__setattr__(experiment, part, given)  # the types that tests check would refuse it before
    with pytest.raises(CltoolsError, match=rf"Experiment: {part} is of type .*{instead}"):
        experiment.__post_init__()


# --- what older versions wrote


@pytest.mark.parametrize("version", [2, 4])
def test_a_checkpoint_of_a_format_before_is_for_the_version_that_wrote_it(version: int, tmp_path: Path) -> None:
    path = stopped(SHORT, tmp_path, epoch=1) / "checkpoint.pt"
    torch.save(torch.load(path, weights_only=True) | {"version": version}, path)
    with pytest.raises(ValueError, match=rf"format {version}; this version reads format 5\. .* that wrote it"):
        fit(SHORT, images=made(), out=tmp_path, resume=True)
