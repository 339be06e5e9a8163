"""The loop of a training: epochs of steps, what is measured after each, checkpoints on the way."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from tqdm.auto import tqdm

from cltools.config import TrainingSettings
from cltools.datasets import ImageSet
from cltools.evaluation import embed, knn_accuracy
from cltools.training.allocator import keeping_freed_memory
from cltools.training.checkpoint import Progress, save_checkpoint
from cltools.training.history import EpochSums, Row, diverged
from cltools.training.images import labelled
from cltools.training.interrupt import Stop, Stopped
from cltools.training.learner import Learner, statistics
from cltools.training.replay import Replay, set_rate
from cltools.training.run import CHECKPOINT, Run
from cltools.training.step import Batch, StepResult, batches, train_step

Callback = Callable[[Run], None]
TELL_EVERY = {"cpu": 1, "cuda": 16}
"""Steps after which ranks tell each other of signals: within the 30 seconds that torchrun gives them."""


def learning_rate(settings: TrainingSettings, epoch: float) -> float:
    """Linear growth from 0 over the warm-up, then a cosine to 0; `epoch` counts fractions, the base is at batch 256."""
    peak = settings.learning_rate * settings.batch / 256
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
    callbacks: Sequence[Callback]
    stop: Stop
    replay: Replay | None = field(default=None, init=False)

    def go_on(self, progress: Progress) -> None:
        """What is left of training."""
        settings, ranks = self.run.experiment.training, self.learner.ranks
        steps = len(self.train) // settings.batch
        done = progress.epoch * steps + progress.steps
        bar = tqdm(initial=done, total=settings.epochs * steps, desc="training", unit="step", disable=not ranks.first)
        with bar, fast_convolutions(), keeping_freed_memory(self.learner.device):
            while progress.epoch < settings.epochs:
                row = self._epoch(progress, bar)
                progress = Progress(progress.epoch + 1)
                knn = self._knn(progress.epoch)
                self.run.history.rows.append(row | {"knn": knn})
                measured = f", kNN {knn:.1f} %" if knn == knn else ""
                bar.set_postfix_str(f"epoch {progress.epoch}/{settings.epochs}, loss {row['loss']:.3f}{measured}")
                asked, last = ranks.any(self.stop.asked is not None), progress.epoch == settings.epochs
                if asked or last or progress.epoch % settings.checkpoint_every == 0:
                    self._save(progress)
                for callback in self.callbacks if ranks.first else ():
                    callback(self.run)
                if asked and not last:
                    raise self._stopped(progress)
        if self.replay is not None and not self.replay.replayed:
            tqdm.write("No step was replayed: rules moved all the time, or too few steps had a full queue.")

    def _epoch(self, progress: Progress, bar: tqdm) -> Row:  # type: ignore[type-arg]  # older tqdm has no argument
        """The rest of one pass over the images; the row of the pass's means."""
        learner, train, experiment = self.learner, self.train, self.run.experiment
        settings, known = experiment.training, labelled(train)
        if progress.sums is None:
            progress.order, progress.sums = learner.order.get_state(), EpochSums(learner.device, learner.ranks)
        assert progress.order is not None
        learner.order.set_state(progress.order)
        order = torch.randperm(len(train), generator=learner.order).to(learner.device)
        steps = len(train) // settings.batch
        rest = order[progress.steps * settings.batch :]
        learner.encoder.train()
        began = time.perf_counter() - progress.seconds
        with torch.random.fork_rng(devices=[d for d in (learner.device,) if d.type == "cuda"]):
            for batch in batches(train.images, train.ids, train.labels, settings.batch, rest):
                at = progress.epoch + progress.steps / steps
                result = self._step(batch, at, known)
                progress.sums.add(learner.step, result.loss, result.tally)
                progress.steps += 1
                bar.update()
                if progress.steps < steps and self._asked(progress.steps):
                    progress.seconds = time.perf_counter() - began
                    self._stop_within(progress)
        metrics = progress.sums.fetch()
        _check_weights(learner)
        average_statistics(learner)
        seconds = time.perf_counter() - began
        views = steps * settings.batch * settings.views
        return {"epoch": progress.epoch + 1, **metrics, "seconds": seconds, "views_per_second": views / seconds}

    def _step(self, batch: Batch, at: float, known: bool) -> StepResult:
        """One step at a place of training, in epochs; `known` are the labels, which takes the device a while to say."""
        learner, experiment = self.learner, self.run.experiment
        settings = experiment.training
        # For what an own backbone draws, such as dropout: of this step and rank, so that nothing has to be kept.
        torch.manual_seed(experiment.seed + 1_000_003 * (learner.step * learner.ranks.count + learner.ranks.rank))
        rate, progress = learning_rate(settings, at), at / settings.epochs
        if settings.cuda_graph:
            self.replay = self.replay or Replay(learner, experiment, known)
            return self.replay.step(batch, rate, progress)
        set_rate(learner, rate)
        return train_step(learner, batch, experiment, progress=progress, labelled=known)

    def _asked(self, steps: int) -> bool:
        """Whether any rank was asked to stop. Several tell each other so rarely that it costs nothing."""
        ranks, every = self.learner.ranks, TELL_EVERY[self.learner.device.type]
        return (ranks.alone or steps % every == 0) and ranks.any(self.stop.asked is not None)

    def _stop_within(self, progress: Progress) -> None:
        """Save within an epoch and stop."""
        assert progress.sums is not None
        progress.sums.fetch()  # a loss that was not finite is no state to go on from
        _check_weights(self.learner)
        self._save(progress)
        raise self._stopped(progress)

    def _stopped(self, progress: Progress) -> Stopped:
        within = f" and {progress.steps} step{'s' * (progress.steps > 1)}" if progress.steps else ""
        return Stopped(
            f"Stopped after {progress.epoch} of {self.run.experiment.training.epochs} epochs{within}. All of it is "
            f"saved in {self.run.path}: go on with --resume (resume=True).",
            self.stop.asked,
        )

    def _save(self, progress: Progress) -> None:
        """The run's files; the checkpoint last, so that beside one of the last epoch lie that epoch's weights."""
        path, images = self.run.path, self.run.images
        if path is None:
            return
        assert images is not None
        self.run.steps = progress.steps
        if self.learner.ranks.first:
            self.run.save()
        save_checkpoint(path / CHECKPOINT, self.learner, self.run.experiment, images, progress, self.run.history.rows)

    def _knn(self, epoch: int) -> float:
        """KNN accuracy in percent after an epoch, the bank being all training images; nan where it is not measured."""
        every, last = self.run.experiment.evaluation.every, self.run.experiment.training.epochs
        if self.judged is None or (epoch != last and epoch % every):
            return math.nan
        if not (labelled(self.train) and labelled(self.judged)):
            return math.nan
        accuracy = math.nan
        if self.learner.ranks.first:
            bank, queries = embed(self.run.encoder, self.train), embed(self.run.encoder, self.judged)
            labels, protocol = self.judged.labels.to(bank.device), self.run.experiment.evaluation.protocol
            accuracy = knn_accuracy(bank, self.train.labels, queries, labels, protocol=protocol)
        return float(self.learner.ranks.from_first(accuracy))


def _check_weights(learner: Learner) -> None:
    """Refuse what the last update of an epoch may have broken: no loss after it would show it before the checkpoint."""
    finite = torch.stack([parameter.isfinite().all() for parameter in learner.encoder.parameters()])
    if not finite.all():
        raise diverged(f"The weights were not finite after step {learner.step}")


def average_statistics(learner: Learner) -> None:
    """Running statistics as one process would have them.

    They move by a share of what each group measures, so their mean over ranks is that of all groups; training reads
    none of them, so once an epoch is enough.
    """
    learner.ranks.average_(statistics(learner))


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """On CUDA, let cuDNN try which of its algorithms is fastest for the shapes of this training."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
