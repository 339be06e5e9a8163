"""The state of a run on disk: all that a resumed run needs to go on bit for bit.

A checkpoint is written to a new file and moved into place, so a crash while writing leaves the one before. It may be of
the middle of an epoch.
"""

import platform
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from torch import Tensor

from cltools.config import Experiment, differences
from cltools.errors import CltoolsError, shown
from cltools.files import reading, replacing
from cltools.ranks import Ranks
from cltools.training.inputs import TrainedOn
from cltools.training.learner import Learner, Memory, reseed, statistics
from cltools.training.record import EpochSums, Row

if TYPE_CHECKING:
    from cltools.training.run import Run

FORMAT = "cltools checkpoint"
VERSION = 5
UNFIT = "does not fit the backbone or optimizer given here, or was altered"
ANEW = "Put it back as it was, or train from the beginning into another folder."


@dataclass
class Progress:
    """How far training has come.

    Attributes:
        epoch: epochs done.
        steps: of the epoch under way.
        shuffler_state: that of the learner's `shuffler` before that epoch, from which its permutation of the images is
            drawn again.
        seconds: that it has taken so far.
        sums: of its metrics so far; None before its first step.
    """

    epoch: int = 0
    steps: int = 0
    shuffler_state: Tensor | None = None
    seconds: float = 0.0
    sums: EpochSums | None = None


def environment(device: torch.device) -> dict[str, str]:
    """What must be equal for a resumed run to repeat the uninterrupted one bit for bit."""
    # torch's version is of a type of its own, which is not for weights_only
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return versions | {"threads": str(torch.get_num_threads()), "machine": platform.machine(), "device": device.type}


