"""`fit`: from an experiment to a run, with checkpoints on the way."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import ImageSet, has_test
from cltools.evaluation import embed, knn_accuracy, limited
from cltools.mining import OracleNegatives
from cltools.ranks import Ranks
from cltools.training.checkpoint import (
    Progress,
    check_same_experiment,
    check_same_images,
    check_same_ranks,
    environment_changes,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from cltools.training.history import EpochSums, History, Row, diverged
from cltools.training.images import TrainedOn, evaluation_images, labelled, training_images
from cltools.training.interrupt import Stop, Stopped, stopping
from cltools.training.learner import Learner, learn_from, make_learner, resolve_device
from cltools.training.run import CHECKPOINT, CONFIG, FILES, Run, read_config
from cltools.training.step import Batch, StepResult, batches, train_step

Callback = Callable[[Run], None]


def fit(
    experiment: Experiment,
    *,
    images: ImageSet | None = None,
    backbone: nn.Module | None = None,
    start_from: Run | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Train an encoder.

    The kNN column of the history is measured on the held-out images (`data.holdout`), else on the test images; where
    there are neither, as with `images=` or a folder that is one split, it stays empty.

    With `out`, Ctrl-C and SIGTERM stop it after the step under way, and what has been done is saved.

    Started by torchrun, in `cltools.ranks.joined()`, every process calls it alike: each trains on its share of every
    batch; the first alone measures, saves and calls back; signals stop it at the end of the epoch. Batch norms of an
    own backbone take the statistics of each process's share.

    Args:
        experiment: every setting; a seed repeats a CPU run bit for bit (same machine, versions and thread count).
        images: train on these instead of `experiment.data`.
        backbone: your own module [B, 3, H, W] → [B, D] in place of the experiment's.
        start_from: copy encoder, momentum copy and queue of a run; the optimiser is fresh.
        out: the run's folder; None keeps the run in memory.
        resume: go on from the folder's checkpoint. Without one, start; on a finished run, do nothing.
        callbacks: called with the run so far after each epoch.

    Raises:
        ValueError: settings that contradict the images or the number of processes, or a checkpoint made with others.
        FileExistsError: the folder already holds a run and `resume` is false.
        FloatingPointError: a loss that is not finite; the last checkpoint stays.
        OSError: a file could not be written; the last checkpoint stays.
        Stopped: a KeyboardInterrupt, after Ctrl-C or SIGTERM; the checkpoint is of this moment.
    """
    ranks, path = Ranks.here(), Path(out) if out is not None else None
    state = _checkpoint_to_resume(path, experiment, resume, ranks)
    if path is not None and state is not None and state["epoch"] == experiment.training.epochs:
        _say(ranks, f"{path} is finished: {state['epoch']} epochs are done. Nothing was changed.")
        return Run.load(path, backbone=backbone)
    device = resolve_device(experiment.training.device)
    with ranks.one_before_others():
        train, judged = _images(experiment, images)
    _check(experiment, train, ranks)
    learner = make_learner(experiment, train, backbone, device, ranks)
    if start_from is not None:
        learn_from(start_from.encoder, start_from.memory, learner)
    trained_on = TrainedOn.of(train, given=images is not None)
    run, progress = Run(experiment, learner.encoder, History(), path, learner.memory, trained_on), Progress()
    if path is not None and state is not None:
        check_same_images(path / CHECKPOINT, state, trained_on)
        progress = restore(learner, state)
        run.history.rows = state["rows"]
        if changes := environment_changes(state, device):
            _say(ranks, "Resumed elsewhere, so not bit for bit the same run: " + "; ".join(changes))
    ranks.check_agreed({"images": trained_on, "settings": experiment, "steps done": learner.step})
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
    with stopping(path is not None) as stop, _fast_convolutions():
        _Training(run, learner, train.to(device), judged, callbacks, stop).go_on(progress)
    learner.encoder.eval()
    return run


def learning_rate(settings: TrainingSettings, epoch: float) -> float:
    """Linear growth from 0 over the warm-up, then a cosine to 0; `epoch` counts fractions, the base is at batch 256."""
    peak = settings.learning_rate * settings.batch / 256
    if epoch < settings.warmup_epochs:
        return peak * epoch / settings.warmup_epochs
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - settings.warmup_epochs) / rest)))


def _checkpoint_to_resume(
    path: Path | None, experiment: Experiment, resume: bool, ranks: Ranks
) -> dict[str, Any] | None:
    """The checkpoint to go on from, after every refusal that needs no images."""
    if path is not None:
        experiment.to_json()  # before the training, not after it, whose result could then not be saved
    if resume and path is None:
        raise ValueError("resume=True needs out=FOLDER, the folder of the run to go on with.")
    if path is None:
        return None
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file; give a folder for the run.")
    checkpoint = path / CHECKPOINT
    if not resume:
        if any((path / name).exists() for name in FILES):
            raise FileExistsError(
                f"{path} already holds a run. Go on with --resume (resume=True), or use another folder."
            )
        return None
    if not checkpoint.exists():
        if (path / CONFIG).exists():
            check_same_experiment(path / CONFIG, read_config(path / CONFIG), experiment)
        _say(ranks, f"{path} holds no checkpoint yet; starting from the beginning.")
        return None
    state = read_checkpoint(checkpoint)
    check_same_experiment(checkpoint, Experiment.from_json(state["experiment"]), experiment)
    check_same_ranks(checkpoint, state, ranks)
    return state


