"""`fit`: from an experiment to a run. What it refuses, the epochs of steps, what is measured and saved after each.

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
from cltools.errors import CltoolsError, described, foreign
from cltools.evaluation import effective_rank, embed, knn_accuracy, known_of, limited
from cltools.files import IN_USE, claimed, reading
from cltools.mining.handed_in import enough_memory
from cltools.provenance import command
from cltools.ranks import Ranks
from cltools.training.checkpoint import ANEW, UNFIT, Checkpoint, Progress, check_same_experiment, save_checkpoint
from cltools.training.inputs import OptimizerOf, Parts, Protocol, TrainedOn, Views, evaluation_images, training_images
from cltools.training.learner import Learner, equalise, learn_from, make_learner, resolve_device, set_rate, statistics
from cltools.training.record import COLUMNS, EpochSums, History, Row, diverged, read_run_record, stretch_here
from cltools.training.run import CHECKPOINT, CONFIG, FILES, Run, read_config
from cltools.training.step import Batch, OnStep, Replay, StepResult, batches, train_step

Callbacks = Sequence[Callable[[Run], object]]
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TELL_EVERY = {"cpu": 1, "cuda": 16}
"""Steps after which ranks tell each other of signals: within the 30 seconds that torchrun gives them."""

RANKED = 1000
"""Training images of which the effective rank is measured."""


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

    Images, backbone, views, optimizer, protocols and the two hooks may be your own; rules and settings are those of the
    experiment. All else is a fixed recipe: two views of each image, an encoder with a projection head, a queue of a
    momentum copy (MoCo) or the batch (SimCLR), one weighted InfoNCE, a warm-up and a cosine to 0, a checkpoint after
    epochs. To change anything else, write a training loop of your own with `similarities`, `select`, `info_nce` and
    `Queue`.

    A part of your own is given here as an object, or named in `experiment.outside`. A config does not say what an
    object was: `record.json` tells which were given, and to resume or to load the run they must be given again. A part
    should keep no state between calls but what a checkpoint holds, the weights of backbone and optimizer; else a
    resumed run is another.

    The history's `effective_rank` tells of collapse: how many directions the embeddings of 1,000 training images use
    alike, 1 where all are one. The kNN column is measured on the held-out images (`data.holdout`), else on the test
    images; where there are neither, as with `images=` or a folder that is one split, it stays empty. Both and the
    protocols are measured after every `evaluation.every` epochs and after the last.

    With `out`, Ctrl-C and SIGTERM stop it after the step under way, and what has been done is saved. The folder is
    claimed before anything is read or computed, and until the end: no other training can write there.

    Started by torchrun, in `cltools.ranks.joined()`, every process calls it alike: each trains on its share of every
    batch; the first alone measures, saves and calls back. Batch norms of an own backbone take the statistics of each
    process's share; own views are made of the whole batch by each process, which keeps its share.

    Args:
        experiment: every setting; a seed repeats a CPU run bit for bit (same machine, versions and thread count).
        images: train on these instead of those that `experiment.data` names; its `limit` and `holdout` hold for them.
        backbone: your own module [B, 3, H, W] → [B, D] in place of the experiment's.
        views: called as `views(images, generator=…)` twice per step, with uint8 [B, 3, H, W] on the device and a
            generator there; returns one view of each image, float in [0, 1] or uint8, [B, 3, H, W]. None for `augment`
            with `experiment.views`. What it draws from elsewhere than the generator repeats on a CPU too, because
            torch's own generator is seeded before each step.
        optimizer: called as `optimizer(parameters)` with the list of the encoder's parameters, such as
            `torch.optim.AdamW`. The schedule then multiplies each group's own learning rate, and the experiment's
            `learning_rate`, `sgd_momentum` and `weight_decay` are not read. None for SGD with these.
        protocols: by column of the history, called with the run so far; each returns a number.
        start_from: copy encoder, momentum copy and queue of a run; the optimizer is fresh.
        out: the run's folder; None keeps the run in memory.
        resume: go on from the folder's checkpoint. Without one, start; on a finished run, do nothing, or go on if more
            epochs are asked for: the learning rate then jumps to where the longer schedule is, and the record says so.
        callbacks: called with the run so far after each epoch.
        on_step: called after each update with a `StepInfo`, whose tensors lie on the device; of several processes the
            first alone calls it, with its own anchors.

    Raises:
        TypeError: no experiment, such as a preset's name, or a part of another kind than is wanted.
        ValueError: settings or parts that contradict each other, the images or the number of processes; a checkpoint
            made with others; a part named in `experiment.outside` that is not found; a folder that another training
            has claimed, which is named; too little memory.
        FileExistsError: the folder already holds a run and `resume` is false.
        FloatingPointError: a loss that is not finite; the last checkpoint stays.
        OSError: a file could not be written; the last checkpoint stays.
        Stopped: a KeyboardInterrupt, after Ctrl-C or SIGTERM; the checkpoint is of this moment.
    """
    if not isinstance(experiment, Experiment):
        raise foreign(experiment, 'An experiment, such as preset("digits-moco"),')
    own = Parts.of(experiment, images=images, backbone=backbone, views=views, optimizer=optimizer, protocols=protocols)
    if out == "":
        raise CltoolsError("out is empty, as an unset variable of a shell leaves it; name the run's folder.")
    ranks, path = Ranks.current(), Path(out) if out is not None else None
    checkpoint = _checkpoint_to_resume(path, experiment, ranks) if resume else None
    ranks.check_agreed({"epochs done": checkpoint.epoch if checkpoint else 0})
    if checkpoint is not None:
        finished = checkpoint.epoch == experiment.training.epochs
        checkpoint.check_same_parts(own.given, finished=finished)
        if finished:  # only read, so that its folder may be one that cannot be written to
            _say(ranks, f"{path} is finished: {checkpoint.epoch} epochs are done. Nothing was changed.")
            return Run.load(checkpoint.path.parent, backbone=backbone, views=views)
    if path is not None:
        if os.path.exists(path) and not os.path.isdir(path):  # which fail for no name
            raise FileExistsError(f"{path} is a file; give a folder for the run.")
        experiment.to_json()  # before the training, not after it, whose result could then not be saved
    # Where the first process may not, torchrun ends the others with it.
    alone = claimed(path / IN_USE, command()) if path is not None and ranks.first else nullcontext()
    with alone, enough_memory("Training", "Lower training.batch or training.queue_size, or set training.chunk."):
        if path is not None and not resume and any((path / name).exists() for name in FILES):
            raise FileExistsError(f"{path} already holds a run. Go on by --resume (resume=True) or use another folder.")
        if resume:  # again, as another may have gone on with it before this one could claim it
            checkpoint = _checkpoint_to_resume(path, experiment, ranks)
            if checkpoint is None:
                _say(ranks, f"{path} holds no checkpoint yet; starting from the beginning.")
        device = resolve_device(experiment.training.device)
        parts = own.resolved(experiment, "backbone", "views", "optimizer", "protocols")
        if taken := [name for name in parts.protocols if name in COLUMNS]:
            raise CltoolsError(f"The history has a column {taken[0]!r} itself; give the protocol another name.")
        with ranks.one_before_others():
            train, judged = _images(experiment, images)
        check_trainable(experiment, train, ranks, device, parts, on_step)
        learner = make_learner(experiment, train, device, ranks, parts)
        if start_from is not None:
            learn_from(start_from.bare(), start_from.memory, learner)
        ranks.check_agreed({"keys in the queue": len(learner.memory.queue) if learner.memory else 0})
        equalise(learner)
        trained_on = TrainedOn.of(train, given=images is not None)
        run = Run(experiment, learner.encoder, History(), path, learner.memory, learner.rule_state, trained_on)
        run.parts, progress = parts, Progress()
        if checkpoint is not None:
            checkpoint.check_same_images(trained_on)
            with reading(f"{checkpoint.path} {UNFIT}", ANEW):
                progress = checkpoint.restore(learner)
            run.history.rows = [{**row} for row in checkpoint.rows]
            if changes := checkpoint.environment_changes(device):
                _say(ranks, "Resumed elsewhere, so not bit for bit the same run: " + "; ".join(changes))
        agreed = {"images": trained_on, "settings": experiment}
        ranks.check_agreed(agreed | {"parts of one's own": own.given, "steps done": learner.step})
        if path is not None:
            warm = len(start_from.history.rows) if start_from is not None else 0
            asked = experiment.training.epochs
            run.here = stretch_here(device, ranks=ranks.count, after=progress.epoch, warm_epochs=warm, asked=asked)
        run.judged = None if judged is None else "val" if judged.split == "val" else "test"
        hooks = (callbacks, on_step) if ranks.first else ((), None)
        with stopping(path is not None) as stop:
            Training(run, learner, train.to(device), judged, *hooks, stop).go_on(progress)
    learner.encoder.eval()
    return run


