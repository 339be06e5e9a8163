"""Settings in every usual form: what NumPy, torch and paths give becomes Python's own, or is refused in words."""

import copy
import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from cltools import (
    AllNegatives,
    ContrastiveLoss,
    CosineBand,
    Experiment,
    LossSettings,
    MarginBand,
    NearestKeys,
    RandomNegatives,
    RankBand,
    ViewSettings,
    info_nce,
    info_nce_gradients,
    select,
    similarities,
)
from cltools.config import EvaluationSettings, TrainingSettings
from cltools.datasets import DataSettings
from cltools.encoders import EncoderSettings
from cltools.errors import Settings
from cltools.evaluation import FinetuneRecipe, LinearRecipe
from cltools.interop import as_metric_learning_miner, mine_pairs
from cltools.losses import negative_mass
from cltools.mining import EveryKey, NegativeRule, PositiveRule
from cltools.mining.rules import Estimate, check_temperature, rule_classes

pytestmark = pytest.mark.usefixtures("unchecked")


def made() -> list[Any]:
    return [
        RankBand(
            drop_closest=np.float32(0.05), keep_within=np.float64(0.5), by=np.str_("anchor"), rescale=np.bool_(True)
        ),
        NearestKeys(k=np.int64(3), skip=np.uint8(1), min_cosine=np.float16(0.5), temperature=torch.tensor(0.25)),
        CosineBand(above=np.array(0.25), above_from=np.float32(0.5)),
        MarginBand(margin=np.float32(0.25)),
        RandomNegatives(share=np.float32(0.5)),
        LossSettings(temperature=np.float64(0.2), form=np.str_("in")),
        ViewSettings(crop_scale=np.array([0.25, 1.0]), crop_ratio=[np.float32(0.75), 1.25], flip=np.float32(0.5)),  # type: ignore[arg-type]
        EncoderSettings(hidden=np.int32(64), max_pool=np.bool_(False)),
        TrainingSettings(epochs=np.int64(3), learning_rate=np.float32(0.125), chunk=np.int16(8)),
        EvaluationSettings(every=np.int64(2), probe_l2=np.float64(0.125)),
        DataSettings(root=Path("somewhere"), limit=np.int64(5)),  # type: ignore[arg-type]
        LinearRecipe(epochs=np.int64(3), milestones=[np.float32(0.5)]),  # type: ignore[arg-type]
        FinetuneRecipe(share=np.float32(0.5)),
        Estimate(beta=np.float32(0.5)),
        Experiment(seed=np.int64(3)),
    ]


def values(settings: Any) -> list[Any]:
    found = [getattr(settings, field.name) for field in fields(settings)]
    return [value for each in found for value in (each if isinstance(each, tuple) else (each,))]


def test_numbers_of_numpy_and_torch_become_pythons_own() -> None:
    plain = (bool, int, float, str, type(None), Settings)
    for settings in made():
        assert all(isinstance(value, plain) and type(value).__module__ != "numpy" for value in values(settings))
        for copied in (copy.deepcopy(settings), pickle.loads(pickle.dumps(settings)), replace(settings)):
            assert copied == settings and hash(copied) == hash(settings) and repr(copied) == repr(settings)


def test_an_experiment_of_them_comes_back_from_json() -> None:
    parts = {type(each): each for each in made()}
    experiment = Experiment(
        data=parts[DataSettings], views=parts[ViewSettings], encoder=replace(parts[EncoderSettings], bn_group=None),
        positives=parts[NearestKeys], negatives=parts[RankBand], loss=parts[LossSettings],
        training=parts[TrainingSettings], evaluation=parts[EvaluationSettings], seed=np.int64(3),
    )  # fmt: skip
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment and again.to_json() == experiment.to_json() and type(again.seed) is int


def test_a_rule_of_ones_own_gets_them_too() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Own(AllNegatives):
        shares: tuple[float, ...] = (0.5,)
        way: Literal["up", "down"] = "up"

    own = Own(shares=np.array([0.25, 0.5]), way=np.str_("down"))  # type: ignore[arg-type]
    assert own.shares == (0.25, 0.5) and type(own.way) is str
    with pytest.raises(ValueError, match="Unknown Own way 'sideways'"):
        Own(way="sideways")  # type: ignore[arg-type]


