"""Snapshots to ship: `python -m cltools snapshot` trains a preset and keeps its embeddings on the way."""

from dataclasses import dataclass, replace
from pathlib import Path

from cltools.errors import CltoolsError
from cltools.presets import laptop, preset
from cltools.snapshot.snapshot import Snapshot
from cltools.snapshot.taking import Recorder
from cltools.training import fit
from cltools.training.inputs import training_images


@dataclass(frozen=True)
class SnapshotFlags:
    """Train a preset, and keep what it thinks of some training images at several epochs, in one file."""

    preset: str
    """IMAGES-METHOD, such as shapes-potential."""
    out: Path
    """The snapshot, .npz; a file that is there is replaced."""
    after: tuple[int, ...] = (1, 5, 10, 20, 30)
    """Epochs after which embeddings are kept."""
    n: int = 1500
    """Training images, at most."""
    seed: int = 0
    """Seed of the run, of the images drawn and of their views."""
    laptop: bool = False
    """The CPU setting of any preset."""
    root: str | None = None
    """Where images lie; else the variable CLTOOLS_DATA, else data/."""
    device: str = "auto"
    """"auto" is CUDA where there is one."""


def make_snapshot(flags: SnapshotFlags) -> Snapshot:
    """Train, take and save; the run itself is not kept.

    Raises:
        ValueError: no such preset, or epochs that its training does not reach.
    """
    experiment = laptop(preset(flags.preset)) if flags.laptop else preset(flags.preset)
    last = experiment.training.epochs
    if not flags.after or not all(1 <= epoch <= last for epoch in flags.after):
        raise CltoolsError(f"snapshot: after is {flags.after}; name epochs from 1 to {last}, {flags.preset}'s last.")
    experiment = replace(
        experiment,
        data=replace(experiment.data, root=flags.root),
        training=replace(experiment.training, device=flags.device),
        seed=flags.seed,
    )
    images, _ = training_images(experiment)
    recorder = Recorder(images, flags.n, flags.seed, epochs=flags.after)
    snapshot = recorder.snapshot(fit(experiment, images=images, callbacks=[recorder]))
    snapshot.save(flags.out)
    return snapshot