def _checkpoint_to_resume(path: Path | None, experiment: Experiment, ranks: Ranks) -> Checkpoint | None:
    """The checkpoint to go on from, after every refusal that needs no images."""
    if path is None:
        raise CltoolsError("resume=True needs out=FOLDER, the folder of the run to go on with.")
    checkpoint = Checkpoint.read(path / CHECKPOINT) if (path / CHECKPOINT).exists() else None
    record = read_run_record(path)  # a damaged one is refused before an epoch is trained, not after it
    if checkpoint is not None:
        checkpoint.check_same_settings(experiment, ranks)
    elif (path / CONFIG).exists():
        check_same_experiment(path / CONFIG, read_config(path / CONFIG), experiment)
    every = experiment.training.checkpoint_every  # so much is there if the first checkpoint was cut short
    if checkpoint is None and record is not None and (record.evaluations or record.epochs > every):
        raise CltoolsError(f"{path} lacks its {CHECKPOINT} and cannot go on; put it back, or train elsewhere (--out).")
    return checkpoint


def _images(experiment: Experiment, images: ImageSet | None) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on, and images to judge by while training: held out, else the test split, else none."""
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
    """Refuse images, parts, hooks and a number of processes that the settings cannot train with."""
    settings, group, count = experiment.training, experiment.encoder.bn_group, ranks.count
    if len(train) < settings.batch:
        raise CltoolsError(f"{len(train)} training images are fewer than one batch of {settings.batch}; lower it.")
    for rule in (experiment.positives, experiment.negatives):
        if "same_class" in rule.reads and not train.labelled:
            raise CltoolsError(f"{type(rule).__name__} reads classes, and {train.name} has none; use another rule.")
    if on_step is not None and settings.chunk is not None:
        raise CltoolsError(f"on_step= sees all anchors of a step at once; leave out training.chunk={settings.chunk}.")
    if settings.cuda_graph:
        hindering = {
            "views=": parts.views, "optimizer=": parts.optimizer, "on_step=": on_step, "training.chunk": settings.chunk,
            "torchrun": None if ranks.alone else ranks, "device=cpu": None if device.type == "cuda" else device,
        }  # fmt: skip
        if found := [name for name, value in hindering.items() if value is not None]:
            raise CltoolsError(f"cuda_graph=True goes with none of: {', '.join(found)}. Leave it out, or these.")
        experiment.to_json()  # what cannot be written down cannot be compared from step to step
    if ranks.alone:
        return
    if settings.device not in ("auto", "cpu", "cuda"):
        raise CltoolsError(f"{count} processes take a GPU each; device={settings.device!r} names one. Leave it out.")
    if group is None:
        raise CltoolsError(f"encoder.bn_group is None; {count} processes need groups that one holds, such as 32.")
    if settings.batch % (count * group):
        raise CltoolsError(f"training.batch is {settings.batch}; {count} processes need a multiple of {count * group}.")


def _say(ranks: Ranks, message: str) -> None:
    """A line above the bar, once."""
    if ranks.first:
        tqdm.write(message)


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has saved all it had.

    Attributes:
        signal: that asked; None if it asked another of several processes.
    """

    def __init__(self, message: str, asked: signal.Signals | None) -> None:
        super().__init__(message)
        self.signal = asked


