"""Two processes with a share of every batch each: the same training as one, and what they refuse."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_checkpoint import MOCO, SIMCLR, assert_equal_runs, made, resealed, training
from torch import Tensor
from two_ranks import EXACT, STEPS, grouped, trajectory

from cltools.config import Experiment
from cltools.ranks import ALONE, Ranks, joined
from cltools.training import Run, fit
from cltools.training.inputs import Parts

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

HERE = Path(__file__).parent
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}


def together(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*TORCHRUN, *command], capture_output=True, encoding="utf-8", timeout=600, env=QUIET, cwd=cwd)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they saw."""
    folder = tmp_path_factory.mktemp("ranks")
    done = together(str(HERE / "two_ranks.py"), str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> tuple[Any, Any]:
    return tuple(torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))


# --- alone


def test_alone_nothing_is_exchanged() -> None:
    x = torch.arange(6.0, requires_grad=True)
    assert Ranks.current() == ALONE and ALONE.first and ALONE.alone
    for same in (ALONE.own(x), ALONE.gathered(x), ALONE.gathered_with_gradient(x), ALONE.total(x), ALONE.least(x)):
        assert same is x
    ALONE.average_([x])
    ALONE.check_agreed({"x": 1})
    assert ALONE.share(7) == slice(0, 7) and ALONE.from_first("x") == "x" and ALONE.any(True) and not ALONE.any(False)
    with joined() as ranks, ranks.one_before_others():
        assert ranks is ALONE


def test_shares_are_the_batch_in_order_and_own_rows_are_the_same_of_each_view() -> None:
    ranks = [Ranks(rank, 3) for rank in range(3)]
    rows = torch.arange(12)
    assert torch.equal(torch.cat([rows[each.share(12)] for each in ranks]), rows)
    two = torch.arange(24).view(2, 12)
    for each in ranks:
        assert torch.equal(each.own(two.flatten(), views=2), two[:, each.share(12)].flatten())


# --- two processes


@pytest.mark.slow
def test_what_ranks_tell_each_other(seen: tuple[Any, Any]) -> None:
    rows = torch.tensor([0.0, 1, 2, 100, 101, 102, 3, 4, 5, 103, 104, 105])[:, None]
    factors = 3 * torch.arange(12.0)[:, None]  # both ranks use every row, the second twice as much
    for rank, each in enumerate(told["exchanges"] for told in seen):
        assert torch.equal(each["gathered"], rows) and torch.equal(each["again"], rows)
        assert torch.equal(each["own"], 100.0 * rank + torch.arange(6.0)[:, None])
        assert torch.equal(each["gradient"], Ranks(rank, 2).own(factors, views=2))
        assert [mean.tolist() for mean in each["mean"]] == [[0.5, 0.5], [[5.0, 5.0, 5.0]]]
        assert (int(each["total"]), int(each["least"]), each["any"]) == (3, 1, [True, False])
        assert each["from_first"] == "of 0"
        assert each["turns"].startswith("0")
        assert "differ in number (rank 0: 0; rank 1: 1)" in each["refusal"] and "colour" not in each["refusal"]


def largest(one: list[Tensor], two: list[Tensor]) -> float:
    assert [a.shape for a in one] == [b.shape for b in two] and one
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", EXACT)
def test_two_processes_train_as_one(case: str, seen: tuple[Any, Any]) -> None:
    torch.set_num_threads(1)
    alone = trajectory(case)
    for rank in seen:
        theirs = rank["trajectories"][case]
        assert len(theirs["loss"]) == STEPS
        assert largest(alone["loss"], theirs["loss"]) < 1e-5
        assert largest(alone["gradient"], theirs["gradient"]) < 3e-5
        assert largest(alone["weight"], theirs["weight"]) < 1e-4
        assert largest(alone["statistic"], theirs["statistic"]) < 1e-4
        if alone["learned"]:
            assert largest(alone["learned"], theirs["learned"]) < 1e-4
        if EXACT[case].training.mode == "moco":
            assert all(map(torch.equal, alone["id"], theirs["id"]))
            assert largest(alone["key"], theirs["key"]) < 1e-4
    first, second = (rank["trajectories"][case] for rank in seen)
    for name in ("gradient", "weight", "key", "statistic", "learned"):
        assert all(map(torch.equal, first[name], second[name])), f"the ranks' {name} are apart"


