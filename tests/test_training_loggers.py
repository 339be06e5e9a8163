"""The history for TensorBoard, read back with its own reader; and for Weights & Biases, by a stand-in."""

import itertools
import math
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.summary.writer import event_file_writer

from cltools.config import EvaluationSettings, Experiment, TrainingSettings, to_plain
from cltools.datasets import DataSettings
from cltools.encoders import Encoder, EncoderSettings, build_encoder
from cltools.mining import NearestKeys, RankBand
from cltools.training import History, Run, TensorBoard, WandB, fit
from cltools.training.record import COLUMNS, Row

ASKED = Experiment(
    data=DataSettings("digits", limit=64),
    encoder=EncoderSettings(backbone="tiny", hidden=16, projection=8, bn_group=None),
    positives=NearestKeys(min_weight="mean", k=3, start=0.4, ramp=0),
    negatives=RankBand(),
    training=TrainingSettings(epochs=5, batch=16, queue_size=32, device="cpu", checkpoint_every=2),
    evaluation=EvaluationSettings(every=2, test_limit=50),
)


@pytest.fixture(autouse=True, scope="module")
def a_second_between_files() -> Iterator[None]:
    """TensorBoard reads files in the order of their names, which tell the second; nobody resumes within one."""
    seconds = itertools.count(1_000_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))
        yield


class StopAfter:
    """Stands for a run that is cut off, before or after TensorBoard is called."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, run: Run) -> None:
        if len(run.history.rows) == self.epoch:
            raise KeyboardInterrupt


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()[SCALARS]}


def agree(folder: Path, history: History) -> None:
    """Every figure of the history, once, in order; what was not measured is absent."""
    found = curves(folder)
    columns = {column for column in history.rows[0] if column not in ("epoch", "seconds")}
    for column in columns:
        tag = column
        measured = [(int(row["epoch"]), row[column]) for row in history.rows if not math.isnan(row[column])]
        assert [step for step, _ in found.get(tag, [])] == [epoch for epoch, _ in measured], column
        assert [value for _, value in found.get(tag, [])] == pytest.approx([value for _, value in measured], rel=1e-6)


def test_holds_what_the_history_holds(tmp_path: Path) -> None:
    out, protocols = tmp_path / "a", {"rows": lambda run: len(run.history.rows)}
    fit(ASKED, out=out, callbacks=[TensorBoard(out / "tensorboard")], protocols=protocols)
    agree(out / "tensorboard", History.load(out / "history.csv"))
    found = curves(out / "tensorboard")
    assert [step for step, _ in found["knn"]] == [2, 4, 5] and [step for step, _ in found["loss"]] == [1, 2, 3, 4, 5]
    assert {"mined_purity", "false_negative_share", "easy", "potential", "hard"} <= set(found)
    assert found["rows"] == [(2, 1.0), (4, 3.0), (5, 4.0)], "a protocol of one's own has a curve"
    assert len(list((out / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_a_resumed_run_writes_each_epoch_once(tmp_path: Path) -> None:
    """The checkpoint is of epoch 2, so that epoch 3 is trained and written again."""
    out = tmp_path / "a"
    board = TensorBoard(out / "tensorboard")
    with pytest.raises(KeyboardInterrupt):
        fit(ASKED, out=out, callbacks=[board, StopAfter(3)])
    assert [step for step, _ in curves(out / "tensorboard")["loss"]] == [1, 2, 3]
    fit(ASKED, out=out, resume=True, callbacks=[TensorBoard(out / "tensorboard")])
    agree(out / "tensorboard", History.load(out / "history.csv"))


# --- histories by hand


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder(ASKED.encoder, None)


def rows(n: int, version: int = 0) -> list[Row]:
    """As of a training; those of another version have other figures."""
    names = COLUMNS[1:]
    return [
        {"epoch": e, **{name: 10.0 * e + i + version / 8 for i, name in enumerate(names)}, "knn": math.nan}
        for e in range(1, n + 1)
    ]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans()), min_size=1, max_size=5))
def test_every_history_is_written_once(encoder: Encoder, parts: list[tuple[int, int, bool]]) -> None:
    """Each part goes on from some epochs before, for some epochs, with a callback of its own or the one before."""
    with TemporaryDirectory() as folder:
        board, done = TensorBoard(folder), History()
        for version, (lost, more, new) in enumerate(parts):
            kept = done.rows[: max(0, len(done.rows) - lost)]
            board = TensorBoard(folder) if new else board
            for n in range(len(kept) + 1, len(kept) + more + 1):
                done = History([*kept, *rows(n, version)[len(kept) :]])
                board(Run(ASKED, encoder, done))
            agree(Path(folder), done)


def test_rows_not_written_are_made_up_for(encoder: Encoder, tmp_path: Path) -> None:
    TensorBoard(tmp_path)(Run(ASKED, encoder, History(rows(2))))
    TensorBoard(tmp_path)(Run(ASKED, encoder, History(rows(5))))
    agree(tmp_path, History(rows(5)))


def test_an_epoch_half_written_is_written_again(encoder: Encoder, tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    TensorBoard(tmp_path)(Run(ASKED, encoder, History(rows(2))))
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 99.0, 3)
    TensorBoard(tmp_path)(Run(ASKED, encoder, History(rows(3))))
    agree(tmp_path, History(rows(3)))


def test_without_tensorboard_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match="tensorboard is not installed; install it with: pip install tensorboard"):
        TensorBoard(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_weights_and_biases_gets_each_epoch_once(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="wandb is not installed; install it with: pip install wandb"):
        WandB(tmp_path)
    begun: list[dict[str, object]] = []
    logged: list[tuple[int, Row]] = []
    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", None)
    vars(module).update(init=lambda **given: begun.append(given), log=lambda row, step: logged.append((step, row)))
    monkeypatch.setitem(sys.modules, "wandb", module)
    board = WandB(tmp_path)
    for n in (2, 3):
        board(Run(ASKED, encoder, History(rows(n))))
    assert [step for step, _ in logged] == [1, 2, 3] and "knn" not in logged[0][1], "what was not measured is absent"
    assert logged[2][1]["loss"] == rows(3)[2]["loss"]
    (asked,) = begun
    assert (asked["project"], asked["dir"]) == ("cltools", tmp_path) and asked["config"] == to_plain(ASKED)
