"""Taking snapshots, of a run in its present state or at several epochs by a callback of `fit`, and loading them.

`cltools snapshot` makes the snapshots that come with the package; `load_snapshot` loads any.

Legend: E epochs, N images or keys, M pictures of these and of queries, d embedding, H height, W width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import fsdecode
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from cltools.config import Experiment
from cltools.datasets import ImageSet
from cltools.encoders import device_of
from cltools.errors import SEED, CltoolsError, check_number, unknown
from cltools.evaluation.embed import named
from cltools.files import CARRIED, IN_USE, check_writable, claimed, reading
from cltools.mining.handed_in import seeded
from cltools.mining.negatives import thresholds
from cltools.provenance import command, commit
from cltools.snapshot.maps import aligned, judged, need_umap, pca, pca_over_epochs, with_umap
from cltools.snapshot.reading import AnyPath, path_of
from cltools.snapshot.snapshot import Snapshot, as_sprite, drawn_pictures, thumbnail_size, thumbnails
from cltools.training import Run, fit, two_views
from cltools.training.inputs import training_images

SHIPPED = CARRIED / "data" / "snapshots"


class Recorder:
    """A callback of `fit` that records the embeddings of some images at some epochs.

    The views of an image are the same at every epoch, so that its points move only because the encoder changes.

    Attributes:
        images: the images drawn.
        epochs: the epochs after which to record; None for all.
        taken: anchors and keys by epoch, unit vectors, float32 [N, d] each.
        thresholds: learned thresholds by epoch, float32 [N], if the run's rule learns them.
        seed: seed of the draw and of the views.

    Example:
        >>> from dataclasses import replace
        >>> from cltools import DataSettings, Recorder, TrainingSettings, fit, load_images, preset
        >>> short = TrainingSettings(epochs=2, batch=32, queue_size=64)
        >>> recorder = Recorder(load_images("digits"), n=50, epochs=[1, 2])
        >>> experiment = replace(preset("digits-moco"), data=DataSettings("digits", limit=64), training=short)
        >>> recorder.snapshot(fit(experiment, callbacks=[recorder]))
        Snapshot of digits: 50 images, epochs (1, 2)
    """

    def __init__(self, images: ImageSet, n: int = 2000, seed: int = 0, *, epochs: Sequence[int] | None = None) -> None:
        """Create a recorder of at most `n` of the images.

        Args:
            images: the images; their labels are stored for display.
            n: maximum number of images; they are drawn by the seed.
            seed: seed of the draw and of the views.
            epochs: epochs after which to record; None for all.

        Raises:
            ValueError: there are fewer than three images, too few for a map.
        """
        self.seed = check_number("The seed", seed, SEED)
        self.images = images.subset(n, self.seed)
        if len(self.images) < 3:
            raise CltoolsError(f"A snapshot of {len(self.images)} images has no map; take at least 3.")
        self.epochs = None if epochs is None else {*epochs}
        self.taken: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.thresholds: dict[int, np.ndarray] = {}

    def __call__(self, run: Run) -> None:
        """Record the embeddings if this epoch is among `epochs`."""
        epoch = len(run.history.rows)
        if self.epochs is None or epoch in self.epochs:
            self.record(run, epoch)

    def record(self, run: Run, epoch: int) -> None:
        """Record the embeddings now, as those of `epoch`; the encoder is not changed."""
        z, positive = two_views(run, self.images, seeded(self.seed, device_of(run.encoder)))
        self.taken[epoch] = z.cpu().numpy(), positive.cpu().numpy()
        if run.rule_state is not None and "threshold" in run.rule_state:
            ids = self.images.ids.to(run.rule_state["ids"].device)
            self.thresholds[epoch] = thresholds(run.rule_state, ids).cpu().numpy()

    def snapshot(self, run: Run) -> Snapshot:
        """Return a snapshot of everything recorded, with a map by PCA.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self.taken:
            raise CltoolsError("Nothing was recorded: give the recorder to fit(callbacks=[…]), and epochs it reaches.")
        fields = self.images.ids, self.images.labels, self.images.images
        ids, labels, pictures = (each.cpu().numpy() for each in fields)
        classes = tuple(named(self.images.classes))
        snapshot = assembled(run.experiment, self.taken, ids, pictures, labels=labels, classes=classes)
        learned = np.stack([self.thresholds[epoch] for epoch in snapshot.epochs]) if self.thresholds else None
        return replace(snapshot, thresholds=learned)


