"""`fit`: from an experiment to a run, with checkpoints on the way."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from cltools.config import Experiment, TrainingSettings
from cltools.datasets import ImageSet, has_test
from cltools.encoders import MomentumCopy, build_encoder
from cltools.evaluation import embed, knn_accuracy, limited
from cltools.mining import OracleNegatives
from cltools.queue import Queue
from cltools.training.checkpoint import (
    check_same_experiment,
    check_same_images,
    environment_changes,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from cltools.training.history import EpochSums, History, Row, diverged
from cltools.training.images import TrainedOn, evaluation_images, labelled, training_images
from cltools.training.record import read_run_record, stretch_here
from cltools.training.run import CHECKPOINT, CONFIG, FILES, Run, read_config
from cltools.training.step import Learner, Memory, batches, train_step

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

    Args:
        experiment: every setting; a seed repeats a CPU run bit for bit (same machine, versions and thread count).
        images: train on these instead of `experiment.data`.
        backbone: your own module [B, 3, H, W] → [B, D] in place of the experiment's.
        start_from: copy encoder, momentum copy and queue of a run; the optimiser is fresh.
        out: the run's folder; None keeps the run in memory.
        resume: go on from the folder's checkpoint. Without one, start; on a finished run, do nothing.
        callbacks: called with the run so far after each epoch.

    Raises:
        ValueError: settings that contradict the images, or a checkpoint made with other settings.
        FileExistsError: the folder already holds a run and `resume` is false.
        FloatingPointError: a loss that is not finite; the last checkpoint stays.
    """
    path = Path(out) if out is not None else None
    state = _checkpoint_to_resume(path, experiment, resume)
    if path is not None and state is not None and state["epoch"] == experiment.training.epochs:
        tqdm.write(f"{path} is finished: {state['epoch']} epochs are done. Nothing was changed.")
        return Run.load(path, backbone=backbone)
    device = resolve_device(experiment.training.device)
    train, judged = _images(experiment, images)
    _check(experiment, train)
    learner = make_learner(experiment, train, backbone, device)
    if start_from is not None:
        _copy(start_from, learner)
    trained_on = TrainedOn.of(train, given=images is not None)
    run = Run(experiment, learner.encoder, History(), path, learner.memory, trained_on)
    done = 0
    if path is not None and state is not None:
        check_same_images(path / CHECKPOINT, state, trained_on)
        restore(learner, state)
        run.history.rows, done = state["rows"], state["epoch"]
        if changes := environment_changes(state, device):
            tqdm.write("Resumed elsewhere, so not bit for bit the same run: " + "; ".join(changes))
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        warm = len(start_from.history.rows) if start_from is not None else 0
        run.here = stretch_here(device, after=done, warm_epochs=warm)
    _train(run, learner, train.to(device), judged, done, callbacks)
    learner.encoder.eval()
    return run


def resolve_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unknown = ValueError(f'Unknown device {name!r}. Use "auto", "cpu", "cuda" or "cuda:1".')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown from None
    if device.type not in ("cpu", "cuda"):
        raise unknown
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'Device {name!r} was asked for, but this machine has no CUDA GPU. Use "cpu" or "auto".')
    return device


def learning_rate(settings: TrainingSettings, epoch: float) -> float:
    """Linear growth from 0 over the warm-up, then a cosine to 0; `epoch` counts fractions, the base is at batch 256."""
    peak = settings.learning_rate * settings.batch / 256
    if epoch < settings.warmup_epochs:
        return peak * epoch / settings.warmup_epochs
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - settings.warmup_epochs) / rest)))


def _checkpoint_to_resume(path: Path | None, experiment: Experiment, resume: bool) -> dict[str, Any] | None:
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
    read_run_record(path)  # a damaged one is refused before an epoch is trained, not after it
    if not checkpoint.exists():
        if (path / CONFIG).exists():
            check_same_experiment(path / CONFIG, read_config(path / CONFIG), experiment)
        tqdm.write(f"{path} holds no checkpoint yet; starting from the beginning.")
        return None
    state = read_checkpoint(checkpoint)
    check_same_experiment(checkpoint, Experiment.from_json(state["experiment"]), experiment)
    return state


