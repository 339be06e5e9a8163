"""What a run leaves on disk: checkpoints, resuming, the history, and errors that leave everything as it was."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from cltools.config import EvaluationSettings, Experiment, TrainingSettings
from cltools.datasets import DataSettings, ImageSet
from cltools.encoders import EncoderSettings, resolve_device
from cltools.errors import CltoolsError
from cltools.mining import (
    AllNegatives,
    AugmentedView,
    Band,
    LearnedThreshold,
    NearestKeys,
    OracleNegatives,
    OraclePositives,
    RandomNegatives,
    RankBand,
)
from cltools.training import History, Run, fit
from cltools.training.checkpoint import checksums
from cltools.training.record import COLUMNS, EpochSums, read_run_record, tally_of
from cltools.training.step import train_step

fitting = import_module("cltools.training.fit")  # the module, whose name in the package is the function's

MOCO = Experiment(
    data=DataSettings("nowhere", holdout=0.25),
    encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
    positives=AugmentedView(),
    negatives=AllNegatives(),
    training=TrainingSettings(epochs=4, batch=16, queue_size=40, learning_rate=1.6, warmup_epochs=1, device="cpu"),
    evaluation=EvaluationSettings(every=2),
)
POTENTIAL = replace(
    MOCO, positives=NearestKeys(min_weight="mean", k=3, pick=2, start=0.3, ramp=0.5), negatives=RankBand()
)
SIMCLR = replace(MOCO, training=replace(MOCO.training, mode="simclr"))
LEARNED = replace(MOCO, negatives=LearnedThreshold(alpha=0.2, start=0.3))
RANDOM = replace(MOCO, negatives=RandomNegatives())
Whole = Callable[[Experiment], Run]


def training(experiment: Experiment, **settings: Any) -> Experiment:
    return replace(experiment, training=replace(experiment.training, **settings))


def made(count: int = 64) -> ImageSet:
    generator, ids = torch.Generator().manual_seed(0), torch.arange(count)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, ids % 4, ids, ("a", "b", "c", "d"), "made", "train")


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    found = (path for path in folder.iterdir() if path.name != "in-use")  # while it trains
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


def resealed(folder: Path, **changes: Any) -> None:
    """Change a checkpoint as if it had been saved so."""
    state = checkpoint(folder) | changes
    del state["checksums"]
    torch.save(state | {"checksums": dict(checksums(state))}, folder / "checkpoint.pt")


def untimed(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Rows without the columns in which two equal runs differ."""
    return [{name: value for name, value in row.items() if name not in ("seconds", "views_per_second")} for row in rows]


def same(first: object, second: object) -> bool:
    """Equal to the last bit, all the way down; nan equals nan."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    both_nan = isinstance(first, float) and isinstance(second, float) and math.isnan(first) and math.isnan(second)
    return both_nan or first == second


def assert_equal_runs(first: Run, second: Run) -> None:
    """The same weights, memory and history in both, and the same on disk."""
    assert same(first.encoder.state_dict(), second.encoder.state_dict())
    assert same(untimed(first.history.rows), untimed(second.history.rows))
    if first.memory is not None and second.memory is not None:
        assert same(first.memory.copy.state_dict(), second.memory.copy.state_dict())
        assert same(first.memory.queue.state_dict(), second.memory.queue.state_dict())
    assert (first.memory is None) == (second.memory is None) and same(first.rule_state, second.rule_state)
    if first.path is None or second.path is None:
        return
    states = [checkpoint(path) for path in (first.path, second.path)]
    rows = [state.pop("rows") for state in states]
    for state in states:  # seconds differ
        state["checksums"] = {name: each for name, each in state["checksums"].items() if not name.startswith(".rows")}
    assert same(*states) and same(untimed(rows[0]), untimed(rows[1]))
    histories = [History.load(path / "history.csv").rows for path in (first.path, second.path)]
    assert same(untimed(histories[0]), untimed(histories[1])) and same(untimed(histories[0]), untimed(rows[0]))
    for name in ("config.json", "encoder.safetensors"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


class StoppedError(Exception):
    pass


def stop_after(epoch: int) -> Callable[[Run], None]:
    def callback(run: Run) -> None:
        if len(run.history.rows) == epoch:
            raise StoppedError

    return callback


def stopped(experiment: Experiment, out: Path, epoch: int = 2, **arguments: Any) -> Path:
    with pytest.raises(StoppedError):
        fit(experiment, **{"images": made(), "out": out, "callbacks": [stop_after(epoch)]} | arguments)
    return out


def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A function that trains an experiment to its end, once; nobody changes what it gives."""

    @cache
    def trained(experiment: Experiment) -> Run:
        return fit(experiment, images=made(), out=tmp_path_factory.mktemp("whole") / "run")

    return trained


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return trained_once(tmp_path_factory)


