"""Checkpoints: the state of a run on disk, with everything that a resumed run needs to continue bit for bit.

A checkpoint is written to a new file and then moved into place, so that a crash while writing leaves the previous one.
It may be taken within an epoch.
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
from cltools.training.record import EpochSums, Row
from cltools.training.state import Memory, TrainState, reseed, statistics

if TYPE_CHECKING:
    from cltools.training.run import Run

FORMAT = "cltools checkpoint"
VERSION = 5
UNFIT = "does not fit the backbone or optimizer given here, or was altered"
REMEDY = "Put the original back, or train from the beginning into another folder."


@dataclass
class Progress:
    """The progress of training.

    Attributes:
        epoch: completed epochs.
        steps: completed steps of the current epoch.
        order_state: state of `order_rng` before the current epoch, from which the permutation of the images is drawn
            again.
        seconds: time that the current epoch has taken so far.
        sums: sums of the current epoch's metrics so far; None before its first step.
    """

    epoch: int = 0
    steps: int = 0
    order_state: Tensor | None = None
    seconds: float = 0.0
    sums: EpochSums | None = None


def environment(device: torch.device) -> dict[str, str]:
    """Return what must be equal for a resumed run to repeat the uninterrupted one bit for bit."""
    # torch's version has a type of its own, which weights_only does not load
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return versions | {"threads": str(torch.get_num_threads()), "machine": platform.machine(), "device": device.type}


def save_checkpoint(path: Path, run: "Run", state: TrainState, progress: Progress) -> None:
    """Write the state and the history; the previous file stays until the new one is complete. Every rank must call it.

    Raises:
        OSError: the disk is full, or the folder is not writable; the previous file is unchanged.
    """
    assert run.images is not None
    ranks, memory = state.ranks, state.memory
    by_rank = ranks.all_gather_object({"chance": state.rule_rng.get_state(), "partial": _partial(state, progress)})
    if ranks.first:
        contents = {
            "format": FORMAT,
            "version": VERSION,
            "environment": environment(state.device),
            "experiment": run.experiment.to_json(),
            "images": asdict(run.images),
            "given": {**run.parts.given},
            "epoch": progress.epoch,
            "step": state.step,
            "rows": run.history.rows,
            "encoder": state.encoder.state_dict(),
            "optimizer_class": type(state.optimizer).__qualname__,
            "optimizer": state.optimizer.state_dict(),
            "momentum_copy": memory.copy.state_dict() if memory else None,
            "queue": memory.queue.state_dict() if memory else None,
            "rule_state": state.rule_state,
            "shuffler": state.order_rng.get_state(),
            "draws": state.view_rng.get_state(),
            "ranks": by_rank,
        }
        contents["checksums"] = dict(checksums(contents))
        buffer = BytesIO()  # torch.save to a full disk raises an error other than OSError
        torch.save(contents, buffer)
        with replacing(path) as part:
            part.write_bytes(buffer.getbuffer())
    ranks.from_first("written")  # no rank continues or reads the file before it is written


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that `save_checkpoint` wrote, on the CPU.

    Attributes:
        path: path of the file, for messages.
        experiment: the run's experiment.
        images: identity of the training images.
        given: descriptions of the parts passed to `fit` as objects, by name.
        epoch: completed epochs.
        rows: rows of the history, one per epoch.
        contents: everything that was written.
    """

    path: Path
    experiment: Experiment
    images: TrainedOn
    given: Mapping[str, str]
    epoch: int
    rows: Sequence[Row]
    contents: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint from its file.

        Raises:
            ValueError: it is not a checkpoint of cltools, is damaged or altered, or has another format version.
        """
        with reading(f"{path} cannot be read as a checkpoint and is damaged or foreign", REMEDY):
            with zipfile.ZipFile(path) as file:  # refuse parts that would take more memory than disk space
                if sum(part.file_size for part in file.infolist()) > path.stat().st_size:
                    raise zipfile.BadZipFile
            contents = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(contents, dict) or contents.get("format") != FORMAT:
            raise CltoolsError(f"{path} is not a checkpoint of cltools. {REMEDY}")
        if (version := contents.get("version")) != VERSION:
            wrong = f"{path} has checkpoint format {shown(version)}; this version reads format {VERSION}."
            raise CltoolsError(f"{wrong} Resume it with the cltools that wrote it, or start again elsewhere.")
        with reading(f"{path} was altered after it was written", REMEDY):
            stored, actual = contents.pop("checksums"), dict(checksums(contents))
            if changed := [name for name in {**stored, **actual} if stored.get(name) != actual.get(name)]:
                raise CltoolsError(f"{changed[0].lstrip('.')} is not as it was saved")
        with reading(f"{path} {UNFIT}", REMEDY):
            experiment = Experiment.from_json(contents["experiment"], own_rules=True)
            images = TrainedOn(**contents["images"])
        return cls(path, experiment, images, contents["given"], contents["epoch"], contents["rows"], contents)

    @property
    def about(self) -> str:
        """The completed epochs and steps of the current epoch, in the form that the weights' file stores."""
        partial = self.contents["ranks"][0]["partial"]
        return f"{self.epoch} {partial['steps'] if partial else 0}"

    def check_same_settings(self, experiment: Experiment, ranks: Ranks) -> None:
        """Raise an error unless the settings and the number of processes are those of the saved run.

        With another number of processes, shares of a batch and random draws would differ. A finished run may be trained
        longer, at the learning rate of the longer schedule.
        """
        saved, epochs = self.experiment, experiment.training.epochs
        if self.epoch == saved.training.epochs < epochs:
            saved = replace(saved, training=replace(saved.training, epochs=epochs))
        check_same_experiment(self.path, saved, experiment)
        if (count := len(self.contents["ranks"])) != ranks.count:
            raise CltoolsError(f"{self.path} is of {count} processes, not {ranks.count}; resume with as many.")

    def check_same_parts(self, now: Mapping[str, str], *, finished: bool) -> None:
        """Raise an error unless the objects passed to `fit` are those that the run was started with.

        For a finished run, objects may be left out.
        """
        before = {name: was for name, was in self.given.items() if name in now or not finished}
        if other := sorted({f"{name}=" for name, _ in before.items() ^ now.items()}):
            wrong = f"{self.path} was begun with other objects for {', '.join(other)}, not in its config: {before}."
            raise CltoolsError(f"{wrong} These are {now}. Give the same, or start a new run in another folder.")

    def check_same_images(self, images: TrainedOn) -> None:
        """Raise an error unless the images are those trained on so far."""
        if difference := self.images.difference(images):
            raise CltoolsError(f"{self.path} was trained on {self.images}. {difference} Resume with the same images.")

    def environment_changes(self, device: torch.device) -> list[str]:
        """Return how the environment has changed since the checkpoint; without changes, resuming is exact."""
        before, now = self.contents["environment"], environment(device)
        return [f"{name}: {before[name]} → {now[name]}" for name in now if now[name] != before[name]]

    def restore(self, state: TrainState) -> Progress:
        """Load the checkpoint into a training state of the same experiment, and return the saved progress.

        Raises:
            Exception: the training state has another backbone or optimizer.
        """
        contents, own = self.contents, self.contents["ranks"][state.ranks.rank]
        state.encoder.load_state_dict(contents["encoder"])
        _restore_optimizer(state.optimizer, contents)
        state.step = contents["step"]
        state.order_rng.set_state(contents["shuffler"])
        if contents["environment"]["device"] == state.device.type:  # else the state does not fit the generator
            state.view_rng.set_state(contents["draws"])
            state.rule_rng.set_state(own["chance"])
        else:
            reseed(state)
        self.restore_memory(state.memory)
        for name, tensor in (state.rule_state or {}).items():
            tensor.copy_(contents["rule_state"][name])
        if (partial := own["partial"]) is None:
            return Progress(self.epoch)
        sums = EpochSums(state.device, state.ranks)
        sums.load_state_dict(partial["sums"])
        for statistic, saved in zip(statistics(state), partial["statistics"], strict=True):
            statistic.copy_(saved)
        return Progress(self.epoch, partial["steps"], partial["shuffler_state"], partial["seconds"], sums)

    def restore_memory(self, memory: Memory | None) -> None:
        """Load the momentum copy and the queue into the memory of a training state or run of the same experiment."""
        if memory is not None:
            memory.copy.load_state_dict(self.contents["momentum_copy"])
            memory.queue.load_state_dict(self.contents["queue"])


