"""SIGKILL at steps, within the writing of checkpoints, at any moment: what is resumed ends as if never stopped."""

import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from killed import CASES, EPOCHS, STEPS
from test_training_checkpoint import assert_equal_runs, made, training

from cltools.training import Run, fit

HERE = Path(__file__).parent
POINTS = ("before", "half", "unmoved", "moved", "weights")
draw = random.Random(0)


def step_kill() -> str:
    """Within an epoch, after the process has saved its first or second."""
    return f"step:{draw.randint(STEPS + 1, 3 * STEPS)}"


KILLS = {
    "potential": [step_kill(), "half:2", step_kill(), "before:2", step_kill(), "moved:1", step_kill()],
    "simclr": ["unmoved:2", step_kill(), "weights:2", step_kill(), "half:2", step_kill(), "moved:2"],
    "random": [step_kill(), "before:2", step_kill(), "unmoved:2", "weights:2", step_kill()],
    "moments": [f"moment:{draw.randint(0, 120)}" for _ in range(6)],
}


def test_every_point_is_met() -> None:
    kills = [kill for each in KILLS.values() for kill in each]
    assert len(kills) == 26 and {kill.partition(":")[0] for kill in kills} == {"step", *POINTS, "moment"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case == "potential" else pytest.mark.nightly) for case in CASES]
)
def test_a_run_that_is_killed_and_resumed_equals_one_that_is_not(case: str, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path / "killed"), case, *KILLS[case]]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    torch.set_num_threads(1)
    whole = fit(training(CASES[case], epochs=EPOCHS), images=made(), out=tmp_path / "whole")
    assert_equal_runs(whole, Run.load(tmp_path / "killed" / "run"))
    assert not list((tmp_path / "killed" / "run").glob("*.part"))
    lives = [
        [int(step) for step in line.split()]
        for line in (tmp_path / "killed" / "steps.txt").read_text(encoding="utf-8").split("\n")
    ]
    lives = [steps for steps in lives if steps]
    assert len(lives) == len(KILLS[case]) + 1 and lives[0][0] == 0 and lives[-1][-1] == EPOCHS * STEPS - 1
    for before, after in pairwise(lives):
        assert before == list(range(before[0], before[-1] + 1))
        assert after[0] % STEPS == 0 and after[0] > before[0], "a checkpoint was written between two kills"
        assert before[-1] + 1 - after[0] <= STEPS, "more than the steps since the last checkpoint were done again"


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.nightly)])
def test_a_command_that_is_killed_loses_nothing_and_the_next_start_leaves_nothing(kills: int, tmp_path: Path) -> None:
    """Each of five commands, so many times: what there was is still there, and no part when it has ended."""
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path / "killed"), "commands", str(kills), str(kills)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["train", "evaluate", "compare", "snapshot", "download"]


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, pytest.param(20, marks=pytest.mark.nightly)])
def test_of_trainings_started_together_into_one_folder_one_wins(groups: int, tmp_path: Path) -> None:
    """The others are told by whom, and nothing of theirs is in the folder."""
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path / "together"), "together", "0", str(groups)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.split()) == groups and sum(map(int, done.stdout.split())) > groups