def take_snapshot(run: Run, images: ImageSet, n: int = 2000, seed: int = 0) -> Snapshot:
    """Take a snapshot of the run in its present state, of at most `n` of the images.

    Args:
        run: the run, whose encoder and momentum copy are used and not changed.
        images: the images.
        n: maximum number of images; they are drawn by the seed.
        seed: seed of the draw and of the views.

    Raises:
        ValueError: there are fewer than three images, too few for a map.

    Example:
        >>> from dataclasses import replace
        >>> from cltools import DataSettings, TrainingSettings, fit, load_images, preset, take_snapshot
        >>> short = TrainingSettings(epochs=1, batch=32, queue_size=64)
        >>> run = fit(replace(preset("digits-moco"), data=DataSettings("digits", limit=64), training=short))
        >>> take_snapshot(run, load_images("digits", "test"), n=50)
        Snapshot of digits: 50 images, epochs (1,)
    """
    recorder = Recorder(images, n, seed)
    recorder.record(run, len(run.history.rows))
    return recorder.snapshot(run)


def recorder_of(snapshot: Snapshot, images: ImageSet | None, epochs: Sequence[int] | None = None) -> Recorder:
    """Return a recorder of a run's embeddings of a snapshot's images, in the snapshot's order.

    Args:
        snapshot: the snapshot.
        images: images that include the snapshot's; None for the training images of its experiment.
        epochs: epochs after which to record; None for all.

    Raises:
        ValueError: some images are missing, or the snapshot's embeddings do not come from a run.
    """
    if images is None:
        remedy = "Give explore(images=…); a snapshot of external embeddings has no encoder to train."
        with reading("The images of this snapshot are missing", remedy):
            images = training_images(snapshot.experiment)[0]
    if snapshot.queries is not None:
        raise CltoolsError("A snapshot of queries and a corpus cannot follow training: no run made it.")
    index = {image: i for i, image in enumerate(images.ids.tolist())}
    if missing := [image for image in snapshot.ids.tolist() if image not in index]:
        raise CltoolsError(f"{len(missing)} images of the snapshot, such as {missing[0]}, are missing here; add them.")
    images = images.select(torch.tensor([index[image] for image in snapshot.ids.tolist()]))
    return Recorder(images, len(images), epochs=epochs)


def with_epoch(snapshot: Snapshot, recorder: Recorder, run: Run) -> Snapshot:
    """Return the snapshot with the recorder's last epoch; its map is by PCA, aligned with that of the epoch before.

    The snapshot's own epochs from this one on, such as those of an earlier run, are left out, and so are other maps.

    Raises:
        ValueError: the run's embeddings have another length than the snapshot's.
    """
    epoch = len(run.history.rows)
    z, keys = recorder.taken[epoch]
    if z.shape[1] != (d := snapshot.anchors.shape[2]):
        raise CltoolsError(f"The snapshot's embeddings have {d} numbers; follow a run with encoder.projection={d}.")
    before = sum(known < epoch for known in snapshot.epochs)
    by_pca = snapshot.map_names.index("PCA")
    positions = aligned(pca(z), snapshot.maps[by_pca, max(before - 1, 0)])
    learned = recorder.thresholds.get(epoch)
    old = snapshot.thresholds if before else np.empty((0, len(snapshot)), np.float32)
    arrays: dict[str, Any] = {"anchors": z[None], "keys": keys[None]}
    arrays = {name: np.concatenate([getattr(snapshot, name)[:before], new]) for name, new in arrays.items()}
    for name, new in judged(z[None], positions[None, None]).items():
        arrays[name] = np.concatenate([getattr(snapshot, name)[by_pca : by_pca + 1, :before], new], axis=1)
    arrays["thresholds"] = None if old is None or learned is None else np.concatenate([old[:before], learned[None]])
    arrays["epochs"] = (*snapshot.epochs[:before], epoch)
    return replace(snapshot, experiment=run.experiment, **arrays, **_origin())


def _origin() -> dict[str, Any]:
    """Return the fields of a snapshot taken now with a map by PCA: map name, command and commit."""
    return {"map_names": ("PCA",), "command": command(), "commit": commit()}


