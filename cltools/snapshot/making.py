"""Snapshots to keep, of a run that is trained for it or of one that is there: `cltools snapshot`."""

from collections.abc import Sequence
from pathlib import Path

from cltools.config import Experiment
from cltools.errors import CltoolsError
from cltools.files import IN_USE, check_writable, claimed
from cltools.provenance import command
from cltools.snapshot.mapping import with_umap
from cltools.snapshot.maps import need_umap
from cltools.snapshot.snapshot import Snapshot
from cltools.snapshot.taking import Recorder, take_snapshot
from cltools.training import Run, fit
from cltools.training.inputs import training_images


def make_snapshot(
    source: Experiment | Run, out: Path, after: Sequence[int], n: int, seed: int, umap: Sequence[int]
) -> str:
    """Train an experiment and keep what it thinks of some training images at several epochs; of a run, what it thinks.

    Args:
        source: to be trained, or trained.
        out: the snapshot, .npz; a file that is there is replaced.
        after: epochs after which embeddings of an experiment are kept.
        n: training images, at most.
        seed: of the images drawn and of their views.
        umap: seeds of maps by UMAP, beside the one by PCA; none where none is named.

    Returns:
        A line that says what was kept.

    Raises:
        ValueError: epochs that the training does not reach.
        OSError: `out` cannot be written; found before the training.
        ModuleNotFoundError: maps by UMAP are asked for, and umap-learn is not installed.
    """
    if umap:
        need_umap()  # before minutes of training
    check_writable(out)
    with claimed(out.with_name(f"{out.name}.{IN_USE}"), command()):
        snapshot = with_umap(_taken(source, after, n, seed), umap)
        snapshot.save(out)
    epochs, size = ", ".join(map(str, snapshot.epochs)), out.stat().st_size / 2**20
    return f"{out}: {len(snapshot):,} images after epochs {epochs}, {size:.1f} MiB"


def _taken(source: Experiment | Run, after: Sequence[int], n: int, seed: int) -> Snapshot:
    if isinstance(source, Run):
        return take_snapshot(source, training_images(source.experiment)[0], n, seed)
    last = source.training.epochs
    if not after or not all(1 <= epoch <= last for epoch in after):
        raise CltoolsError(f"snapshot: after is {tuple(after)}; name epochs from 1 to {last}, its last.")
    images, _ = training_images(source)
    recorder = Recorder(images, n, seed, epochs=after)
    return recorder.snapshot(fit(source, images=images, callbacks=[recorder]))
