"""`fit`: from an experiment to a run; what it refuses, and where it goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from cltools.config import Experiment
from cltools.datasets import ImageSet, has_test
from cltools.errors import foreign
from cltools.evaluation import limited
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
)
from cltools.training.history import History
from cltools.training.images import TrainedOn, evaluation_images, labelled, training_images
from cltools.training.interrupt import stopping
from cltools.training.learner import equalise, learn_from, make_learner, resolve_device
from cltools.training.loop import Callback, Training
from cltools.training.record import read_run_record, stretch_here
from cltools.training.run import CHECKPOINT, CONFIG, FILES, Run, read_config


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
    batch; the first alone measures, saves and calls back. Batch norms of an own backbone take the statistics of each
    process's share.

    Args:
        experiment: every setting; a seed repeats a CPU run bit for bit (same machine, versions and thread count).
        images: train on these instead of `experiment.data`.
        backbone: your own module [B, 3, H, W] → [B, D] in place of the experiment's.
        start_from: copy encoder, momentum copy and queue of a run; the optimiser is fresh.
        out: the run's folder; None keeps the run in memory.
        resume: go on from the folder's checkpoint. Without one, start; on a finished run, do nothing.
        callbacks: called with the run so far after each epoch.

    Raises:
        TypeError: no experiment, such as a preset's name.
        ValueError: settings that contradict the images or the number of processes, or a checkpoint made with others.
        FileExistsError: the folder already holds a run and `resume` is false.
        FloatingPointError: a loss that is not finite; the last checkpoint stays.
        OSError: a file could not be written; the last checkpoint stays.
        Stopped: a KeyboardInterrupt, after Ctrl-C or SIGTERM; the checkpoint is of this moment.
    """
    if not isinstance(experiment, Experiment):
        raise foreign(experiment, 'An experiment, such as preset("digits-moco"),')
    ranks, path = Ranks.here(), Path(out) if out is not None else None
    state = _checkpoint_to_resume(path, experiment, resume, ranks)
    ranks.check_agreed({"epochs done": state["epoch"] if state else 0})
    if path is not None and state is not None and state["epoch"] == experiment.training.epochs:
        _say(ranks, f"{path} is finished: {state['epoch']} epochs are done. Nothing was changed.")
        return Run.load(path, backbone=backbone)
    device = resolve_device(experiment.training.device)
    with ranks.one_before_others():
        train, judged = _images(experiment, images)
    check_trainable(experiment, train, ranks, device)
    learner = make_learner(experiment, train, backbone, device, ranks)
    if start_from is not None:
        learn_from(start_from.encoder, start_from.memory, learner)
    ranks.check_agreed({"keys in the queue": len(learner.memory.queue) if learner.memory else 0})
    equalise(learner)
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
        warm = len(start_from.history.rows) if start_from is not None else 0
        run.here = stretch_here(device, ranks=ranks.count, after=progress.epoch, warm_epochs=warm)
    with stopping(path is not None) as stop:
        Training(run, learner, train.to(device), judged, callbacks, stop).go_on(progress)
    learner.encoder.eval()
    return run


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
    read_run_record(path)  # a damaged one is refused before an epoch is trained, not after it
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


def check_trainable(experiment: Experiment, train: ImageSet, ranks: Ranks, device: torch.device) -> None:
    """Refuse images, and a number of processes, that the settings cannot train with."""
    batch, group = experiment.training.batch, experiment.encoder.bn_group
    if len(train) < batch:
        raise ValueError(
            f"{train.name} has {len(train)} training images, fewer than one batch of {batch}. "
            "Lower training.batch, or give more images."
        )
    if isinstance(experiment.negatives, OracleNegatives) and not labelled(train):
        raise ValueError(
            f"OracleNegatives needs the label of every image, and {train.name} has images without. Give images with a "
            "class each, or use another rule."
        )
    if experiment.training.cuda_graph:
        if device.type != "cuda":
            raise ValueError("cuda_graph=True records a GPU's work, and this training is on the CPU; leave it out.")
        if experiment.training.chunk is not None or not ranks.alone:
            raise ValueError("cuda_graph=True takes one process and all anchors at once: chunk=None, no torchrun.")
        experiment.to_json()  # what cannot be written down cannot be compared from step to step
        if "__dataclass_fields__" not in vars(type(experiment.negatives)):
            name = type(experiment.negatives).__name__
            raise ValueError(
                f"cuda_graph=True compares a rule's fields from step to step, and {name} is no dataclass of its own: "
                "put @dataclass(frozen=True) above the class, and all that it holds into fields."
            )
    if ranks.alone:
        return
    if experiment.training.device not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"{ranks.count} processes take a GPU each; device={experiment.training.device!r} names one. Leave it out."
        )
    if batch % ranks.count:
        raise ValueError(
            f"training.batch is {batch}, which does not divide among {ranks.count} processes; make it a multiple of "
            f"{ranks.count}."
        )
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


def _say(ranks: Ranks, message: str) -> None:
    """A line above the bar, once."""
    if ranks.first:
        tqdm.write(message)