def assembled(
    experiment: Experiment, taken: Mapping[int, tuple[np.ndarray, np.ndarray]], ids: Int64[np.ndarray, " N"],
    pictures: UInt8[np.ndarray, "M 3 H W"] | None, pictured: Int64[np.ndarray, " M"] | None = None, **others: Any,
) -> Snapshot:  # fmt: skip
    """Assemble a snapshot with a map by PCA and thumbnails.

    Args:
        experiment: the experiment; an explorer starts with its rules.
        taken: anchors and keys, unit vectors, by epoch.
        ids: ids of the keys.
        pictures: pictures of the keys, followed by those of the queries; None for none.
        pictured: indices of the keys or queries that the pictures show, queries counted from N on; None for all keys.
        others: other fields of the snapshot.
    """
    epochs = tuple(sorted(taken))
    anchors, keys = (np.stack([taken[epoch][side] for epoch in epochs]) for side in (0, 1))
    mapped = anchors if others.get("queries") is None else keys
    maps = pca_over_epochs(mapped)[None]
    tile, sprite = (0, 0), b""
    if pictures is not None:
        tile = thumbnail_size(pictures)
        if (drawn := drawn_pictures(len(pictures), tile)) is not None:
            pictures, pictured = pictures[drawn], drawn if pictured is None else pictured[drawn]
        sprite = as_sprite(thumbnails(pictures))
    others |= {"ids": ids, "sprite": sprite, "tile": tile, "pictured": pictured} | judged(mapped, maps) | _origin()
    return Snapshot(experiment, epochs, anchors, keys, **others)


def shipped() -> dict[str, Path]:
    """Return the paths of the snapshots that come with the package, by name, which is `<images>-<method>`."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.npz"))}


def make_snapshot(
    source: Experiment | Run, out: Path, after: Sequence[int], n: int, seed: int, umap: Sequence[int]
) -> str:
    """Write a snapshot of a run in its present state; or train an experiment and record it at several epochs.

    Args:
        source: an experiment to train, or a trained run.
        out: the snapshot, .npz; an existing file is replaced.
        after: epochs after which the embeddings of an experiment are recorded.
        n: maximum number of training images.
        seed: seed of the images drawn and of their views.
        umap: seeds of additional maps by UMAP; empty for none.

    Returns:
        A line that describes the file.

    Raises:
        ValueError: the training does not reach the epochs.
        OSError: `out` cannot be written; this is checked before training.
        ModuleNotFoundError: maps by UMAP are requested, but umap-learn is not installed.
    """
    if umap:
        need_umap()  # checked before training
    last = None if isinstance(source, Run) else source.training.epochs
    if last is not None and not (after and all(1 <= epoch <= last for epoch in after)):
        raise CltoolsError(f"snapshot: after is {tuple(after)}; name epochs from 1 to {last}, its last.")
    check_writable(out)
    with claimed(out.with_name(f"{out.name}.{IN_USE}"), command()):
        if isinstance(source, Run):
            snapshot = take_snapshot(source, training_images(source.experiment)[0], n, seed)
        else:
            images, _ = training_images(source)
            recorder = Recorder(images, n, seed, epochs=after)
            snapshot = recorder.snapshot(fit(source, images=images, callbacks=[recorder]))
        snapshot = with_umap(snapshot, umap)
        snapshot.save(out)
    epochs, size = ", ".join(map(str, snapshot.epochs)), out.stat().st_size / 2**20
    return f"{out}: {len(snapshot):,} images after epochs {epochs}, {size:.1f} MiB"


def load_snapshot(source: AnyPath, *, n: int = 2000, seed: int = 0) -> Snapshot:
    """Load a snapshot by name or from a file, or take one of a run.

    Args:
        source: the name of a snapshot that comes with the package, such as "shapes-moco"; a file (.npz) that
            `Snapshot.save` wrote; or a run's folder, for a new snapshot of its training images.
        n: for a run's folder, the maximum number of images.
        seed: for a run's folder, the seed of the images' draw and of their views.

    Raises:
        FileNotFoundError: there is no such file (.npz), or the folder holds no trained run.
        ValueError: the name is unknown; the file is damaged or foreign; or the run was trained on images given to
            `fit(images=…)`.

    Example:
        >>> from cltools import load_snapshot
        >>> load_snapshot("shapes-moco")
        Snapshot of shapes: 1,500 images, epochs (1, 5, 10, 20, 30)
    """
    known = shipped()
    path, name = path_of(source), fsdecode(source)
    if name in known:
        return Snapshot.load(known[name])
    if name and path.is_dir():
        run = Run.load(path)
        if run.images is not None and run.images.given:
            raise CltoolsError(f"{path} holds no images; give them: take_snapshot(Run.load({str(path)!r}), images)")
        images, _ = training_images(run.experiment)
        return take_snapshot(run, images, n, seed)
    if path.suffix == ".npz" or path.is_file():
        return Snapshot.load(path)
    error = unknown("snapshot", name, known, otherwise="There is no file or folder of that name either.")
    raise CltoolsError(f"{error} Shipped: {', '.join(known) or 'none'}; or name a file (.npz) or a run's folder.")
