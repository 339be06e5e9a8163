"""Snapshots of runs: taken of one as it is, or, as a callback of `fit`, at several epochs; made and found by name.

`cltools snapshot` makes those that ship, `load_snapshot` finds what may be shown.

Legend: E epochs, N images or keys, M of these and of queries, d embedding, H height, W width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from cltools.snapshot.snapshot import Snapshot, as_sprite, pictured_places, thumbnail_size, thumbnails
from cltools.training import Run, fit, two_views
from cltools.training.inputs import training_images

SHIPPED = CARRIED / "data" / "snapshots"


class Recorder:
    """A callback of `fit` that keeps the embeddings of some images at some epochs.

    The views of an image are the same at every epoch, so that only the encoder moves its points.
    """

    def __init__(self, images: ImageSet, n: int = 2000, seed: int = 0, *, epochs: Sequence[int] | None = None) -> None:
        """A recorder of at most `n` of the images.

        Args:
            images: which images; labels are kept for those who want to see them.
            n: at most that many, drawn with the seed.
            seed: of the draw and of the views.
            epochs: after which epochs; None for all.

        Raises:
            ValueError: fewer than three images, of which there is no map.
        """
        self.seed = check_number("The seed", seed, SEED)
        self.images = images.subset(n, self.seed)
        if len(self.images) < 3:
            raise CltoolsError(f"A snapshot of {len(self.images)} images has no map; take at least 3.")
        self.epochs = None if epochs is None else {*epochs}
        self.taken: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.thresholds: dict[int, np.ndarray] = {}

    def __call__(self, run: Run) -> None:
        """Record, if this is an epoch to be kept."""
        epoch = len(run.history.rows)
        if self.epochs is None or epoch in self.epochs:
            self.record(run, epoch)

    def record(self, run: Run, epoch: int) -> None:
        """Embed the images as they are now; the encoder is left as it was found."""
        draws = seeded(self.seed, device_of(run.encoder))
        z, positive = two_views(run, self.images, draws)
        self.taken[epoch] = z.cpu().numpy(), positive.cpu().numpy()
        if run.rule_state is not None and "threshold" in run.rule_state:
            ids = self.images.ids.to(run.rule_state["ids"].device)
            self.thresholds[epoch] = thresholds(run.rule_state, ids).cpu().numpy()

    def snapshot(self, run: Run) -> Snapshot:
        """All that was recorded, with a map by PCA.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self.taken:
            raise CltoolsError("Nothing was recorded: give the recorder to fit(callbacks=[…]), and epochs it reaches.")
        images = self.images
        ids, labels, pictures = (each.cpu().numpy() for each in (images.ids, images.labels, images.images))
        classes = tuple(named(images.classes))
        found = assembled(run.experiment, self.taken, ids, pictures, labels=labels, classes=classes)
        learned = np.stack([self.thresholds[epoch] for epoch in found.epochs]) if self.thresholds else None
        return replace(found, thresholds=learned)


def take_snapshot(run: Run, images: ImageSet, n: int = 2000, seed: int = 0) -> Snapshot:
    """A snapshot of the run as it is, of at most `n` of the images.

    Args:
        run: whose encoder and momentum copy embed; both are left as they were found.
        images: which images.
        n: at most that many, drawn with the seed.
        seed: of the draw and of the views.
    """
    recorder = Recorder(images, n, seed)
    recorder.record(run, len(run.history.rows))
    return recorder.snapshot(run)


def recorder_of(snapshot: Snapshot, images: ImageSet | None, epochs: Sequence[int] | None = None) -> Recorder:
    """What records a run's embeddings of a snapshot's images, in its order.

    Args:
        snapshot: of some of the images.
        images: None for the training images of the snapshot's experiment.
        epochs: after which epochs; None for all.

    Raises:
        ValueError: some of them are not there, or the snapshot is of embeddings that were made elsewhere.
    """
    if images is None:
        elsewhere = "Of embeddings made elsewhere there is no encoder to train; else give explore(images=…)."
        with reading("The images of this snapshot are not there", elsewhere):
            images = training_images(snapshot.experiment)[0]
    if snapshot.queries is not None:
        raise CltoolsError("A snapshot of queries and a corpus follows no training: no encoder of ours made it.")
    place = {image: i for i, image in enumerate(images.ids.tolist())}
    if missing := [image for image in snapshot.ids.tolist() if image not in place]:
        raise CltoolsError(f"{len(missing)} images of the snapshot, as {missing[0]}, are not among these; add them.")
    images = images.select(torch.tensor([place[image] for image in snapshot.ids.tolist()]))
    return Recorder(images, len(images), epochs=epochs)