@pytest.fixture(scope="module")
def cut_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped(MOCO, tmp_path_factory.mktemp("cut"))


@pytest.fixture
def cut(cut_once: Path, tmp_path: Path) -> Path:
    """A copy of a run that was stopped after two of four epochs, to be changed."""
    return Path(shutil.copytree(cut_once, tmp_path / "cut"))


# --- the same again


def test_a_seed_repeats_a_run_and_another_does_not(whole: Whole, tmp_path: Path) -> None:
    first = whole(POTENTIAL)
    torch.rand(5)
    assert_equal_runs(first, fit(POTENTIAL, images=made(), out=tmp_path / "again"))
    other = fit(replace(POTENTIAL, seed=1), images=made())
    assert not same(first.encoder.state_dict(), other.encoder.state_dict())
    assert not same(untimed(first.history.rows), untimed(other.history.rows))


@pytest.mark.parametrize(
    ("experiment", "every"),
    [(POTENTIAL, 1), (LEARNED, 2), *(pytest.param(each, 2, marks=pytest.mark.slow) for each in (SIMCLR, RANDOM))],
    ids=["potential", "learned", "simclr", "random"],
)
def test_a_resumed_run_equals_the_uninterrupted_one(
    experiment: Experiment, every: int, whole: Whole, tmp_path: Path
) -> None:
    experiment = training(experiment, checkpoint_every=every)
    cut = stopped(experiment, tmp_path / "cut", epoch=3)
    left = 3 if every == 1 else 2  # with every=2 the third epoch is lost and done again
    assert checkpoint(cut)["epoch"] == len(History.load(cut / "history.csv").rows) == left
    seen: list[int] = []
    resumed = fit(
        experiment, images=made(), out=cut, resume=True, callbacks=[lambda run: seen.append(len(run.history.rows))]
    )
    assert seen == list(range(left + 1, 5))
    assert History.load(cut / "history.csv").column("epoch") == [1, 2, 3, 4]
    assert_equal_runs(whole(experiment), resumed)