def checksum_of(tensors: Mapping[str, Tensor], about: str) -> str:
    """Return a checksum of tensors, their names, types and shapes, and of a text about them."""
    total = crc32(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total = crc32(f"{name} {tensor.dtype} {[*tensor.shape]} ".encode(), total)
        total = crc32(tensor.flatten().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def checksums(value: Any, key_path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each value in nested contents, such as `.rows[0].loss`, with its checksum or `repr`."""
    if isinstance(value, Mapping | list | tuple) and value:
        for key, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from checksums(each, f"{key_path}.{key}" if isinstance(key, str) else f"{key_path}[{key!r}]")
    elif not isinstance(value, Tensor):
        yield key_path, repr(value)
    elif value.nbytes <= value.untyped_storage().nbytes():  # else it is an expanded view, and may exceed the memory
        yield key_path, checksum_of({"": value}, "")


def _restore_optimizer(optimizer: torch.optim.Optimizer, contents: Mapping[str, Any]) -> None:
    """Restore the optimizer's state, but keep `fused` as it is for the present device."""
    now, before = type(optimizer).__qualname__, contents["optimizer_class"]
    if now != before:
        raise CltoolsError(f"it holds the state of {before}, and this is {now}")
    fused = [group["fused"] for group in optimizer.param_groups if "fused" in group]
    optimizer.load_state_dict(contents["optimizer"])
    for group, own in zip(optimizer.param_groups, fused, strict=False):
        group["fused"] = own


def _partial(state: TrainState, progress: Progress) -> dict[str, Any] | None:
    """Return this rank's part of the current epoch, on the CPU, with the running statistics, which differ by rank."""
    if progress.sums is None:
        return None
    sums = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in progress.sums.state_dict().items()}
    so_far = {"steps": progress.steps, "shuffler_state": progress.order_state, "seconds": progress.seconds}
    return {**so_far, "sums": sums, "statistics": [statistic.cpu() for statistic in statistics(state)]}


def check_same_experiment(path: Path, saved: Experiment, experiment: Experiment) -> None:
    """Raise an error that lists the settings that differ from those saved at `path`.

    Settings that change no result may differ: the data's location, the device and how often checkpoints are saved.
    """
    if changed := "\n  ".join(str(each) for each in differences(saved, experiment) if each.decides):
        raise CltoolsError(f"{path} was made with other settings; resume with the same:\n  {changed}")
