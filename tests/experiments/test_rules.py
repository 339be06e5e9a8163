"""The six rules, their controls, and the choice of a try."""

from pathlib import Path

import pytest
import torch

from cltools.config import Experiment
from cltools.errors import CltoolsError
from cltools.mining import Similarities, select, similarities
from cltools.provenance import write_record
from experiments.rules import CONTROL, LATER, best_try, rules, tries, tuning

ARMS = rules("cifar10", 10)
RULES = [name for name in ARMS if name != "moco" and not name.startswith(CONTROL)]


def drawn() -> Similarities:
    made = torch.Generator().manual_seed(0)
    z, positive, n = (
        torch.nn.functional.normalize(torch.randn(count, 16, generator=made), dim=1) for count in (20, 20, 500)
    )
    return similarities(z, positive, n, torch.zeros(20, 500, dtype=torch.bool))


def selected(arm: Experiment) -> tuple[float, float]:
    """Return the mean number of negatives kept, and the mean weight of mined positives."""
    chosen = select(drawn(), arm.positives.at(0.0), arm.negatives.at(0.0), generator=torch.Generator().manual_seed(1))
    kept = float((chosen.negative_weight > 0).sum(1).float().mean())
    return kept, float(chosen.positive_weight[:, 1:].sum(1).mean())


@pytest.mark.parametrize("name", ["potential", "mined", "mined-middle", "band"])
def test_a_control_keeps_as_many_keys_and_gives_mined_keys_as_much_weight(name: str) -> None:
    one, two = selected(ARMS[name]), selected(ARMS[f"{CONTROL}{name}"])
    assert one[0] == pytest.approx(two[0], abs=3)  # mined keys are no negatives, and may lie outside of the band
    assert one[1] == pytest.approx(two[1]) and one != selected(ARMS["moco"])


def test_every_rule_that_drops_or_mines_has_a_control_and_acts_from_the_first_step() -> None:
    assert len(RULES) == 6 and {name for name in RULES if f"{CONTROL}{name}" not in ARMS} == {"hcl"}
    assert ARMS["learned-threshold"].negatives.at(0.0) == ARMS["learned-threshold"].negatives


def test_every_arm_has_the_same_six_tries_and_the_best_one_is_taken() -> None:
    setting = tuning("cifar10")
    assert len(setting.arms) == 6 * len(ARMS) and all(len(tries(arm)) == 6 for arm in ARMS.values())
    rows = [{"arm": name, "knn200": 40.0 + index % 6 * (-1) ** index} for index, name in enumerate(setting.arms)]
    record = {"arms": dict.fromkeys(setting.arms), "rows": rows}
    assert best_try(record, "mined") == "τ 0.4, rate 0.06"  # the fifth
    rows[12] = {"arm": rows[12]["arm"], "diverged": "yes"}
    assert best_try(record, "mined") == "τ 0.4, rate 0.06"
    with pytest.raises(CltoolsError, match=r"not tuned yet: mined, τ 0\.4, rate 0\.12"):
        best_try(record | {"rows": rows[:17]}, "mined")


def test_rules_are_judged_at_their_best_tries_with_other_seeds(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LATER["rules"](tmp_path)
    names = [*tuning("cifar10").arms]
    rows = [{"arm": name, "knn200": 50.0 if "τ 0.1, rate 0.12" in name else 40.0} for name in names]
    write_record(tmp_path / "tuning-cifar10.json", {"kind": "comparison", "arms": dict.fromkeys(names), "rows": rows})
    (setting,) = LATER["rules"](tmp_path)
    every = [setting.baseline, *setting.arms.values()]
    assert {(each.loss.temperature, each.training.learning_rate) for each in every} == {(0.1, 0.12)}
    assert [*setting.arms] == [*ARMS][1:] and not {*setting.seeds} & {*tuning("cifar10").seeds}