@contextmanager
def stopping(wanted: bool) -> Iterator[list[signal.Signals]]:
    """Turn the first signal into a note, if `wanted`; what the signals did before, they do again afterwards.

    Gives the list into which that signal is written.

    Only the main thread receives signals; elsewhere nothing changes. A signal that the process was started to ignore,
    as Ctrl-C is in the background of a shell, stays ignored.
    """
    asked: list[signal.Signals] = []
    signals = SIGNALS if wanted and threading.current_thread() is threading.main_thread() else ()
    before = {each: handler for each in signals if (handler := signal.getsignal(each)) is not signal.SIG_IGN}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(signal.Signals(number))
        give_back()
        os.write(2, b"\nStopping as soon as what is under way is saved; ask again to stop at once.\n")  # print may wait

    def give_back() -> None:
        for each, handler in before.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)

    for each in before:
        signal.signal(each, note)
    try:
        yield asked
    finally:
        give_back()


def learning_rate(settings: TrainingSettings, epoch: float, peak: float | None = None) -> float:
    """Linear growth from 0 over the warm-up, then a cosine to 0.

    Args:
        settings: of the schedule.
        epoch: epochs done, with fractions.
        peak: the largest rate; None for the settings' `learning_rate`, which is that of a batch of 256, at their batch.
    """
    peak = settings.learning_rate * settings.batch / 256 if peak is None else peak
    if epoch < settings.warmup_epochs:
        return peak * epoch / settings.warmup_epochs
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - settings.warmup_epochs) / rest)))