@pytest.mark.parametrize(
    ("where", "name", "at"), [(fitting, "save_checkpoint", 1), pytest.param(Run, "save", 4, marks=pytest.mark.slow)]
)
def test_a_crash_between_two_files_is_made_good_by_resuming(
    where: Any, name: str, at: int, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, write = [], getattr(where, name)

    def crash(*arguments: Any, **named: Any) -> None:
        calls.append(name)
        if len(calls) == at:
            raise OSError("No space left on device")
        write(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(where, name, crash)
        fit(POTENTIAL, images=made(), out=tmp_path / "cut")
    resumed = fit(POTENTIAL, images=made(), out=tmp_path / "cut", resume=True)
    assert_equal_runs(whole(POTENTIAL), resumed)
    assert_equal_runs(resumed, Run.load(tmp_path / "cut"))


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, before = Path.write_bytes, dict[str, bytes]()

    def half(path: Path, content: Any) -> int:
        if path.name.startswith("checkpoint.pt.") and len(History.load(tmp_path / "history.csv").rows) == 3:
            before["checkpoint"] = (tmp_path / "checkpoint.pt").read_bytes()
            write(path, content[: len(content) // 2])
            raise OSError("No space left on device")
        return write(path, content)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="could not be written: No space left"):
        patch.setattr(Path, "write_bytes", half)
        fit(POTENTIAL, images=made(), out=tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before["checkpoint"] and checkpoint(tmp_path)["epoch"] == 2
    resumed = fit(POTENTIAL, images=made(), out=tmp_path, resume=True)
    assert same(resumed.encoder.state_dict(), whole(POTENTIAL).encoder.state_dict())
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_loads_as_weights_only_and_holds_the_whole_state(tmp_path: Path) -> None:
    state = checkpoint(stopped(POTENTIAL, tmp_path))
    assert Experiment.from_json(state["experiment"]) == POTENTIAL
    assert (state["epoch"], state["step"], len(state["rows"])) == (2, 6, 2)
    assert len(state["queue"]["keys"]) == 40 and state["optimizer"]["state"] and state["momentum_copy"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "history.csv", "checkpoint.pt", "encoder.safetensors", "record.json",
    }  # fmt: skip
    assert checkpoint(stopped(SIMCLR, tmp_path / "simclr", epoch=1))["queue"] is None


# --- resuming


def test_resuming_without_a_checkpoint_starts_and_says_so(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(MOCO, images=made(), out=tmp_path / "run", resume=True)
    assert "holds no checkpoint yet; starting from the beginning" in "".join(capsys.readouterr())
    assert_equal_runs(run, whole(MOCO))


def test_a_run_that_has_lost_its_checkpoint_is_not_begun_anew_in_its_folder(whole: Whole, tmp_path: Path) -> None:
    run = whole(MOCO)
    assert run.path is not None
    lost = Path(shutil.copytree(run.path, tmp_path / "lost"))
    (lost / "checkpoint.pt").unlink()
    before = files(lost)
    with pytest.raises(CltoolsError, match=r"lacks its checkpoint\.pt, so it cannot resume; put it back"):
        fit(MOCO, images=made(), out=lost, resume=True)
    assert files(lost) == before
    first = fit(training(MOCO, epochs=1), images=made(), out=tmp_path / "first")  # as if killed before its checkpoint
    (tmp_path / "first" / "checkpoint.pt").unlink()
    again = fit(training(MOCO, epochs=1), images=made(), out=tmp_path / "first", resume=True)
    assert same(first.encoder.state_dict(), again.encoder.state_dict())


def test_resuming_a_finished_run_changes_nothing(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    run = whole(MOCO)
    assert run.path is not None
    before = files(run.path)
    again = fit(MOCO, out=run.path, resume=True, callbacks=[stop_after(4)])
    assert "is finished: 4 epochs are done" in "".join(capsys.readouterr())
    assert files(run.path) == before
    assert_equal_runs(run, again)


def test_a_finished_run_is_trained_longer_and_its_record_says_so(whole: Whole, tmp_path: Path) -> None:
    """The first epochs stay as they are; then the rate is that of the longer schedule."""
    done = whole(MOCO)
    out = Path(shutil.copytree(str(done.path), tmp_path / "a"))
    longer = replace(MOCO, training=replace(MOCO.training, epochs=MOCO.training.epochs + 1))
    run = fit(longer, images=made(), out=out, resume=True)
    assert len(run.history.rows) == longer.training.epochs
    assert same(untimed(run.history.rows[:-1]), untimed(done.history.rows))
    record = read_run_record(out)
    assert record is not None and record.asked == record.epochs == longer.training.epochs
    assert record.shorter == [MOCO.training.epochs]
    assert [each.from_epoch for each in record.stretches] == [1, longer.training.epochs]
    assert not same(run.encoder.state_dict(), done.encoder.state_dict())
    with pytest.raises(ValueError, match=r"training\.epochs: \d → \d"):
        fit(MOCO, images=made(), out=out, resume=True)


def test_resuming_with_other_settings_names_them_and_changes_nothing(cut: Path) -> None:
    before = files(cut)
    other = replace(training(MOCO, epochs=9), seed=1, negatives=RandomNegatives(share=0.3))
    lines = ("training.epochs: 4 → 9", "seed: 0 → 1", "negatives.rule: AllNegatives → RandomNegatives")
    with pytest.raises(ValueError, match="was made with other settings") as refused:
        fit(other, images=made(), out=cut, resume=True)
    assert all(line in str(refused.value) for line in lines) and "training.batch" not in str(refused.value)
    assert files(cut) == before


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(path: Path) -> None:
    path.write_bytes(b"a picture, perhaps")


def executable(path: Path) -> None:
    torch.save({"format": "cltools checkpoint", "version": 2, "call": Path}, path)


def of_another_library(path: Path) -> None:
    torch.save({"format": "another", "epoch": 3}, path)


def of_another_version(path: Path) -> None:
    torch.save(torch.load(path, weights_only=True) | {"version": 7}, path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncated, r"cannot be read as a checkpoint .* Put the original back, or train .* into another folder"),
        (foreign, "cannot be read as a checkpoint"),
        (executable, "cannot be read as a checkpoint"),
        (of_another_library, "is not a checkpoint of cltools"),
        (of_another_version, r"has checkpoint format 7; this version reads format 5\. .* the cltools that wrote it"),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed_says_why(damage: Callable[[Path], None], reason: str, cut: Path) -> None:
    damage(cut / "checkpoint.pt")
    before = files(cut)
    with pytest.raises(ValueError, match=rf"checkpoint\.pt {reason}"):
        fit(MOCO, images=made(), out=cut, resume=True)
    assert files(cut) == before


def test_what_differs_from_where_a_run_was_stopped_is_said(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoppedError):
        fit(MOCO, images=made(), out=cut, resume=True, callbacks=[stop_after(3)])
    assert "Resumed in another" not in "".join(capsys.readouterr())
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    fit(MOCO, images=made(), out=cut, resume=True)
    assert f"not bit for bit: threads: {threads} → {threads + 1}\n" in "".join(capsys.readouterr())


def test_a_run_stopped_on_another_device_goes_on_and_says_so(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = checkpoint(cut)["environment"] | {"device": "cuda"}
    resealed(cut, environment=elsewhere, draws=torch.zeros(16, dtype=torch.uint8))
    assert len(fit(MOCO, images=made(), out=cut, resume=True).history.rows) == 4
    assert "device: cuda → cpu" in "".join(capsys.readouterr())


# --- errors that leave everything as it was


@pytest.mark.parametrize("present", ["checkpoint.pt", "config.json"])
def test_a_folder_that_holds_a_run_is_refused(present: str, tmp_path: Path) -> None:
    (tmp_path / present).write_bytes(b"an hour of work")
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match=r"already holds a run.*--resume"):
        fit(MOCO, images=made(), out=tmp_path)
    assert files(tmp_path) == before


@dataclass(frozen=True)
class ByClass(AllNegatives):
    """A reader's own rule that reads classes."""

    reads = frozenset({"same_class"})


UNKNOWN = replace(made(), labels=torch.full((64,), -1))


@pytest.mark.parametrize(
    ("experiment", "images", "error", "reason"),
    [
        (MOCO, made(20), ValueError, r"15 training images are fewer than training\.batch=16"),
        (replace(MOCO, negatives=OracleNegatives()), UNKNOWN, ValueError, "OracleNegatives reads classes"),
        (replace(MOCO, positives=OraclePositives()), UNKNOWN, ValueError, "OraclePositives reads classes"),
        (replace(MOCO, negatives=ByClass()), UNKNOWN, ValueError, "ByClass reads classes, and made has none"),
        (training(MOCO, device="gpu"), made(), ValueError, "Unknown device 'gpu'"),
        (training(MOCO, device="cuda:x"), made(), ValueError, "Unknown device 'cuda:x'"),
        (training(MOCO, device="meta"), made(), ValueError, "Unknown device 'meta'"),
        (MOCO, None, ValueError, "nowhere"),
    ],
)
def test_what_cannot_be_trained_creates_nothing(
    experiment: Experiment, images: ImageSet | None, error: type[Exception], reason: str, tmp_path: Path
) -> None:
    for out in (tmp_path / "run", None):
        with pytest.raises(error, match=reason):
            fit(experiment, images=images, out=out)
    assert not list(tmp_path.iterdir())


def test_one_image_without_a_label_shuts_off_what_reads_labels_for_no_other() -> None:
    labels = made(80).labels.clone()
    labels[7] = -1
    experiment = replace(MOCO, negatives=OracleNegatives(), data=replace(MOCO.data, holdout=0.25))
    row = fit(training(experiment, epochs=1), images=replace(made(80), labels=labels)).history.rows[-1]
    assert 0 <= row["knn"] <= 100 and 0 <= row["false_negative_share"] <= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_cuda_where_there_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CUDA GPU"):
        fit(training(MOCO, device="cuda"), images=made(), out=tmp_path / "run")
    assert resolve_device("auto") == torch.device("cpu") and not list(tmp_path.iterdir())


def test_resuming_needs_a_folder_and_a_file_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs out=FOLDER"):
        fit(MOCO, images=made(), resume=True)
    (tmp_path / "file").write_text("a letter", encoding="utf-8")
    for resume in (False, True):
        with pytest.raises(OSError, match="a file exists where a folder is needed"):
            fit(MOCO, images=made(), out=tmp_path / "file", resume=resume)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "a letter"


class Breaks(nn.Module):
    """Gives NaN from a training call on."""

    def __init__(self, good_calls: int) -> None:
        super().__init__()
        self.linear, self.left = nn.Linear(3 * 16 * 16, 8), good_calls

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        features: Tensor = self.linear(x.flatten(1))
        return features if self.left >= 0 else features * math.nan


def test_a_loss_that_is_not_finite_stops_training_and_names_its_first_step(tmp_path: Path) -> None:
    kept: dict[str, tuple[int, bytes]] = {}
    backbone = Breaks(good_calls=2 * 4)  # two views a step, three steps an epoch
    with pytest.raises(FloatingPointError, match=r"loss was not finite at step 5;.*last checkpoint is from before"):
        fit(
            POTENTIAL,
            images=made(),
            backbone=backbone,
            out=tmp_path,
            callbacks=[lambda run: kept.update(files(tmp_path))],
        )
    assert files(tmp_path) == kept and checkpoint(tmp_path)["epoch"] == 1
    good = Run.load(tmp_path, backbone=Breaks(0))
    assert len(good.history.rows) == 1 and all(bool(p.isfinite().all()) for p in good.encoder.parameters())


def test_weights_broken_by_an_epochs_last_update_reach_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(state: Any, *arguments: Any, **settings: Any) -> Any:
        result = train_step(state, *arguments, **settings)
        if state.step == 6:
            state.encoder.head[0].weight.data[0, 0] = math.inf
        return result

    monkeypatch.setattr(fitting, "train_step", breaking)
    with pytest.raises(FloatingPointError, match="weights were not finite after step 6"):
        fit(MOCO, images=made(), out=tmp_path)
    assert checkpoint(tmp_path)["epoch"] == 1 and Run.load(tmp_path).history.column("epoch") == [1]


def test_a_learning_rate_out_of_all_proportion_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"not finite .* step \d+; training stopped.*Lower the learning rate"):
        fit(training(MOCO, learning_rate=1e30), images=made(), out=tmp_path)
    assert not list(tmp_path.iterdir())


# --- the history


def test_an_epochs_sums_are_the_means_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    sums = EpochSums(torch.device("cpu"))
    losses, codes, agree = [], list[int](), list[bool]()
    for step, keys in enumerate((0, 5, 9)):
        band = torch.randint(0, len(Band), (4, keys), dtype=torch.int8, generator=generator)
        same_class = torch.rand(4, keys, generator=generator) < 0.4
        losses.append(0.3 + step)
        codes += band.flatten().tolist()
        agree += same_class.flatten().tolist()
        sums.add(step, torch.tensor(losses[-1], requires_grad=True), tally_of(band, same_class), 4)
    row = sums.fetch()
    assert row["loss"] == pytest.approx(sum(losses) / 3)
    for band_code in Band:
        assert row[band_code.name.lower()] == codes.count(band_code) / 12
    for name, code in (("mined_purity", Band.MINED), ("false_negative_share", Band.POTENTIAL)):
        chosen = [right for right, given in zip(agree, codes, strict=True) if given == code]
        assert row[name] == sum(chosen) / len(chosen)


def test_shares_of_nothing_are_nan() -> None:
    for band, same_class in ((Band.EASY, torch.ones(2, 3, dtype=torch.bool)), (Band.POTENTIAL, None)):
        sums = EpochSums(torch.device("cpu"))
        sums.add(1, torch.tensor(1.0), tally_of(torch.full((2, 3), band, dtype=torch.int8), same_class), 2)
        row = sums.fetch()
        assert math.isnan(row["mined_purity"]) and math.isnan(row["false_negative_share"])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_of_several_bad_steps_is_named(bad: float) -> None:
    sums = EpochSums(torch.device("cpu"))
    for step, loss in ((7, 1.0), (8, bad), (9, 2.0), (10, math.nan)):
        sums.add(step, torch.tensor(loss), tally_of(torch.zeros(2, 3, dtype=torch.int8), None), 2)
    with pytest.raises(FloatingPointError, match="at step 8;"):
        sums.fetch()


number = st.floats(allow_infinity=False) | st.integers(-(10**6), 10**6)
OTHERS = [name for name in COLUMNS if name != "epoch"]


@settings(max_examples=30)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(OTHERS, number) | {"a protocol": st.floats()}), max_size=4))
def test_a_history_comes_back_from_its_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]]
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.csv"
    rows = [{"epoch": epoch, **row} for epoch, row in enumerate(rows, 1)]
    History(rows).save(path)
    back = History.load(path)
    assert same(back.rows, rows)
    assert all(same(back.column(name), History(rows).column(name)) for name in ("epoch", "loss", "knn"))
    assert [entry.name for entry in path.parent.iterdir()] == ["history.csv"]