def with_epoch(snapshot: Snapshot, recorder: Recorder, run: Run) -> Snapshot:
    """The snapshot with what the recorder took last of the run, on its map by PCA turned onto that of the epoch before.

    Epochs from there on, such as those of an earlier run, are left out, and so are its other maps.

    Raises:
        ValueError: the run's embeddings have another length than the snapshot's.
    """
    epoch = len(run.history.rows)
    z, keys = recorder.taken[epoch]
    if z.shape[1] != (d := snapshot.anchors.shape[2]):
        raise CltoolsError(f"The snapshot's embeddings have {d} numbers; follow a run with encoder.projection={d}.")
    before = sum(known < epoch for known in snapshot.epochs)
    ours = snapshot.map_names.index("PCA")
    place = aligned(pca(z), snapshot.maps[ours, max(before - 1, 0)])
    kept, trust = judged(z[None], place[None, None])
    learned = recorder.thresholds.get(epoch)
    old = snapshot.thresholds if before else np.empty((0, len(snapshot)), np.float32)
    held: dict[str, Any] = {"anchors": z[None], "keys": keys[None]}
    held = {name: np.concatenate([getattr(snapshot, name)[:before], new]) for name, new in held.items()}
    for name, new in (("maps", place[None, None]), ("kept", kept), ("trustworthiness", trust)):
        held[name] = np.concatenate([getattr(snapshot, name)[ours : ours + 1, :before], new], axis=1)
    held["thresholds"] = None if old is None or learned is None else np.concatenate([old[:before], learned[None]])
    epochs = (*snapshot.epochs[:before], epoch)
    return replace(snapshot, experiment=run.experiment, epochs=epochs, **held, **_by_pca_here())


def _by_pca_here() -> dict[str, Any]:
    """What a snapshot says that is taken now, with a map by PCA."""
    return {"map_names": ("PCA",), "command": command(), "commit": commit()}


def assembled(
    experiment: Experiment,
    taken: Mapping[int, tuple[np.ndarray, np.ndarray]],
    ids: Int64[np.ndarray, " N"],
    pictures: UInt8[np.ndarray, "M 3 H W"] | None,
    pictured: Int64[np.ndarray, " M"] | None = None,
    **others: Any,
) -> Snapshot:
    """A snapshot with a map by PCA and thumbnails.

    Args:
        experiment: where an explorer starts.
        taken: anchors and keys, unit vectors, by epoch.
        ids: of the keys.
        pictures: of the keys, and after them of the queries; None for none.
        pictured: places of what they show, queries counted on from N; None for that of each key.
        others: what else a snapshot holds.
    """
    epochs = tuple(sorted(taken))
    anchors, keys = (np.stack([taken[epoch][side] for epoch in epochs]) for side in (0, 1))
    mapped = anchors if others.get("queries") is None else keys
    maps = pca_over_epochs(mapped)[None]
    kept, trust = judged(mapped, maps)
    tile, sprite = (0, 0), b""
    if pictures is not None:
        tile = thumbnail_size(pictures)
        drawn = pictured_places(len(pictures), tile)
        if drawn is not None:
            pictures, pictured = pictures[drawn], drawn if pictured is None else pictured[drawn]
        sprite = as_sprite(thumbnails(pictures))
    others |= {"maps": maps, "kept": kept, "trustworthiness": trust} | _by_pca_here()
    others |= {"ids": ids, "sprite": sprite, "tile": tile, "pictured": pictured}
    return Snapshot(experiment, epochs, anchors, keys, **others)


def shipped() -> dict[str, Path]:
    """The snapshots that come with the repository, by name: `<images>-<method>`."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.npz"))}


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


def load_snapshot(source: str | Path, *, n: int = 2000, seed: int = 0) -> Snapshot:
    """A snapshot to explore.

    Args:
        source: the name of one that comes with the repository, such as "shapes-moco"; a file (.npz) that
            `Snapshot.save` wrote; or a run's folder, of whose training images one is taken now.
        n: of a run's folder, at most that many images.
        seed: of a run's folder, of the images' draw and of their views.

    Raises:
        FileNotFoundError: no such file (.npz), or a folder without a trained run.
        ValueError: no such name, one that is damaged or foreign, or a run on images given to `fit(images=…)`.
    """
    known = shipped()
    if str(source) in known:
        return Snapshot.load(known[str(source)])
    path = Path(source).expanduser()
    if path.is_dir():
        run = Run.load(path)
        if run.images is not None and run.images.given:
            raise CltoolsError(f"{path} keeps no images; give them: take_snapshot(Run.load({str(path)!r}), images)")
        images, _ = training_images(run.experiment)
        return take_snapshot(run, images, n, seed)
    if path.suffix == ".npz" or path.is_file():
        return Snapshot.load(path)
    error = unknown("snapshot", str(source), known, otherwise="There is no file or folder of that name either.")
    raise CltoolsError(f"{error} Shipped: {', '.join(known) or 'none'}; or name a file (.npz) or a run's folder.")
