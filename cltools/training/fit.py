"""`fit`, which trains an experiment's run: checks, the loop over epochs and steps, and what follows each epoch.

The path from here to the formula: `fit` → `Training` (below) → `train_step` in `step.py` → `contrastive_loss` in
`contrast.py` → `info_nce` in `losses.py`.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from tqdm.auto import tqdm

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import ImageSet, splits_of
from cltools.encoders import resolve_device
from cltools.errors import CltoolsError, described, foreign
from cltools.evaluation import effective_rank, embed, knn_accuracy, known_of, limited
from cltools.files import IN_USE, absolute, claimed, reading
from cltools.mining.handed_in import enough_memory
from cltools.provenance import command
from cltools.ranks import Ranks
from cltools.training.checkpoint import REMEDY, UNFIT, Checkpoint, Progress, check_same_experiment, save_checkpoint
from cltools.training.inputs import OptimizerOf, Parts, Protocol, TrainedOn, Views, evaluation_images, training_images
from cltools.training.record import COLUMNS, EpochSums, History, Row, diverged, new_stretch, read_run_record
from cltools.training.run import CHECKPOINT, CONFIG, FILES, Run, read_config
from cltools.training.state import TrainState, new_train_state, set_rate, statistics, sync, warm_start
from cltools.training.step import Batch, OnStep, Replay, StepResult, batches, epoch_order, train_step

Callbacks = Sequence[Callable[[Run], object]]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SYNC_EVERY = {"cpu": 1, "cuda": 16}
"""Steps between exchanges of signals among ranks; torchrun allows 30 seconds for this."""

RANKED = 1000
"""Number of training images on which the effective rank is measured."""


def fit(
    experiment: Experiment,
    *,
    images: ImageSet | None = None,
    backbone: nn.Module | None = None,
    views: Views | None = None,
    optimizer: OptimizerOf | None = None,
    protocols: Mapping[str, Protocol] | None = None,
    start_from: Run | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Callbacks = (),
    on_step: OnStep = None,
) -> Run:
    """Train an encoder.

    Images, backbone, views, optimizer, protocols and the two hooks may be your own; rules and settings come from the
    experiment. The rest is a fixed recipe: two views of each image, an encoder with a projection head, keys from a
    queue filled by a momentum copy (MoCo) or from the batch (SimCLR), one weighted InfoNCE loss, a warm-up followed by
    a cosine schedule to 0, and checkpoints after epochs. To change anything else, write your own training loop with
    `similarities`, `select`, `info_nce` and `Queue`.

    Pass your own part as an object here, or name it in `experiment.outside`. A config cannot describe an object:
    `record.json` lists the parts passed as objects, and they must be passed again to resume or load the run. A part
    should keep no state between calls except what a checkpoint holds (the weights of the backbone and the state of the
    optimizer); otherwise a resumed run differs from an uninterrupted one.

    The history's `effective_rank` reveals collapse: it is the effective number of directions of the embeddings of 1,000
    training images, and 1 if all coincide. The kNN column is measured on the held-out images (`data.holdout`) or else
    on the test images; if there are neither, as with `images=` or a folder with a single split, it stays empty. Both
    columns and the protocols are measured every `evaluation.every` epochs and after the last epoch.

    With `out`, Ctrl-C and SIGTERM stop the training after the current step, and its state is saved. The folder is
    locked from before anything is read or computed until the end, so that no other training can write there.

    Under torchrun, within `cltools.ranks.joined()`, every process makes the same call. Each trains on its share of
    every batch; only the first evaluates, saves and calls callbacks. Batch norms in your own backbone use the
    statistics of the process's share. Each process makes your own views of the whole batch and keeps its share.

    Args:
        experiment: every setting; a seed repeats a CPU run bit for bit (same machine, versions and thread count).
        images: train on these instead of those that `experiment.data` names; its `limit` and `holdout` still apply.
        backbone: your own module [B, 3, H, W] → [B, D] instead of the experiment's.
        views: called as `views(images, generator=…)` twice per step, with uint8 [B, 3, H, W] on the device and a
            generator there; returns one view of each image, float in [0, 1] or uint8, [B, 3, H, W]. None for `augment`
            with `experiment.views`. On a CPU, draws from torch's default generator are reproducible too, because it is
            seeded before each step.
        optimizer: called as `optimizer(parameters)` with the list of the encoder's parameters, such as
            `torch.optim.AdamW`. The schedule then multiplies each group's own learning rate, and the experiment's
            `learning_rate`, `sgd_momentum` and `weight_decay` are ignored. None for SGD with these settings.
        protocols: functions by the name of their history column; each is called with the run so far and returns a
            number.
        start_from: copy the encoder, momentum copy and queue of this run; the optimizer starts fresh.
        out: the run's folder; None keeps the run in memory.
        resume: continue from the folder's checkpoint, or start if there is none. A finished run is returned unchanged,
            or continued if more epochs are requested: the learning rate then jumps to its value in the longer schedule,
            and the record says so.
        callbacks: called with the run so far after each epoch.
        on_step: called after each update with a `StepInfo`, whose tensors are on the device. Among several processes
            only the first calls it, with its own anchors.

    Returns:
        The run, with its encoder on the device of the training.

    Raises:
        TypeError: `experiment` is not an experiment (but a preset's name, for example), or a part has the wrong type.
        ValueError: settings or parts contradict each other, the images, the number of processes or the checkpoint; a
            part named in `experiment.outside` is not found; another training, which is named, has locked the folder;
            or there is too little memory.
        FileExistsError: the folder already holds a run and `resume` is false.
        FloatingPointError: the loss is not finite; the last checkpoint is kept.
        OSError: a file could not be written; the last checkpoint is kept.
        Stopped: Ctrl-C or SIGTERM was received; the state at this point is saved. A subclass of KeyboardInterrupt.

    Example:
        >>> from dataclasses import replace
        >>> from cltools import DataSettings, TrainingSettings, fit, preset
        >>> short = TrainingSettings(epochs=1, batch=32, queue_size=64)
        >>> run = fit(replace(preset("digits-potential"), data=DataSettings("digits", limit=64), training=short))
        >>> len(run.history.rows), run.encoder.projection, len(run.memory.queue)
        (1, 64, 64)
    """
    if not isinstance(experiment, Experiment):
        raise foreign(experiment, 'An experiment, such as preset("digits-moco"),')
    own = Parts.of(experiment, images=images, backbone=backbone, views=views, optimizer=optimizer, protocols=protocols)
    if out == "":
        raise CltoolsError("out is empty, perhaps from an unset shell variable; name the run's folder.")
    ranks, path = Ranks.current(), absolute(out) if out is not None else None
    checkpoint = _checkpoint_to_resume(path, experiment, ranks) if resume else None
    ranks.check_agreed({"epochs done": checkpoint.epoch if checkpoint else 0})
    if checkpoint is not None:
        finished = checkpoint.epoch == experiment.training.epochs
        checkpoint.check_same_parts(own.given, finished=finished)
        if finished:  # nothing is written, so the folder may be read-only
            _say(ranks, f"{path} is finished: {checkpoint.epoch} epochs are done. Nothing was changed.")
            return Run.load(checkpoint.path.parent, backbone=backbone, views=views)
    if path is not None:
        experiment.to_json()  # before training: a failure afterwards would lose the result
    # If the first process may not write, torchrun ends the others as well.
    lock = claimed(path / IN_USE, command()) if path is not None and ranks.first else nullcontext()
    with lock, enough_memory("Training", "Lower training.batch or training.queue_size, or set training.chunk."):
        if path is not None and not resume and any((path / name).exists() for name in FILES):
            raise FileExistsError(f"{path} already holds a run. Add --resume (resume=True), or use another folder.")
        if resume:  # read again: another process may have continued the run before this one locked the folder
            checkpoint = _checkpoint_to_resume(path, experiment, ranks)
            if checkpoint is None:
                _say(ranks, f"{path} holds no checkpoint yet; starting from the beginning.")
        device = resolve_device(experiment.training.device)
        parts = own.resolved(experiment, "backbone", "views", "optimizer", "protocols")
        if taken := [name for name in parts.protocols if name in COLUMNS]:
            raise CltoolsError(f"The history already has a column {taken[0]!r}; give the protocol another name.")
        with ranks.one_before_others():
            train, judged = _images(experiment, images)
        check_trainable(experiment, train, ranks, device, parts, on_step)
        state = new_train_state(experiment, train, device, ranks, parts)
        if start_from is not None:
            warm_start(start_from.bare(), start_from.memory, state)
        ranks.check_agreed({"keys in the queue": len(state.memory.queue) if state.memory else 0})
        sync(state)
        trained_on = TrainedOn.of(train, given=images is not None)
        run = Run(experiment, state.encoder, History(), path, state.memory, state.rule_state, trained_on)
        run.parts, progress = parts, Progress()
        if checkpoint is not None:
            checkpoint.check_same_images(trained_on)
            with reading(f"{checkpoint.path} {UNFIT}", REMEDY):
                progress = checkpoint.restore(state)
            run.history.rows = [{**row} for row in checkpoint.rows]
            if changes := checkpoint.environment_changes(device):
                _say(ranks, "Resumed in another environment, so not bit for bit: " + "; ".join(changes))
        agreed = {"images": trained_on, "settings": experiment}
        ranks.check_agreed(agreed | {"parts of your own": own.given, "steps done": state.step})
        if path is not None:
            warm = len(start_from.history.rows) if start_from is not None else 0
            asked = experiment.training.epochs
            run.stretch = new_stretch(device, ranks=ranks.count, after=progress.epoch, warm_epochs=warm, asked=asked)
        run.judged = None if judged is None else "val" if judged.split == "val" else "test"
        hooks = (callbacks, on_step) if ranks.first else ((), None)
        with stopping(path is not None) as stop:
            train = train if experiment.training.shuffle_block else train.to(device)
            Training(run, state, train, judged, *hooks, stop).run_epochs(progress)
    state.encoder.eval()
    return run


def _checkpoint_to_resume(path: Path | None, experiment: Experiment, ranks: Ranks) -> Checkpoint | None:
    """Return the checkpoint to continue from, after all checks that need no images."""
    if path is None:
        raise CltoolsError("resume=True needs out=FOLDER, the folder of the run to continue.")
    checkpoint = Checkpoint.read(path / CHECKPOINT) if (path / CHECKPOINT).exists() else None
    record = read_run_record(path)  # raises for a damaged record before an epoch is trained, not after it
    if checkpoint is not None:
        checkpoint.check_same_settings(experiment, ranks)
    elif (path / CONFIG).exists():
        check_same_experiment(path / CONFIG, read_config(path / CONFIG), experiment)
    every = experiment.training.checkpoint_every  # as many can exist if writing the first checkpoint was interrupted
    if checkpoint is None and record is not None and (record.evaluations or record.epochs > every):
        raise CltoolsError(f"{path} lacks its {CHECKPOINT}, so it cannot resume; put it back, or use another --out.")
    return checkpoint


def _images(experiment: Experiment, images: ImageSet | None) -> tuple[ImageSet, ImageSet | None]:
    """Return images to train on and images to evaluate on while training: held out, else the test split, else None."""
    train, judged = training_images(experiment, images)
    own, data = images is not None or experiment.outside.images is not None, experiment.data
    if images is not None and data.size not in (None, images.images.shape[-1]):
        raise CltoolsError(f"data.size is {data.size}, and images of your own are not resized here: leave it out.")
    if images is not None and data.limit is not None and len(images) > data.limit:
        tqdm.write(f"data.limit: {data.limit:,} of {len(images):,} images are used, drawn at random.")
    if judged is None and not own and "test" in splits_of(data.name):
        judged = evaluation_images(experiment)
    return train, None if judged is None else limited(judged, experiment.evaluation)


def check_trainable(
    experiment: Experiment, train: ImageSet, ranks: Ranks, device: torch.device, parts: Parts, on_step: OnStep = None
) -> None:
    """Raise an error if the settings cannot train with these images, parts, hooks or number of processes."""
    settings, group, count = experiment.training, experiment.encoder.bn_group, ranks.count
    if len(train) < settings.batch:
        raise CltoolsError(f"{len(train)} training images are fewer than training.batch={settings.batch}; lower it.")
    for rule in (experiment.positives, experiment.negatives):
        if "same_class" in rule.reads and not train.labelled:
            raise CltoolsError(f"{type(rule).__name__} reads classes, and {train.name} has none; use another rule.")
    if on_step is not None and settings.chunk is not None:
        raise CltoolsError(f"on_step= needs all anchors of a step at once; leave out training.chunk={settings.chunk}.")
    if settings.cuda_graph:
        hindering = {
            "views=": parts.views, "optimizer=": parts.optimizer, "on_step=": on_step, "training.chunk": settings.chunk,
            "torchrun": None if ranks.alone else ranks, "device=cpu": None if device.type == "cuda" else device,
        }  # fmt: skip
        if present := [name for name, value in hindering.items() if value is not None]:
            raise CltoolsError(f"cuda_graph=True excludes {', '.join(present)}. Leave out one or the other.")
        experiment.to_json()  # rules that cannot be serialised cannot be compared from step to step
    if ranks.alone:
        return
    if settings.device not in ("auto", "cpu", "cuda"):
        raise CltoolsError(f"{count} processes need a GPU each; device={settings.device!r} names one. Leave it out.")
    if group is None:
        raise CltoolsError(f"encoder.bn_group is None; {count} processes need groups within a share, such as 32.")
    if settings.batch % (count * group):
        raise CltoolsError(f"training.batch is {settings.batch}; {count} processes need a multiple of {count * group}.")


def _say(ranks: Ranks, message: str) -> None:
    """Print a line above the progress bar, in the first process only."""
    if ranks.first:
        tqdm.write(message)


class Stopped(KeyboardInterrupt):
    """Training was stopped by a signal, and its state was saved.

    Attributes:
        signal: the signal received; None if another of several processes received it.
    """

    def __init__(self, message: str, received: signal.Signals | None) -> None:
        super().__init__(message)
        self.signal = received


@contextmanager
def stopping(wanted: bool) -> Iterator[list[signal.Signals]]:
    """Record the first signal in a list instead of acting on it, if `wanted`, and restore the handlers afterwards.

    Yields the list to which the signal is appended.

    Only the main thread receives signals; in other threads nothing changes. A signal that the process was started to
    ignore, such as Ctrl-C in a background job of a shell, stays ignored.
    """
    received: list[signal.Signals] = []
    signals = SIGNALS if wanted and threading.current_thread() is threading.main_thread() else ()
    before = {each: handler for each in signals if (handler := signal.getsignal(each)) is not signal.SIG_IGN}

    def record(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        restore()
        os.write(2, b"\nStopping once the current step is saved; repeat to stop at once.\n")  # print may block

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)

    for each in before:
        signal.signal(each, record)
    try:
        yield received
    finally:
        restore()


def learning_rate(settings: TrainingSettings, epoch: float, peak: float | None = None) -> float:
    """Return the learning rate: linear growth from 0 over the warm-up, then a cosine to 0.

    Args:
        settings: warm-up, number of epochs, learning rate and batch size.
        epoch: completed epochs, with fractions.
        peak: the largest rate; None for `learning_rate` scaled from a batch of 256 to the batch size.
    """
    peak = settings.learning_rate * settings.batch / 256 if peak is None else peak
    if epoch < settings.warmup_epochs:
        return peak * epoch / settings.warmup_epochs
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - settings.warmup_epochs) / rest)))


@dataclass
class Training:
    """The training loop; after each epoch it adds a row to the history, saves and calls the callbacks."""

    run: Run
    state: TrainState
    train: ImageSet
    judged: ImageSet | None
    callbacks: Callbacks
    on_step: OnStep
    received: list[signal.Signals]
    replay: Replay | None = field(default=None, init=False)

    def run_epochs(self, progress: Progress) -> None:
        """Run the remaining epochs."""
        settings, ranks = self.run.experiment.training, self.state.ranks
        steps = len(self.train) // settings.batch
        done = progress.epoch * steps + progress.steps
        bar = tqdm(initial=done, total=settings.epochs * steps, desc="training", unit="step")
        bar.disable = bar.disable or not ranks.first
        with bar, fast_convolutions():
            while progress.epoch < settings.epochs:
                row = self._epoch(progress, bar)
                progress = Progress(progress.epoch + 1)
                row |= self._measured(progress.epoch)
                self.run.history.rows.append(row)
                knn = f", kNN {row['knn']:.1f} %" if row["knn"] == row["knn"] else ""
                bar.set_postfix_str(f"epoch {progress.epoch}/{settings.epochs}, loss {row['loss']:.3f}{knn}")
                stop, last = ranks.any(bool(self.received)), progress.epoch == settings.epochs
                if stop or last or progress.epoch % settings.checkpoint_every == 0:
                    self._save(progress)
                for callback in self.callbacks:
                    callback(self.run)
                if stop and not last:
                    raise self._stopped(progress)
        if self.replay is not None and not self.replay.replayed:
            tqdm.write("No step was replayed: the rules changed at every step, or too few steps had a full queue.")

    def _epoch(self, progress: Progress, bar: tqdm) -> Row:  # type: ignore[type-arg]  # older tqdm has no argument
        """Run the rest of one epoch, and return the row of the epoch's means."""
        state, train, experiment = self.state, self.train, self.run.experiment
        settings, known = experiment.training, train.labelled
        if progress.sums is None or progress.order_state is None:
            progress.order_state = state.order_rng.get_state()
            progress.sums = EpochSums(state.device, state.ranks)
        state.order_rng.set_state(progress.order_state)
        order = epoch_order(len(train), settings.shuffle_block, state.order_rng)
        steps = len(train) // settings.batch
        rest = batches(train, settings.batch, order[progress.steps * settings.batch :], state.device)
        state.encoder.train()
        began = time.perf_counter() - progress.seconds
        devices = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(devices=range(devices)):  # manual_seed seeds every one of them
            for batch in rest:
                result = self._step(batch, progress.epoch + progress.steps / steps, known)
                progress.sums.add(state.step, result.loss, result.tally, result.anchors)
                progress.steps += 1
                bar.update()
                if progress.steps < steps and self._stop_requested(progress.steps):
                    progress.seconds = time.perf_counter() - began
                    progress.sums.fetch()  # raises if a loss was not finite: such a state is not saved
                    _check_weights(state)
                    self._save(progress)
                    raise self._stopped(progress)
        metrics = progress.sums.fetch()
        _check_weights(state)
        # As in a single process: the updates are linear in each group's statistics, so the mean over ranks is the mean
        # over all groups. Training does not read them, so once per epoch is enough.
        state.ranks.average_(statistics(state))
        seconds = time.perf_counter() - began
        views = steps * settings.batch * settings.anchors_per_image
        return {"epoch": progress.epoch + 1, **metrics, "seconds": seconds, "views_per_second": views / seconds}

    def _step(self, batch: Batch, at: float, known: bool) -> StepResult:
        """Run one step, `at` epochs into training.

        `known`, whether there are labels, is passed in because reading it at each step would wait for the device.
        """
        state, experiment = self.state, self.run.experiment
        settings = experiment.training
        # For draws of a user's backbone, such as dropout: seeded by step and rank, so that no state has to be saved.
        torch.manual_seed(experiment.seed + 1_000_003 * (state.step * state.ranks.count + state.ranks.rank))
        rate = learning_rate(settings, at, peak=1.0 if state.parts.optimizer else None)
        progress = at / settings.epochs
        if settings.cuda_graph:
            self.replay = self.replay or Replay(state, experiment, known)
            return self.replay.step(batch, rate, progress)
        set_rate(state, rate)
        called = {} if self.on_step is None else {"on_step": self.on_step}
        return train_step(state, batch, experiment, progress=progress, labelled=known, **called)

    def _stop_requested(self, steps: int) -> bool:
        """Return whether any rank was asked to stop; several ranks exchange this every `SYNC_EVERY` steps."""
        ranks, every = self.state.ranks, SYNC_EVERY[self.state.device.type]
        return (ranks.alone or steps % every == 0) and ranks.any(bool(self.received))

    def _stopped(self, progress: Progress) -> Stopped:
        within = f" and {progress.steps} step{'s' * (progress.steps > 1)}" if progress.steps else ""
        done = f"{progress.epoch} of {self.run.experiment.training.epochs} epochs{within}"
        message = f"Stopped after {done}. All of it is saved in {self.run.path}: continue with --resume (resume=True)."
        return Stopped(message, self.received[0] if self.received else None)

    def _save(self, progress: Progress) -> None:
        """Save the run's files, the checkpoint last: once it exists, the weights of its epoch do too."""
        run = self.run
        if run.path is not None:
            run.steps = progress.steps
            if self.state.ranks.first:
                run.save()  # raises if the folder is another's by now
            save_checkpoint(run.path / CHECKPOINT, run, self.state, progress)

    def _measured(self, epoch: int) -> Row:
        """Return kNN, effective rank and the user's protocols after an epoch; nan if it is not measured."""
        run, protocols = self.run, self.run.parts.protocols
        row: Row = dict.fromkeys(("knn", "effective_rank", *protocols), math.nan)
        if epoch < run.experiment.training.epochs and epoch % run.experiment.evaluation.every:
            return row
        if self.state.ranks.first:
            row["knn"] = self._knn()
            row["effective_rank"] = effective_rank(embed(run.encoder, self.train.subset(RANKED, 0), projection=True))
            row |= {name: _number(name, protocol(run)) for name, protocol in protocols.items()}
        row |= self.state.ranks.from_first(row)
        return row

    def _knn(self) -> float:
        """Return the kNN accuracy in percent, with all training images as the bank; nan without labels.

        Images of unknown class are left out.
        """
        if self.judged is None or not (self.train.labelled and self.judged.labelled):
            return math.nan
        sides = known_of(self.train), known_of(self.judged)
        bank, queries = (embed(self.run.encoder, side) for side in sides)
        protocol = self.run.experiment.evaluation.protocol
        return knn_accuracy(bank, sides[0].labels, queries, sides[1].labels, protocol=protocol)


def _number(name: str, value: object) -> float:
    """Return a protocol's result as a float, or raise an error that names the protocol."""
    with suppress(TypeError, ValueError, RuntimeError):
        return float(value)  # type: ignore[arg-type]  # a number of Python, NumPy or torch
    raise CltoolsError(f"The protocol {name!r} returned a value that is {described(value)}; it must return one number.")


def _check_weights(state: TrainState) -> None:
    """Raise an error if weights are not finite: after the last update of an epoch, no loss would reveal it."""
    if not all(bool(parameter.isfinite().all()) for parameter in state.encoder.parameters()):
        raise diverged(f"The weights were not finite after step {state.step}")


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """Let cuDNN choose its fastest algorithms for the shapes of this training by trying them."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