def _images(experiment: Experiment, images: ImageSet | None) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on, and images to judge by while training: held out, else the test split, else none."""
    train, judged = training_images(experiment, images)
    if judged is None and images is None and has_test(experiment.data.name):
        judged = evaluation_images(experiment)
    return train, None if judged is None else limited(judged, experiment.evaluation)


def _check(experiment: Experiment, train: ImageSet) -> None:
    """Refuse images that the settings cannot train on."""
    batch = experiment.training.batch
    if len(train) < batch:
        raise ValueError(
            f"{train.name} has {len(train)} training images, fewer than one batch of {batch}. "
            "Lower training.batch, or give more images."
        )
    if isinstance(experiment.negatives, OracleNegatives) and not labelled(train):
        raise ValueError(f"OracleNegatives needs the label of every image, and {train.name} has images without.")


def make_learner(experiment: Experiment, train: ImageSet, backbone: nn.Module | None, device: torch.device) -> Learner:
    """A fresh learner, decided by the seed."""
    settings, seed = experiment.training, experiment.seed
    encoder = build_encoder(experiment.encoder, train, backbone=backbone, seed=seed)
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        encoder.parameters(),
        lr=settings.learning_rate,
        momentum=settings.sgd_momentum,
        weight_decay=settings.weight_decay,
    )
    memory = None
    if settings.mode == "moco":
        queue = Queue(settings.queue_size, experiment.encoder.projection, device=device)
        memory = Memory(MomentumCopy(encoder), queue)
    order = torch.Generator().manual_seed(2 * seed)  # no two seeds share an order or draws
    draws = torch.Generator(device).manual_seed(2 * seed + 1)
    return Learner(encoder, optimizer, memory, order, draws)


def _copy(source: Run, learner: Learner) -> None:
    """Copy what a run has learnt: encoder, and momentum copy and queue where both have them."""
    if {*learner.encoder.backbone.parameters()} & {*source.encoder.backbone.parameters()}:
        raise ValueError("backbone is the very module of start_from, which training would change; give a copy of it.")
    try:
        learner.encoder.load_state_dict(source.encoder.state_dict())
        if learner.memory is not None and source.memory is not None:
            learner.memory.copy.load_state_dict(source.memory.copy.state_dict())
            learner.memory.queue.load_state_dict(source.memory.queue.state_dict())
        elif learner.memory is not None:
            learner.memory.copy.update(learner.encoder, 0.0)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"start_from has another encoder or queue than this experiment: {error}") from error


def _train(
    run: Run,
    learner: Learner,
    train: ImageSet,
    judged: ImageSet | None,
    done: int,
    callbacks: Sequence[Callback],
) -> None:
    """The epochs that are left, each followed by its row, its checkpoint and the callbacks."""
    settings = run.experiment.training
    bar = tqdm(range(done, settings.epochs), initial=done, total=settings.epochs, desc="epochs", unit="epoch")
    for epoch in bar:
        with torch.random.fork_rng(devices=[d for d in (train.images.device,) if d.type == "cuda"]):
            torch.manual_seed(run.experiment.seed + epoch * 1_000_003)  # for what an own backbone draws: dropout
            row = _epoch(learner, train, run.experiment, epoch)
        last = epoch + 1 == settings.epochs
        knn = math.nan
        if judged is not None and (last or (epoch + 1) % run.experiment.evaluation.every == 0):
            knn = _knn(run, train, judged)
        run.history.rows.append(row | {"knn": knn})
        bar.set_postfix_str(f"loss {row['loss']:.3f}" + (f", kNN {knn:.1f} %" if knn == knn else ""))
        if run.path is not None and (last or (epoch + 1) % settings.checkpoint_every == 0):
            run.save()  # first, so that beside a checkpoint of the last epoch lie the weights of the last epoch
            assert run.images is not None
            save_checkpoint(run.path / CHECKPOINT, learner, run.experiment, run.images, epoch + 1, run.history.rows)
        for callback in callbacks:
            callback(run)


def _epoch(learner: Learner, train: ImageSet, experiment: Experiment, epoch: int) -> Row:
    """One pass over the images; the row of its means."""
    settings = experiment.training
    known, device = labelled(train), train.images.device
    order = torch.randperm(len(train), generator=learner.order).to(device)
    sums = EpochSums(device)
    steps = len(train) // settings.batch
    learner.encoder.train()
    began = time.perf_counter()
    for i, batch in enumerate(batches(train.images, train.ids, train.labels, settings.batch, order)):
        at = epoch + i / steps
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate(settings, at)
        result = train_step(learner, batch, experiment, progress=at / settings.epochs, labelled=known)
        sums.add(learner.step, result.loss, result.tally)
    metrics = sums.fetch()
    _check_weights(learner)
    seconds = time.perf_counter() - began
    views = steps * settings.batch * (2 if settings.symmetric or settings.mode == "simclr" else 1)
    return {"epoch": epoch + 1, **metrics, "seconds": seconds, "views_per_second": views / seconds}


def _check_weights(learner: Learner) -> None:
    """Refuse what the last update of an epoch may have broken: no loss after it would show it before the checkpoint."""
    finite = torch.stack([parameter.isfinite().all() for parameter in learner.encoder.parameters()])
    if not finite.all():
        raise diverged(f"The weights were not finite after step {learner.step}")


def _knn(run: Run, train: ImageSet, judged: ImageSet) -> float:
    """KNN accuracy in percent, the bank being all training images; nan where labels are missing."""
    if not (labelled(train) and labelled(judged)):
        return math.nan
    bank, queries = embed(run.encoder, train), embed(run.encoder, judged)
    protocol = run.experiment.evaluation.protocol
    return knn_accuracy(bank, train.labels, queries, judged.labels.to(bank.device), protocol=protocol)