def test_a_history_is_plain_csv(tmp_path: Path) -> None:
    History([{"epoch": 1, "loss": 0.25, "knn": math.nan}, {"epoch": 2, "loss": 1e-9, "knn": 50.0}]).save(tmp_path / "h")
    assert (tmp_path / "h").read_text(encoding="utf-8").splitlines() == ["epoch,loss,knn", "1,0.25,", "2,1e-09,50"]


# --- going on with something else


def test_a_trained_run_without_its_checkpoint_is_not_trained_over_with_other_settings(cut: Path) -> None:
    (cut / "checkpoint.pt").unlink()
    before = files(cut)
    with pytest.raises(ValueError, match=r"config.json was made with other settings.*\s+seed: 0 → 7"):
        fit(replace(MOCO, seed=7), images=made(), out=cut, resume=True)
    assert files(cut) == before


def test_resuming_on_other_images_says_so_and_changes_nothing(cut: Path) -> None:
    before = files(cut)
    other = replace(made(), images=255 - made().images)
    for images in (other, made(80)):
        with pytest.raises(ValueError, match=r"was trained on 48 images of 'made' \(given by images="):
            fit(MOCO, images=images, out=cut, resume=True)
    assert files(cut) == before


def test_resuming_with_another_backbone_says_so(cut: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"begun with other objects for backbone=.*These are .*'backbone': "):
        fit(MOCO, images=made(), backbone=Dropping(), out=cut, resume=True)
    stopped(MOCO, tmp_path / "own", epoch=1, backbone=Dropping())
    with pytest.raises(ValueError, match=r"'backbone': .*Dropping.*These are .*'backbone': .*Breaks"):
        fit(MOCO, images=made(), backbone=Breaks(9), out=tmp_path / "own", resume=True)


def test_settings_that_change_no_result_may_differ(whole: Whole, cut: Path) -> None:
    moved = training(replace(MOCO, data=replace(MOCO.data, root="elsewhere", download=False)), checkpoint_every=3)
    fit(moved, images=made(), out=cut, resume=True)
    assert same(whole(MOCO).encoder.state_dict(), checkpoint(cut)["encoder"])


class Dropping(nn.Module):
    """A backbone that draws from torch's own generator."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.flat = nn.Linear(3 * 16 * 16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.flat(x.flatten(1)), 0.5, self.training)


def test_what_an_own_backbone_draws_follows_the_seed_and_resumes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fit(MOCO, images=made(), backbone=Dropping())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    stopped(MOCO, tmp_path, backbone=Dropping())
    second = fit(MOCO, images=made(), backbone=Dropping(), out=tmp_path, resume=True)
    assert same(first.encoder.state_dict(), second.encoder.state_dict())