def save_checkpoint(path: Path, run: "Run", learner: Learner, progress: Progress) -> None:
    """Write the learner and the history; the file before stays until the new one is whole. For every rank to call.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; the file before is as it was.
    """
    assert run.images is not None
    ranks, memory = learner.ranks, learner.memory
    each = ranks.all_gather_object({"chance": learner.chance.get_state(), "partial": _partial(learner, progress)})
    if ranks.first:
        state = {
            "format": FORMAT,
            "version": VERSION,
            "environment": environment(learner.device),
            "experiment": run.experiment.to_json(),
            "images": asdict(run.images),
            "given": {**run.parts.given},
            "epoch": progress.epoch,
            "step": learner.step,
            "rows": run.history.rows,
            "encoder": learner.encoder.state_dict(),
            "optimizer_class": type(learner.optimizer).__qualname__,
            "optimizer": learner.optimizer.state_dict(),
            "momentum_copy": memory.copy.state_dict() if memory else None,
            "queue": memory.queue.state_dict() if memory else None,
            "rule_state": learner.rule_state,
            "shuffler": learner.shuffler.get_state(),
            "draws": learner.draws.get_state(),
            "ranks": each,
        }
        state["checksums"] = dict(checksums(state))
        buffer = BytesIO()  # torch would tell of a full disk by an error of its own kind
        torch.save(state, buffer)
        with replacing(path) as part:
            part.write_bytes(buffer.getbuffer())
    ranks.from_first("written")  # none goes on, or reads it, before


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What `save_checkpoint` wrote, on the CPU.

    Attributes:
        path: of its file, for messages.
        experiment: of the run.
        images: what it was trained on.
        given: parts that `fit` was given as objects, and what each was.
        epoch: epochs done.
        rows: of the history, one for each of them.
        state: all that was written.
    """

    path: Path
    experiment: Experiment
    images: TrainedOn
    given: Mapping[str, str]
    epoch: int
    rows: Sequence[Row]
    state: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """The checkpoint of a file.

        Raises:
            ValueError: not a checkpoint of ours, damaged, altered by hand, or of another format version.
        """
        with reading(f"{path} cannot be read as a checkpoint and is damaged or foreign", ANEW):
            with zipfile.ZipFile(path) as file:  # its parts would else take more memory than they take on the disk
                if sum(part.file_size for part in file.infolist()) > path.stat().st_size:
                    raise zipfile.BadZipFile
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CltoolsError(f"{path} is not a checkpoint of cltools. {ANEW}")
        if (version := state.get("version")) != VERSION:
            wrong = f"{path} has checkpoint format {shown(version)}; this version reads format {VERSION}."
            raise CltoolsError(f"{wrong} Resume it with the version of cltools that wrote it, or start anew elsewhere.")
        with reading(f"{path} was altered after it was written", ANEW):
            told, found = state.pop("checksums"), dict(checksums(state))
            if other := [name for name in {**told, **found} if told.get(name) != found.get(name)]:
                raise CltoolsError(f"{other[0].lstrip('.')} is not as it was saved")
        with reading(f"{path} {UNFIT}", ANEW):
            experiment = Experiment.from_json(state["experiment"], own_rules=True)
            images = TrainedOn(**state["images"])
        return cls(path, experiment, images, state["given"], state["epoch"], state["rows"], state)

    @property
    def about(self) -> str:
        """Epochs done, and steps of the epoch under way, as the file of the weights tells them."""
        partial = self.state["ranks"][0]["partial"]
        return f"{self.epoch} {partial['steps'] if partial else 0}"

    def check_same_settings(self, experiment: Experiment, ranks: Ranks) -> None:
        """Refuse to go on with other settings than those saved, or with more or fewer processes.

        Their shares of a batch, and what each draws, would be others. A finished run may be trained longer, at the
        learning rate of the longer schedule.
        """
        saved, epochs = self.experiment, experiment.training.epochs
        if self.epoch == saved.training.epochs < epochs:
            saved = replace(saved, training=replace(saved.training, epochs=epochs))
        check_same_experiment(self.path, saved, experiment)
        if (count := len(self.state["ranks"])) != ranks.count:
            raise CltoolsError(f"{self.path} is of {count} processes, not {ranks.count}; resume with as many.")

    def check_same_parts(self, now: Mapping[str, str], *, finished: bool) -> None:
        """Refuse to go on without an object that the run was begun with, or with one that it was begun without.

        A finished run needs none of them again.
        """
        before = {name: was for name, was in self.given.items() if name in now or not finished}
        if other := sorted({f"{name}=" for name, _ in before.items() ^ now.items()}):
            wrong = f"{self.path} was begun with other objects for {', '.join(other)}, which no config names: {before}."
            raise CltoolsError(f"{wrong} These are {now}. Give the same, or start a new run in another folder.")

    def check_same_images(self, images: TrainedOn) -> None:
        """Refuse to go on with other images than those trained on so far."""
        if difference := self.images.difference(images):
            raise CltoolsError(f"{self.path} was trained on {self.images}. {difference} Resume with the same images.")

    def environment_changes(self, device: torch.device) -> list[str]:
        """What differs from where it was made; with none, the resumed run repeats bit for bit."""
        before, now = self.state["environment"], environment(device)
        return [f"{name}: {before[name]} → {now[name]}" for name in now if now[name] != before[name]]

    def restore(self, learner: Learner) -> Progress:
        """Put the state into a learner of the same experiment; returns how far it had come.

        Raises:
            Exception: the learner has another backbone or optimizer.
        """
        state, own = self.state, self.state["ranks"][learner.ranks.rank]
        learner.encoder.load_state_dict(state["encoder"])
        _restore_optimizer(learner.optimizer, state)
        learner.step = state["step"]
        learner.shuffler.set_state(state["shuffler"])
        if state["environment"]["device"] == learner.device.type:  # a generator reads its own device's states only
            learner.draws.set_state(state["draws"])
            learner.chance.set_state(own["chance"])
        else:
            reseed(learner)
        self.restore_memory(learner.memory)
        for name, tensor in (learner.rule_state or {}).items():
            tensor.copy_(state["rule_state"][name])
        if (partial := own["partial"]) is None:
            return Progress(self.epoch)
        sums = EpochSums(learner.device, learner.ranks)
        sums.load_state_dict(partial["sums"])
        for statistic, saved in zip(statistics(learner), partial["statistics"], strict=True):
            statistic.copy_(saved)
        return Progress(self.epoch, partial["steps"], partial["shuffler_state"], partial["seconds"], sums)

    def restore_memory(self, memory: Memory | None) -> None:
        """Put momentum copy and queue into the memory of a learner or run of the same experiment."""
        if memory is not None:
            memory.copy.load_state_dict(self.state["momentum_copy"])
            memory.queue.load_state_dict(self.state["queue"])


def checksum_of(tensors: Mapping[str, Tensor], about: str) -> str:
    """A checksum of tensors, their names, types and shapes, and of what a text says about them."""
    total = crc32(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total = crc32(f"{name} {tensor.dtype} {[*tensor.shape]} ".encode(), total)
        total = crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def checksums(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """By its place in a state, such as `rows[0].loss`, what tells a value from any other."""
    if isinstance(value, Mapping | list | tuple) and value:
        inner = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in inner:
            yield from checksums(each, f"{place}.{key}" if isinstance(key, str) else f"{place}[{key!r}]")
    elif not isinstance(value, Tensor):
        yield place, repr(value)
    elif value.nbytes <= value.untyped_storage().nbytes():  # else it repeats numbers, and may exceed the memory
        yield place, checksum_of({"": value}, "")


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Put the optimizer's state back; whether it is fused stays as this device takes it, not the one before."""
    now, before = type(optimizer).__qualname__, state["optimizer_class"]
    if now != before:
        raise CltoolsError(f"it holds the state of {before}, and this is {now}")
    fused = [group["fused"] for group in optimizer.param_groups if "fused" in group]
    optimizer.load_state_dict(state["optimizer"])
    for group, own in zip(optimizer.param_groups, fused, strict=False):
        group["fused"] = own


def _partial(learner: Learner, progress: Progress) -> dict[str, Any] | None:
    """What this rank has of an epoch under way, on the CPU: running statistics too, which ranks average at its end."""
    if progress.sums is None:
        return None
    sums = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in progress.sums.state_dict().items()}
    so_far = {name: getattr(progress, name) for name in ("steps", "shuffler_state", "seconds")}
    return {**so_far, "sums": sums, "statistics": [statistic.cpu() for statistic in statistics(learner)]}


def check_same_experiment(path: Path, saved: Experiment, experiment: Experiment) -> None:
    """Refuse to resume with other settings than those saved at `path`, and say which differ.

    Where data lie, where the run computes and how often it saves change no result, and may differ.
    """
    if changed := "\n  ".join(str(each) for each in differences(saved, experiment) if each.decides):
        raise CltoolsError(f"{path} was made with other settings; resume with the same:\n  {changed}")
