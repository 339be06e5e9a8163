"""The state of a run on disk: all that a resumed run needs to go on bit for bit.

A checkpoint is written to a new file and moved into place, so a crash while writing leaves the one before.
"""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cltools.config import Experiment, differences
from cltools.files import replacing
from cltools.training.history import Row
from cltools.training.images import TrainedOn
from cltools.training.step import Learner

FORMAT = "cltools checkpoint"
VERSION = 1
IMMATERIAL = ("data.root:", "data.download:", "training.device:", "training.checkpoint_every:")


def environment(device: torch.device) -> dict[str, str]:
    """What must be equal for a resumed run to repeat the uninterrupted one bit for bit."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # its own type is not for weights_only
        "threads": str(torch.get_num_threads()),
        "machine": platform.machine(),
        "device": device.type,
    }


def save_checkpoint(
    path: Path, learner: Learner, experiment: Experiment, images: TrainedOn, epoch: int, rows: list[Row]
) -> None:
    """Write the learner after `epoch` epochs and the history; the file before stays until the new one is whole."""
    memory = learner.memory
    state = {
        "format": FORMAT,
        "version": VERSION,
        "environment": environment(learner.draws.device),
        "experiment": experiment.to_json(),
        "images": asdict(images),
        "epoch": epoch,
        "step": learner.step,
        "rows": rows,
        "encoder": learner.encoder.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "momentum_copy": memory.copy.state_dict() if memory else None,
        "queue": memory.queue.state_dict() if memory else None,
        "order": learner.order.get_state(),
        "draws": learner.draws.get_state(),
    }
    with replacing(path) as part:
        torch.save(state, part)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        ValueError: not a checkpoint of ours, damaged, or of another format version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged and for foreign files
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: it is damaged or foreign)."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of cltools.")
    if state["version"] != VERSION:
        raise ValueError(
            f"{path} has checkpoint format {state['version']}; this version reads format {VERSION}. "
            "Resume it with the version that wrote it, or start anew in another folder."
        )
    return state


def restore(learner: Learner, state: dict[str, Any]) -> None:
    """Put a checkpoint's state into a learner of the same experiment.

    Raises:
        ValueError: the learner has another backbone.
    """
    try:
        learner.encoder.load_state_dict(state["encoder"])
    except RuntimeError as error:
        raise ValueError(
            f"The checkpoint is of another backbone; give the backbone= that the run was trained with. {error}"
        ) from error
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.order.set_state(state["order"])
    if state["environment"]["device"] == learner.draws.device.type:  # a generator reads its own device's states only
        learner.draws.set_state(state["draws"])
    learner.step = state["step"]
    if learner.memory is not None:
        learner.memory.copy.load_state_dict(state["momentum_copy"])
        learner.memory.queue.load_state_dict(state["queue"])


def check_same_images(path: Path, state: dict[str, Any], images: TrainedOn) -> None:
    """Refuse to go on with other images than those trained on so far."""
    before = TrainedOn(**state["images"])
    if before != images:
        raise ValueError(
            f"{path} was trained on {before}, these are {images}. "
            "Resume with the same images (and the same images=), or start a new run in another folder."
        )


def check_same_experiment(path: Path, saved: Experiment, experiment: Experiment) -> None:
    """Refuse to resume with other settings than those saved at `path`, and say which differ.

    Where data lie, where the run computes and how often it saves change no result, and may differ.
    """
    changed = [line for line in differences(saved, experiment) if not line.startswith(IMMATERIAL)]
    if changed:
        raise ValueError(
            f"{path} was made with other settings:\n  " + "\n  ".join(changed) + "\n"
            "Resume with the same settings, or start a new run in another folder."
        )


def environment_changes(state: dict[str, Any], device: torch.device) -> list[str]:
    """What differs from where the checkpoint was made; with none, the resumed run repeats bit for bit."""
    now = environment(device)
    return [f"{name}: {then} → {now.get(name)}" for name, then in state["environment"].items() if now.get(name) != then]