def _images(experiment: Experiment, images: ImageSet | None) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on, and images to judge by while training: held out, else the test split, else none."""
    train, judged = training_images(experiment, images)
    if judged is None and images is None and has_test(experiment.data.name):
        judged = evaluation_images(experiment)
    return train, None if judged is None else limited(judged, experiment.evaluation)


def _check(experiment: Experiment, train: ImageSet, ranks: Ranks) -> None:
    """Refuse images, and a number of processes, that the settings cannot train with."""
    batch, group = experiment.training.batch, experiment.encoder.bn_group
    if len(train) < batch:
        raise ValueError(
            f"{train.name} has {len(train)} training images, fewer than one batch of {batch}. "
            "Lower training.batch, or give more images."
        )
    if isinstance(experiment.negatives, OracleNegatives) and not labelled(train):
        raise ValueError(f"OracleNegatives needs the label of every image, and {train.name} has images without.")
    if ranks.alone:
        return
    if experiment.training.device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"{ranks.count} processes take a GPU each; device={experiment.training.device!r} names one.")
    if batch % ranks.count:
        raise ValueError(f"training.batch is {batch}, which does not divide among {ranks.count} processes.")
    if group is None:
        raise ValueError(
            f"encoder.bn_group is None: batch statistics are taken over a whole view, which {ranks.count} processes "
            f"hold in parts. Give groups that one process holds, such as encoder.bn_group=32 (--encoder.bn-group 32)."
        )
    if batch // ranks.count % group:
        raise ValueError(
            f"Each of {ranks.count} processes holds {batch // ranks.count} images of a view, which do not divide into "
            f"batch-norm groups of {group}. Make training.batch a multiple of {ranks.count * group}."
        )


@dataclass
class _Training:
    """Epochs of steps, each epoch followed by its row, its checkpoint and the callbacks."""

    run: Run
    learner: Learner
    train: ImageSet
    judged: ImageSet | None
    callbacks: Sequence[Callback]
    stop: Stop

    def go_on(self, progress: Progress) -> None:
        """What is left of training."""
        settings, ranks = self.run.experiment.training, self.learner.ranks
        steps = len(self.train) // settings.batch
        done = progress.epoch * steps + progress.steps
        bar = tqdm(initial=done, total=settings.epochs * steps, desc="training", unit="step", disable=not ranks.first)
        with bar:
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

    def _epoch(self, progress: Progress, bar: "tqdm[Any]") -> Row:
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
                if self.stop.asked is not None and learner.ranks.alone and progress.steps < steps:
                    progress.seconds = time.perf_counter() - began
                    self._stop_within(progress)
        metrics = progress.sums.fetch()
        _check_weights(learner)
        _average_statistics(learner)
        seconds = time.perf_counter() - began
        views = steps * settings.batch * (2 if settings.symmetric or settings.mode == "simclr" else 1)
        return {"epoch": progress.epoch + 1, **metrics, "seconds": seconds, "views_per_second": views / seconds}

    def _step(self, batch: Batch, at: float, known: bool) -> StepResult:
        """One step at a place of training, in epochs; `known` are the labels, which takes the device a while to say."""
        learner, experiment = self.learner, self.run.experiment
        settings = experiment.training
        # For what an own backbone draws, such as dropout: of this step and rank, so that nothing has to be kept.
        torch.manual_seed(experiment.seed + 1_000_003 * (learner.step * learner.ranks.count + learner.ranks.rank))
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate(settings, at)
        return train_step(learner, batch, experiment, progress=at / settings.epochs, labelled=known)

    def _stop_within(self, progress: Progress) -> None:
        """Save within an epoch and stop."""
        assert progress.sums is not None
        progress.sums.fetch()  # a loss that was not finite is no state to go on from
        _check_weights(self.learner)
        self._save(progress)
        raise self._stopped(progress)

    def _stopped(self, progress: Progress) -> Stopped:
        within = f" and {progress.steps} steps" if progress.steps else ""
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


def _average_statistics(learner: Learner) -> None:
    """Running statistics as one process would have them.

    They move by a share of what each group measures, so their mean over ranks is that of all groups; training reads
    none of them, so once an epoch is enough.
    """
    modules = [learner.encoder, *([learner.memory.copy] if learner.memory is not None else [])]
    learner.ranks.average_([b for module in modules for b in module.buffers() if b.is_floating_point()])


@contextmanager
def _fast_convolutions() -> Iterator[None]:
    """On CUDA, let cuDNN try which of its algorithms is fastest for the shapes of this training."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _say(ranks: Ranks, message: str) -> None:
    """A line above the bar, once."""
    if ranks.first:
        tqdm.write(message)
