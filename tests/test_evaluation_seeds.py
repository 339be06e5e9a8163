"""Runs of several seeds put together: figures by hand, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cltools.config import Experiment
from cltools.evaluation import check_seeds, figures, over_seeds, spread

A, B = Path("a"), Path("b")
BASE = Experiment()


def test_the_deviation_is_that_of_a_sample() -> None:
    values = [71.5, 70.0, 73.25]
    assert spread(values, 2) == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    assert (spread([1.25, 2.25]), spread([2.0], layout="+"), spread([2.0], 2, layout="6")) == (
        "1.8 ± 0.7", "+2.0", "  2.00",
    )  # fmt: skip


def test_only_what_all_runs_have_is_put_together() -> None:
    reports = [{"split": "val", "knn10": 50.0, "probe": 60.0}, {"split": "val", "knn10": 52.0, "uniformity": -1.0}]
    assert over_seeds(reports).splitlines() == [
        "mean ± deviation over 2 seeds, percent of the val images",
        "knn10        51.00 ± 1.41",
    ]
    assert figures(reports[0]) == "knn10 50.00, probe 60.00"


def test_seeds_of_one_experiment_go_together_wherever_they_were_trained() -> None:
    elsewhere = replace(
        BASE,
        seed=1,
        data=replace(BASE.data, root="elsewhere", download=False),
        training=replace(BASE.training, device="cuda", checkpoint_every=7),
    )
    check_seeds({A: (BASE, 30, {}), B: (elsewhere, 30, {})})


@pytest.mark.parametrize(
    ("other", "epochs", "message"),
    [
        (replace(BASE, seed=1, data=replace(BASE.data, limit=5)), 30, "a and b differ .*: data.limit: None → 5"),
        (replace(BASE, seed=1, training=replace(BASE.training, batch=64)), 30, "training.batch: 256 → 64. Evaluate"),
        (replace(BASE, seed=1), 29, "epochs done: 30 → 29"),
        (BASE, 30, "a and b have the same seed, 0"),
    ],
)
def test_other_runs_are_refused_by_what_differs(other: Experiment, epochs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_seeds({A: (BASE, 30, {}), B: (other, epochs, {})})


def test_parts_given_as_objects_are_told_apart() -> None:
    with pytest.raises(ValueError, match="parts given as objects"):
        check_seeds({A: (BASE, 30, {}), B: (replace(BASE, seed=1), 30, {"optimizer": "torch.optim.AdamW"})})