TEMPERATURES = (
    0,
    0.0,
    -1,
    1e-300,
    1e-9,
    float("nan"),
    float("inf"),
    "0.1",
    None,
    True,
    [0.1],
    nn.Parameter(torch.tensor(0.2)),
    1j,
)
z = torch.nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
compared = similarities(z, z, z, torch.eye(4, dtype=torch.bool))
one, many = torch.ones(4, 1), torch.ones(4, 3)
DOORS: dict[str, Any] = {
    "LossSettings": lambda t: LossSettings(temperature=t),
    "ContrastiveLoss": lambda t: ContrastiveLoss(temperature=t),
    "NearestKeys": lambda t: NearestKeys(temperature=t),
    "EveryKey": lambda t: EveryKey(temperature=t),
    "info_nce": lambda t: info_nce(one, many, temperature=t),
    "info_nce_gradients": lambda t: info_nce_gradients(one, many, temperature=t),
    "negative_mass": lambda t: negative_mass(one, many, temperature=t),
    "select": lambda t: select(compared, NearestKeys(k=2), AllNegatives(), temperature=t),
    "as_metric_learning_miner": lambda t: as_metric_learning_miner(NearestKeys(), AllNegatives(), temperature=t),
    "mine_pairs": lambda t: mine_pairs(z, z, z, temperature=t, negatives=1),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("temperature", TEMPERATURES, ids=str)
def test_a_temperature_without_meaning_is_refused_everywhere(door: str, temperature: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)emperature is .*; it must be above 0, a number from 1e-6 to 1e6"):
        DOORS[door](temperature)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("temperature", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), np.array(0.5), 1e-6, 1])
def test_a_temperature_of_any_kind_is_taken_everywhere(door: str, temperature: Any) -> None:
    DOORS[door](temperature)


def test_a_temperature_that_learns_says_why_not() -> None:
    learned = nn.Parameter(torch.tensor(0.2))
    with pytest.raises(ValueError, match=r"It gets no gradient; .*give float\(temperature\)"):
        ContrastiveLoss(temperature=learned)  # type: ignore[arg-type]
    assert check_temperature(learned.detach()) == pytest.approx(0.2)


WRONG: list[tuple[Any, str]] = [
    (lambda: RankBand(drop_closest="0.1"), "drop_closest is '0.1'; it must be a number"),
    (lambda: RankBand(drop_closest_from="a"), "drop_closest_from is 'a'"),
    (lambda: CosineBand(above=[0.1]), r"above is \(0.1,\); it must be between -1 and 1"),
    (lambda: RankBand(by=3), "Unknown RankBand by '3'"),
    (lambda: ViewSettings(flip="a"), "flip is 'a'; it must be a number between 0 and 1"),
    (lambda: ViewSettings(crop_scale=0.5), "crop_scale is 0.5; it must be two ascending shares"),
    (lambda: ViewSettings(crop_scale=(0.5, 0.7, 0.9)), "it must be two ascending"),
    (lambda: ViewSettings(blur_sigma=(0.1, float("inf"))), "two ascending numbers above 0"),
    (lambda: TrainingSettings(epochs=2.5), "epochs is 2.5; it must be a whole number of at least 1"),
    (lambda: TrainingSettings(epochs="3"), "epochs is '3'; it must be a whole number of at least 1"),
    (lambda: TrainingSettings(learning_rate=True), "learning_rate is True"),
    (lambda: EvaluationSettings(test_limit=1.5), "test_limit is 1.5; .* a whole number of at least 1, or None"),
    (lambda: Experiment(seed=0.5), "seed is 0.5; it must be a whole number"),
    (lambda: Experiment(seed="3"), "seed is '3'"),
    (lambda: FinetuneRecipe(share="all"), "share is 'all'"),
    (lambda: FinetuneRecipe(learning_rate=float("nan")), "learning_rate is nan"),
    (lambda: FinetuneRecipe(least_steps=2.5), "least_steps is 2.5; it must be a whole number from 0"),
    (lambda: FinetuneRecipe(seed="3"), "seed is '3'"),
    (lambda: LinearRecipe(seed=0.5), "seed is 0.5; it must be a whole number"),
    (lambda: LinearRecipe(milestones=("half",)), "milestones is"),
    (lambda: LinearRecipe(learning_rate=float("nan")), "learning_rate is nan"),
    (lambda: RandomNegatives(share="0.5"), "share is '0.5'; it must be above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "message"), WRONG)
def test_settings_of_another_kind_are_refused_in_words(asked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked()


def test_every_rule_refuses_text_where_numbers_are() -> None:
    tried = 0
    for rule in (*rule_classes(NegativeRule).values(), *rule_classes(PositiveRule).values()):
        for field in fields(rule) if rule.__module__.startswith("cltools.") else ():
            if "float" in str(field.type) or "int" in str(field.type):
                tried += 1
                with pytest.raises(ValueError, match=field.name):
                    rule(**{field.name: "much"})
    assert tried > 60