@pytest.mark.slow
def test_the_comparison_would_notice_other_draws(seen: tuple[Any, Any]) -> None:
    torch.set_num_threads(1)
    other = trajectory("potential", seed=1)
    assert largest(other["gradient"], seen[0]["trajectories"]["potential"]["gradient"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("case", ["random", "simclr"])
def test_a_signal_to_one_process_stops_both_and_resuming_is_exact(
    case: str, folder: Path, seen: tuple[Any, Any]
) -> None:
    assert_equal_runs(Run.load(folder / f"{case}-whole"), Run.load(folder / f"{case}-cut"))
    assert [rank["runs"][case]["called"] for rank in seen] == [4, 0]
    for rank in seen:
        assert (
            f"Stopped after 2 of 4 epochs and 1 step. All of it is saved in {folder}" in rank["runs"][case]["message"]
        )
        assert [row["epoch"] for row in rank["runs"][case]["rows"]] == [1, 2, 3, 4]
        assert rank["runs"][case]["rows"][-1]["loss"] == seen[0]["runs"][case]["rows"][-1]["loss"]


@pytest.mark.slow
def test_an_own_backbone_stays_equal_on_all_ranks(seen: tuple[Any, Any]) -> None:
    for name in ("own", "start"):
        first, second = (rank["runs"][name] for rank in seen)
        assert torch.equal(first, second) and first.isfinite().all()


@pytest.mark.slow
def test_another_number_of_processes_does_not_go_on(folder: Path) -> None:
    before = (folder / "simclr-whole" / "checkpoint.pt").read_bytes()
    state = torch.load(folder / "simclr-whole" / "checkpoint.pt", weights_only=True)
    assert len(state["ranks"]) == 2
    resealed(folder / "simclr-whole", epoch=3, rows=state["rows"][:3])
    try:
        with pytest.raises(ValueError, match=r"is of 2 processes, not 1; resume with as many"):
            fit(grouped(SIMCLR), images=made(), out=folder / "simclr-whole", resume=True)
    finally:
        (folder / "simclr-whole" / "checkpoint.pt").write_bytes(before)


@pytest.mark.slow
def test_the_command_line_trains_with_two_processes(tmp_path: Path) -> None:
    train = ("-m", "cltools", "train", "digits-potential", "--out", "run", "--epochs", "2", "--limit", "300")
    done = together(*train, "--encoder.bn-group", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("run: 2 epochs; test: ") == 1
    assert len(Run.load(tmp_path / "run").history.rows) == 2
    (stretch,) = json.loads((tmp_path / "run" / "record.json").read_text(encoding="utf-8"))["stretches"]
    assert stretch["hardware"]["ranks"] == 2
    assert stretch["command"].startswith("torchrun --nnodes 1 --nproc-per-node 2 -m cltools train digits-potential")
    refused = together("-m", "cltools", "evaluate", "run", cwd=tmp_path)
    assert refused.returncode != 0 and "evaluate runs in a single process; start it without torchrun" in refused.stderr
    whole = together("-m", "cltools", "train", "digits-simclr", "--out", "other", "--epochs", "2", cwd=tmp_path)
    assert whole.returncode != 0 and "processes need groups within a share" in whole.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_sigterm_to_torchrun_itself_saves_within_an_epoch(tmp_path: Path) -> None:
    command = (*TORCHRUN, "-m", "cltools", "train", "digits-moco", "--out", "run", "--encoder.bn-group", "32")
    with subprocess.Popen(
        [*command, "--epochs", "200"],
        cwd=tmp_path,
        env=QUIET,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 1/200" in line:
                break
        process.terminate()
        _, words = process.communicate(timeout=120)
    assert "Stopped after " in words and "run: continue with --resume" in words
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert len(state["ranks"]) == 2 and state["step"] > 9 and state["epoch"] < 200


def test_processes_that_have_not_joined_do_not_train_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cltools.ranks.launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"started several processes.*cltools\.ranks\.joined"):
        fit(MOCO, images=made())


# --- what cannot be trained by several


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [
        (MOCO, r"bn_group is None; 3 processes need groups within a share"),
        (grouped(MOCO), r"training.batch is 16; 3 processes need a multiple of \d+"),
        (training(grouped(MOCO), batch=24), None),
        (training(grouped(MOCO), batch=48, queue_size=48), None),
        (replace(training(MOCO, batch=48, queue_size=48), encoder=replace(MOCO.encoder, bn_group=16)), None),
        (
            replace(training(MOCO, batch=24), encoder=replace(MOCO.encoder, bn_group=12)),
            r"3 processes need a multiple of 36",
        ),
        (training(grouped(MOCO), batch=24, device="cuda:1"), r"3 processes need a GPU each; device='cuda:1' names one"),
    ],
)
def test_what_shares_cannot_hold_is_refused(experiment: Experiment, reason: str | None) -> None:
    if experiment.encoder.bn_group is None:
        experiment = training(experiment, batch=24)
    if reason is None:
        fitting.check_trainable(experiment, made(), Ranks(1, 3), torch.device("cpu"), Parts())
        return
    with pytest.raises(ValueError, match=reason):
        fitting.check_trainable(experiment, made(), Ranks(1, 3), torch.device("cpu"), Parts())


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cltools.ranks.launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"process 3 on a machine with 2 GPUs; lower --nproc-per-node"), joined():
        pass