@dataclass
class Training:
    """Epochs of steps, each epoch followed by its row, its checkpoint and the callbacks."""

    run: Run
    learner: Learner
    train: ImageSet
    judged: ImageSet | None
    callbacks: Callbacks
    on_step: OnStep
    asked: list[signal.Signals]
    replay: Replay | None = field(default=None, init=False)

    def go_on(self, progress: Progress) -> None:
        """What is left of training."""
        settings, ranks = self.run.experiment.training, self.learner.ranks
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
                told = f", kNN {row['knn']:.1f} %" if row["knn"] == row["knn"] else ""
                bar.set_postfix_str(f"epoch {progress.epoch}/{settings.epochs}, loss {row['loss']:.3f}{told}")
                asked, last = ranks.any(bool(self.asked)), progress.epoch == settings.epochs
                if asked or last or progress.epoch % settings.checkpoint_every == 0:
                    self._save(progress)
                for callback in self.callbacks:
                    callback(self.run)
                if asked and not last:
                    raise self._stopped(progress)
        if self.replay is not None and not self.replay.replayed:
            tqdm.write("No step was replayed: rules moved all the time, or too few steps had a full queue.")

    def _epoch(self, progress: Progress, bar: tqdm) -> Row:  # type: ignore[type-arg]  # older tqdm has no argument
        """The rest of one pass over the images; the row of the pass's means."""
        learner, train, experiment = self.learner, self.train, self.run.experiment
        settings, known = experiment.training, train.labelled
        if progress.sums is None or progress.shuffler_state is None:
            progress.shuffler_state = learner.shuffler.get_state()
            progress.sums = EpochSums(learner.device, learner.ranks)
        learner.shuffler.set_state(progress.shuffler_state)
        permutation = torch.randperm(len(train), generator=learner.shuffler).to(learner.device)
        steps = len(train) // settings.batch
        rest = permutation[progress.steps * settings.batch :]
        learner.encoder.train()
        began = time.perf_counter() - progress.seconds
        devices = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(devices=range(devices)):  # on every one of which a seed sets draws
            for batch in batches(train.images, train.ids, train.labels, settings.batch, rest):
                result = self._step(batch, progress.epoch + progress.steps / steps, known)
                progress.sums.add(learner.step, result.loss, result.tally, result.anchors)
                progress.steps += 1
                bar.update()
                if progress.steps < steps and self._asked(progress.steps):
                    progress.seconds = time.perf_counter() - began
                    progress.sums.fetch()  # a loss that was not finite is no state to go on from
                    _check_weights(learner)
                    self._save(progress)
                    raise self._stopped(progress)
        metrics = progress.sums.fetch()
        _check_weights(learner)
        # As one process would have them: they move by a share of what each group measures, so their mean over ranks is
        # that of all groups; training reads none of them, so once per epoch is enough.
        learner.ranks.average_(statistics(learner))
        seconds = time.perf_counter() - began
        views = steps * settings.batch * settings.anchors_per_image
        return {"epoch": progress.epoch + 1, **metrics, "seconds": seconds, "views_per_second": views / seconds}

    def _step(self, batch: Batch, at: float, known: bool) -> StepResult:
        """One step at a place of training, in epochs; `known` are the labels, which takes the device a while to say."""
        learner, experiment = self.learner, self.run.experiment
        settings = experiment.training
        # For what an own backbone draws, such as dropout: of this step and rank, so that nothing has to be kept.
        torch.manual_seed(experiment.seed + 1_000_003 * (learner.step * learner.ranks.count + learner.ranks.rank))
        rate = learning_rate(settings, at, peak=1.0 if learner.parts.optimizer else None)
        progress = at / settings.epochs
        if settings.cuda_graph:
            self.replay = self.replay or Replay(learner, experiment, known)
            return self.replay.step(batch, rate, progress)
        set_rate(learner, rate)
        called = {} if self.on_step is None else {"on_step": self.on_step}
        return train_step(learner, batch, experiment, progress=progress, labelled=known, **called)

    def _asked(self, steps: int) -> bool:
        """Whether any rank was asked to stop. Several tell each other so rarely that it costs nothing."""
        ranks, every = self.learner.ranks, TELL_EVERY[self.learner.device.type]
        return (ranks.alone or steps % every == 0) and ranks.any(bool(self.asked))

    def _stopped(self, progress: Progress) -> Stopped:
        within = f" and {progress.steps} step{'s' * (progress.steps > 1)}" if progress.steps else ""
        done = f"{progress.epoch} of {self.run.experiment.training.epochs} epochs{within}"
        told = f"Stopped after {done}. All of it is saved in {self.run.path}: go on with --resume (resume=True)."
        return Stopped(told, self.asked[0] if self.asked else None)

    def _save(self, progress: Progress) -> None:
        """The run's files; the checkpoint last, so that beside one of the last epoch lie that epoch's weights."""
        run = self.run
        if run.path is not None:
            run.steps = progress.steps
            if self.learner.ranks.first:
                run.save()
            save_checkpoint(run.path / CHECKPOINT, run, self.learner, progress)

    def _measured(self, epoch: int) -> Row:
        """What the encoder is worth after an epoch, protocols of one's own included; nan where it is not measured."""
        run, protocols = self.run, self.run.parts.protocols
        row: Row = dict.fromkeys(("knn", "effective_rank", *protocols), math.nan)
        if epoch < run.experiment.training.epochs and epoch % run.experiment.evaluation.every:
            return row
        if self.learner.ranks.first:
            row["knn"] = self._knn()
            row["effective_rank"] = effective_rank(embed(run.encoder, self.train.subset(RANKED, 0), projection=True))
            row |= {name: _number(name, protocol(run)) for name, protocol in protocols.items()}
        row |= self.learner.ranks.from_first(row)
        return row

    def _knn(self) -> float:
        """KNN accuracy in percent, the bank being all training images; nan where there are no labels to judge by.

        Images of unknown class are left out.
        """
        if self.judged is None or not (self.train.labelled and self.judged.labelled):
            return math.nan
        sides = known_of(self.train), known_of(self.judged)
        bank, queries = (embed(self.run.encoder, side) for side in sides)
        protocol = self.run.experiment.evaluation.protocol
        return knn_accuracy(bank, sides[0].labels, queries, sides[1].labels, protocol=protocol)


def _number(name: str, value: object) -> float:
    """What a protocol returned, as a number."""
    with suppress(TypeError, ValueError, RuntimeError):
        return float(value)  # type: ignore[arg-type]  # a number of Python, NumPy or torch
    raise CltoolsError(f"The protocol {name!r} returned what is {described(value)}; it must return one number.")


def _check_weights(learner: Learner) -> None:
    """Refuse what the last update of an epoch may have broken: no loss after it would show it before the checkpoint."""
    if not all(bool(parameter.isfinite().all()) for parameter in learner.encoder.parameters()):
        raise diverged(f"The weights were not finite after step {learner.step}")


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """On CUDA, let cuDNN try which of its algorithms is fastest for the shapes of this training."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
